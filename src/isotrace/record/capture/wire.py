"""What comes over a connection of urllib3, read for the record and given to the program as it came."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Iterator
from typing import Any, Final

_PART: Final = 65536
_CHUNK: Final = 1024 * 1024


def parts_of(source: Any) -> Iterator[bytes]:
    """What comes of an answer, as soon as it comes."""
    if not hasattr(source, "read1"):
        yield from source.stream(_PART)
        return
    while data := source.read1(_PART):
        yield data


def raw_parts_of(source: Any) -> Iterator[bytes]:
    """What comes of an answer, as soon as it comes and as it is cut, with its content encoding."""
    if source.chunked:
        yield from source.read_chunked(_CHUNK, decode_content=False)
    elif not hasattr(source, "read1"):
        yield from source.stream(_PART, decode_content=False)
    else:
        while data := source.read1(_PART, decode_content=False):
            yield data


def twin_of(
    response_class: Any, response: Any, method: str, *, tee: bool = True
) -> tuple[Any, Callable[[], None]]:
    """An answer that reads the same connection. The function puts what it read, and how that ended,
    before the first one, so that this reads it again in the same way."""
    original = response._fp
    file = _Tee(original.fp) if tee and original.fp is not None else original.fp
    # Not made by its constructor, which would read from the connection.
    fp = http.client.HTTPResponse.__new__(type(original))
    fp.__dict__.update(original.__dict__)
    fp.fp = file
    twin = response_class(
        body=fp,
        headers=response.headers,
        status=response.status,
        preload_content=False,
        decode_content=True,
        pool=response._pool,
        enforce_content_length=response.enforce_content_length,
        request_method=method,
    )

    if file is not None:
        original.fp = io.BytesIO()

    def again() -> None:
        if isinstance(file, _Tee):
            original.fp = file.again()

    return twin, again


class _Tee:
    """A connection's file, and what was read from it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._read = bytearray()
        self._error: Exception | None = None

    def read(self, *args: Any) -> Any:
        return self._kept(self._file.read, args)

    def read1(self, *args: Any) -> Any:
        return self._kept(self._file.read1, args)

    def readline(self, *args: Any) -> Any:
        return self._kept(self._file.readline, args)

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)
        self._read += memoryview(buffer)[:count]
        return count

    def _kept(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            data = function(*args)
        except Exception as error:
            self._error = error
            raise
        self._read += data
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def again(self) -> _Again:
        """The same once more, from memory."""
        return _Again(bytes(self._read), self._error, self._file)


class _Again(io.BytesIO):
    """What was read from a connection. Where that had failed, it fails again."""

    def __init__(self, data: bytes, error: Exception | None, file: Any) -> None:
        super().__init__(data)
        self._left = len(data)
        self._error = error
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        return self._checked(super().read(size), size)

    def read1(self, size: int | None = -1, /) -> bytes:
        data = super().read1(-1 if size is None else size)
        return data or self._checked(data, size)

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        return line if line.endswith(b"\n") else self._checked(line, size)

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _checked(self, data: bytes, size: int | None) -> bytes:
        if self._error is not None and (size is None or size < 0 or len(data) < size):
            raise self._error
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


class PiecesFile:
    """Stands for the `http.client.HTTPResponse` of a body that comes in pieces: recorded, or served.

    With `chunked` it can be read in chunks too, each of them a piece. `done` is called at the end.
    """

    def __init__(
        self,
        pieces: Iterator[Any],
        write: Callable[[Any], bytes] | None,
        method: str,
        *,
        chunked: bool = True,
        done: Callable[[], None] | None = None,
    ) -> None:
        self._pieces = pieces
        self._write = write
        self._method = method
        self._done = done
        self._rest = b""
        self._open = True
        self.msg = http.client.HTTPMessage()
        if chunked:
            self.fp: _Chunks | None = _Chunks(self)

    def _more(self) -> bool:
        """Whether there is more to read, which is in `_rest` then."""
        while not self._rest and self._open:
            try:
                piece = next(self._pieces)
            except StopIteration:
                self._end()
            except BaseException:
                self.close()
                raise
            else:
                self._rest = piece if self._write is None else self._write(piece)
        return bool(self._rest)

    def take(self) -> bytes:
        """The next piece, or what is left of it; empty at the end."""
        self._more()
        data, self._rest = self._rest, b""
        return data

    def read(self, size: int | None = None) -> bytes:
        parts: list[bytes] = []
        left = -1 if size is None or size < 0 else size
        while left != 0 and self._more():
            data = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(data) :]
            left = left if left < 0 else left - len(data)
            parts.append(data)
        return b"".join(parts)

    def read1(self, size: int | None = -1) -> bytes:
        self._more()
        end = len(self._rest) if size is None or size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _safe_read(self, size: int) -> bytes:
        return self.fp.read(size) if self.fp is not None else b""

    @property
    def closed(self) -> bool:
        return self.isclosed()

    def isclosed(self) -> bool:
        return not self._open and not self._rest

    def flush(self) -> None:
        """Nothing is written."""

    def _end(self) -> None:
        if self._open:
            self._open = False
            close = getattr(self._pieces, "close", None)
            try:
                if close is not None:
                    close()
            finally:
                if self._done is not None:
                    self._done()

    def close(self) -> None:
        self._rest = b""
        self._end()
        if hasattr(self, "fp"):
            self.fp = None


class _Chunks:
    """The pieces of a body in the chunked coding of HTTP/1.1 (RFC 9112, section 7.1)."""

    def __init__(self, file: PiecesFile) -> None:
        self._file = file
        self._chunk = b""
        self._ended = False

    def readline(self, limit: int = -1) -> bytes:
        """The size of the next chunk; after the last one, of none, an empty trailer."""
        if self._ended:
            self._file.close()
            return b""
        data = self._file.take()
        self._chunk = data + b"\r\n"
        self._ended = not data
        return b"%x\r\n" % len(data)

    def read(self, size: int) -> bytes:
        data, self._chunk = self._chunk[:size], self._chunk[size:]
        return data
