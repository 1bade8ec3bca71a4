"""The lines of a journal: how an event is written, and how it is read back from a file that may be damaged.

A line is `LLLLLLLL CCCCCCCC BODY`: the body's length and its CRC-32, eight hex digits each, then
compact JSON and a line feed. The first body is the header; each other one is an event:

    {"q": seq, "t": type, "u": time in µs, "f": {facts}, "v": {name: value},
     "d": {name: [slot, prefix, suffix, middle]}}

or an array, for the two events that nearly every step has (`isotrace.record.shapes`).

`v` holds value bytes as they are. What is in `d` is coded against the last value in its slot
(`isotrace.delta`), so that a history that grows is written once; a name that stands in both is
written whole, and goes into that slot. A torn line can only be the last, and has no line feed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from zlib import crc32

import msgspec
import orjson

from isotrace.canonical import MAX_BYTES, check
from isotrace.delta import Delta, DeltaDecoder, DeltaEncoder
from isotrace.errors import JournalError, RecordCorruptError, SchemaUnsupportedError
from isotrace.events import Event
from isotrace.record import shapes
from isotrace.record.snapshot import dump_json, has_tag

FORMAT: Final = "isotrace-journal"
VERSION: Final = 2
MAX_LINE: Final = 512 * 1024 * 1024
"""How long one body may be. A value has at most 64 MiB, and an event a handful of them."""
MAX_TOTAL: Final = 8 * 1024**3
"""How many bytes of values are read out of one journal."""

_SLOTS = 64
# Coding a short value would take longer than writing it.
MIN_DELTA: Final = 2048
_HEAD = 18
_HEAD_FORM = re.compile(rb"[0-9a-f]{8} [0-9a-f]{8} ")


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """Whose journal it is. `seed` is the run's 32 secret bytes; `pid` the process that wrote it."""

    run_id: str
    tenant_id: str
    seed: bytes
    pid: int


@dataclass(slots=True)
class JournalContent:
    """All that a journal holds: events by `seq` from 0. `torn`: the last line was cut, and left out."""

    header: JournalHeader
    events: list[Event]
    torn: bool = False


# --- writing --------------------------------------------------------------------------


class LineWriter:
    """Puts events into lines, one journal's in their order. Not safe to use from two threads at once."""

    def __init__(self) -> None:
        self._deltas = DeltaEncoder(_SLOTS, MIN_DELTA)

    def header(self, header: JournalHeader) -> bytes:
        """The first line. Raises `JournalError` for ids that are no Unicode text."""
        return framed(
            json_bytes(
                {
                    "format": FORMAT,
                    "version": VERSION,
                    "run_id": header.run_id,
                    "tenant_id": header.tenant_id,
                    "seed": header.seed.hex(),
                    "pid": header.pid,
                }
            )
        )

    def event(
        self, seq: int, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: Hashable
    ) -> bytes:
        """One event's line. `facts` is JSON without its braces; `slot` says what the values resemble."""
        if len(values) == 1:
            # One short value: nearly every event, so it is put together in one go.
            ((name, data),) = values.items()
            if len(data) < MIN_DELTA:
                return framed(
                    b'{"q":%d,"t":"%b","u":%d,"f":{%b},"v":{"%b":%b}}'
                    % (seq, type_.encode(), time_us, facts, name.encode(), data)
                )
        plain = coded = b""
        for name, data in values.items():
            key = name.encode()
            if len(data) >= MIN_DELTA:
                reference, is_whole = self._reference((slot, name), data)
                coded += b',"%b":%b' % (key, reference)
                if not is_whole:
                    continue
            plain += b',"%b":%b' % (key, data)
        more = b',"d":{%b}' % coded[1:] if coded else b""
        body = b'{"q":%d,"t":"%b","u":%d,"f":{%b},"v":{%b}%b}' % (
            seq,
            type_.encode(),
            time_us,
            facts,
            plain[1:],
            more,
        )
        return b"%08x %08x %b\n" % (len(body), crc32(body), body)

    def unusual(
        self, body: bytes, type_: str, seq: int, time_us: int, facts: shapes.Facts, slot: Hashable
    ) -> bytes | None:
        """The line of an event that has a shape of its own, from its body, where that may hold a tag, or
        is long enough for its value to be coded against the last one in its slot.

        None where the value can't be kept as it is: a snapshot can.
        """
        size = len(body)
        if size > MAX_BYTES - 1024 or has_tag(body):
            return None
        if size < MIN_DELTA:
            return framed(body)
        # What stands before the value ends in a comma, where this ends in a bracket.
        start = len(dump_json((type_, seq, time_us, *facts)))
        named = json_bytes(shapes.named_facts(facts))[1:-1]
        return self.event(seq, type_, time_us, named, {shapes.VALUE_NAMES[type_]: body[start:-1]}, slot)

    def _reference(self, key: Hashable, data: bytes) -> tuple[bytes, bool]:
        """What stands in `d` for a value; and whether nothing of it is in its slot yet, so that it has
        to be written whole."""
        delta = self._deltas.encode(key, data)
        assert delta is not None  # only a value shorter than `MIN_DELTA` has none
        if delta.prefix or delta.suffix:
            return _delta_json(delta, data), False
        return b'[%d,0,0,""]' % delta.slot, True


def framed(body: bytes) -> bytes:
    """A body with its length and checksum before it and a line feed after it."""
    return b"%08x %08x %b\n" % (len(body), crc32(body), body)


def _delta_json(delta: Delta, data: bytes) -> bytes:
    """`[slot, prefix, suffix, middle]`, cut between characters so that the middle is text."""
    prefix, suffix = delta.prefix, delta.suffix
    end = len(data) - suffix
    while prefix and prefix < len(data) and data[prefix] & 0xC0 == 0x80:
        prefix -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    # The two ends may now meet in the middle of what they shared.
    middle = orjson.dumps(data[prefix:end].decode())
    return b"[%d,%d,%d,%b]" % (delta.slot, prefix, len(data) - end, middle)


def json_bytes(value: Any) -> bytes:
    """Compact JSON of a header's fields. Raises `JournalError` where one is no Unicode text."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise JournalError("a journal's name or header can't be written", got=str(error)) from None


# --- reading --------------------------------------------------------------------------


class _Header(msgspec.Struct):
    format: str
    version: int
    run_id: str = ""
    tenant_id: str = ""
    seed: str = ""
    pid: int = 0


class _Line(msgspec.Struct):
    q: int
    t: str
    u: int
    f: dict[str, Any]
    v: dict[str, msgspec.Raw] = {}
    d: dict[str, tuple[int, int, int, str]] = {}


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def read_lines(stream: BinaryIO, where: str) -> JournalContent:
    """All that a journal's file holds from where the stream stands.

    Raises `RecordCorruptError` for damage that a torn last line does not explain,
    `SchemaUnsupportedError` for a journal of a newer isotrace, and `JournalError` for one that
    holds more than `MAX_TOTAL` bytes of values.
    """
    left = os.fstat(stream.fileno()).st_size
    header, left = _read_header(stream, left, where)
    content = JournalContent(header, [])
    decoder = DeltaDecoder(_SLOTS)
    total = 0
    while left:
        seq = len(content.events)
        body, left = _next_body(stream, left, where, seq + 1)
        if body is None:
            content.torn = True
            break
        event = _event(body, decoder, where, seq)
        total += sum(map(len, event.values.values()))  # type: ignore[arg-type]  # nothing is erased here
        if total > MAX_TOTAL:
            raise JournalError(
                "a journal is too large to be read", where=where, expected=f"{MAX_TOTAL} bytes"
            )
        content.events.append(event)
    return content


def read_header(stream: BinaryIO, where: str) -> JournalHeader:
    """The header of a journal's file, read from its beginning. Raises as `read_lines` does."""
    return _read_header(stream, os.fstat(stream.fileno()).st_size, where)[0]


def _read_header(stream: BinaryIO, left: int, where: str) -> tuple[JournalHeader, int]:
    body, left = _next_body(stream, left, where, 0)
    if body is None:
        raise RecordCorruptError("a journal has no header", where=where)
    return _header(body, where), left


def _next_body(stream: BinaryIO, left: int, where: str, number: int) -> tuple[bytes | None, int]:
    """The next line's body and how much of the file is left; None for a torn last line."""
    head = stream.read(min(_HEAD, left))
    if len(head) == _HEAD and _HEAD_FORM.fullmatch(head):
        length = int(head[:8], 16)
        if length <= MAX_LINE and length < left - _HEAD:
            body, end = stream.read(length), stream.read(1)
            left -= _HEAD + length + 1
            if end == b"\n" and crc32(body) == int(head[9:17], 16):
                return body, left
            # Blocks that a power cut kept from the disk read as zeros; JSON holds none.
            if left == 0 and b"\0" in body + end:
                return None, 0
            raise RecordCorruptError(
                "a journal's line is damaged", where=_place(where, number), expected="its checksum"
            )
    # No line can be read here. If a line ends further on, then this is damage, not a torn write.
    if _holds_line_feed(head, stream):
        raise RecordCorruptError(
            "a journal's line is damaged", where=_place(where, number), expected="a length and a checksum"
        )
    return None, 0


def _place(where: str, number: int) -> str:
    return f"{where}, line {number + 1}"


def _holds_line_feed(head: bytes, stream: BinaryIO) -> bool:
    data = head
    while data:
        if b"\n" in data:
            return True
        data = stream.read(1024 * 1024)
    return False


def _header(body: bytes, where: str) -> JournalHeader:
    try:
        header = _decode_header(body)
        if header.format != FORMAT:
            raise RecordCorruptError("not a journal", where=where, expected=FORMAT, got=header.format)
        if header.version > VERSION:
            raise SchemaUnsupportedError(
                "a journal of a newer isotrace",
                where=where,
                expected=f"version {VERSION}",
                got=f"version {header.version}",
                hint="upgrade isotrace to read it",
            )
        seed = bytes.fromhex(header.seed)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecordCorruptError("a journal's header is damaged", where=where, got=str(error)) from None
    if len(seed) != 32:
        raise RecordCorruptError("a journal's seed is not 32 bytes long", where=where, got=len(seed))
    return JournalHeader(header.run_id, header.tenant_id, seed, header.pid)


def _check_depth(facts: dict[str, Any]) -> None:
    """Raises `LimitError` for facts nested deeper than any value may be. How deep msgspec itself
    goes depends on the version of Python; the flat ones, nearly all, need no walk."""
    for value in facts.values():
        kind = type(value)
        if kind is dict or (kind is list and any(type(item) in (dict, list) for item in value)):
            check(value)


def _event(body: bytes, decoder: DeltaDecoder, where: str, seq: int) -> Event:
    try:
        if body.startswith(b"["):
            return _in_order(shapes.decode(body).event(), where, seq)
        line = _decode_line(body)
        _check_depth(line.f)
        values: dict[str, Any] = {name: bytes(data) for name, data in line.v.items()}
        for name, (slot, prefix, suffix, middle) in line.d.items():
            whole = values.get(name)
            if whole is not None:
                decoder.decode(slot, 0, 0, whole)
            else:
                values[name] = decoder.decode(slot, prefix, suffix, middle.encode())
    except RecordCorruptError as error:
        error.where = _place(where, seq + 1)
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordCorruptError(
            "a journal's line is no event", where=_place(where, seq + 1), got=str(error)
        ) from None
    return _in_order(Event(line.q, line.t, line.u, line.f, values), where, seq)


def _in_order(event: Event, where: str, seq: int) -> Event:
    if event.seq != seq:
        raise RecordCorruptError(
            "a journal's events are out of order",
            where=_place(where, seq + 1),
            expected=seq,
            got=event.seq,
        )
    return event
