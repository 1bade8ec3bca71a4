"""What the capture of the `mcp` SDK changes in it, and takes back."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.server.lowlevel import Server
from mcp.shared.memory import create_client_server_memory_streams

from isotrace.record import instrument
from isotrace.record.capture import mcp as capture

_http = importlib.import_module("mcp.client.streamable_http")
FUNCTIONS: list[Any] = [
    stdio_client,
    sse_client,
    getattr(_http, "streamable_http_client", None) or _http.streamablehttp_client,
    create_client_server_memory_streams,
]


def looked_at() -> list[Any]:
    codes = [inspect.unwrap(function).__code__ for function in FUNCTIONS]
    return [*codes, dict(vars(ClientSession)), dict(vars(Server))]


def test_all_is_put_back() -> None:
    before = looked_at()
    restore = instrument()
    during = looked_at()
    restore()
    assert looked_at() == before
    assert all(one != other for one, other in zip(before, during, strict=True))


def test_a_version_that_is_built_otherwise_is_left_alone() -> None:
    module: Any = ModuleType("mcp.client.stdio")
    with pytest.raises(AttributeError, match="stdio_client"):
        capture.install(module)
    module.stdio_client = lambda server: None
    with pytest.raises(AttributeError, match="made otherwise"):
        capture.install(module)


def test_what_was_changed_before_something_is_missing_is_put_back() -> None:
    module: Any = ModuleType("mcp.client.session")
    module.ClientSession = type("ClientSession", (), {"__aenter__": None, "__aexit__": None})
    module.types = importlib.import_module("mcp.types")
    before = dict(vars(module.ClientSession))
    with pytest.raises(AttributeError, match="send_request"):
        capture.install(module)
    module.ClientSession.send_request = before["send_request"] = None
    with pytest.raises(AttributeError, match="send_notification"):
        capture.install(module)
    assert dict(vars(module.ClientSession)) == before
