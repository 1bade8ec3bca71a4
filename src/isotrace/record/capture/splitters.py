"""Streamed bodies, cut into pieces that mean something: events, lines, frames."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import orjson

from isotrace.canonical import parse_json
from isotrace.errors import IsotraceError

EVENT_STREAM: Final = "text/event-stream"
_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_FRAMES: Final = "application/vnd.amazon.eventstream"
_MAX_FRAME: Final = 16 * 1024 * 1024 + 64 * 1024


class Splitter(Protocol):
    """Cuts a stream of bytes. Every byte comes out again, with the piece that it belongs to."""

    def feed(self, data: bytes) -> Iterator[tuple[Any, bytes]]:
        """The pieces that these bytes complete: the value, and the bytes that it came in."""
        ...

    def end(self) -> Iterator[tuple[Any, bytes]]:
        """What was left when the stream ended."""
        ...


def splitter_of(kind: str) -> Splitter | None:
    """What cuts a stream of this content type, None if it has no pieces."""
    kind = kind.partition(";")[0].strip().lower()
    if kind == EVENT_STREAM:
        return EventSplitter()
    if kind in _LINES:
        return LineSplitter()
    return FrameSplitter() if kind == _FRAMES else None


def write_piece(kind: str) -> Callable[[Any], bytes] | None:
    """What makes bytes of a piece of this content type again, None if it has no pieces."""
    kind = kind.partition(";")[0].strip().lower()
    if kind == EVENT_STREAM:
        return write_event
    return write_line if kind in _LINES else None


def json_bytes(value: Any) -> bytes:
    """A value as compact JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# --- server-sent events -------------------------------------------------------------------

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(r"\r\n|\r|\n")


class EventSplitter:
    """Cuts a stream of bytes into server-sent events (HTML Living Standard, section 9.2), each with
    the very bytes that it came in."""

    def __init__(self) -> None:
        self._blank = b""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The events that these bytes complete."""
        data, begin = self._rest + data, 0
        for end in _EVENT_END.finditer(data):
            block, raw = data[begin : end.start()], data[begin : end.end()]
            begin = end.end()
            if raw.strip():
                yield _event(block), self._blank + raw
                self._blank = b""
            else:
                self._blank += raw
        self._rest = data[begin:]

    def end(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What was left without a blank line after it."""
        rest, self._rest = self._rest, b""
        if rest.strip():
            yield _event(rest), self._blank + rest


def _event(block: bytes) -> dict[str, Any]:
    event: dict[str, Any] = {}
    data: list[str] = []
    # Not `splitlines`: what else ends a line for Python may stand in the data.
    for line in _LINE_END.split(block.decode(errors="replace").removeprefix("\ufeff")):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name:
            event[name] = value
    if data:
        text = "\n".join(data)
        event["data"] = _json_or_text(text)
    elif not event:
        event["comment"] = block.decode(errors="replace")
    return event


def _json_or_text(text: str) -> Any:
    if text[:1] in "{[":
        try:
            return parse_json(text)
        except IsotraceError:
            pass
    return text


def write_event(event: Mapping[str, Any]) -> bytes:
    """An event as it goes over the wire again."""
    if "comment" in event:
        return str(event["comment"]).encode() + b"\n\n"
    lines = [f"{name}: {value}" for name, value in event.items() if name != "data"]
    if "data" in event:
        data = event["data"]
        text = data if isinstance(data, str) else json_bytes(data).decode()
        lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


# --- lines of JSON ------------------------------------------------------------------------


class LineSplitter:
    """Cuts a stream into lines, each an object or a text."""

    def __init__(self) -> None:
        self._blank = b""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[Any, bytes]]:
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            yield from self._line(line + b"\n")

    def end(self) -> Iterator[tuple[Any, bytes]]:
        rest, self._rest = self._rest, b""
        yield from self._line(rest)

    def _line(self, line: bytes) -> Iterator[tuple[Any, bytes]]:
        if not line.strip():
            self._blank += line
            return
        raw, self._blank = self._blank + line, b""
        yield _json_or_text(line.decode(errors="replace").rstrip("\r\n")), raw


def write_line(value: Any) -> bytes:
    """A line as it goes over the wire again."""
    return (value.encode() if isinstance(value, str) else json_bytes(value)) + b"\n"


# --- frames -------------------------------------------------------------------------------


class FrameSplitter:
    """Cuts a stream of AWS's binary events, each of which begins with its length in four bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[Any, bytes]]:
        self._rest += data
        while len(self._rest) >= 4:
            length = int.from_bytes(self._rest[:4], "big")
            if not 16 <= length <= _MAX_FRAME or len(self._rest) < length:
                return
            frame, self._rest = self._rest[:length], self._rest[length:]
            yield frame, frame

    def end(self) -> Iterator[tuple[Any, bytes]]:
        rest, self._rest = self._rest, b""
        if rest:
            yield rest, rest
