"""What has changed between two sets of runs, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from isotrace.population import Comparison, Move
from isotrace.population.changes import PathChange
from isotrace.population.wording import percent
from isotrace.report.figures import short_id
from isotrace.report.safe import visible
from isotrace.report.terminal.behaviours import append_steps, say_below
from isotrace.report.terminal.console import glyphs_of, is_page, safe, say
from isotrace.report.terminal.tables import Column, print_columns

_PATHS = 12
_STEPS = 5

_STYLES = {Move.APPEARED: "red", Move.VANISHED: "red", Move.MORE: "yellow", Move.LESS: "yellow"}
_VERDICTS = {"changed": "bold red", "no change shown": "bold green", "too few runs to say": "bold yellow"}


def print_changes(console: Console, found: Comparison) -> None:
    """The verdict, the paths that changed most surely, and the steps at which runs part otherwise."""
    verdict = found.verdict.value
    said = found.words.removeprefix(verdict)
    say(console, Text.assemble((verdict, _VERDICTS[verdict]), safe(said)))
    say_below(console, safe(found.success.words, style="dim"))
    if found.left_out:
        names = ", ".join(visible(name) for name in found.left_out[:_STEPS])
        more = f" and {len(found.left_out) - _STEPS} more" if len(found.left_out) > _STEPS else ""
        say(console, Text(f"  in one of the two sets only, and left out: {names}{more}", style="yellow"))
    if found.paths:
        console.print()
        _print_paths(console, found.paths)
    moved = [step for step in found.steps if step.shown]
    if moved:
        console.print()
        say(console, Text("Which step moved", style="bold"))
    for number, step in enumerate(moved[:_STEPS], 1):
        say_below(console, safe(f"{number}. {step.words}"))
    if len(moved) > _STEPS:
        say(console, Text(f"  and {len(moved) - _STEPS:,} more steps", style="dim"))


def _print_paths(console: Console, paths: tuple[PathChange, ...]) -> None:
    shown = paths[:_PATHS]
    room = max(console.width - 46, 16) if is_page(console) else None
    columns = [
        Column("PATH", 0, [_path(console, one, room) for one in shown]),
        Column("BEFORE", 0, [_share(one.before, one.before_runs) for one in shown], right=True),
        Column("AFTER", 0, [_share(one.after, one.after_runs) for one in shown], right=True),
        Column("", 0, [Text(one.move.value, style=_STYLES.get(one.move, "dim")) for one in shown]),
        Column("P", 1, [_chance(one) for one in shown], right=True),
        Column("RUN", 2, [Text(short_id(one.runs[0] if one.runs else None), style="dim") for one in shown]),
    ]
    print_columns(console, columns)
    if len(paths) > _PATHS:
        say(console, Text(f"  and {len(paths) - _PATHS:,} more paths", style="dim"))
    for pair in _alike(shown)[:1]:
        runs = " ".join(short_id(run) for run in pair)
        say(
            console,
            Text(f"  paths that read alike differ in more than names: isotrace diff {runs}", style="dim"),
        )


def _alike(paths: tuple[PathChange, ...]) -> list[tuple[str, str]]:
    """Runs of two paths of the same skills and statuses, which look the same in a table."""
    first: dict[tuple[tuple[str, str], ...], str] = {}
    pairs = []
    for one in paths:
        names = tuple((step.skill, step.status) for step in one.steps)
        if one.runs and (other := first.setdefault(names, one.runs[0])) != one.runs[0]:
            pairs.append((other, one.runs[0]))
    return pairs


def _path(console: Console, one: PathChange, room: int | None) -> Text:
    text = Text()
    append_steps(text, one.steps, "", glyphs_of(console), room)
    if room is not None:
        text.truncate(room, overflow="ellipsis")
    return text


def _share(part: int, whole: int) -> Text:
    return Text(f"{part:,} ({percent(part / whole)})" if whole else str(part))


def _chance(one: PathChange) -> Text:
    """The corrected p, in bold where it is shown that the path's share changed."""
    said = "<0.001" if one.adjusted < 0.001 else f"{one.adjusted:.3f}"
    return Text(said, style="bold" if one.shown else "dim")
