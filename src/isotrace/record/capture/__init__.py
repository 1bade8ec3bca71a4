"""Captures: one file per library whose calls leave the program, each turning them into exchanges.

A capture has `install(module)`, which wraps the module and gives the ways back. It is put on as soon as
its library has been imported, and never imports one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from isotrace.record import sources
from isotrace.record.warned import warn

CAPTURES = {
    "agents.tool": f"{__name__}.openai_agents",
    "agents.tracing.processors": f"{__name__}.openai_agents",
    "aiohttp": f"{__name__}.aiohttp",
    "asyncio.subprocess": f"{__name__}.asyncio_subprocess",
    "httpx": f"{__name__}.httpx",
    "httpx2": f"{__name__}.httpx",
    "langchain_core.tools.base": f"{__name__}.langchain",
    "langchain_core.utils.uuid": f"{__name__}.langchain",
    "mcp.client.session": f"{__name__}.mcp",
    "mcp.client.sse": f"{__name__}.mcp",
    "mcp.client.stdio": f"{__name__}.mcp",
    "mcp.client.streamable_http": f"{__name__}.mcp",
    "mcp.client.websocket": f"{__name__}.mcp",
    "mcp.server.lowlevel.server": f"{__name__}.mcp",
    "mcp.shared.memory": f"{__name__}.mcp",
    "numpy.random": "isotrace.record.sources.numpy_random",
    "opentelemetry.sdk._shared_internal": f"{__name__}.opentelemetry",
    "opentelemetry.sdk.trace.export": f"{__name__}.opentelemetry",
    "pydantic_ai._uuid": f"{__name__}.pydantic_ai",
    "pydantic_ai.toolsets.function": f"{__name__}.pydantic_ai",
    "anyio._backends._asyncio": f"{__name__}.anyio",
    "botocore.httpsession": f"{__name__}.urllib3",
    "requests.adapters": f"{__name__}.urllib3",
    "subprocess": f"{__name__}.subprocess",
    "urllib3": f"{__name__}.urllib3",
    "uuid_utils": "isotrace.record.sources.uuid_utils",
    "uuid_utils.compat": "isotrace.record.sources.uuid_utils",
}
"""The capture of each library, by the library's import name."""


class _State:
    """What is in place: a count of those who want it, and the ways back."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users = 0
        self.installed: dict[str, list[Callable[[], None]]] = {}
        self.sources: Callable[[], None] | None = None


_state = _State()


def instrument() -> Callable[[], None]:
    """Captures calls of the libraries in `CAPTURES` from now on: inside a run they are steps, unless they
    are made inside a skill. Libraries that are imported later are captured then. The wall clock and fresh
    UUIDs that the agent's own code reads are noted, and served in a replay.

    Gives the way back, which restores what was there; calling it twice is fine. May be called again:
    the last way back counts. A library that is built in a way that a capture does not know stays as it
    is, and a `RecordingWarning` says so.
    """
    with _state.lock:
        _state.users += 1
        if _state.users == 1:
            sys.meta_path.insert(0, _finder)
            _state.sources = sources.control()
            for name in CAPTURES:
                if name in sys.modules:
                    _install(name, sys.modules[name])
    done = False

    def restore() -> None:
        nonlocal done
        with _state.lock:
            if done:
                return
            done = True
            _state.users -= 1
            if _state.users == 0:
                _take_off()

    return restore


def _take_off() -> None:
    sys.meta_path.remove(_finder)
    if _state.sources is not None:
        _state.sources()
        _state.sources = None
    while _state.installed:
        for undo in reversed(_state.installed.popitem()[1]):
            undo()


def _install(name: str, module: ModuleType) -> None:
    with _state.lock:
        if name in _state.installed or not _state.users:
            return
        capture: Any = import_module(CAPTURES[name])
        try:
            _state.installed[name] = capture.install(module)
        except Exception as error:  # noqa: BLE001  # a library can be built in any way
            version = getattr(module, "__version__", "of an unknown version")
            warn(f"{name} {version} is not captured, its calls are none of the run's steps: {error}")


class _Finder(MetaPathFinder):
    """Lets a library be found as always, and its capture be put on once it was executed."""

    def __init__(self) -> None:
        self._looking = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in CAPTURES or getattr(self._looking, "inside", False):
            return None
        self._looking.inside = True
        try:
            spec = find_spec(fullname)
        finally:
            self._looking.inside = False
        if spec is not None and spec.loader is not None:
            spec.loader = _CapturingLoader(spec.loader)
        return spec


class _CapturingLoader(Loader):
    """The library's own loader, with the capture after it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        module.__loader__ = self._loader
        if spec is not None:
            spec.loader = self._loader
        self._loader.exec_module(module)
        _install(module.__name__, module)


_finder = _Finder()
