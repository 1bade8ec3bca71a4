"""One run as a timeline, and one step in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from isotrace.events import lineage_text
from isotrace.jsondiff import MISSING
from isotrace.models import (
    META_REPLAYABILITY,
    META_TIME,
    Erased,
    TraceRecord,
    TraceStep,
    Usage,
)
from isotrace.report.safe import json_text, plain, summary, visible, visible_lines
from isotrace.report.terminal.console import (
    STATUS_STYLES,
    Glyphs,
    cost,
    cut_cells,
    duration,
    glyphs_of,
    moment,
    print_row,
    safe,
    say,
    short_id,
    tokens,
)

_EDGE = 100
"""Of a longer run a terminal shows this many steps from each end, unless asked for a range."""

_LEAST = 12
"""Less room than this is left free beside a step's name."""

_BRANCH_STYLES = ("cyan", "magenta", "blue", "yellow", "green")


@dataclass(frozen=True, slots=True)
class Scale:
    """Places a step's time on a bar of `width` columns: from the run's start to its last end."""

    start: datetime
    total_ms: float
    width: int

    def bar(self, step: TraceStep, glyph: str) -> tuple[str, str, str]:
        """The blank before, the bar (at least one column), the blank after."""
        offset = (step.timestamp - self.start).total_seconds() * 1000
        first = min(max(int(offset / self.total_ms * self.width), 0), self.width - 1)
        length = max(round(step.duration_ms / self.total_ms * self.width), 1)
        length = min(length, self.width - first)
        return " " * first, glyph * length, " " * (self.width - first - length)


def scale_of(record: TraceRecord, width: int) -> Scale | None:
    """The scale of a run, None where its times are unknown or the terminal is too narrow."""
    if width < 4 or record.metadata.get(META_TIME) == "absent" or not record.steps:
        return None
    start = min(record.started_at, *(step.timestamp for step in record.steps))
    end = max((step.timestamp - start).total_seconds() * 1000 + step.duration_ms for step in record.steps)
    return Scale(start, end, width) if end > 0 else None


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
    absent = record.metadata.get(META_TIME) == "absent"
    yield from _flow(
        width,
        [
            None if absent else f"{moment(record.started_at)} UTC",
            counts,
            None if absent else f"{duration(_elapsed_ms(record))}",
            _total_tokens(record),
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
    for reason in _unpriced(record):
        yield safe(f"  {reason}", width, "dim")
    yield from _grade(record)
    known = {META_REPLAYABILITY}
    rest = [f"{visible(str(k))} {plain(v, 60)}" for k, v in record.metadata.items() if k not in known]
    yield from _flow(width, rest)
    if record.context is not None and record.context.input not in (MISSING, None):
        yield Text(f"  input {_value_line(record.context.input, width - 8)}", style="dim")


def _total_tokens(record: TraceRecord) -> str:
    """The tokens of all steps, empty where none were counted."""
    used = [step.context.usage for step in record.steps if step.context and step.context.usage]
    sent = [usage.input_tokens for usage in used if usage.input_tokens is not None]
    given = [usage.output_tokens for usage in used if usage.output_tokens is not None]
    return f"{sum(sent):,} tokens in, {sum(given):,} out" if sent or given else ""


def _unpriced(record: TraceRecord) -> Iterator[str]:
    """Why steps have no cost, each reason once."""
    used = [step.context.usage for step in record.steps if step.context and step.context.usage]
    reasons = dict.fromkeys((usage.model, usage.unpriced) for usage in used if usage.unpriced)
    for model, reason in reasons:
        yield f"no cost of {model}, {reason}"


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
    grade = record.metadata.get(META_REPLAYABILITY)
    if grade is None:
        return
    if grade == "replayable":
        yield Text("  replayable", style="green")
        return
    reasons = grade if isinstance(grade, list) else [grade]
    yield Text("  may not replay:", style="yellow")
    for reason in reasons:
        yield safe(f"    {reason}", style="yellow")


def _elapsed_ms(record: TraceRecord) -> float:
    if record.completed_at is None:
        return record.total_duration_ms
    return (record.completed_at - record.started_at).total_seconds() * 1000


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
        bar = 0 if width < 80 else min((width - 60) // 2, 40)
        self.scale = scale_of(record, bar)
        self.violations: dict[int | None, list[tuple[str, str]]] = {}
        for one in record.violations:
            self.violations.setdefault(one.step_index, []).append((one.policy_id, one.reason))
        self.timed = record.metadata.get(META_TIME) != "absent"
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
            before, bar, after = self.scale.bar(step, self.glyphs.bar)
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
        coming_out = _outcome_text(step)
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


def _outcome_text(step: TraceStep) -> Any:
    """The outcome as the function returned it: `{"value": x}` is how a bare `x` is kept."""
    outcome = step.outcome_data
    if isinstance(outcome, dict) and list(outcome) == ["value"]:
        return outcome["value"]
    return outcome


def failure_text(step: TraceStep) -> str:
    """Category, code and message of a step that did not succeed."""
    if step.outcome_category == "INDETERMINATE":
        return "INDETERMINATE: the step's end was never recorded"
    error = step.context.error if step.context else None
    code = step.outcome_code or ""
    message = "" if error is None or isinstance(error, Erased) else error_message(error, code)
    return ": ".join(filter(None, [f"{step.outcome_category} {code}".strip(), message]))


def error_message(error: Any, code: str = "") -> str:
    """The message of a recorded error: a text, or an object with `type` and `message`. The type
    is left out where `code` says it already."""
    if not isinstance(error, dict):
        return str(error)
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    return message if kind == code else ": ".join(filter(None, [kind, message]))


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
    timed = record.metadata.get(META_TIME) != "absent"
    facts: list[str | None] = [
        f"{moment(step.timestamp)} UTC" if timed else None,
        duration(step.duration_ms) if timed else None,
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
            *_usage_facts(context.usage),
        ]
    if not isinstance(step.params, Erased):
        facts.append(f"hash {step.determinism_hash()}")
    return facts


def _usage_facts(usage: Usage | None) -> Iterator[str]:
    if usage is None:
        return
    if usage.model is not None:
        yield f"model {visible(usage.model)}"
    for count, what in (
        (usage.input_tokens, "tokens in"),
        (usage.cached_tokens, "of them from the cache"),
        (usage.cache_write_tokens, "written to the cache"),
        (usage.output_tokens, "tokens out"),
        (usage.reasoning_tokens, "of them for reasoning"),
    ):
        if count or (count == 0 and what.startswith("tokens")):
            yield f"{count:,} {what}"
    if usage.prices is not None:
        yield f"prices of {visible(usage.prices)}"
    if usage.unpriced is not None:
        yield f"no cost: {visible(usage.unpriced)}"


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
