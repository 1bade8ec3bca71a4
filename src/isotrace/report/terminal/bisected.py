"""A bisection as it goes on, and the commit that it found."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from isotrace.operations import Bisection, Tried
from isotrace.operations.repository import Commit
from isotrace.report.safe import visible
from isotrace.report.terminal.console import print_row, safe, say
from isotrace.report.terminal.sides import VERDICT_STYLES, print_first

_STYLES = {"good": "green", "bad": "bold red", "skip": "yellow"}
_WORDS = {"good": "good", "bad": "bad", "skip": "skipped"}
_DIGITS = 12
_FILES = 20


def print_tried(console: Console, tried: Tried) -> None:
    """One revision: what it counts as, the verdict, and why."""
    verdict = "no verdict" if tried.verdict is None else tried.verdict.value
    line = Text.assemble(
        (f"{tried.counts_as:<4}  ", _STYLES[tried.counts_as]),
        (f"{tried.rev[:_DIGITS]}  ", "dim"),
        (verdict, VERDICT_STYLES.get(verdict, "dim")),
    )
    if tried.reason is not None:
        line.append(f"  {visible(tried.reason)}")
    say(console, line)


def print_bisection(console: Console, bisection: Bisection) -> None:
    """Prints the first bad commit and its divergence, or the commits of which each may be it."""
    console.print()
    if bisection.first_bad is None:
        say(console, Text("UNDECIDED  only skipped commits are left; each may be the first bad one:", "bold"))
        for one in bisection.left:
            print_row(console, _commit_line(one))
    else:
        _print_found(console, bisection, bisection.first_bad)
    console.print()
    counts = [
        f"{count} {word}"
        for what, word in _WORDS.items()
        if (count := sum(one.counts_as == what for one in bisection.tested))
    ]
    console.print(Text.assemble((f"{len(bisection.tested)} revisions tried  ", "bold"), " · ".join(counts)))


def _print_found(console: Console, bisection: Bisection, commit: Commit) -> None:
    say(console, Text.assemble(("FIRST BAD  ", "bold red"), (commit.rev, "bold")))
    say(console, safe(f"  {commit.date}  {commit.author}", style="dim"))
    say(console, safe(f"  {commit.subject}"))
    for status, path in commit.files[:_FILES]:
        say(console, safe(f"  {status}  {path}", style="cyan"))
    if len(commit.files) > _FILES:
        console.print(Text(f"  … {len(commit.files) - _FILES} more files", style="dim"))
    found = bisection.found
    if found is None or found.divergence is None:
        return
    console.print()
    print_first(console, found.divergence)
    if found.cause is not None:
        say(console, safe(f"  {found.cause['why']}: {found.cause['message']}", style="yellow"))


def _commit_line(commit: Commit) -> Text:
    return Text.assemble(
        (f"  {commit.rev[:_DIGITS]}  ", "dim"), f"{commit.date[:10]}  ", visible(commit.subject)
    )
