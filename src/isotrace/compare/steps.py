"""What differs between two steps that stand against each other.

The order of the questions is that of matching in a replay: kind, then skill; where those differ the
params are not comparable and nothing more is asked. Then params, then what came back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isotrace.canonical import MAX_DEPTH, MAX_NODES, value_bytes
from isotrace.compare import findings
from isotrace.compare.divergence import Divergence, Severity
from isotrace.compare.findings import Sides, lineage_of
from isotrace.compare.rules import Lens, Level, changes_between
from isotrace.compare.streams import stream_difference
from isotrace.compare.views import kind_of
from isotrace.errors import CanonicalizationError, LimitError
from isotrace.jsondiff import Change, diff_values, pointer_join
from isotrace.minted import strip_volatile
from isotrace.models import Erased, Lineage, TraceStatus, TraceStep
from isotrace.models.steps import stream_chunks

_TAG = "$iso:object"
_LISTED_OBJECTS = 64
_NAMES = {"/params": "params", "/outcome_data": "contents of the outcome"}


@dataclass(frozen=True, slots=True)
class StepPair:
    """Two steps at one row of the alignment."""

    index: int
    original: TraceStep
    replay: TraceStep

    @property
    def lineage(self) -> Lineage:
        return lineage_of(self.original)

    @property
    def sides(self) -> Sides:
        return {"original_index": self.original.step_index, "replay_index": self.replay.step_index}


def compare_pair(pair: StepPair, level: Level, lens: Lens | None, *, same_path: bool) -> list[Divergence]:
    """All divergences of a pair, by code group.

    `same_path`: the determinism hashes are equal, so only what no hash covers is looked at.
    """
    if level is Level.OUTCOME or (level is Level.SKELETON and same_path):
        return []
    if not same_path and (control := _control(pair)):
        return [control]
    if level is Level.SKELETON:
        return [_status(pair)] if pair.original.status is not pair.replay.status else []
    found = list(_objects(pair, lens) if same_path else _decisions(pair, lens))
    if level is Level.EXACT:
        found += _outcomes(pair, lens)
    return found


def _control(pair: StepPair) -> Divergence | None:
    """Another kind or another skill."""
    kinds = kind_of(pair.original), kind_of(pair.replay)
    if pair.original.context and pair.replay.context and kinds[0] != kinds[1]:
        return findings.kind_changed(pair.index, pair.lineage, *kinds, **pair.sides)
    names = pair.original.skill_name, pair.replay.skill_name
    if names[0] != names[1]:
        return findings.skill_changed(pair.index, pair.lineage, *names, **pair.sides)
    return None


def _decisions(pair: StepPair, lens: Lens | None) -> Iterator[Divergence]:
    before, after = pair.original, pair.replay
    if absent := _absent(pair, "/params", before.params, after.params):
        yield absent
    elif changes := changes_between(before.params, after.params, lens):
        yield findings.params_changed(
            pair.index, pair.lineage, before.params, after.params, changes=changes, **pair.sides
        )
    elif lens is not None:
        # Equal under the rules alone, as far as is known.
        yield from _objects(pair, lens)
    if is_indeterminate(before) != is_indeterminate(after):
        yield _indeterminate(pair)
    elif before.status is not after.status:
        yield _status(pair)
    elif changes := diff_values(_ending(before), _ending(after)):
        if before.status is TraceStatus.SUCCESS:
            yield findings.output_changed(pair.index, pair.lineage, None, None, changes=changes, **pair.sides)
        else:
            yield findings.error_changed(pair.index, pair.lineage, changes, **pair.sides)
    if before.retry_count != after.retry_count:
        changes = [Change("/retry_count", before.retry_count, after.retry_count)]
        yield findings.retries_changed(pair.index, pair.lineage, changes, **pair.sides)


def _ending(step: TraceStep) -> dict[str, Any]:
    return {"outcome_category": step.outcome_category, "outcome_code": step.outcome_code}


def _under(pointer: str, changes: list[Change]) -> list[Change]:
    return [Change(pointer + one.pointer, one.expected, one.actual) for one in changes]


def _status(pair: StepPair) -> Divergence:
    before, after = pair.original, pair.replay
    failed = after if before.status is TraceStatus.SUCCESS else before
    code = f": {failed.outcome_code}" if failed.outcome_code else ""
    return findings.status_changed(
        pair.index,
        pair.lineage,
        before.status.value,
        after.status.value,
        detail=f"{failed.outcome_category}{code}",
        **pair.sides,
    )


# --- what is unknown ------------------------------------------------------------------


def is_indeterminate(step: TraceStep) -> bool:
    """Whether the step was started and never completed."""
    return step.outcome_category == "INDETERMINATE"


def _indeterminate(pair: StepPair, severity: Severity = Severity.ERROR) -> Divergence:
    sides = [is_indeterminate(pair.original), is_indeterminate(pair.replay)]
    where = "both runs" if all(sides) else "the original" if sides[0] else "the replay"
    name = pair.original.skill_name
    return findings.indeterminate_step(
        pair.index, pair.lineage, name, where=where, severity=severity, **pair.sides
    )


def _absent(pair: StepPair, pointer: str, before: Any, after: Any) -> Divergence | None:
    """Content that is erased, on either side or on both."""
    gone = [isinstance(before, Erased), isinstance(after, Erased)]
    if not any(gone):
        return None
    where = "in both runs" if all(gone) else "in the original" if gone[0] else "in the replay"
    message = f"the {_NAMES[pointer]} of {pair.original.skill_name} are absent {where}"
    return findings.record_gap(pair.index, pair.lineage, message, pointers=[pointer], **pair.sides)


def _absent_chunks(pair: StepPair) -> Divergence | None:
    """Chunks of a stream that are erased."""
    pointers = dict.fromkeys(
        f"/outcome_data/chunks/{at}"
        for step in (pair.original, pair.replay)
        for at, chunk in enumerate(stream_chunks(step) or ())
        if isinstance(chunk, Erased)
    )
    if not pointers:
        return None
    message = f"chunks of {pair.original.skill_name} are absent"
    return findings.record_gap(pair.index, pair.lineage, message, pointers=list(pointers), **pair.sides)


def _objects(pair: StepPair, lens: Lens | None) -> Iterator[Divergence]:
    yield from _opaque(pair, "/params", pair.original.params, lens)


def _opaque(pair: StepPair, pointer: str, value: Any, lens: Lens | None) -> Iterator[Divergence]:
    """A warning for equal content that was kept by type name only: two such objects need not be equal."""
    # The text is searched first: a walk over every value would be most of a comparison's time.
    if not _may_hold_objects(value):
        return
    pointers = [pointer + one for one in object_pointers(lens.key(value) if lens else value)]
    if pointers:
        message = f"the {_NAMES[pointer]} of {pair.original.skill_name} hold objects known by type only"
        yield findings.record_gap(
            pair.index,
            pair.lineage,
            message,
            pointers=pointers,
            severity=Severity.WARNING,
            **pair.sides,
        )


def _may_hold_objects(value: Any) -> bool:
    """Raises `LimitError` for a value that is too deep or too large to be looked through."""
    try:
        return _TAG.encode() in value_bytes(value)
    except LimitError:
        raise
    except CanonicalizationError:
        return True


def object_pointers(value: Any) -> list[str]:
    """Where a value holds objects that were kept by type name only; at most 64 places.

    Raises `LimitError` for a value beyond the limits of `isotrace.canonical`.
    """
    found: list[str] = []
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    nodes = 0
    while stack and len(found) < _LISTED_OBJECTS:
        path, node = stack.pop()
        nodes += 1
        if nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise LimitError("a value is too deep or too large to look for objects in it")
        if isinstance(node, dict):
            if len(node) == 1 and _TAG in node:
                found.append(pointer_join(path))
            else:
                stack += [((*path, key), child) for key, child in reversed(node.items())]
        elif isinstance(node, list | tuple):
            stack += [((*path, at), child) for at, child in reversed(list(enumerate(node)))]
    return found


# --- what came back -------------------------------------------------------------------


def _outcomes(pair: StepPair, lens: Lens | None) -> Iterator[Divergence]:
    """What only level `exact` sees of two steps of one skill."""
    before, after = pair.original, pair.replay
    if is_indeterminate(before) and is_indeterminate(after):
        yield _indeterminate(pair, Severity.WARNING)
    if before.status is not after.status or is_indeterminate(before) != is_indeterminate(after):
        return
    if before.retry_count == after.retry_count and (
        changes := diff_values({"attempts": attempts_of(before)}, {"attempts": attempts_of(after)})
    ):
        changes = _under("/context", changes)
        yield findings.retries_changed(pair.index, pair.lineage, changes, **pair.sides)
    yield from _outcome_data(pair, lens)


def attempts_of(step: TraceStep) -> list[dict[str, Any]]:
    """The pattern of the attempts: how each ended, not with which words."""
    attempts = step.context.attempts if step.context else []
    return [{key: one.get(key) for key in ("outcome_category", "outcome_code")} for one in attempts]


def _outcome_data(pair: StepPair, lens: Lens | None) -> Iterator[Divergence]:
    before: Any = pair.original.outcome_data
    after: Any = pair.replay.outcome_data
    if absent := _absent(pair, "/outcome_data", before, after) or _absent_chunks(pair):
        yield absent
        return
    stream = stream_difference(pair.original, pair.replay)
    if stream is not None:
        yield findings.stream_changed(
            pair.index,
            pair.lineage,
            stream.message,
            stream.changes,
            partial=stream.partial,
            **pair.sides,
        )
        return
    changes = _outcome_changes(before, after, lens)
    if not changes:
        yield from _opaque(pair, "/outcome_data", before, lens)
    elif pair.original.status is TraceStatus.SUCCESS:
        yield findings.output_changed(pair.index, pair.lineage, before, after, changes=changes, **pair.sides)
    else:
        changes = _under("/outcome_data", changes)
        yield findings.error_changed(pair.index, pair.lineage, changes, **pair.sides)


def _outcome_changes(before: Any, after: Any, lens: Lens | None) -> list[Change]:
    if before is None or after is None:
        return [] if before is after else [Change("", before, after)]
    # Not `before == after`: to Python 1 and True are equal.
    return changes_between(strip_volatile(before), strip_volatile(after), lens)
