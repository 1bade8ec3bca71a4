"""The order in which the steps of parallel branches started and ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence
from isotrace.compare.steps import StepPair
from isotrace.events import lineage_text
from isotrace.models import TraceStep


def schedule_divergences(pairs: Iterable[StepPair]) -> Iterator[Divergence]:
    """One `SCHEDULE_CHANGED` at the first start or end that comes out of turn.

    Looks at steps that stand at the same lineage in both runs, where the ledger's order was recorded.
    """
    comparable = [pair for pair in pairs if _comparable(pair)]
    before = sorted(moment for pair in comparable for moment in _moments(pair, pair.original))
    after = sorted(moment for pair in comparable for moment in _moments(pair, pair.replay))
    for (_, _, what, pair), (_, _, now, other) in zip(before, after, strict=True):
        if (what, pair.index) != (now, other.index):
            yield findings.schedule_changed(
                pair.index, pair.lineage, _text(pair, what), _text(other, now), **pair.sides
            )
            return


def _comparable(pair: StepPair) -> bool:
    one, other = pair.original.context, pair.replay.context
    return bool(
        one
        and other
        and one.lineage
        and one.lineage == other.lineage
        and None not in (one.start_seq, other.start_seq)
        # A step that ended in one run only says nothing about the order of its end.
        and (one.end_seq is None) == (other.end_seq is None)
    )


def _moments(pair: StepPair, step: TraceStep) -> Iterator[tuple[int, int, str, StepPair]]:
    """Number of the event, a tie-breaker (pairs have no order), what happened, and to which step."""
    context = step.context
    if context is not None and context.start_seq is not None:
        yield context.start_seq, pair.index, "started", pair
        if context.end_seq is not None:
            yield context.end_seq, pair.index, "ended", pair


def _text(pair: StepPair, what: str) -> str:
    return f"{pair.original.skill_name} ({lineage_text(pair.lineage)}) {what}"
