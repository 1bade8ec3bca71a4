"""What a replay came to: the verdict, the place, and the receipt."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from isotrace.cli.render.console import cut_cells, glyphs_of, print_row, safe, say, short_id
from isotrace.cli.render.sides import print_first, print_verdict
from isotrace.cli.replaying import Replayed
from isotrace.cli.safe import summary, visible
from isotrace.models import Erased, TraceRecord

_BEFORE = 2
_GUARDS = {
    "netns": "in a network namespace of its own",
    "patched": "sockets and processes refused inside the process",
    "audit": "audit events only",
}


def print_replay(console: Console, record: TraceRecord, result: Replayed) -> None:
    """Prints the verdict, the recorded steps up to the divergence, what differs, and the receipt."""
    divergences = result.divergences
    first = divergences[0] if divergences else None
    print_verdict(console, result.verdict.value, first)
    console.print(
        Text.assemble(
            ("  run ", "dim"),
            short_id(record.run_id),
            (f" of {visible(record.agent_id or 'no agent')}", "dim"),
        )
    )
    if first is not None:
        if first.index is not None:
            _print_place(console, record, first.index)
        console.print()
        print_first(console, first)
    for note in result.data["notes"]:
        say(console, safe(f"  note: {note}", style="yellow"))
    console.print()
    _print_receipt(console, result)


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
    console.print(Text.assemble(("receipt  ", "bold"), counts))
    say(console, Text(f"  guard {receipt['guard']}: {guard}", style="dim"))
