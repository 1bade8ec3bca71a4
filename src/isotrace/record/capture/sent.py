"""A request's body as a library takes it, read before it is sent: a stream of bytes can be read but once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

_BLOCK = 16384


class SentFile:
    """A file whose content is known, to be sent in its place. `untouched` until somebody reads it."""

    def __init__(self, file: Any, block: int) -> None:
        self._file = file
        self._start = _position(file)
        self._parts: list[bytes] = []
        while part := file.read(block):
            self._parts.append(part.encode() if isinstance(part, str) else bytes(part))
        self.data = b"".join(self._parts)
        self._parts.reverse()
        self.untouched = True

    def read(self, size: int | None = None) -> bytes:
        """The next part as the file gave it; without a size all that is left."""
        self.untouched = False
        if size is None or size < 0:
            rest, self._parts = b"".join(reversed(self._parts)), []
            return rest
        return self._parts.pop() if self._parts else b""

    def not_sent(self) -> None:
        """Puts the file where it was: the request never came so far."""
        if self._start is not None:
            self._file.seek(self._start)


def _position(file: Any) -> int | None:
    try:
        position = file.tell()
    except (AttributeError, OSError, ValueError):
        return None
    return position if isinstance(position, int) and hasattr(file, "seek") else None


class SentParts:
    """An iterator whose parts are known, to be sent in its place. Goes on where it was left, as the
    iterator would, and raises what that raised."""

    def __init__(self, parts: Iterator[Any]) -> None:
        self._parts: list[Any] = []
        self._error: Exception | None = None
        self._next = 0
        try:
            self._parts.extend(parts)
        except Exception as error:  # noqa: BLE001  # the program's own code; raised in its place
            self._error = error
        self.data = b"".join(map(_bytes, self._parts))

    def __iter__(self) -> SentParts:
        return self

    def __next__(self) -> Any:
        if self._next < len(self._parts):
            self._next += 1
            return self._parts[self._next - 1]
        if self._error is not None:
            raise self._error
        raise StopIteration


_iterators: WeakKeyDictionary[Any, SentParts] = WeakKeyDictionary()
"""What was read of iterators: a request that is made again has the same one."""


def read_sent(body: Any, block: int = _BLOCK) -> tuple[bytes, Any]:
    """The bytes of a body, and what to give to the library in its place: bytes, text, a file to read, an
    iterable of parts, or None. A body that is neither is given back as it is."""
    if body is None or isinstance(body, bytes | str):
        return _bytes(body or b""), body
    if hasattr(body, "read"):
        sent_file = SentFile(body, block)
        return sent_file.data, sent_file
    try:
        return bytes(memoryview(body)), body
    except TypeError:
        pass
    try:
        parts = iter(body)
    except TypeError:
        return b"", body
    if parts is not body:
        return b"".join(map(_bytes, body)), body
    return _read_iterator(parts)


def _read_iterator(parts: Iterator[Any]) -> tuple[bytes, Any]:
    try:
        sent = _iterators.get(parts)
        if sent is None:
            sent = _iterators[parts] = SentParts(parts)
    except TypeError:  # one that can't be referred to weakly
        sent = SentParts(parts)
    return sent.data, sent


def _bytes(part: Any) -> bytes:
    return part.encode() if isinstance(part, str) else bytes(part)
