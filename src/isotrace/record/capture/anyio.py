"""Child processes of anyio on asyncio: `anyio.open_process` and `anyio.run_process`.

Versions that start a process by `asyncio.create_subprocess_exec` are captured there. Newer ones have a
protocol of their own, to learn of a process's end before its pipes are closed: what they make is captured
here, by the same classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.capture.asyncio_subprocess import CapturedProcess, recorded, served, started
from isotrace.record.capture.command import captured
from isotrace.record.capture.processes import amade
from isotrace.record.context import live_branch
from isotrace.record.patches import patch

ABOUT = About(
    libraries="anyio: open_process and run_process on asyncio",
    versions="anyio 4",
    steps=(
        ("the start of a process", "process", "write"),
        ("wait, send_signal, terminate, kill", "process", "write"),
        ("its output, read by the program: one step for each of stdout and stderr", "process", "write"),
        ("each piece that is sent to its stdin", "process", "write"),
    ),
    not_captured=("Processes on trio: marked, and refused in a replay.",),
)

_LIMIT = 2**16


def install(backend: Any) -> list[Callable[[], None]]:
    """Wraps what opens a process; the way back. `backend` is `anyio._backends._asyncio`."""
    if not hasattr(backend, "_ProcessStreamProtocol"):
        return []
    if list(backend.Process.__dataclass_fields__) != _FIELDS:
        raise AttributeError("its Process has other fields")
    return [patch(backend.AsyncIOBackend, "open_process", _opening(backend))]


_FIELDS = ["_process", "_stdin", "_stdout", "_stderr", "_exited", "_transport"]


def _opening(backend: Any) -> Callable[[Any], Any]:
    def wrap(plain: Callable[..., Any]) -> Any:
        async def open_process(_class: Any, /, command: Any, **kwargs: Any) -> Any:
            branch = live_branch()
            options = {"args": command, "shell": isinstance(command, str | bytes), "limit": _LIMIT, **kwargs}
            known = None if branch is None else captured(lambda: options, branch)
            if branch is None or known is None:
                return await plain(command, **kwargs)
            call, outcome = await amade(
                branch, known, {"do": "start", **known.params}, lambda: plain(command, **kwargs), started
            )
            if call.happened:
                opened = call.value
                recorded(opened._process, known)
                opened._exited = _Exit(opened._process, opened._exited)
                return opened
            call.raise_again(outcome, None, None)
            return _served(backend, served(known, (call.transport or {}).get("pid", 0), options))

        return classmethod(open_process)

    return wrap


def _served(backend: Any, process: CapturedProcess) -> Any:
    """anyio's own process, around one that there is none of."""
    stdin = backend.StreamWriterWrapper(process.stdin) if process.stdin else None
    readers = [
        backend.StreamReaderWrapper(stream) if stream else None for stream in (process.stdout, process.stderr)
    ]
    return backend.Process(process, stdin, *readers, _Exit(process, asyncio.Event()), process._transport)


class _Exit:
    """The event that says that a process has ended: waiting for it is a step."""

    def __init__(self, process: Any, event: Any) -> None:
        self._process = process
        self._event = event

    async def wait(self) -> bool:
        if isinstance(self._process, CapturedProcess):
            await self._process.ends(self._event.wait)
        else:
            await self._event.wait()
        return True

    def is_set(self) -> bool:
        return self._process.returncode is not None
