"""The terminal: its width, its colours, and the glyphs it can show."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from isotrace.report.figures import KIND_SIGNS, STATUS_SIGNS
from isotrace.report.safe import visible

PIPE_WIDTH = 200
"""Columns where there is no terminal to ask: wide, so that a program reading along loses nothing."""

PROGRESS_AFTER_S = 1.0

STATUS_STYLES = {
    "success": "green",
    "completed": "green",
    "failure": "red",
    "failed": "red",
    "retry": "yellow",
    "skipped": "bright_black",
    "aborted": "magenta",
    "running": "cyan",
}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs of one output encoding; each is one column wide."""

    kinds: dict[str, str]
    statuses: dict[str, str]
    arrow: str
    bar: str
    guide: str
    rule: str
    flag: str
    divider: str
    changed: str
    other: str


def _drawn(column: int) -> Glyphs:
    """The first sign of each pair is for Unicode, the second for ASCII."""
    return Glyphs(
        kinds={name: signs[column] for name, signs in KIND_SIGNS.items()},
        statuses={name: signs[column] for name, signs in STATUS_SIGNS.items()},
        arrow=("→", "->")[column],
        bar=("━", "=")[column],
        guide=("┊", ":")[column],
        rule=("─", "-")[column],
        flag=("⚑", "!")[column],
        divider=("│", "|")[column],
        changed=("≠", "!")[column],
        other=("•", ".")[column],
    )


_UNICODE, _ASCII = _drawn(0), _drawn(1)


def make_console(*, stderr: bool = False) -> Console:
    """A console for people: coloured on a terminal unless `NO_COLOR`, plain and wide in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or _asked_width() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def _asked_width() -> bool:
    return os.environ.get("COLUMNS", "").isdigit()


def is_page(console: Console) -> bool:
    """Whether a width is to be kept to: that of a terminal, or one that `COLUMNS` asks for. A pipe
    gets everything."""
    return console.is_terminal or _asked_width()


def say(console: Console, text: Text) -> None:
    """Prints a sentence: wrapped between words on a terminal, on one line in a pipe."""
    console.print(text, soft_wrap=not console.is_terminal)


def print_row(console: Console, text: Text) -> None:
    """Prints one line as it is: laid out already, or to be copied whole."""
    if console.color_system is None:
        # A timeline of 10,000 steps in a pipe: rendering what has no style would take seconds.
        console.file.write(f"{text.plain}\n")
        return
    console.print(text, no_wrap=True, overflow="ignore", crop=False)


def glyphs_of(console: Console) -> Glyphs:
    """What this console can show."""
    return _UNICODE if console.encoding.lower().startswith("utf") else _ASCII


def safe(text: str, width: int | None = None, style: str = "") -> Text:
    """Recorded text on one line, harmless, cut to `width` columns if given."""
    shown = visible(text)
    return Text(shown if width is None else cut_cells(shown, width), style=style)


def cut_cells(text: str, width: int) -> str:
    """The text cut to `width` terminal columns: a CJK character takes two."""
    if len(text) * 2 <= width:
        return text
    cut = Text(text)
    if cut.cell_len <= width:
        return text
    cut.truncate(max(width, 1), overflow="ellipsis")
    return cut.plain


class DelayedProgress:
    """A bar on stderr that shows itself only after a second, and only on a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._since = time.monotonic()
        self._bar: Progress | None = None
        self._task = None

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Tells how far the work is."""
        if self._bar is None:
            if time.monotonic() - self._since < PROGRESS_AFTER_S or not sys.stderr.isatty():
                return
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                console=make_console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(self._what, total=total)
        (task,) = self._bar.task_ids
        self._bar.update(
            task, completed=done, total=total, description=f"{self._what} {visible(detail)}".strip()
        )

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(what: str) -> Iterator[DelayedProgress]:
    """A `DelayedProgress` for the block, removed at its end, also when it fails."""
    bar = DelayedProgress(what)
    try:
        yield bar
    finally:
        bar.close()
