"""Bodies of aiohttp's requests and answers, read for the record and given on as they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any


class Connection:
    """A connection that leads nowhere: what is sent over it is gone, its answer is known."""

    def __init__(self, connector: Any, protocol: Any) -> None:
        self._connector = connector
        self.protocol = protocol
        self.transport = protocol.transport = _Transport()
        self.closed = False
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Calls this once the connection is not used any more."""
        self._callbacks.append(callback)

    def close(self) -> None:
        self.closed = True
        while self._callbacks:
            self._callbacks.pop()()

    release = close


class _Transport:
    """Takes everything."""

    def write(self, data: Any) -> None:
        """Nothing is sent."""

    writelines = write

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        """There is nothing to close."""


def protocol_class(library: Any) -> Any:
    """The class of protocols whose answer is known."""

    class Known(library.base_protocol.BaseProtocol):  # type: ignore[misc]  # the library's own base
        upgraded = False
        should_close = False

        def __init__(self, loop: Any, answer: tuple[Any, Any] | None = None) -> None:
            super().__init__(loop)
            self._answer = answer

        async def read(self) -> Any:
            return self._answer

        def start_timeout(self) -> None:
            """Nothing is waited for."""

        def pause_reading(self) -> None:
            """Nothing comes of itself."""

        def resume_reading(self, *args: Any, **kwargs: Any) -> None:
            """Nothing comes of itself."""

        def set_exception(self, *args: Any) -> None:
            """Nobody waits."""

    return Known


def reader_class(library: Any) -> Any:
    """The class of readers that ask for a body piece by piece. Raises `AttributeError` for a library whose
    readers wait otherwise."""
    base: Any = library.streams.StreamReader
    if not hasattr(base, "_wait"):
        raise AttributeError("its readers wait otherwise")

    class Pieces(base):  # type: ignore[misc]  # the library's own base
        def __init__(
            self, protocol: Any, limit: int, pieces: AsyncIterator[Any], write: Callable[[Any], bytes] | None
        ) -> None:
            super().__init__(protocol, limit, loop=protocol._loop)
            self._pieces: Any = pieces
            self._write = write

        async def _wait(self, func_name: str) -> None:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                self.feed_eof()
                return
            except Exception as error:
                self.set_exception(error)
                raise
            self.feed_data(piece if self._write is None else self._write(piece))

        async def wait_eof(self) -> None:
            while not self._eof:
                await self._wait("wait_eof")

        def set_exception(self, *args: Any) -> None:
            super().set_exception(*args)
            close_now(self._pieces)

    return Pieces


def close_now(pieces: Any) -> None:
    """Closes an asynchronous generator whose end awaits nothing. One that is being read closes with
    its reader."""
    closing = pieces.aclose()
    with suppress(StopIteration, RuntimeError):
        closing.send(None)
    closing.close()


# --- what is sent -------------------------------------------------------------------------


class _Collector:
    """Takes what a body writes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    async def write(self, data: Any, *args: Any, **kwargs: Any) -> None:
        self.parts.append(bytes(data))

    async def drain(self) -> None:
        """There is room."""

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Its end shows by itself."""


def body_class(library: Any) -> Any:
    """The class of bodies whose parts are known, sent in the place of one that can be read but once."""

    class Body(library.payload.Payload):  # type: ignore[misc]  # the library's own base
        kept = library.payload.BytesPayload
        payload = library.payload.Payload

        def __init__(self, original: Any) -> None:
            super().__init__(None)
            self._original = original
            self._headers = original.headers
            self._encoding = original.encoding
            self._size = original.size
            self._parts: list[bytes] = []
            self._error: Exception | None = None

        async def collect(self) -> bytes:
            collector = _Collector()
            try:
                await self._original.write(collector)
            except Exception as error:  # noqa: BLE001  # the program's own code; raised where it is sent
                self._error = error
            self._parts = collector.parts
            return b"".join(self._parts)

        @property
        def consumed(self) -> bool:
            return bool(getattr(self._original, "consumed", False))

        @property
        def autoclose(self) -> bool:
            return bool(getattr(self._original, "autoclose", True))

        def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
            return b"".join(self._parts).decode(encoding, errors)

        async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            return b"".join(self._parts)

        async def write(self, writer: Any) -> None:
            await self.write_with_length(writer, None)

        async def write_with_length(self, writer: Any, content_length: int | None) -> None:
            left = content_length
            for part in self._parts:
                await writer.write(part if left is None else part[:left])
                left = None if left is None else max(0, left - len(part))
            if self._error is not None:
                raise self._error

        def _close(self) -> None:
            self._original._close()

        async def close(self) -> None:
            await self._original.close()

    return Body


async def read_body_of(body_class: Any, request: Any) -> bytes:
    """The bytes of a request's body. One that can be read but once is replaced by one that is known."""
    body = request.body
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    if isinstance(body, body_class):
        return await body.as_bytes()  # type: ignore[no-any-return]  # bytes, by its own definition
    if not isinstance(body, body_class.payload):
        return b""
    if isinstance(body, body_class.kept):
        collector = _Collector()
        await body.write(collector)
        return b"".join(collector.parts)
    known = body_class(body)
    data: bytes = await known.collect()
    set_body(request, known)
    return data


def set_body(request: Any, body: Any) -> None:
    """Lets a request send this body, whose length its headers say."""
    if hasattr(request, "_body"):
        request._body = body
    else:
        request.body = body
