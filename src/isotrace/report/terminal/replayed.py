"""What a replay came to: the verdict, the place, and the receipt."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from isotrace.compare import Divergence, Severity
from isotrace.models import Erased, TraceRecord
from isotrace.operations import Replayed
from isotrace.report.figures import short_id
from isotrace.report.safe import summary, visible
from isotrace.report.terminal.console import cut_cells, glyphs_of, print_row, safe, say
from isotrace.report.terminal.sides import print_first, print_verdict

_BEFORE = 2
_GUARDS = {
    "netns": "in a network namespace of its own",
    "patched": "sockets and processes refused inside the process",
    "audit": "audit events only",
}


def print_replay(console: Console, record: TraceRecord, result: Replayed) -> None:
    """Prints the verdict, the recorded steps up to the divergence, what differs, and the receipt."""
    first = result.first
    print_verdict(console, result.verdict.value, first)
    console.print(
        Text.assemble(
            ("  run ", "dim"),
            short_id(record.run_id),
            (f" of {visible(record.agent_id or 'no agent')}", "dim"),
            ("" if result.data["mode"] == "strict" else f"  mode {result.data['mode']}", "dim"),
        )
    )
    if first is not None:
        if first.index is not None:
            _print_place(console, record, first.index)
        console.print()
        print_first(console, first)
        _print_cause(console, result)
        _print_beside(console, result, first)
    for note in result.data["notes"]:
        say(console, safe(f"  note: {note}", style="yellow"))
    console.print()
    _print_receipt(console, result)
    if (kept := result.data["kept_run_id"]) is not None:
        say(console, safe(f"  kept as run {kept}", style="dim"))


def print_fork(console: Console, record: TraceRecord, result: Replayed, at: int) -> None:
    """Prints which run came about, whether the code got to the fork, and what became of it after that."""
    kept = result.data["kept_run_id"]
    console.print(
        Text.assemble(
            ("FORKED" if not result.data["stopped"] else "STOPPED", "bold"),
            f"  run {visible(kept or '')}",
            (f", from {short_id(record.run_id)} at step {at}", "dim"),
        )
    )
    first = result.first
    if first is not None:
        console.print()
        print_first(console, first)
        _print_cause(console, result)
    else:
        say(console, Text("  it took the recorded path all the same"))
    for note in result.data["notes"]:
        say(console, safe(f"  note: {note}", style="yellow"))
    console.print()
    _print_receipt(console, result)
    say(console, Text(f"  isotrace diff {record.run_id[:12]} {(kept or '')[:12]}", style="dim"))


def _print_beside(console: Console, result: Replayed, first: Divergence) -> None:
    """What stands beside the divergence without deciding anything: another environment, say."""
    for one in result.divergences:
        if one.severity is not Severity.ERROR and one.code is not first.code:
            say(console, safe(f"  beside it: {one}", style="dim"))


def _print_cause(console: Console, result: Replayed) -> None:
    cause = result.data["cause"]
    if cause is not None:
        say(console, safe(f"  {cause['why']}: {cause['message']}", style="yellow"))


def _print_place(console: Console, record: TraceRecord, index: int) -> None:
    """The last steps that were served, and the recorded one at which the code parted."""
    glyphs = glyphs_of(console)
    console.print()
    start = max(index - _BEFORE, 0)
    if start:
        console.print(Text(f"    … {start} step{'' if start == 1 else 's'} served", style="dim"))
    for step in record.steps[start : index + 1]:
        here = step.step_index == index
        kind = step.context.kind if step.context else "tool"
        line = Text.assemble(
            (f"{glyphs.changed if here else glyphs.statuses['success']} ", "bold red" if here else "green"),
            (f"{step.step_index:>3} {glyphs.kinds.get(kind, glyphs.other)} ", "dim"),
            (visible(step.skill_name), "bold" if here else ""),
        )
        room = min(console.width, 160) - line.cell_len - 3
        params = "params erased" if isinstance(step.params, Erased) else summary(step.params, max(room, 10))
        line.append(f"  {cut_cells(params, max(room, 10))}", style="dim")
        print_row(console, line)


def _print_receipt(console: Console, result: Replayed) -> None:
    receipt = result.data["receipt"]
    counts = " · ".join(f"{receipt[name]} {name}" for name in ("served", "executed", "missed", "blocked"))
    guard = _GUARDS.get(receipt["guard"], receipt["guard"])
    if result.data["mode"] != "strict":
        guard += ", except to the steps that are executed"
    console.print(Text.assemble(("receipt  ", "bold"), counts))
    say(console, Text(f"  guard {receipt['guard']}: {guard}", style="dim"))
