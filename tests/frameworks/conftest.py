"""What the tests of frameworks share: a scripted model on loopback, and captured libraries."""

from __future__ import annotations

import asyncio
import gc
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

TESTS = Path(__file__).parents[1]

# SDKs ask once in a process what machine this is, and `platform` asks a process of the system's.
platform.processor()


def load(name: str, path: Path) -> Any:
    """A module by its file: test folders are no packages."""
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


_capture = load("isotrace_capture_conftest", TESTS / "capture" / "conftest.py")
server, captured = _capture.server, _capture.captured


@pytest.fixture
def model() -> Any:
    """What a model answers, by protocol."""
    return load("isotrace_frameworks_model", TESTS / "frameworks" / "model.py")


@pytest.fixture(autouse=True)
def _no_traces_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own runs are nobody's business, and the machine may be offline."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="module")
def _what_frameworks_leave_open() -> Iterator[None]:
    """Their synchronous faces keep a loop and clients for the next call: let go here, without a word."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop(None)
        gc.collect()


class Offline:
    """Records an agent, takes the server away, and replays it."""

    def __init__(self, lab: Lab, server: Server) -> None:
        self.lab = lab
        self.server = server

    def __call__(self, agent: Callable[[], Any]) -> Taken:
        """The same value again, all steps served, and not one request."""
        taken = self.lab.record(agent)
        if taken.error is not None:
            raise taken.error
        asked = len(self.server.asked)
        assert asked, "the server was asked while recording"
        self.server.stop()
        result = self.lab.replay(taken, agent, stall_after_s=2)
        assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
        assert result.value == taken.value
        served = (len(self.server.asked), result.receipt.blocked, result.receipt.served)
        assert served == (asked, 0, len(taken.steps))
        return taken


@pytest.fixture
def offline(lab: Lab, server: Server) -> Offline:
    """Records, and replays without a server."""
    return Offline(lab, server)
