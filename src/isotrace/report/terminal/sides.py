"""Two runs side by side, aligned, with the first divergence and its JSON differences in view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from isotrace.compare import Divergence, Pair, TraceDiff
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, TraceRecord, TraceStep
from isotrace.report.differences import shared_start, value_at, value_text
from isotrace.report.figures import cost, duration, short_id
from isotrace.report.reading import failure_text
from isotrace.report.safe import summary, visible
from isotrace.report.terminal.console import (
    STATUS_STYLES,
    cut_cells,
    glyphs_of,
    is_page,
    print_row,
    safe,
    say,
)

VERDICT_STYLES = {
    "MATCH": "bold green",
    "DIVERGED": "bold red",
    "INVALID_RECORD": "bold magenta",
    "INCONCLUSIVE": "bold yellow",
}

_VIOLATIONS = 10
_CONTEXT = 2
"""Equal rows that stand around a difference."""
_ROWS = 40
"""Rows that are shown unless all are asked for."""
_CHANGES = 12
"""JSON differences that are listed of the first divergence."""

# Sign, style of the sign, and what the row says, for terminals without colour or these signs.
_OPS = {
    "equal": (" ", "dim"),
    "changed": ("≠", "bold red"),
    "removed": ("-", "bold red"),
    "inserted": ("+", "bold green"),
    "moved": ("~", "bold yellow"),
}


def print_verdict(console: Console, verdict: str, first: Divergence | None) -> None:
    """The answer, before anything else."""
    line = Text(verdict, style=VERDICT_STYLES[verdict])
    if first is not None:
        line.append(f"  {visible(str(first))}", style="default")
    say(console, line)


def print_diff(
    console: Console,
    original: TraceRecord,
    replay: TraceRecord,
    diff: TraceDiff,
    *,
    names: tuple[str, str] = ("A", "B"),
    every_row: bool = False,
) -> None:
    """Prints the verdict, both runs in two columns (below each other on a narrow terminal), and the
    first divergence with its JSON differences."""
    first = diff.first
    print_verdict(console, diff.verdict.value, first)
    console.print()
    view = _Sides(console, original, replay, diff)
    view.print_heads(names)
    rows = range(len(diff.alignment))
    shown = list(rows) if every_row else _interesting(diff.alignment, first)
    view.print_rows(shown)
    if first is not None:
        console.print()
        print_first(console, first)
        if diff.cause is not None:
            say(console, safe(f"  {diff.cause.why}: {diff.cause.message}", style="yellow"))
        _print_rest(console, [one for one in diff.divergences if one is not first])
    _print_violations(console, diff, names)


def print_sides(
    console: Console,
    original: TraceRecord,
    replay: TraceRecord,
    diff: TraceDiff,
    *,
    names: tuple[str, str] = ("A", "B"),
) -> None:
    """Prints both runs in two columns (below each other on a narrow terminal), around what differs."""
    view = _Sides(console, original, replay, diff)
    view.print_heads(names)
    view.print_rows(_interesting(diff.alignment, diff.first))


def print_aligned(
    console: Console,
    original: TraceRecord,
    replay: TraceRecord,
    diff: TraceDiff,
    heads: tuple[str, str],
) -> None:
    """`print_sides` under two plain headings: of the same run, ids and durations say nothing."""
    view = _Sides(console, original, replay, diff)
    view.print_titles(Text(heads[0], "bold"), Text(heads[1], "bold"))
    view.print_rows(_interesting(diff.alignment, diff.first))


def _interesting(alignment: Sequence[Pair], first: Divergence | None) -> list[int]:
    """The rows that differ with some around them; where there are too many, those from the first on."""
    wanted: set[int] = set()
    for row, pair in enumerate(alignment):
        if pair.op != "equal" or (first is not None and row == first.index):
            wanted.update(range(max(row - _CONTEXT, 0), min(row + _CONTEXT + 1, len(alignment))))
        if len(wanted) > _ROWS:
            break
    return sorted(wanted)[:_ROWS]


class _Sides:
    """Lays rows out in two columns, or in one where two would be too narrow."""

    def __init__(self, console: Console, original: TraceRecord, replay: TraceRecord, diff: TraceDiff) -> None:
        self.console = console
        self.glyphs = glyphs_of(console)
        self.original, self.replay = original, replay
        self.alignment = diff.alignment
        self.two = console.width >= 80
        width = min(console.width, 180)
        self.side = (width - 7) // 2 if self.two else width - 4
        self.digits = len(str(max(len(original.steps), len(replay.steps), 1) - 1))
        self.by_row: dict[int | None, Divergence] = {}
        for one in diff.divergences:
            self.by_row.setdefault(one.index, one)

    # --- rows -------------------------------------------------------------------------

    def print_heads(self, names: tuple[str, str]) -> None:
        heads = [
            _head(name, record) for name, record in zip(names, (self.original, self.replay), strict=True)
        ]
        facts = [_facts(record) for record in (self.original, self.replay)]
        self.print_titles(heads[0], heads[1], facts)

    def print_titles(self, left: Text, right: Text, below: Sequence[Text] = ()) -> None:
        """What the two sides are, with a line below each if given, over a rule."""
        rule = self.glyphs.rule
        if self.two:
            self._print_two(" ", "", left, right)
            if below:
                self._print_two(" ", "", below[0], below[1])
            half = rule * (self.side + 1)
            self.console.print(Text(f"  {half}{'┼' if rule != '-' else '+'}{half}", "dim"))
            return
        for index, head in enumerate((left, right)):
            self._print(Text.assemble((f"{'-+'[index]} ", "bold"), head))
            if below:
                self._print(Text.assemble("  ", below[index]))
        self._print(Text(rule * (self.side + 4), "dim"))

    def print_rows(self, rows: Sequence[int]) -> None:
        before = -1
        for row in rows:
            self._print_gap(row - before - 1)
            self._print_row(row)
            before = row
        self._print_gap(len(self.alignment) - before - 1, last=True)

    def _print_gap(self, count: int, *, last: bool = False) -> None:
        if count <= 0:
            return
        start = len(self.alignment) - count
        equal = not last or all(pair.op == "equal" for pair in self.alignment[start:])
        noun = "step" if count == 1 else "steps"
        text = f"… {count:,} equal {noun}" if equal else f"… {count:,} more {noun}: --all"
        self._print(Text(f"  {text}", style="dim" if equal else "yellow"))

    def _print_row(self, row: int) -> None:
        pair = self.alignment[row]
        sign, style = _OPS[pair.op]
        sign = self.glyphs.changed if pair.op == "changed" else sign
        left = self._step(self.original, pair.original_index, pair.op)
        right = self._step(self.replay, pair.replay_index, pair.op)
        left_more, right_more = self._difference(row, pair) if _cut(left, right) else (None, None)
        if self.two:
            self._print_two(sign, style, left or Text(), right or Text())
            if left_more is not None or right_more is not None:
                self._print_two(" ", "", left_more or Text(), right_more or Text())
            return
        if pair.op == "equal" and left is not None:
            self._print(Text.assemble("  ", left))
            return
        for mark, colour, line, more in (("-", "red", left, left_more), ("+", "green", right, right_more)):
            if line is not None:
                self._print(Text.assemble((f"{mark} ", colour), line))
            if more is not None:
                self._print(Text.assemble((f"{mark} ", colour), more))

    def _step(self, record: TraceRecord, index: int | None, op: str) -> Text | None:
        if index is None:
            return None
        step = record.steps[index]
        kind = step.context.kind if step.context else "tool"
        text = Text.assemble(
            (f"{index:>{self.digits}} ", "dim"),
            (f"{self.glyphs.kinds.get(kind, self.glyphs.other)} ", STATUS_STYLES[step.status.value]),
            (visible(step.skill_name), "dim" if op == "equal" else "bold"),
        )
        if step.status.value != "success":
            status = f"  {self.glyphs.statuses[step.status.value]} {failure_text(step)}"
            text.append(visible(status), style=STATUS_STYLES[step.status.value])
        room = self.side - text.cell_len - 2
        if op != "equal" and step.status.value == "success" and room > 8:
            text.append(f"  {_params(step, room)}", style="dim")
        return text

    def _difference(self, row: int, pair: Pair) -> tuple[Text | None, Text | None]:
        """What exactly differs in a changed row, on each side, where it is not plain from the row."""
        divergence = self.by_row.get(row)
        if pair.op != "changed" or divergence is None or not divergence.pointers:
            return None, None
        pointer = divergence.pointers[0]
        left, right = value_at(divergence.expected, pointer), value_at(divergence.actual, pointer)
        if left is MISSING and right is MISSING:
            return None, None
        room = self.side - self.digits - 3
        label = _tail(visible(pointer or "the whole"), room // 2)
        texts = around_difference(left, right, room - len(label) - 1)
        indent = " " * (self.digits + 3)
        return (
            Text.assemble(indent, (f"{label} ", "dim"), (texts[0], "red")),
            Text.assemble(indent, (f"{label} ", "dim"), (texts[1], "green")),
        )

    # --- printing ---------------------------------------------------------------------

    def _print_two(self, sign: str, style: str, left: Text, right: Text) -> None:
        line = Text.assemble((f"{sign} ", style), self._fit(left))
        line.append(" " * (self.side + 3 - line.cell_len))
        line.append(f"{self.glyphs.divider} ", style="dim")
        line.append_text(self._fit(right))
        line.rstrip()
        self._print(line)

    def _fit(self, text: Text) -> Text:
        text = text.copy()
        text.truncate(self.side, overflow="ellipsis")
        return text

    def _print(self, line: Text) -> None:
        if is_page(self.console):
            line.truncate(self.console.width, overflow="ellipsis")
        print_row(self.console, line)


def _cut(*sides: Text | None) -> bool:
    """Whether a row does not show its params whole, so that its difference may be out of sight."""
    plain = {side.plain for side in sides if side is not None}
    return any(text.endswith("…") for text in plain) or len({text.split("  ", 1)[-1] for text in plain}) == 1


def _tail(pointer: str, width: int) -> str:
    """A pointer's end says more than its beginning."""
    return pointer if len(pointer) <= width else f"…{pointer[-(width - 1) :]}"


def _head(name: str, record: TraceRecord) -> Text:
    return Text.assemble(
        (f"{name} ", "bold"),
        (short_id(record.run_id), "bold"),
        (f"  {visible(record.agent_id or 'no agent')}", "cyan"),
        (f"  {visible(record.status)}", STATUS_STYLES.get(record.status, "")),
    )


def _facts(record: TraceRecord) -> Text:
    labels = [f"{key} {record.metadata[key]}" for key in ("task", "trial", "model") if key in record.metadata]
    facts = [
        f"{len(record.steps)} step{'' if len(record.steps) == 1 else 's'}",
        duration(record.total_duration_ms),
        cost(record.total_cost_cents),
    ]
    return safe(" · ".join(filter(None, facts + labels)), style="dim")


def _params(step: TraceStep, room: int) -> str:
    return "params erased" if isinstance(step.params, Erased) else cut_cells(summary(step.params, room), room)


def around_difference(left: Any, right: Any, width: int) -> tuple[str, str]:
    """Both values on one line of `width`, cut so that the place where they begin to differ shows."""
    one, other = value_text(left), value_text(right)
    if max(len(one), len(other)) <= width:
        return one, other
    start = max(shared_start(one, other) - width // 3, 0)
    if not start:
        return cut_cells(one, width), cut_cells(other, width)
    return cut_cells(f"…{one[start:]}", width), cut_cells(f"…{other[start:]}", width)


# --- the first divergence -------------------------------------------------------------


def print_first(console: Console, first: Divergence) -> None:
    """What kind of difference it is, and what stands on each side, by JSON Pointer."""
    place = "the run" if first.index is None else f"step {first.index}"
    console.print(
        Text.assemble(("First divergence: ", "bold"), (f"{first.code.value} at {place}", "bold red"))
    )
    say(console, safe(f"  {first.code.info.definition}", style="dim"))
    for line in _changes(first, min(console.width, 180)):
        print_row(console, line)
    if first.nearest:
        say(console, safe(f"  nearest on the other side: {summary(first.nearest, 100)}", style="dim"))


def _changes(first: Divergence, width: int) -> Iterator[Text]:
    """Each JSON Pointer with what stands there on both sides."""
    if not first.pointers:
        if first.expected is not None or first.actual is not None:
            yield from _change(first.expected, first.actual, width)
        return
    for pointer in first.pointers[:_CHANGES]:
        yield safe(f"  {pointer or 'the whole value'}", width, "cyan")
        one, other = value_at(first.expected, pointer), value_at(first.actual, pointer)
        # Of content that is gone on both sides there is nothing to show.
        if one is not MISSING or other is not MISSING:
            yield from _change(one, other, width)
    if len(first.pointers) > _CHANGES:
        yield Text(f"  … {len(first.pointers) - _CHANGES} more places: --json", style="yellow")


def _change(expected: Any, actual: Any, width: int) -> Iterator[Text]:
    one, other = around_difference(expected, actual, width - 6)
    yield Text.assemble(("    - ", "red"), (one, "red"))
    yield Text.assemble(("    + ", "green"), (other, "green"))


def _print_violations(console: Console, diff: TraceDiff, names: tuple[str, str]) -> None:
    """Violations of policies that one run has and the other has not."""
    flag = glyphs_of(console).flag
    for one in diff.violations[:_VIOLATIONS]:
        name = names[0] if one.side == "original" else names[1]
        place = "" if one.step_index is None else f" at step {one.step_index}"
        reason = "its reason was erased" if isinstance(one.reason, Erased) else one.reason
        line = f"{flag} only {name} violates {one.policy_id}{place}: {reason}"
        say(console, safe(line, style="bold magenta"))
    if len(diff.violations) > _VIOLATIONS:
        say(console, Text(f"… and {len(diff.violations) - _VIOLATIONS:,} more violations", style="dim"))


def _print_rest(console: Console, rest: Sequence[Divergence]) -> None:
    if not rest:
        return
    counted = Counter(one.code.value for one in rest)
    parts = [f"{count} × {code}" if count > 1 else code for code, count in counted.items()]
    say(console, Text(f"After it: {', '.join(parts)}", style="dim"))
