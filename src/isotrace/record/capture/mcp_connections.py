"""The transports of the `mcp` SDK: opening one is a step, and what it does beneath is none.

While a run is recorded the transport is the real one. Its tasks run outside of the run, so that they take
no lineage number. Where the opening is served from a record, no process is started and no connection
made: the session gets streams that nobody answers on, because its requests are served as well. Should a
request be executed after all, the connection is opened then.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from isotrace.events import lineage_text
from isotrace.record.capture.urls import HIDDEN, is_secret_name, without_secrets
from isotrace.record.context import current_branch, live_branch, reset_all, set_all
from isotrace.record.edge import Exchange, edge
from isotrace.record.outcomes import classify, error_value, rebuild_error
from isotrace.record.patches import swap_code
from isotrace.record.sources.noted import CONNECTION

_open: dict[int, Connection] = {}
"""The open connections of runs, by the identity of the stream that a session reads from."""

_in_memory: set[int] = set()
"""Streams by which a server in this process reads from a client in this process."""


@contextmanager
def outside_of_the_run() -> Iterator[None]:
    """What is called inside, and the tasks that it starts, are none of the agent's own code."""
    tokens = set_all([(current_branch, None)])
    try:
        yield
    finally:
        reset_all(tokens)


def connection_of(read_stream: Any) -> Connection | None:
    """The connection that a session reads from, None if it was not opened by a captured transport."""
    return _open.get(id(read_stream))


# --- what is wrapped ----------------------------------------------------------------------


def opening(transport: str, captured: Callable[[], bool], extra: int) -> Callable[[Any], Any]:
    """Wraps the generator function of a transport. `captured` says whether sessions are captured too,
    without which nobody would answer them in a replay; `extra` is how many callables stand behind the
    two streams."""

    def wrap(plain: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(plain)

        def opened(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            manager = asynccontextmanager(plain)(*args, **kwargs)
            return _opened(manager, signature.bind(*args, **kwargs).arguments)

        async def _opened(
            manager: AbstractAsyncContextManager[Any], given: Mapping[str, Any]
        ) -> AsyncIterator[Any]:
            if captured() and live_branch() is not None:
                manager = Connection(manager, {"transport": transport, **_target(given)}, extra)
            async with manager as streams:
                yield streams

        return opened

    return wrap


def memory_streams(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the function that gives both ends of a connection inside this process."""

    async def create_client_server_memory_streams() -> AsyncIterator[Any]:
        async with asynccontextmanager(plain)() as ends:
            key = id(ends[1][0])
            _in_memory.add(key)
            try:
                yield ends
            finally:
                _in_memory.discard(key)

    return create_client_server_memory_streams


def serving(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a server's `run`: one that is asked by a session in this process works inside that session's
    calls, so nothing that it does is a step."""

    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        read_stream = args[0] if args else kwargs.get("read_stream")
        if id(read_stream) not in _in_memory:
            return await plain(self, *args, **kwargs)
        with outside_of_the_run():
            return await plain(self, *args, **kwargs)

    return run


def replace_generator(function: Any, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Wraps the generator function behind one that `asynccontextmanager` made, wherever that was imported
    to; gives the way back. Raises `AttributeError` for a function that is made otherwise."""
    inner = inspect.unwrap(function)
    if not inspect.isasyncgenfunction(inner):
        raise AttributeError(f"{getattr(function, '__qualname__', function)!r} is made otherwise")
    return swap_code(inner, lambda plain, *args, **kwargs: wrap(plain)(*args, **kwargs))


# --- a connection -------------------------------------------------------------------------


def _said(error: BaseException | None) -> dict[str, Any] | None:
    """An error of a connection as a value: of its arguments, those that are plain; of addresses in its
    text, no secrets."""
    return None if error is None else _plain(error_value(error))


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    kept = {"type": value["type"], "message": _without_secrets(value["message"])}
    args = value.get("args", ())
    if "exceptions" in value:
        kept["exceptions"] = [_plain(one) for one in value["exceptions"]]
    elif all(isinstance(argument, str | int | None) for argument in args):
        kept["args"] = [_without_secrets(one) if isinstance(one, str) else one for one in args]
    return kept


def _without_secrets(text: str) -> str:
    return _ADDRESS.sub(lambda found: without_secrets(found[0]), text)


_ADDRESS: Final = re.compile(r"\b[a-z]+://[^\s'\"<>]+")


class Connection:
    """One use of a transport inside a run: `manager` is the real one, `target` says in plain values what
    it connects to."""

    def __init__(self, manager: AbstractAsyncContextManager[Any], target: dict[str, Any], extra: int) -> None:
        self.target = target
        self.opened = False
        self._manager = manager
        self._extra = extra
        self._stand_in: _StandIn | None = None
        self._key = 0
        self._source = ""

    @property
    def title(self) -> str:
        """A short name for a server that does not say its own."""
        if "url" in self.target:
            return str(self.target["url"])
        return " ".join([self.target.get("command", ""), *self.target.get("args", ())]).strip()

    async def __aenter__(self) -> Any:
        live: list[Any] = []
        failed: list[Exception] = []

        async def real(exchange: Exchange) -> dict[str, Any]:
            try:
                live.append(await self._manager.__aenter__())
            except Exception as error:  # noqa: BLE001  # raised again below
                failed.append(error)
                exchange.failure, exchange.transport = classify(error), {"error": True}
                return {"error": _said(error)}
            return {}

        branch = live_branch()
        assert branch is not None
        self._source = CONNECTION + lineage_text((*branch.path, branch.count))
        exchange = Exchange(self.target, real)
        try:
            connect = edge("mcp", "connect", "mcp", "read", "acall")
            outcome = await branch.driver.acall(connect, branch, (exchange,), {})
        except BaseException:
            if live:  # cancelled before the agent got what was opened
                await self._close(*sys.exc_info())
            raise
        if failed:
            raise failed[0]
        if (exchange.transport or {}).get("error"):
            raise rebuild_error(outcome["error"], None, library_errors())
        self.opened = bool(live)
        if live:
            streams = live[0]
        else:
            self._stand_in = _StandIn(self._manager)
            streams = (*await self._stand_in.__aenter__(), *(_nothing for _ in range(self._extra)))
        self._key = id(streams[0])
        _open[self._key] = self
        return streams

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Closes the real one, or ends as that did on record. A transport that fails cancels the code that
        uses it, and says why at its end; what the code itself raises passes as it does."""
        _open.pop(self._key, None)
        raised, suppressed = None, None
        try:
            suppressed = await self._close(kind, error, trace)
        except BaseException as other:  # noqa: BLE001  # raised again below, or what was recorded is
            raised = other
        branch = live_branch()
        own = error is not None and not isinstance(error, asyncio.CancelledError)
        if branch is not None and not own and (raised is not None or self._stand_in is not None):
            natural = _said(raised)
            said = branch.driver.noted(branch, self._source, lambda: natural)
            if said != natural:
                raised = None if said is None else rebuild_error(said, None, library_errors())
        if raised is not None:
            raise raised
        return suppressed

    async def _close(self, *error: Any) -> bool | None:
        with outside_of_the_run():
            return await (self._stand_in or self._manager).__aexit__(*error)

    async def open(self) -> None:
        """Makes the connection that a replay had left out. Raises what opening it raises."""
        if not self.opened and self._stand_in is not None:
            self.opened = True
            await self._stand_in.connect()


def _nothing() -> None:
    """A session has no id where nobody gave it one."""


class _StandIn:
    """Streams that nobody answers on, until they are connected to the real ones."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        # There, since a transport of the SDK was called.
        import anyio  # noqa: PLC0415

        self._anyio = anyio
        self._manager = manager
        self._stack = AsyncExitStack()
        self._to_session, self.read = anyio.create_memory_object_stream[Any](0)
        self.write, self._from_session = anyio.create_memory_object_stream[Any](0)

    async def __aenter__(self) -> tuple[Any, Any]:
        for stream in (self._to_session, self.read, self.write, self._from_session):
            await self._stack.enter_async_context(stream)
        with outside_of_the_run():
            self._group = await self._stack.enter_async_context(self._anyio.create_task_group())
        return self.read, self.write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel()
        return await self._stack.__aexit__(kind, error, trace)

    async def connect(self) -> None:
        await self._group.start(self._connected)

    async def _connected(self, *, task_status: Any) -> None:
        async with self._manager as (read, write, *_), self._anyio.create_task_group() as pumps:
            pumps.start_soon(_pump, read, self._to_session)
            pumps.start_soon(_pump, self._from_session, write)
            task_status.started()


async def _pump(source: Any, target: Any) -> None:
    async with target:
        async for message in source:
            await target.send(message)


def library_errors() -> tuple[type[BaseException], ...]:
    """The classes of errors that connecting and asking may raise, beside Python's own."""
    modules = [sys.modules[name] for name in ("anyio", "httpx", "httpx2") if name in sys.modules]
    values = [value for module in modules for value in vars(module).values()]
    return tuple(value for value in values if isinstance(value, type) and issubclass(value, Exception))


# --- what it connects to --------------------------------------------------------------------


def _target(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a transport was asked to connect to: a URL, or a command. Without secrets and environment."""
    if "url" in given:
        return {"url": without_secrets(str(given["url"]))}
    server = given.get("server")
    target: dict[str, Any] = {
        "command": _command(str(getattr(server, "command", ""))),
        "args": _arguments([str(one) for one in getattr(server, "args", None) or ()]),
    }
    cwd = getattr(server, "cwd", None)
    if cwd is not None:
        target["cwd"] = _place(str(cwd))
    return target


def _command(command: str) -> str:
    """A program by its name; this Python as `python`, wherever it is installed."""
    return "python" if command == sys.executable else Path(command).name


def _place(text: str) -> str:
    """A path below the current folder as seen from there, so that a project may be moved."""
    path = Path(text)
    try:
        return str(path.relative_to(Path.cwd())) if path.is_absolute() else text
    except (ValueError, OSError):
        return text


def _arguments(arguments: list[str]) -> list[str]:
    """Arguments as they may stand in a record: `--token x`, `--token=x` and `Authorization: x` without x."""
    shown: list[str] = []
    hidden = False
    for argument in arguments:
        name, mark, _ = argument.partition("=")
        header, colon, _ = argument.partition(":")
        if hidden and not argument.startswith("-"):
            shown.append(HIDDEN)
        elif "://" in argument:
            shown.append(without_secrets(argument))
        elif mark and is_secret_name(name):
            shown.append(f"{name}={HIDDEN}")
        elif colon and is_secret_name(header):
            shown.append(f"{header}: {HIDDEN}")
        else:
            shown.append(_place(argument))
        hidden = argument.startswith("-") and not mark and is_secret_name(argument)
    return shown
