"""Golden runs as they are checked, and new recordings that wait to be accepted."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from isotrace.operations import Checked, CheckReport, Waiting
from isotrace.report.figures import duration
from isotrace.report.safe import visible
from isotrace.report.terminal.console import safe, say
from isotrace.report.terminal.sides import VERDICT_STYLES, print_diff, print_first, print_sides

NOT_CHECKED = "NOT CHECKED"
_NAMES = ("golden", "now")
_NEW_NAMES = ("golden", "new")


def count(number: int, noun: str) -> str:
    """`1 step`, `1,200 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def print_checked(console: Console, one: Checked) -> None:
    """One golden run: its verdict on a line; where it is no match, what differs below."""
    word = NOT_CHECKED if one.verdict is None else one.verdict.value
    if one.recorded and one.error is None:
        word = "SAME" if one.candidate is None else "DIFFERS"
    line = Text.assemble((f"{word:<11} ", _style(word)), visible(str(one.path)))
    if one.record is not None:
        facts = f"  {one.agent_id or 'no agent'}, {count(len(one.record.steps), 'step')}"
        line.append(f"{visible(facts)}, {duration(one.seconds * 1000)}", style="dim")
    say(console, line)
    if one.error is not None:
        for part in str(one.error).split("\n"):
            say(console, safe(f"  {part}".rstrip(), style="red"))
        console.print()
    elif word not in ("MATCH", "SAME"):
        _print_difference(console, one)
        console.print()


def _style(word: str) -> str:
    known = {NOT_CHECKED: "bold magenta", "SAME": "bold green", "DIFFERS": "bold yellow"}
    return known.get(word) or VERDICT_STYLES[word]


def _print_difference(console: Console, one: Checked) -> None:
    console.print()
    if one.sides is not None:
        original, other, diff = one.sides
        if one.candidate is not None:
            print_diff(console, original, other, diff, names=_NEW_NAMES)
            say(console, safe(f"  waits as {one.candidate}: isotrace accept {one.path}", style="dim"))
            return
        print_sides(console, original, other, diff, names=_NAMES)
    if one.first is not None:
        console.print()
        print_first(console, one.first)
    if one.replayed is not None:
        _print_rest(console, one)


def _print_rest(console: Console, one: Checked) -> None:
    """Why it differs, what can't be vouched for, and what was not reached."""
    assert one.replayed is not None
    data = one.replayed.data
    if (cause := data["cause"]) is not None:
        say(console, safe(f"  {cause['why']}: {cause['message']}", style="yellow"))
    if data["stopped"] and data["receipt"]["missed"] > 1:
        left = count(data["receipt"]["missed"] - 1, "recorded step")
        console.print(Text(f"  the replay stopped here: {left} behind it", style="dim"))
    for note in data["notes"]:
        say(console, safe(f"  note: {note}", style="yellow"))


def print_summary(console: Console, report: CheckReport, *, recorded: bool) -> None:
    """How many golden runs came to what."""
    for paths in report.of_one_recording:
        names = ", ".join(map(str, paths))
        say(console, safe(f"note: of one and the same recording: {names}", style="yellow"))
    words = (
        ((0, "same"), (1, "differ"), (2, "could not be recorded"), (125, "can't be told"))
        if recorded
        else ((0, "match"), (1, "diverged"), (2, "could not be checked"), (125, "can't be told"))
    )
    counts = [f"{number} {word}" for code, word in words if (number := report.count(code))]
    say(
        console,
        Text.assemble(
            (f"{count(len(report.checked), 'golden run')}: ", "bold"),
            (", ".join(counts), "bold green" if report.exit_code == 0 else "bold red"),
        ),
    )
    if not recorded and report.count(1):
        say(
            console,
            Text("If a change is meant: isotrace check --record PATH…, then isotrace accept", style="dim"),
        )


# --- candidates ---------------------------------------------------------------------------


def print_waiting(console: Console, one: Waiting, number: int, total: int) -> None:
    """A candidate beside the golden run in whose place it would stand."""
    say(console, Text.assemble((f"[{number}/{total}] ", "dim"), (visible(str(one.path)), "bold")))
    if one.golden is None or one.diff is None:
        what = "no golden run stands there yet" if not one.path.exists() else "what stands there is damaged"
        agent = one.new.agent_id or "no agent"
        say(console, safe(f"  {what}; new: {agent}, {count(len(one.new.steps), 'step')}, {one.new.status}"))
        return
    print_diff(console, one.golden, one.new, one.diff, names=_NEW_NAMES)


def print_accepted(console: Console, done: list[Waiting]) -> None:
    """What was done."""
    styles = {"accepted": "bold green", "rejected": "bold red", "left": "yellow"}
    for one in done:
        word = one.action
        say(console, Text.assemble((f"{word:<10}", styles[word]), visible(str(one.path))))
