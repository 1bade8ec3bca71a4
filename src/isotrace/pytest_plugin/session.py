"""What one pytest session knows of goldens: whose they are, what became of them, and which nobody uses."""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from isotrace.pytest_plugin.failing import Failing

_KEY = pytest.StashKey["GoldenSession"]()
_EVENTS = pytest.StashKey[list[tuple[str, str]]]()
_PASSED = pytest.StashKey[bool]()

MODES = ("replay", "record", "extend")


def session_of(config: pytest.Config) -> GoldenSession:
    """The goldens of a session."""
    return config.stash[_KEY]


class GoldenSession:
    """One per configured pytest, workers of pytest-xdist included. `claims` are golden files and the tests
    that use them, `mode` is what golden tests do."""

    current: ClassVar[GoldenSession | None] = None
    failed_collectors: ClassVar[int] = 0

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outer = GoldenSession.current
        self.mode: Any = config.getoption("isotrace_mode", None) or config.getini("isotrace_mode")
        self.folder = str(config.getini("isotrace_goldens"))
        self.claims: dict[str, str] = {}
        self.events: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self._modules: set[str] = set()
        self._narrowed: set[str] = set()
        self._stems: dict[str, dict[str, str]] = {}
        self._passed: set[str] = set()
        self._unsure = False

    @classmethod
    def begin(cls, config: pytest.Config) -> None:
        """A session is configured. Raises `UsageError` for a mode that there is not."""
        made = cls(config)
        if made.mode not in MODES:
            raise pytest.UsageError(f"isotrace_mode: expected {', '.join(MODES)}; got {made.mode}")
        config.stash[_KEY] = cls.current = made
        cls.failed_collectors = 0

    @classmethod
    def end(cls, config: pytest.Config) -> None:
        """A session is over; one may have been run inside another, as plugins' own tests do."""
        if (ended := config.stash.get(_KEY, None)) is not None:
            cls.current = ended._outer

    @property
    def width(self) -> int:
        """Columns of the terminal, the controller's for a worker."""
        given = getattr(self._config, "workerinput", {}).get("isotrace_width")
        return int(given) if given else shutil.get_terminal_size((80, 24)).columns

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of pytest-xdist."""
        return hasattr(self._config, "workerinput")

    # --- collection -------------------------------------------------------------------

    def collected(self, path: Path) -> None:
        """A test file is collected."""
        self._modules.add(str(path))

    def narrowed(self, path: Path) -> None:
        """Not all tests of a file are run."""
        self._narrowed.add(str(path))

    def found(self, items: list[pytest.Item]) -> None:
        """The tests that are going to run. Those that are marked claim their goldens at once."""
        with_goldens = {path for path in self._modules if (Path(path).parent / self.folder).is_dir()}
        for item in items:
            if not isinstance(item, pytest.Function):
                continue
            if item.get_closest_marker("isotrace") is not None:
                from isotrace.pytest_plugin.marked import marked_path  # noqa: PLC0415  # for those that ask

                if (path := marked_path(item, self.folder)) is not None:
                    self.claim(path, item.nodeid)
            if str(item.path) in with_goldens:
                from isotrace.pytest_plugin.naming import stem_of  # noqa: PLC0415  # as above

                stems = self._stems.setdefault(str(item.path), {})
                stems[item.nodeid] = stem_of(classes_of(item), item.name)

    def claim(self, path: Path, node: str) -> str | None:
        """A test says that a golden is its own. Gives the other test that has said so before it."""
        key = str(path).casefold()
        owner = self.claims.setdefault(key, node)
        if owner == node:
            return None
        problem = f"{self._short(path)} is the golden of two tests: {owner} and {node}"
        if problem not in self.problems:
            self.problems.append(problem)
        return owner

    # --- reports ----------------------------------------------------------------------

    def kept(self, item: pytest.Item, what: str | None, path: Path) -> None:
        """What became of a golden file in a test."""
        if what in ("new", "candidate"):
            item.stash.setdefault(_EVENTS, []).append((what, str(path)))

    def report(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Gives a report what became of golden files, for whoever sees it in the end."""
        if report.when == "call":
            item.stash[_PASSED] = report.passed
        if events := item.stash.get(_EVENTS, []):
            report.isotrace_events = list(events)  # type: ignore[attr-defined]  # reports carry what is added
            events.clear()

    def tell(self, item: pytest.Item, report: pytest.TestReport, failing: Failing) -> None:
        """Has a report show a golden's failure."""
        from isotrace.pytest_plugin.failing import told  # noqa: PLC0415  # a failure has loaded it

        file, line, _ = item.location
        shown = told(
            failing,
            node=node_argument(item),
            root=item.config.invocation_params.dir,
            width=self.width,
            file=file,
            line=(line or 0) + 1,
        )
        report.longrepr = shown
        report.isotrace_told = shown.to_data()  # type: ignore[attr-defined]  # as above

    def logged(self, report: pytest.TestReport) -> None:
        """A report of this process, or of a worker: text alone comes through from there."""
        if self.is_worker:
            return
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        for what, path in getattr(report, "isotrace_events", []):
            self.events.append((what, path))
        data = getattr(report, "isotrace_told", None)
        if data is not None and isinstance(report.longrepr, str):
            from isotrace.pytest_plugin.failing import Told  # noqa: PLC0415  # for failures alone

            report.longrepr = Told.from_data(data)

    # --- workers ----------------------------------------------------------------------

    def merge(self, data: dict[str, Any] | None, *, failed: bool) -> None:
        """What a worker knows. One that broke down leaves everything open."""
        if data is None or failed:
            self._unsure = True
            return
        self._modules |= set(data["modules"])
        self._narrowed |= set(data["narrowed"])
        self._unsure |= data["unsure"]
        for path, node in data["claims"].items():
            self.claim(Path(path), node)
        self.problems += [one for one in data["problems"] if one not in self.problems]
        for path, stems in data["stems"].items():
            self._stems.setdefault(path, {}).update(stems)

    def _data(self) -> dict[str, Any]:
        return {
            "modules": sorted(self._modules),
            "narrowed": sorted(self._narrowed),
            "unsure": self._unsure or bool(GoldenSession.failed_collectors),
            "claims": self.claims,
            "problems": self.problems,
            "stems": self._stems,
        }

    # --- the end ----------------------------------------------------------------------

    def finish(self, session: pytest.Session) -> None:
        """The session ends: a golden that no test uses, or that two use, fails it."""
        if self.is_worker:
            session.config.workeroutput["isotrace"] = self._data()  # type: ignore[attr-defined]  # xdist's
            return
        if session.config.option.collectonly:
            return
        if self._may_judge(session):
            self.problems += [
                f"{self._short(path)} is a golden that no test uses: delete it, bring its test back, "
                "or, if the test has another name now, rename it"
                for path in self.unused()
            ]
        if self.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _may_judge(self, session: pytest.Session) -> bool:
        """Whether this session has seen all tests that it was to see."""
        option = session.config.option
        for argument in session.config.args:
            file, colons, _ = str(argument).partition("::")
            if colons:
                path = (session.config.invocation_params.dir / file).resolve()
                if not path.is_file():
                    return False
                self.narrowed(path)
        cut_short = session.shouldstop or session.shouldfail or self._unsure or self.failed_collectors
        narrow = getattr(option, "lf", False) or getattr(option, "stepwise", False)
        done = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        return done and not cut_short and not narrow

    def unused(self) -> list[Path]:
        """Golden files that belong to tests which have all been run, none of which uses them."""
        folders = {Path(module).parent for module in self._modules}
        return [one for place in sorted(folders) for one in self._unused_beside(place)]

    def _unused_beside(self, place: Path) -> list[Path]:
        folder = place / self.folder
        if not folder.is_dir():
            return []
        from isotrace.formats.golden_shape import HEAD  # noqa: PLC0415  # there are goldens
        from isotrace.pytest_plugin.naming import SUFFIX, safe  # noqa: PLC0415  # as above

        files = self._test_files(place)
        complete = all(str(path) in self._modules and str(path) not in self._narrowed for path in files)
        by_name = {safe(path.stem): str(path) for path in files}
        unused = []
        for path in sorted(folder.rglob(f"*{SUFFIX}")):
            if str(path).casefold() in self.claims or not _is_golden(path, HEAD):
                continue
            owner = by_name.get(path.parent.name) if path.parent.parent == folder else None
            if owner is not None:
                seen = owner in self._modules and owner not in self._narrowed
            else:
                seen = complete and self._is_for_tests(path, folder)
            if seen and not self._of_a_test_that_did_not_pass(path, owner):
                unused.append(path)
        return unused

    def _is_for_tests(self, path: Path, folder: Path) -> bool:
        """Whether a golden of no test file was meant for one: `isotrace check` may use the folder, too."""
        if path.parent.parent == folder and self._is_test_file(f"{path.parent.name}.py"):
            return True
        beside = str(path.parent).casefold()
        return any(str(Path(other).parent) == beside for other in self.claims)

    def _of_a_test_that_did_not_pass(self, path: Path, owner: str | None) -> bool:
        """Whether a golden is of a test that was skipped, or failed before it came to it."""
        from isotrace.pytest_plugin.naming import NAMED, SUFFIX  # noqa: PLC0415  # as above

        stem = path.name.removesuffix(SUFFIX)
        return any(
            node not in self._passed and (stem == own or stem.startswith(f"{own}{NAMED}"))
            for node, own in self._stems.get(owner or "", {}).items()
        )

    def _test_files(self, place: Path) -> set[Path]:
        own = {Path(module) for module in self._modules if Path(module).parent == place}
        return own | {path for path in place.glob("*.py") if self._is_test_file(path.name)}

    def _is_test_file(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._config.getini("python_files"))

    def _short(self, path: Path) -> str:
        try:
            return str(path.relative_to(self._config.invocation_params.dir))
        except ValueError:
            return str(path)

    # --- the terminal -----------------------------------------------------------------

    def summarize(self, terminal: pytest.TerminalReporter) -> None:
        """Says what became of the golden files."""
        if not (self.events or self.problems):
            return
        terminal.write_sep("=", "golden runs", red=bool(self.problems), bold=True)
        new = sorted({path for what, path in self.events if what == "new"})
        waiting = sorted({path for what, path in self.events if what == "candidate"})
        for path in new:
            terminal.write_line(f"recorded  {self._short(Path(path))}")
        for path in waiting:
            terminal.write_line(f"differs   {self._short(Path(path))}", yellow=True)
        if waiting:
            terminal.write_line("What differs was recorded beside its golden, as NAME.golden.new.")
            terminal.write_line("`isotrace accept` shows each such recording, and takes it if you say so.")
        for problem in self.problems:
            terminal.write_line(problem, red=True)


def _is_golden(path: Path, head: str) -> bool:
    """Whether a file is one of isotrace's: others call their files so, too."""
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head.encode()
    except OSError:
        return False


def has_passed(item: pytest.Item) -> bool:
    """Whether the test's function came to its end and nothing was wrong."""
    return item.stash.get(_PASSED, False)


def classes_of(item: pytest.Item) -> list[str]:
    """The classes around a test, from the outside in."""
    return [node.name for node in item.listchain() if isinstance(node, pytest.Class)]


def node_argument(item: pytest.Item) -> str:
    """How a test is named on the command line."""
    import shlex  # noqa: PLC0415  # only a failure needs it

    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    return shlex.quote("::".join([file, *item.nodeid.split("::")[1:]]))
