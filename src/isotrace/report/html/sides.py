"""Two runs side by side as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from isotrace.compare import Level, TraceDiff
from isotrace.models import META_REPLAYABILITY, Erased, TraceRecord, TraceStep
from isotrace.report.figures import cost, duration, moment
from isotrace.report.html.differences import DivergenceView, divergence_view
from isotrace.report.html.environment import render
from isotrace.report.html.steps import StepHead, asked_line, head_of, values_of
from isotrace.report.html.values import Shown, fair_limit, lengths_of, shown
from isotrace.report.reading import (
    elapsed_ms,
    signature_of,
    timed,
    total_tokens,
)
from isotrace.report.safe import plain, visible

MOST_DIVERGENCES = 200
"""Divergences that a page lists, and differing rows of which it holds the values."""

_FOLD = 3
"""So many equal rows, one after the other, are folded into one line."""

_LEVELS = {
    Level.EXACT: "path and outcomes must be equal",
    Level.DECISIONS: "the path must be equal: skills, params, statuses, retries",
    Level.SKELETON: "skills and statuses must be equal",
    Level.OUTCOME: "the result alone must be equal",
}


def render_diff(diff: TraceDiff, original: TraceRecord, replay: TraceRecord) -> str:
    """A page of two runs side by side: the verdict with the first divergence and its differences, and
    below them the aligned steps.

    `diff` is what `diff_traces` says of these two. The whole page as HTML: write it to one file, as
    UTF-8. Raises `MissingExtraError` where jinja2 is not installed.
    """
    rows = _rows(diff, original, replay)
    blocks = [
        Block(equal, list(members)) for equal, members in groupby(rows, key=lambda row: row.op == "equal")
    ]
    first = diff.first
    views = [divergence_view(one, len(rows)) for one in diff.divergences[:MOST_DIVERGENCES]]
    return render(
        "diff.html",
        title=f"{original.run_id[:12]} and {replay.run_id[:12]}",
        verdict=diff.verdict.value,
        level=diff.level.value,
        level_means=_LEVELS[diff.level],
        first=None if first is None else divergence_view(first, len(rows)),
        cause=None if diff.cause is None else (diff.cause.why.value, visible(diff.cause.message)),
        violations=[
            (
                "A" if one.side == "original" else "B",
                visible(one.policy_id),
                one.step_index,
                "its reason was erased" if isinstance(one.reason, Erased) else visible(one.reason),
            )
            for one in diff.violations[:MOST_DIVERGENCES]
        ],
        facts=list(_facts(original, replay)),
        names=(visible(original.run_id[:12]), visible(replay.run_id[:12])),
        counts=[(op, count) for op, count in diff.counts.items() if count],
        blocks=blocks,
        fold=_FOLD,
        total=len(rows),
        strip=list(_strip(rows)),
        compared=(
            sum(row.left is not None for row in rows),
            sum(row.right is not None for row in rows),
        ),
        steps=(len(original.steps), len(replay.steps)),
        divergences=views,
        hidden=len(diff.divergences) - len(views),
    )


@dataclass(frozen=True, slots=True)
class Side(StepHead):
    """One step in its column."""

    gist: str
    values: dict[str, Shown]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the alignment. `titles` are those of the values that either side has."""

    number: int
    op: str
    left: Side | None
    right: Side | None
    divergences: tuple[DivergenceView, ...]
    first: bool
    titles: tuple[str, ...]

    @property
    def decides(self) -> bool:
        """Whether something in it decides the verdict."""
        return self.first or any(one.severity == "error" for one in self.divergences)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that stand together: equal ones, or such that differ."""

    equal: bool
    rows: list[Row]


def _rows(diff: TraceDiff, original: TraceRecord, replay: TraceRecord) -> list[Row]:
    by_row: dict[int, list[DivergenceView]] = {}
    count = len(diff.alignment)
    for one in diff.divergences:
        if one.index is not None and len(by_row) < MOST_DIVERGENCES:
            by_row.setdefault(one.index, []).append(divergence_view(one, count))
    differing = [number for number, pair in enumerate(diff.alignment) if pair.op != "equal"]
    whole = set(differing[:MOST_DIVERGENCES])
    limit = fair_limit(_lengths(diff, original, replay, whole))
    at = diff.first.index if diff.first is not None else None
    rows = []
    for number, pair in enumerate(diff.alignment):
        sides = [
            None if index is None else _side(record.steps[index], limit, plainly=number not in whole)
            for record, index in ((original, pair.original_index), (replay, pair.replay_index))
        ]
        titles = dict.fromkeys(title for side in sides if side for title in side.values)
        found = tuple(by_row.get(number, ()))
        rows.append(Row(number, pair.op, sides[0], sides[1], found, number == at, tuple(titles)))
    return rows


def _lengths(diff: TraceDiff, original: TraceRecord, replay: TraceRecord, whole: set[int]) -> Iterator[int]:
    for number in whole:
        pair = diff.alignment[number]
        for record, index in ((original, pair.original_index), (replay, pair.replay_index)):
            if index is not None:
                yield from lengths_of(value for _, value in values_of(record.steps[index]))


def _side(step: TraceStep, limit: int, *, plainly: bool) -> Side:
    """The step with its values, or `plainly` its name alone: it is equal, or one of too many."""
    return Side(
        *head_of(step),
        gist="" if plainly else asked_line(step.params, 160),
        values={} if plainly else {title: shown(value, limit) for title, value in values_of(step)},
    )


def _strip(rows: Sequence[Row]) -> Iterator[tuple[str, int, float, float]]:
    """The alignment as bars: what the rows are, the first of them, where they begin, how wide they are."""
    for op, members in groupby(rows, key=lambda row: row.op):
        inside = list(members)
        yield op, inside[0].number, inside[0].number / len(rows), len(inside) / len(rows)


def _facts(original: TraceRecord, replay: TraceRecord) -> Iterator[tuple[str, str, str]]:
    """What the runs are, side by side; only what one of them has."""
    sides = [dict(_facts_of(record)) for record in (original, replay)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        left, right = (side.get(name, "") for side in sides)
        if left or right:
            yield name, left, right


def _facts_of(record: TraceRecord) -> Iterator[tuple[str, str]]:
    yield "run", visible(record.run_id)
    yield "agent", visible(record.agent_id or "no agent")
    yield "status", visible(record.status)
    yield (
        "steps",
        f"{len(record.steps):,}" + (f", {record.failure_count:,} failed" if record.failure_count else ""),
    )
    if timed(record):
        yield "started", f"{moment(record.started_at)} UTC"
        yield "took", duration(elapsed_ms(record))
    yield "cost", cost(record.total_cost_cents)
    yield "tokens", total_tokens(record).replace("tokens ", "")
    yield "signature", visible(signature_of(record))
    for key, value in record.metadata.items():
        if key != META_REPLAYABILITY:
            yield visible(str(key)), plain(value, 200)
    for one in record.violations[:1]:
        yield "violates", visible(one.policy_id)
