"""A test that is not its golden run any more: what it raises, and how that is told."""

from __future__ import annotations

import traceback
import unittest
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest.outcomes import Failed

from isotrace.compare import Code
from isotrace.errors import IsotraceError, UncontrolledSourceError
from isotrace.models import TraceRecord
from isotrace.replay import ReplayResult

if TYPE_CHECKING:
    from _pytest._io import TerminalWriter
    from rich.console import Console

_OWN = (
    pytest.skip.Exception,
    pytest.xfail.Exception,
    pytest.exit.Exception,
    unittest.SkipTest,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
)


def own_outcome(error: BaseException) -> bool:
    """Whether a test ended itself by this, which is no failure: it says nothing about a golden."""
    return isinstance(error, _OWN)


class Failing(Failed):
    """What a golden-guarded test fails with. Its text is the first line; `show` draws all of it."""

    def __init__(
        self,
        line: str,
        path: Path,
        *,
        more: tuple[str, ...] = (),
        advice: tuple[tuple[str, str], ...] = (),
        result: tuple[TraceRecord, ReplayResult] | None = None,
        own: BaseException | None = None,
    ) -> None:
        super().__init__("\n".join([line, *more]), pytrace=False)
        self.line = line
        self.path = path
        self.more = more
        self.advice = advice
        self.result = result
        self.own = own

    # --- why ----------------------------------------------------------------------------

    @classmethod
    def missing(cls, path: Path, has_candidate: bool) -> Failing:
        """There is no golden run to hold the test against."""
        more = ("A recording waits beside it to be accepted.",) if has_candidate else ()
        advice = (_ACCEPT,) if has_candidate else (("record it, live:", _RECORD),)
        return cls("no golden run is on record for this test", path, more=more, advice=advice)

    @classmethod
    def unreadable(cls, path: Path, error: IsotraceError) -> Failing:
        """The golden file is none, or damaged."""
        advice = (("restore the file, or record it anew:", _RECORD),)
        return cls("INVALID_RECORD  the golden file can't be read", path, more=(str(error),), advice=advice)

    @classmethod
    def of_error(cls, path: Path, error: IsotraceError) -> Failing:
        """The scope can't be replayed or recorded at all."""
        return cls(str(error), path)

    @classmethod
    def nested(cls, path: Path, around: Path) -> Failing:
        """A scope inside another one."""
        more = (f"around it: {around.name}",)
        return cls("a golden's scope can't be inside another golden's", path, more=more)

    @classmethod
    def claimed(cls, path: Path, other: str) -> Failing:
        """Another test has this golden already."""
        return cls(f"two tests have one golden: it is that of {other} too", path, more=(_NAME_IT,))

    @classmethod
    def diverged(
        cls, path: Path, golden: TraceRecord, result: ReplayResult, own: BaseException | None
    ) -> Failing:
        """The code parted from its golden, or nothing can be said of it."""
        first = result.first
        line = result.verdict.value if first is None else f"{result.verdict.value}  {first}"
        advice = [("if this is what it shall do now:", _RECORD), _ACCEPT]
        if first is not None and first.code is Code.LATE_END:
            advice.insert(0, ("to keep what is on record and record the rest:", _EXTEND))
        if isinstance(own, UncontrolledSourceError):
            own = None  # what the replay itself has raised
        return cls(line, path, advice=tuple(advice), result=(golden, result), own=own)

    # --- told ---------------------------------------------------------------------------

    def show(self, console: Console, node: str, root: Path) -> None:
        """Draws the failure; `node` names the test on a command line in the folder `root`."""
        from rich.text import Text  # noqa: PLC0415  # rich is loaded when something is drawn

        from isotrace.report.safe import visible  # noqa: PLC0415
        from isotrace.report.terminal.console import say  # noqa: PLC0415
        from isotrace.report.terminal.guarded import print_guarded  # noqa: PLC0415

        if self.result is not None:
            print_guarded(console, *self.result)
        else:
            for index, line in enumerate((self.line, *self.more)):
                say(console, Text(visible(line), "bold red" if not index else ""))
        console.print()
        say(console, Text.assemble(("golden  ", "bold"), visible(shown(self.path, root))))
        width = max((len(what) for what, _ in self.advice), default=0)
        for what, command in self.advice:
            filled = command.format(node=node, golden=_quoted(shown(self.path, root)))
            console.print(Text(f"  {what:<{width}}  {filled}", "dim"), soft_wrap=True)
        if self.own is not None:
            console.print()
            console.print(Text("The test failed by itself too, after it:", "bold"))
            for line in traceback.format_exception_only(self.own)[-1].splitlines()[:_OWN_LINES]:
                say(console, Text(f"  {visible(line)}", "red"))
            if place := _place(self.own, root):
                say(console, Text(f"  {place}", "dim"))


_RECORD = "pytest --isotrace=record {node}"
_EXTEND = "pytest --isotrace=extend {node}"
_ACCEPT = ("then look at it, and accept it:", "isotrace accept {golden}")
_NAME_IT = "Give each its own: @pytest.mark.isotrace(name=…), or golden('NAME')."
_OWN_LINES = 12
_HERE = Path(__file__).parents[1]


def _quoted(text: str) -> str:
    import shlex  # noqa: PLC0415  # only a failure quotes

    return shlex.quote(text)


def _place(error: BaseException, root: Path) -> str | None:
    """Where the test's own line stands that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(_HERE)]
    return f"{shown(Path(own[-1].filename), root)}:{own[-1].lineno}" if own else None


def shown(path: Path, root: Path) -> str:
    """A path as it is typed in a folder."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


class Told(TerminalRepr):
    """A failure as text: for a terminal with colours, and for everything else. What pytest prints."""

    def __init__(self, plain: str, coloured: str, crash: ReprFileLocation) -> None:
        self.plain = plain
        self.coloured = coloured
        self.reprcrash = crash

    def toterminal(self, tw: TerminalWriter) -> None:
        tw.write(self.coloured if tw.hasmarkup else self.plain)
        tw.line()

    def to_data(self) -> dict[str, Any]:
        """Plain data, for another process."""
        crash = self.reprcrash
        return {
            "plain": self.plain,
            "coloured": self.coloured,
            "crash": [crash.path, crash.lineno, crash.message],
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Told:
        """What `to_data` gave."""
        return cls(data["plain"], data["coloured"], ReprFileLocation(*data["crash"]))


def told(failing: Failing, *, node: str, root: Path, width: int, file: str, line: int) -> Told:
    """The failure of a test, drawn for this width."""

    def show(console: Console) -> None:
        failing.show(console, node, root)

    drawn = [_drawn(show, width, colour) for colour in (False, True)]
    return Told(drawn[0], drawn[1], ReprFileLocation(file, line, failing.line))


def _drawn(show: Callable[[Console], None], width: int, colour: bool) -> str:
    from rich.console import Console  # noqa: PLC0415  # rich is loaded when something is drawn

    file = StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=True,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    show(console)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
