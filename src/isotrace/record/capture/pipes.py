"""The ends of a child process's pipes that the program holds, with what goes through them recorded.

They stand below Python's buffers, so that a piece is what one read of the descriptor gave, and a replay
gives the same pieces to the same buffers.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from isotrace.record.capture.command import Command
from isotrace.record.capture.processes import Call, kept, made, not_there, octets, step_of
from isotrace.record.context import live_branch
from isotrace.record.edge import Exchange


class Pipe(io.FileIO):
    """One end of a pipe. `served`: it is a replay's, and nobody is at the other end."""

    def __init__(self, descriptor: int, mode: str, command: Command, stream: str, *, served: bool) -> None:
        super().__init__(descriptor, mode)
        self._command = command
        self._stream = stream
        self._served = served
        self.captured_as = {"from": stream, **command.call}

    def fileno(self) -> int:
        """The descriptor. What the program does with it by itself is not recorded."""
        branch = live_branch()
        if branch is not None:
            branch.driver.note(f"{self._command.program}: its {self._stream} was used by its file descriptor")
        return super().fileno()


class Output(Pipe):
    """The reading end of stdout or stderr. What is read is one step, each piece a chunk of it."""

    def __init__(self, descriptor: int, command: Command, stream: str, *, served: bool) -> None:
        super().__init__(descriptor, "rb", command, stream, served=served)
        self._lock = threading.Lock()
        self._pieces: Any = None
        self._at_end = False
        self._rest = b""
        self._ask: Callable[[], bytes | None] = _nothing
        self._got: list[bytes | None] = []

    def readinto(self, buffer: Any) -> int | None:
        with memoryview(buffer) as view, view.cast("B") as room:
            data = self.read(len(room))
            if data is None:
                return None
            room[: len(data)] = data
            return len(data)

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]  # as FileIO's own
        if size is None or size < 0:
            return self.readall()
        if size == 0:
            return b""
        if not self._rest:
            piece = self._piece(lambda: io.FileIO.read(self, size))
            if piece is None:
                return None
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def readall(self) -> bytes | None:  # type: ignore[override]  # None where nothing is there yet
        before, self._rest = self._rest, b""
        piece = self._piece(lambda: io.FileIO.readall(self), to_end=True)
        return before or None if piece is None else before + piece

    def _piece(self, ask: Callable[[], bytes | None], *, to_end: bool = False) -> bytes | None:
        """What the next read gives: made, or served. Empty at the end."""
        branch = live_branch()
        if self.closed:
            return ask()  # raises
        if branch is None or self._at_end:
            if self._served and not self._at_end:
                raise not_there(self._command.program)
            return b"" if self._served else ask()
        with self._lock:
            self._ask = ask
            if self._pieces is None:
                params = {"do": "read", "from": self._stream, **self._command.call}
                this = weakref.ref(self)  # a pipe that is let go is closed at once, as any file
                exchange = Exchange(params, lambda _: _pieces_of(this))
                self._pieces = branch.driver.stream(
                    step_of(self._command.program, "stream"), branch, (exchange,), {}
                )
            try:
                return self._next(to_end=to_end)
            finally:
                self._ask = _nothing

    def _next(self, *, to_end: bool) -> bytes | None:
        """The next piece, with `to_end` the last."""
        try:
            piece = self._taken(next(self._pieces))
        except BaseException as error:
            self._pieces = None
            if isinstance(error, StopIteration):
                self._at_end = True
                return b""
            raise
        if to_end and piece is not None:
            self._ask = _nothing
            next(self._pieces, None)
            self._at_end, self._pieces = True, None
        return piece

    def _taken(self, value: Any) -> bytes | None:
        if self._got:
            return self._got.pop()
        return None if value is None else octets(value)

    def ask(self) -> bytes | None:
        """What the read that is under way gives."""
        if self._served:
            raise not_there(self._command.program)
        piece = self._ask()
        if piece != b"":
            self._got.append(piece)
        return piece

    def close(self) -> None:
        pieces, self._pieces = getattr(self, "_pieces", None), None
        try:
            if pieces is not None:
                pieces.close()
        finally:
            super().close()


def _pieces_of(this: weakref.ref[Output]) -> Iterator[Any]:
    while (pipe := this()) is not None and (piece := pipe.ask()) != b"":
        del pipe
        yield None if piece is None else kept(piece)


class Input(Pipe):
    """The writing end of stdin. Each write is a step."""

    def __init__(self, descriptor: int, command: Command, *, served: bool) -> None:
        super().__init__(descriptor, "wb", command, "stdin", served=served)

    def write(self, data: Any) -> int | None:  # type: ignore[override]  # None where there is no room yet
        branch = live_branch()
        if branch is None or self.closed:
            if self._served and not self.closed:
                raise not_there(self._command.program)
            return super().write(data)
        params = {"do": "write", "data": kept(bytes(data)), **self._command.call}
        call, outcome = made(branch, self._command, params, lambda: self._really_write(data), _written)
        written: int | None = call.value if call.happened else outcome.get("written")
        return written

    def _really_write(self, data: Any) -> int | None:
        if self._served:
            raise not_there(self._command.program)
        return super().write(data)


def _written(_call: Call, count: int | None) -> dict[str, Any]:
    return {} if count is None else {"written": count}


def _nothing() -> bytes:
    return b""


# --- in the place of what Popen made ----------------------------------------------------------


def captured_stream(stream: Any, bufsize: int, command: Command, name: str, *, served: bool) -> Any:
    """The same stream as `Popen` made it, text or not, buffered or not, with its pipe recorded. The given
    one is closed."""
    if stream is None:
        return None
    text: dict[str, Any] | None = None
    if isinstance(stream, io.TextIOWrapper):
        text = {
            "encoding": stream.encoding,
            "errors": stream.errors,
            "line_buffering": stream.line_buffering,
            "write_through": stream.write_through,
        }
        stream = stream.detach()
    buffer = type(stream) if isinstance(stream, io.BufferedReader | io.BufferedWriter) else None
    raw: Any = stream.detach() if buffer is not None else stream
    descriptor = os.dup(raw.fileno())
    size = _buffer_size(bufsize, raw)
    raw.close()
    pipe = (
        Input(descriptor, command, served=served)
        if name == "stdin"
        else Output(descriptor, command, name, served=served)
    )
    outer: Any = pipe if buffer is None else buffer(pipe, size)
    return outer if text is None else io.TextIOWrapper(outer, **text)


_LARGEST: Final = 8 * 1024 * 1024


def _buffer_size(bufsize: int, raw: io.FileIO) -> int:
    """The size that `io.open` gives a buffer."""
    if bufsize > 1:
        return bufsize
    block = int(getattr(raw, "_blksize", io.DEFAULT_BUFFER_SIZE))
    if sys.version_info >= (3, 14):
        return max(min(block, _LARGEST), io.DEFAULT_BUFFER_SIZE)
    return block if block > 1 else io.DEFAULT_BUFFER_SIZE
