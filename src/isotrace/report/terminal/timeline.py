"""One run as a timeline, and one step in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from isotrace.events import lineage_text
from isotrace.jsondiff import MISSING
from isotrace.models import (
    META_REPLAYABILITY,
    Erased,
    TraceRecord,
    TraceStep,
)
from isotrace.report.figures import cost, duration, moment, short_id, tokens
from isotrace.report.reading import (
    Scale,
    doubts,
    elapsed_ms,
    error_message,
    failure_text,
    outcome_of,
    redactors,
    scale_of,
    timed,
    total_tokens,
    unpriced,
    usage_facts,
)
from isotrace.report.safe import json_text, plain, summary, visible, visible_lines
from isotrace.report.terminal.console import STATUS_STYLES, Glyphs, cut_cells, glyphs_of, print_row, safe, say

_EDGE = 100
"""Of a longer run a terminal shows this many steps from each end, unless asked for a range."""

_NARROWEST = 4
"""A bar of fewer columns tells nothing."""

_LEAST = 12
"""Less room than this is left free beside a step's name."""

_BRANCH_STYLES = ("cyan", "magenta", "blue", "yellow", "green")


def _bar(scale: Scale, step: TraceStep, width: int, glyph: str) -> tuple[str, str, str]:
    """The blank before, the bar (at least one column), the blank after."""
    begin, share = scale.span(step)
    first = min(int(begin * width), width - 1)
    length = min(max(round(share * width), 1), width - first)
    return " " * first, glyph * length, " " * (width - first - length)


def show_record(
    console: Console,
    record: TraceRecord,
    *,
    steps: slice | None = None,
    signature: str | None,
) -> None:
    """Prints the run: a header, then two or three lines a step."""
    glyphs = glyphs_of(console)
    for line in _header(record, console.width, signature):
        say(console, line)
    console.print()
    view = _Timeline(record, console.width, glyphs)
    count = len(record.steps)
    chosen = record.steps if steps is None else record.steps[steps]
    if steps is None and console.is_terminal and count > 2 * _EDGE:
        _print_steps(console, view, record.steps[:_EDGE])
        hidden = count - 2 * _EDGE
        say(console, Text(f"  … {hidden:,} more steps: --steps {_EDGE}:{count - _EDGE}", style="yellow"))
        _print_steps(console, view, record.steps[-_EDGE:])
    else:
        _print_steps(console, view, chosen)
    for violation in record.violations:
        if violation.step_index is None:
            say(console, _violation_line(violation.policy_id, violation.reason, glyphs))
    if not record.steps:
        console.print(Text("no steps", style="dim"))
    for line in _ending(record, console.width):
        print_row(console, line)


def _print_steps(console: Console, view: _Timeline, steps: Sequence[TraceStep]) -> None:
    for step in steps:
        for line in view.lines(step):
            print_row(console, line)


# --- the header -----------------------------------------------------------------------


def _header(record: TraceRecord, width: int, signature: str | None) -> Iterator[Text]:
    # The id whole, so that it can be copied, unless it would not leave room for the rest.
    room = width - len("run " + "  " * 2) - len(record.agent_id or "no agent") - len(record.status)
    run_id = visible(record.run_id) if len(record.run_id) <= room else short_id(record.run_id)
    title = Text.assemble(
        ("run ", "dim"),
        (run_id, "bold"),
        "  ",
        (visible(record.agent_id or "no agent"), "bold cyan"),
        "  ",
        (visible(record.status), STATUS_STYLES.get(record.status, "")),
    )
    yield title
    counts = f"{len(record.steps)} step{'' if len(record.steps) == 1 else 's'}"
    if record.failure_count:
        counts += f", {record.failure_count} failed"
    absent = not timed(record)
    yield from _flow(
        width,
        [
            None if absent else f"{moment(record.started_at)} UTC",
            counts,
            None if absent else f"{duration(elapsed_ms(record))}",
            total_tokens(record),
            cost(record.total_cost_cents),
            f"tenant {visible(record.tenant_id)}" if record.tenant_id != "default" else None,
        ],
    )
    yield from _flow(
        width,
        [
            f"signature {short_id(signature)}" if signature else "no signature",
            f"root {short_id(record.root_hash)}" if record.root_hash else "not sealed",
            f"seed {record.seed}",
            None
            if record.correlation_id == record.run_id
            else f"correlation {short_id(record.correlation_id)}",
        ],
    )
    for reason in unpriced(record):
        yield safe(f"  {reason}", width, "dim")
    yield from _grade(record)
    if redacted := redactors(record):
        yield safe(f"  redacted: {redacted}", width)
    known = {META_REPLAYABILITY}
    rest = [f"{visible(str(k))} {plain(v, 60)}" for k, v in record.metadata.items() if k not in known]
    yield from _flow(width, rest)
    if record.context is not None and record.context.input not in (MISSING, None):
        yield Text(f"  input {_value_line(record.context.input, width - 8)}", style="dim")


def _ending(record: TraceRecord, width: int) -> Iterator[Text]:
    """What the run came to."""
    context = record.context
    if context is None or (context.result is MISSING and context.error in (MISSING, None)):
        return
    yield Text()
    if context.result is not MISSING:
        yield Text(f"  result {_value_line(context.result, width - 9)}")
    if context.error not in (MISSING, None):
        error = context.error
        text = "erased" if isinstance(error, Erased) else error_message(error)
        yield safe(f"  error {text}", width, "red")


def _grade(record: TraceRecord) -> Iterator[Text]:
    reasons = doubts(record)
    if reasons is None:
        return
    if not reasons:
        yield Text("  replayable", style="green")
        return
    yield Text("  may not replay:", style="yellow")
    for reason in reasons:
        yield safe(f"    {reason}", style="yellow")


def _flow(width: int, parts: Sequence[str | None]) -> Iterator[Text]:
    """Short facts, side by side, as many on a line as fit."""
    line = ""
    for part in map(visible, filter(None, parts)):
        if line and len(line) + 3 + len(part) + 2 > width:
            yield Text(f"  {line}", style="dim")
            line = ""
        line = f"{line} · {part}" if line else part
    if line:
        yield Text(f"  {line}", style="dim")


# --- the steps ------------------------------------------------------------------------


class _Timeline:
    """Turns steps into lines of one width."""

    def __init__(self, record: TraceRecord, width: int, glyphs: Glyphs) -> None:
        self.width = width
        self.glyphs = glyphs
        self.number_width = len(str(max(len(record.steps) - 1, 0)))
        self.bar = 0 if width < 80 else min((width - 60) // 2, 40)
        self.scale = scale_of(record) if self.bar >= _NARROWEST else None
        self.violations: dict[int | None, list[tuple[str, str]]] = {}
        for one in record.violations:
            self.violations.setdefault(one.step_index, []).append((one.policy_id, one.reason))
        self.timed = timed(record)
        self.branches: dict[tuple[int | str, ...], int] = {}

    def lines(self, step: TraceStep) -> Iterator[Text]:
        """One line that says what the step was, then what went in and what came out."""
        context = step.context
        guide = self._guide(context.lineage[:-1] if context else ())
        yield self._title(step, guide)
        indent = " " * (self.number_width + 3)
        room = self.width - len(indent) - guide.cell_len - 2
        for line in self._values(step, room):
            yield Text.assemble(indent, guide, line)
        for policy_id, reason in self.violations.get(step.step_index, ()):
            yield Text.assemble(indent, guide, _violation_line(policy_id, reason, self.glyphs, room))
        for mark in context.marks if context else ():
            yield Text.assemble(indent, guide, safe(f"{self.glyphs.other} {mark}", room, "yellow"))

    def _guide(self, branch: tuple[int | str, ...]) -> Text:
        """One guide line for each branch that the step is inside of; each branch keeps its colour."""
        guide = Text()
        for depth in range(1, len(branch) + 1):
            number = self.branches.setdefault(branch[:depth], len(self.branches))
            guide.append(f"{self.glyphs.guide} ", style=_BRANCH_STYLES[number % len(_BRANCH_STYLES)])
        return guide

    def _title(self, step: TraceStep, guide: Text) -> Text:
        kind = step.context.kind if step.context else "tool"
        right = self._right(step)
        status = self._status(step)
        left = Text.assemble(
            (f"{step.step_index:>{self.number_width}} ", "dim"),
            guide,
            (self.glyphs.kinds.get(kind, self.glyphs.other) + " ", STATUS_STYLES[step.status.value]),
        )
        room = self.width - left.cell_len - right.cell_len - status.cell_len - 3
        name = cut_cells(visible(step.skill_name), max(room, 8))
        left.append(name, style="bold")
        left.append_text(Text.assemble("  ", status))
        used = visible(tokens(step.context.usage if step.context else None))
        if used and room - cell_len(name) > _LEAST:
            left.append(f"  {cut_cells(used, room - cell_len(name) - 2)}", style="dim")
        left.append(" " * max(self.width - left.cell_len - right.cell_len, 1))
        left.append_text(right)
        left.rstrip()
        return left

    def _status(self, step: TraceStep) -> Text:
        style = STATUS_STYLES[step.status.value]
        text = Text(self.glyphs.statuses[step.status.value], style=style)
        if step.status.value != "success":
            text.append(f" {step.status.value}", style=style)
        if step.retry_count:
            retries = "retry" if step.retry_count == 1 else "retries"
            text.append(f" {step.retry_count} {retries}", style="yellow")
        return text

    def _right(self, step: TraceStep) -> Text:
        text = Text()
        if self.scale is not None:
            before, bar, after = _bar(self.scale, step, self.bar, self.glyphs.bar)
            text.append(before)
            text.append(bar, style=STATUS_STYLES[step.status.value])
            text.append(after)
        if self.timed:
            text.append(f" {duration(step.duration_ms):>9}")
        if self.width >= 80:
            text.append(f" {cost(step.cost_cents):>8}", style="dim")
        return text

    def _values(self, step: TraceStep, room: int) -> Iterator[Text]:
        going_in = Text(_value_line(step.params, room), style="dim")
        coming_out = outcome_of(step)
        out = Text(f"{self.glyphs.arrow} ", style="dim")
        if step.status.value == "success":
            out.append(cut_cells(_value_line(coming_out, room - 2), room - 2), style="dim")
        else:
            style = STATUS_STYLES[step.status.value]
            out.append(cut_cells(visible(failure_text(step)), room - 2), style=style)
        if going_in.cell_len + out.cell_len + 2 <= room:
            yield Text.assemble(going_in, "  ", out)
        else:
            yield Text(cut_cells(going_in.plain, room), style="dim")
            yield out


def _violation_line(policy_id: str, reason: str, glyphs: Glyphs, width: int | None = None) -> Text:
    return safe(f"{glyphs.flag} violates {policy_id}: {reason}", width, "bold magenta")


def _value_line(value: Any, width: int) -> str:
    if isinstance(value, Erased):
        return f"erased, commitment {short_id(value.commit)}"
    return summary(value, max(width, 20))


# --- one step in full -----------------------------------------------------------------


def show_step(console: Console, record: TraceRecord, step: TraceStep) -> None:
    """Prints everything that is known of one step, nothing left out."""
    glyphs = glyphs_of(console)
    context = step.context
    kind = context.kind if context else "tool"
    style = STATUS_STYLES[step.status.value]
    say(
        console,
        Text.assemble(
            ("step ", "dim"),
            (str(step.step_index), "bold"),
            (f" of run {visible(record.run_id)}", "dim"),
        ),
    )
    say(
        console,
        Text.assemble(
            (f"{glyphs.kinds.get(kind, glyphs.other)} ", style),
            (visible(step.skill_name), "bold"),
            (f"  {glyphs.statuses[step.status.value]} {step.status.value}", style),
            (f" {visible(step.outcome_category)} {visible(step.outcome_code or '')}".rstrip(), style),
        ),
    )
    for line in _flow(console.width, _step_facts(record, step)):
        say(console, line)
    _print_value(console, "params", step.params)
    if context and context.error is not None:
        _print_value(console, "error", context.error)
    _print_value(console, "outcome", step.outcome_data)
    if context and context.attempts:
        _print_value(console, "attempts", context.attempts)
    if context and context.raw_ids:
        _print_value(console, "ids as the provider gave them", context.raw_ids)
    for violation in record.violations:
        if violation.step_index == step.step_index:
            say(console, _violation_line(violation.policy_id, violation.reason, glyphs))


def _step_facts(record: TraceRecord, step: TraceStep) -> list[str | None]:
    context = step.context
    known = timed(record)
    facts: list[str | None] = [
        f"{moment(step.timestamp)} UTC" if known else None,
        duration(step.duration_ms) if known else None,
        cost(step.cost_cents),
        f"retries {step.retry_count}" if step.retry_count else None,
    ]
    if context is not None:
        facts += [
            f"{context.kind}, effect {context.effect}",
            f"lineage {visible(lineage_text(context.lineage))}",
            f"events {context.start_seq} and {context.end_seq}" if context.end_seq else None,
            f"run of its own {visible(context.child_run_id)}" if context.child_run_id else None,
            *(visible(mark) for mark in context.marks),
            *usage_facts(context.usage),
        ]
    if not isinstance(step.params, Erased):
        facts.append(f"hash {step.determinism_hash()}")
    return facts


def _print_value(console: Console, title: str, value: Any) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    if isinstance(value, Erased):
        say(console, Text(f"  erased; its commitment is {value.commit}", style="yellow"))
        return
    if value is None:
        console.print(Text("  none", style="dim"))
        return
    for line in visible_lines(json_text(value)):
        print_row(console, Text(f"  {line}"))
