"""A model provider on loopback, and captured clients."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.record import instrument

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.record.lab import Lab, Taken


@pytest.fixture
def server() -> Iterator[Any]:
    """Answers until it is stopped."""
    server = _server_module().Server()
    yield server
    server.stop()


@pytest.fixture
def captured() -> Iterator[None]:
    """Calls of libraries are captured."""
    restore = instrument()
    yield
    restore()


@pytest.fixture
def replays_offline(lab: Lab, server: Any) -> Callable[[Callable[..., Any]], Taken]:
    """Records an agent, stops the server, and replays it: the same value and not one request."""

    def assert_replays_offline(
        agent: Callable[..., Any], told: Callable[[Any], Any] = lambda value: value
    ) -> Taken:
        collect()
        taken = lab.record(agent)
        collect()
        if taken.error is not None:
            raise taken.error
        assert taken.grade == "replayable"
        asked = len(server.asked)
        assert asked, "the server was asked while recording"
        server.stop()
        result = lab.replay(taken, agent)
        assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
        assert told(result.value) == told(taken.value)
        served = (len(server.asked), result.receipt.blocked, result.receipt.served)
        assert served == (asked, 0, len(taken.steps))
        return taken

    return assert_replays_offline


def collect() -> None:
    """Lets go of clients that nobody holds any more: some run a loop of their own when they go, and leave
    their sockets open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _server_module() -> Any:
    # Test folders are no packages.
    if "isotrace_test_server" not in sys.modules:
        spec = spec_from_file_location("isotrace_test_server", Path(__file__).parent / "server.py")
        assert spec
        assert spec.loader
        sys.modules["isotrace_test_server"] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["isotrace_test_server"]
