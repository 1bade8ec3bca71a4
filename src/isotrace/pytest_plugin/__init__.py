"""Golden tests with pytest: `pytest --isotrace=replay|record|extend`, a marker, and the fixture `golden`.

pytest loads this in every run of an environment that isotrace is installed in, so it imports next to
nothing: what replays and records is loaded by the first test that asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.pytest_plugin.session import GoldenSession, has_passed, session_of

if TYPE_CHECKING:
    from isotrace.pytest_plugin.fixture import Golden

_FAILING = "isotrace.pytest_plugin.failing"

_MARKER = (
    "isotrace(name=None, *, file=None, level='decisions', ignore=(), normalize=(), tolerance=(), kinds=None, "
    "metadata={}, redact=()): the run that the test makes is held against a golden run."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("isotrace", "golden runs of agents")
    group.addoption(
        "--isotrace",
        dest="isotrace_mode",
        choices=("replay", "record", "extend"),
        default=None,
        help="what golden tests do: replay offline (default), record live, or replay and record the rest",
    )
    parser.addini("isotrace_mode", "what --isotrace is where it is not given", default="replay")
    parser.addini("isotrace_goldens", "the folder of goldens beside each test file", default="goldens")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known, and the session."""
    config.addinivalue_line("markers", _MARKER)
    GoldenSession.begin(config)


# --- which tests there are ----------------------------------------------------------------


def pytest_collectstart(collector: pytest.Collector) -> None:
    """A test file is collected: others of its folder are only seen, where one is asked for by name."""
    if isinstance(collector, pytest.Module):
        session_of(collector.config).collected(collector.path)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A collector may fail, and lose tests."""
    if report.failed:
        GoldenSession.failed_collectors += 1


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Tests that are not to run."""
    for item in items:
        session_of(item.config).narrowed(item.path)


def pytest_collection_finish(session: pytest.Session) -> None:
    """All tests are known."""
    session_of(session.config).found(session.items)


# --- running them -------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """The body of a marked test is a golden's scope."""
    if item.get_closest_marker("isotrace") is None or not isinstance(item, pytest.Function):
        return (yield)
    # What records and replays is loaded for tests that ask for it.
    from isotrace.pytest_plugin.marked import guarded  # noqa: PLC0415

    with guarded(item):
        return (yield)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Generator[Golden]:
    """Holds runs of agents against golden runs: `golden.check(agent, …)`, or `with golden(): …`."""
    from isotrace.pytest_plugin.fixture import Golden  # noqa: PLC0415  # as above

    given = Golden(request.node)
    yield given
    if (paths := given.never_opened()) and has_passed(request.node):
        pytest.fail(
            f"the test passed without holding anything against {paths[0].name}: "
            "await what golden.check(…) returns of a coroutine function, or let `with golden():` stand "
            "around the call",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A golden's failure is shown as such: no traceback says more."""
    report = yield
    session_of(item.config).report(item, report)
    failing = sys.modules.get(_FAILING)
    if failing is not None and call.excinfo is not None and report.failed:
        error = call.excinfo.value
        if isinstance(error, failing.Failing):
            session_of(item.config).tell(item, report, error)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A report, which may come from another process."""
    session = GoldenSession.current
    if session is not None:
        session.logged(report)


# --- the session's end ----------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Goldens that nobody uses fail the session."""
    session_of(session.config).finish(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What became of the golden files."""
    session_of(terminalreporter.config).summarize(terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The session is over."""
    GoldenSession.end(config)


# --- with pytest-xdist ----------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker is told how wide the terminal is."""
    node.workerinput["isotrace_width"] = session_of(node.config).width


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """A worker has ended, and says what it knows."""
    session_of(node.config).merge(getattr(node, "workeroutput", {}).get("isotrace"), failed=error is not None)
