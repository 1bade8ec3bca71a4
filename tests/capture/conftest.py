"""A model provider on loopback, and captured clients."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from isotrace.record import instrument


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


def _server_module() -> Any:
    # Test folders are no packages.
    if "isotrace_test_server" not in sys.modules:
        spec = spec_from_file_location("isotrace_test_server", Path(__file__).parent / "server.py")
        assert spec
        assert spec.loader
        sys.modules["isotrace_test_server"] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["isotrace_test_server"]
