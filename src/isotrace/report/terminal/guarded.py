"""Code that was held against a golden run: both side by side up to where they part, and why."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.text import Text

from isotrace.compare import Code, Divergence, Level, Pair, TraceDiff, diff_traces
from isotrace.models import TraceRecord
from isotrace.replay import ReplayResult
from isotrace.replay.verdict import asked_step
from isotrace.report.terminal.console import safe, say
from isotrace.report.terminal.sides import print_aligned, print_first, print_verdict

_HEADS = ("golden", "now")
_ADDED = {Code.EXTRA_STEP, Code.LATE_END}


def print_guarded(console: Console, golden: TraceRecord, result: ReplayResult) -> None:
    """Prints the verdict, the steps on both sides, what differs first and why, and what was served."""
    first = result.first
    print_verdict(console, result.verdict.value, first)
    diff, now = _aligned(golden, result)
    blocked = first is not None and first.code is Code.UNCONTROLLED_SOURCE
    if not blocked and any(pair.op != "equal" for pair in diff.alignment):
        console.print()
        print_aligned(console, golden, now, diff, _HEADS)
        _print_left(console, golden, diff)
    if first is not None:
        console.print()
        print_first(console, first)
    if result.cause is not None:
        say(console, safe(f"  {result.cause.why}: {result.cause.message}", style="yellow"))
    for note in result.notes:
        say(console, safe(f"  note: {note}", style="yellow"))
    for one in result.divergences:
        if one.code is Code.UNCONTROLLED_SOURCE and one is not first:
            say(console, safe(f"  blocked: {one.message}", style="yellow"))


def _aligned(golden: TraceRecord, result: ReplayResult) -> tuple[TraceDiff, TraceRecord]:
    """Both sides step by step. Which recorded step each call was is known from the replay itself."""
    first, reached = result.first, result.reached
    if reached is None:
        assert result.new_run is not None
        return diff_traces(golden, result.new_run), result.new_run
    asked = [golden.steps[index] for index in reached.matched]
    rows = [Pair("equal", index, place) for place, index in enumerate(reached.matched)]
    if reached.skill_name is not None and first is not None:
        rows.append(_row_of(first, len(asked)))
        asked.append(asked_step(len(asked), reached.skill_name, str(reached.kind), reached.params))
    elif not result.stopped:
        done = set(reached.matched)
        left = [step.step_index for step in golden.steps if step.step_index not in done]
        rows += [Pair("removed", index, None) for index in left]
        rows.sort(key=lambda pair: pair.original_index or 0)
    place = next((row for row, pair in enumerate(rows) if pair.op != "equal"), None)
    divergences = [] if first is None or place is None else [replace(first, index=place)]
    diff = TraceDiff(result.verdict, result.parity, divergences, rows, Level.DECISIONS, result.cause)
    return diff, replace(golden, steps=asked)


def _row_of(first: Divergence, place: int) -> Pair:
    if first.code in _ADDED or first.index is None:
        return Pair("inserted", None, place)
    return Pair("changed", first.index, place)


def _print_left(console: Console, golden: TraceRecord, diff: TraceDiff) -> None:
    """How much of the golden was not come to."""
    left = len(golden.steps) - sum(pair.original_index is not None for pair in diff.alignment)
    if left > 0:
        noun = "step" if left == 1 else "steps"
        console.print(Text(f"  … {left:,} more {noun} in the golden, not come to", style="dim"))
