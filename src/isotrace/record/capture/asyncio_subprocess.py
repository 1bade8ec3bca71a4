"""Child processes of asyncio: `create_subprocess_exec` and `create_subprocess_shell`.

While it is recorded the program has the real `Process` with its real streams, as subclasses that record what
goes through them. In a replay it has the same classes without a process.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from isotrace.record.capture import popen
from isotrace.record.capture.about import About
from isotrace.record.capture.command import Command, captured
from isotrace.record.capture.processes import Call, amade, kept, made, not_there, octets, step_of
from isotrace.record.context import calling_branch, current_branch, live_branch
from isotrace.record.edge import Exchange
from isotrace.record.patches import patch, swap_code
from isotrace.record.sources.noted import PROCESS

ABOUT = About(
    libraries="asyncio.create_subprocess_exec and create_subprocess_shell",
    versions="the standard library's, Python 3.11 and newer; uvloop too",
    steps=(
        ("the start of a process", "process", "write"),
        ("communicate, wait, send_signal, terminate, kill", "process", "write"),
        ("its output, read by the program: one step for each of stdout and stderr", "process", "write"),
        ("each write to its stdin; drain where it waits, wait_closed", "process", "write"),
    ),
    not_captured=(
        (
            "loop.subprocess_exec and subprocess_shell with a protocol of the program's own: they work while "
            "recording, are marked, and a replay refuses them."
        ),
    ),
)


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps what starts processes; the ways back. `library` is `asyncio.subprocess`."""
    undo = [
        swap_code(function, _starting(function))
        for function in (library.create_subprocess_exec, library.create_subprocess_shell)
    ]
    names = ("subprocess_exec", "subprocess_shell")
    return undo + [patch(asyncio.BaseEventLoop, name, _own_protocol) for name in names]


def _own_protocol(plain: Callable[..., Any]) -> Callable[..., Any]:
    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        branch = calling_branch()
        if branch is None:
            return await plain(self, *args, **kwargs)
        branch.driver.note("process: one was started with a protocol of the program's own")
        token = current_branch.set(None)
        try:
            return await plain(self, *args, **kwargs)
        finally:
            current_branch.reset(token)

    return start


# --- starting ---------------------------------------------------------------------------------


def _starting(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)
    shell = "cmd" in signature.parameters

    def options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `Popen` by name."""
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        rest = given.pop("kwds")
        words = given.pop("cmd") if shell else [given.pop("program"), *given.pop("args")]
        return {"args": words, "shell": shell, **given, **rest}

    async def start(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        branch = calling_branch()
        command = None if branch is None else captured(lambda: options(args, kwargs), branch)
        if branch is None or command is None:
            return await original(*args, **kwargs)
        call, outcome = await amade(
            branch, command, {"do": "start", **command.params}, lambda: original(*args, **kwargs), started
        )
        if call.happened:
            return recorded(call.value, command)
        call.raise_again(outcome, None, None)
        pid = (call.transport or {}).get("pid", 0)
        return served(command, pid, options(args, kwargs))

    return start


def started(call: Call, process: Any) -> dict[str, Any]:
    """The outcome of a start: what the process is, is in no digest."""
    call.transport = {"pid": process.pid}
    return call.ended()


def recorded(process: Any, command: Command) -> Any:
    """The real process, with its streams recorded. What is of other classes is left as it is."""
    if _is_exactly(process, Process):
        process.__class__ = CapturedProcess
        process._captured = popen.known(popen.Process(command, process.pid, served=False))
        process._code = None
        for name in ("stdout", "stderr"):
            stream = getattr(process, name)
            if _is_exactly(stream, asyncio.StreamReader):
                stream.__class__ = CapturedReader
                stream._capture = _Reads(process._captured, name)
        if _is_exactly(process.stdin, asyncio.StreamWriter):
            process.stdin.__class__ = CapturedWriter
            process.stdin._captured = process._captured
    return process


def _is_exactly(value: Any, kind: type) -> bool:
    return type(value) is kind


def served(command: Command, pid: int, options: dict[str, Any]) -> Any:
    """A process that there is none of."""
    loop = asyncio.get_running_loop()
    transport = _NoTransport(pid)
    protocol = SubprocessStreamProtocol(limit=options["limit"], loop=loop)
    captured_process = popen.known(popen.Process(command, pid, served=True))
    for name in ("stdout", "stderr"):
        if options.get(name) == asyncio.subprocess.PIPE:
            reader = CapturedReader(limit=options["limit"], loop=loop)
            reader._capture = _Reads(captured_process, name)
            reader.feed_eof()
            setattr(protocol, name, reader)
    if options.get("stdin") == asyncio.subprocess.PIPE:
        stdin = CapturedWriter(transport, protocol=protocol, reader=None, loop=loop)
        stdin._captured = captured_process
        protocol.stdin = stdin
    process = CapturedProcess(transport, protocol, loop)
    process._captured = captured_process
    process._code = None
    return process


class _NoTransport(asyncio.SubprocessTransport, asyncio.WriteTransport):
    """What stands below a process that there is none of."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid
        self._closed = False
        self.code: int | None = None

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self.code

    async def _wait(self) -> int | None:
        return self.code

    def get_pipe_transport(self, fd: int) -> Any:
        return self

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def write(self, data: Any) -> None:
        """Nobody reads it."""

    def write_eof(self) -> None:
        """As above."""

    def can_write_eof(self) -> bool:
        return True


# --- the process --------------------------------------------------------------------------------


class CapturedProcess(Process):
    """A process of asyncio whose calls are steps."""

    _captured: popen.Process
    _code: int | None
    _transport: Any

    @property
    def returncode(self) -> int | None:
        """Its exit code, once the program can know it."""
        plain = Process.returncode.fget  # type: ignore[attr-defined]  # a property, read by its class
        branch = live_branch()
        if self._code is not None or branch is None:
            return plain(self) if self._code is None else self._code
        source = f"{PROCESS}{self._captured.command.program}: exit code"
        self._ended(branch.driver.noted(branch, source, lambda: self._really(lambda: plain(self))))
        return self._code

    async def _step(self, what: str, real: Callable[[], Any], outcome_of: Any, **more: Any) -> Any:
        branch, captured = live_branch(), self._captured
        if branch is None:
            if captured.served:
                raise not_there(captured.command.program)
            return await real(), {}, True
        call, outcome = await amade(
            branch, captured.command, captured.params(what, **more), lambda: self._really(real), outcome_of
        )
        return (call.value if call.happened else call), outcome, call.happened

    def _really(self, real: Callable[[], Any]) -> Any:
        if self._captured.served:
            raise not_there(self._captured.command.program)
        return real()

    def _ended(self, code: int | None) -> None:
        self._code = code
        if isinstance(self._transport, _NoTransport) and code is not None:
            self._transport.code = code
            self._transport.close()

    async def wait(self) -> int:
        if self._code is not None:
            return self._code
        value, outcome, happened = await self._step("wait", super().wait, lambda call, code: call.ended(code))
        if live_branch() is not None:
            self._ended(value if happened else outcome["returncode"])
        return value if happened else outcome["returncode"]  # type: ignore[no-any-return]  # its code

    async def ends(self, real: Callable[[], Any]) -> None:
        """Waits for its end by what else tells of it."""
        if self._code is not None:
            return
        plain = Process.returncode.fget  # type: ignore[attr-defined]  # a property, read by its class
        _, outcome, happened = await self._step("wait", real, lambda call, _: call.ended(plain(self)))
        if live_branch() is not None:
            self._ended(plain(self) if happened else outcome["returncode"])

    async def communicate(self, input: Any = None) -> tuple[bytes, bytes]:  # noqa: A002  # as Process's own
        fed = {} if input is None else {"input": kept(input)}
        real = super().communicate
        value, outcome, happened = await self._step(
            "communicate",
            lambda: real(input),
            lambda call, got: call.ended(self._transport.get_returncode(), *got),
            **fed,
        )
        if not happened:
            self._ended(outcome["returncode"])
            return value.output(outcome, "stdout"), value.output(outcome, "stderr")
        if live_branch() is not None:
            self._ended(self._transport.get_returncode())
        return value  # type: ignore[no-any-return]  # what the real one gave

    def _signal(self, signal: int, real: Callable[[], None]) -> None:
        branch, captured = live_branch(), self._captured
        if branch is None:
            if captured.served:
                raise not_there(captured.command.program)
            return real()
        params = captured.params("signal", signal=popen.signal_name(signal))
        made(branch, captured.command, params, lambda: self._really(real), _nothing_of)
        return None

    def send_signal(self, signal: int) -> None:
        real = super().send_signal
        self._signal(signal, lambda: real(signal))

    def terminate(self) -> None:
        self._signal(_TERMINATE, super().terminate)

    def kill(self) -> None:
        self._signal(_KILL, super().kill)


_TERMINATE, _KILL = 15, 9


def _nothing_of(_call: Call, _value: Any) -> dict[str, Any]:
    return {}


# --- its output -----------------------------------------------------------------------------------


# An asynchronous generator that nobody holds is closed by a task, which would be a branch of the run. So
# those of an open run are held.
_open: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


class _Reads:
    """The reads of one stream: one step, each read a piece of it. A read that was cancelled ends the step,
    and the next one begins another."""

    def __init__(self, process: popen.Process, stream: str) -> None:
        self.process = process
        self.stream = stream
        self.at_end = False
        self.pieces: Any = None
        self.asked = ""
        self.ask: Callable[[], Any] = _nothing
        self.got: list[Any] = []

    async def next(self, asked: str, ask: Callable[[], Any]) -> Any:
        """What the next read gives: made, or served. Raises `StopAsyncIteration` at the end."""
        branch = live_branch()
        assert branch is not None
        self.ask = ask
        try:
            if self.pieces is None:
                params = self.process.params("read", **{"from": self.stream, "by": asked})
                step = step_of(self.process.command.program, "astream")
                exchange = Exchange(params, self._real)
                self.pieces = branch.driver.astream(step, branch, (exchange,), {})
                _open.setdefault(branch.driver, []).append(self.pieces)
                value = await anext(self.pieces)
            else:
                value = await self.pieces.asend(None if asked == self.asked else asked)
        except BaseException as error:
            _open[branch.driver].remove(self.pieces)
            self.pieces = None
            self.at_end = isinstance(error, StopAsyncIteration)
            raise
        finally:
            self.ask = _nothing
        self.asked = asked
        return self.got.pop() if self.got else _made_again(value)

    async def _real(self, exchange: Exchange) -> AsyncIterator[Any]:
        if self.process.served:
            raise not_there(self.process.command.program)
        while True:
            try:
                data = await self.ask()
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                self.got.append(error)
                yield _problem(error)
                continue
            if data == b"":
                return
            self.got.append(data)
            yield kept(data)


async def _nothing() -> bytes:
    return b""


def _problem(error: asyncio.IncompleteReadError | asyncio.LimitOverrunError) -> dict[str, Any]:
    if isinstance(error, asyncio.LimitOverrunError):
        return {"overrun": str(error), "consumed": error.consumed}
    return {"incomplete": kept(error.partial), "expected": error.expected}


def _made_again(value: Any) -> Any:
    if not isinstance(value, dict):
        return octets(value)
    if "overrun" in value:
        return asyncio.LimitOverrunError(value["overrun"], value["consumed"])
    return asyncio.IncompleteReadError(octets(value["incomplete"]), value["expected"])


class CapturedReader(asyncio.StreamReader):
    """Output of a process of asyncio, whose reads are recorded."""

    _capture: _Reads

    def at_eof(self) -> bool:
        branch, capture = live_branch(), self._capture
        if branch is None or capture.at_end:
            return super().at_eof()
        real = super().at_eof
        source = f"{PROCESS}{capture.process.command.program}: end of {capture.stream}"
        return bool(branch.driver.noted(branch, source, real))

    async def _read(self, asked: str, real: Callable[[], Any], *, to_end: bool = False) -> Any:
        capture = self._capture
        if live_branch() is None or capture.at_end:
            if capture.process.served and not capture.at_end:
                raise not_there(capture.process.command.program)
            return await real()
        try:
            value = await capture.next(asked, real)
        except StopAsyncIteration:
            return await real()  # there is nothing more, and it says so in its way
        except BaseException:
            self._give_back()
            raise
        if to_end:
            try:
                await capture.next(asked, _nothing)
            except StopAsyncIteration:
                pass
        if isinstance(value, Exception):
            raise value
        return value

    def _give_back(self) -> None:
        """What was read while the program was cancelled is there for its next read."""
        for value in self._capture.got:
            if not isinstance(value, asyncio.LimitOverrunError):
                self._buffer[:0] = value.partial if isinstance(value, asyncio.IncompleteReadError) else value  # type: ignore[attr-defined]  # asyncio's own
        self._capture.got.clear()

    async def read(self, n: int = -1) -> bytes:
        if n == 0:
            return b""
        real = super().read
        return await self._read(f"read({n})", lambda: real(n), to_end=n < 0)  # type: ignore[no-any-return]  # bytes

    async def readline(self) -> bytes:
        return await self._read("readline()", super().readline)  # type: ignore[no-any-return]  # bytes

    async def readexactly(self, n: int) -> bytes:
        if n <= 0:
            return await super().readexactly(n)
        real = super().readexactly
        return await self._read(f"readexactly({n})", lambda: real(n))  # type: ignore[no-any-return]  # bytes

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        real = super().readuntil
        return await self._read(f"readuntil({separator!r})", lambda: real(separator))  # type: ignore[no-any-return]  # bytes


# --- its input --------------------------------------------------------------------------------------


class CapturedWriter(asyncio.StreamWriter):
    """Input of a process of asyncio, whose writes are recorded."""

    _captured: popen.Process

    def __del__(self, *args: Any) -> None:
        plain = getattr(super(), "__del__", None)
        if plain is not None and not self._captured.served:
            plain(*args)

    def write(self, data: Any) -> None:
        branch, captured = live_branch(), self._captured
        real = super().write
        if branch is None:
            if captured.served:
                raise not_there(captured.command.program)
            return real(data)
        params = captured.params("write", data=kept(bytes(data)))
        made(branch, captured.command, params, lambda: self._really(real, data), _nothing_of)
        return None

    def writelines(self, data: Iterable[Any]) -> None:
        self.write(b"".join(data))

    async def drain(self) -> None:
        branch, captured = live_branch(), self._captured
        real = super().drain
        if branch is None:
            return None if captured.served else await real()
        if branch.driver.noted(branch, f"{PROCESS}{captured.command.program}: room", self._has_room):
            return None
        await amade(
            branch, captured.command, captured.params("drain"), lambda: self._really(real), _nothing_of
        )
        return None

    def _has_room(self) -> bool:
        """Whether draining has nothing to wait for, and nothing to complain of."""
        protocol = self._protocol  # type: ignore[attr-defined]  # asyncio's own
        return not (protocol._paused or protocol._connection_lost or self.transport.is_closing())

    async def wait_closed(self) -> None:
        branch, captured = live_branch(), self._captured
        real = super().wait_closed
        if branch is None:
            return None if captured.served else await real()
        await amade(
            branch, captured.command, captured.params("close"), lambda: self._really(real), _nothing_of
        )
        return None

    def _really(self, real: Callable[..., Any], *args: Any) -> Any:
        if self._captured.served:
            raise not_there(self._captured.command.program)
        return real(*args)
