"""Compressed blocks: how SQL back-ends keep the events and the values of a run.

A run becomes blocks of three kinds, each of whole events by `seq`: *events* (facts, and the names of
the values), *values* (the bytes, apart, so that one can be erased) and *salts* (only where the run's
seed is gone). A block is a directory and a body, together in one zstd frame with a checksum:

    1 byte: 0 as it is, 1 zstd ‖ uint32le length of the directory ‖ directory, JSON ‖ body

A value is coded against the one before it in the same slot (`isotrace.delta`), so that a message
history which grows from step to step is written once. Slots begin empty in every block: any block
can be read, or written anew without an erased value, by itself.

Whoever can write to the file decides what stands in a block, so reading trusts nothing: sizes are
bounded before anything is unpacked, and a block that makes no sense is `RecordCorruptError`.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from isotrace.canonical import MAX_BYTES
from isotrace.delta import DeltaDecoder, DeltaEncoder
from isotrace.errors import LimitError, RecordCorruptError
from isotrace.events import Event
from isotrace.models import Erased

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EVENTS, VALUES, SALTS = 1, 2, 3

# A block of unlike values closes here: reading one of them unpacks all.
_CLOSE_BYTES = 64 * 1024
# A new block must write again what deltas refer to now, a whole message history for one. While that is
# more than such a part of a block, it may grow: to here if the part is small, to there if not.
_AGAIN_SMALL, _GROW_BYTES = 8, 1024 * 1024
_AGAIN_LARGE, _GROW_BYTES_MOST = 4, 16 * 1024 * 1024
_GROW_EXPANDED = 256 * 1024 * 1024
_REPETITIVE = 4
_QUICK, _THOROUGH = 3, 12
_EVENTS_PER_BLOCK = 4096

# One event more than a full block, with every value as long as values may be.
_MAX_PLAIN = _GROW_BYTES_MOST + 5 * MAX_BYTES
_MAX_EXPANDED = _GROW_EXPANDED + 5 * MAX_BYTES
MAX_RUN_BYTES = 4 * 1024 * 1024 * 1024
"""How many bytes the values of one run may have in all."""

_SALT_BYTES = 32
_DECOMPRESSION = {int(zstd.DecompressionParameter.window_log_max): 27}

ValueKey = tuple[int, str]
"""`seq` of the event, name of the field."""


class Block(NamedTuple):
    """A block as it is stored: it holds whole events, from `first_seq` to `last_seq`."""

    kind: int
    first_seq: int
    last_seq: int
    data: bytes


_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _EventDirectory(msgspec.Struct, array_like=True, gc=False):
    """Events of one shape have the same type, facts and names of values, so these are written once.

    `times` (as differences) and `shape_at` have one entry an event; `columns` have, for each shape and
    each of its facts, the values in order. `absent` are (seq, name, commitment).
    """

    first_seq: _Natural
    shapes: list[tuple[str, list[str], list[str]]]
    shape_at: list[_Natural]
    times: list[int]
    columns: list[list[list[Any]]]
    absent: list[tuple[int, str, str]]


class _ValueDirectory(msgspec.Struct, array_like=True, gc=False):
    """Columns, one entry a value; slot −1 is a value coded by itself."""

    names: list[str]
    seqs: list[_Natural]
    name_at: list[_Natural]
    slots: list[int]
    prefixes: list[_Natural]
    suffixes: list[_Natural]
    lengths: list[_Natural]


class _SaltDirectory(msgspec.Struct, array_like=True, gc=False):
    """Columns, one entry a salt of 32 bytes."""

    names: list[str]
    seqs: list[_Natural]
    name_at: list[_Natural]


_D = TypeVar("_D", _EventDirectory, _ValueDirectory, _SaltDirectory)
_ENCODER = msgspec.json.Encoder()
_EVENT_DECODER = msgspec.json.Decoder(_EventDirectory)
_VALUE_DECODER = msgspec.json.Decoder(_ValueDirectory)
_SALT_DECODER = msgspec.json.Decoder(_SaltDirectory)


# --- the frame ----------------------------------------------------------------------


class Packer:
    """Packs blocks at one zstd level, 1 to 22; 0 leaves them as they are. Safe to share between threads.

    None means a quick level, and a thorough one for blocks whose deltas save most of what they hold:
    hashing those histories has cost far more than it takes.
    """

    def __init__(self, level: int | None) -> None:
        # Made once each: a fresh one costs 20 µs, as much as a step may.
        self._quick = _compressor(_QUICK if level is None else level)
        self._thorough = _compressor(_THOROUGH) if level is None else self._quick

    def pack(
        self, directory: msgspec.Struct, body: Sequence[bytes] = (), *, repetitive: bool = False
    ) -> bytes:
        """The stored form of a directory and a body in pieces."""
        head = _ENCODER.encode(directory)
        plain = b"".join((len(head).to_bytes(4, "little"), head, *body))
        compressor = self._thorough if repetitive else self._quick
        if compressor is not None:
            packed = compressor.compress(plain, mode=zstd.ZstdCompressor.FLUSH_FRAME)
            if len(packed) < len(plain):
                return b"\x01" + packed
        return b"\x00" + plain


def _compressor(level: int) -> zstd.ZstdCompressor | None:
    if not level:
        return None
    parameter = zstd.CompressionParameter
    return zstd.ZstdCompressor(options={parameter.compression_level: level, parameter.checksum_flag: 1})


def _unpack(data: bytes, decoder: msgspec.json.Decoder[_D], run_id: str) -> tuple[_D, bytes, int]:
    """Directory, unpacked bytes, and where in them the body begins."""
    try:
        plain = _plain(data)
        start = 4 + int.from_bytes(plain[:4], "little")
        if len(plain) < start:
            raise ValueError("the directory is cut")
        return decoder.decode(memoryview(plain)[4:start]), plain, start
    except (ValueError, RecursionError, zstd.ZstdError, msgspec.MsgspecError) as error:
        raise _damaged(run_id, str(error)) from None


def _plain(data: bytes) -> bytes:
    if data[:1] == b"\x00":
        return data[1:]
    if data[:1] != b"\x01":
        raise ValueError("it begins with an unknown byte")
    frame = memoryview(data)[1:]
    size = zstd.get_frame_info(frame).decompressed_size
    if size is None or size > _MAX_PLAIN:
        raise ValueError(f"it claims {size} bytes, at most {_MAX_PLAIN} are allowed")
    reader = zstd.ZstdDecompressor(options=_DECOMPRESSION)
    # One byte more than claimed: only then does the reader come to the frame's checksum and end.
    plain = reader.decompress(frame, max_length=size + 1)
    if not reader.eof or len(plain) != size or reader.unused_data:
        raise ValueError("its length is not what it says")
    return plain


def _damaged(run_id: str, why: str) -> RecordCorruptError:
    return RecordCorruptError(
        "a block of a run is damaged",
        run_id=run_id,
        got=why,
        hint="restore the store's file from a backup, or import the run again",
    )


# --- events -------------------------------------------------------------------------


def event_blocks(events: Sequence[Event], packer: Packer) -> Iterator[Block]:
    """The events of one run, by `seq` and without gaps, without their values."""
    for start in range(0, len(events), _EVENTS_PER_BLOCK):
        part = events[start : start + _EVENTS_PER_BLOCK]
        yield Block(EVENTS, part[0].seq, part[-1].seq, packer.pack(_event_directory(part)))


def _event_directory(events: Sequence[Event]) -> _EventDirectory:
    shapes: dict[tuple[str, tuple[str, ...], tuple[str, ...]], int] = {}
    shape_at: list[int] = []
    facts: list[list[Iterable[Any]]] = []
    absent: list[tuple[int, str, str]] = []
    for event in events:
        shape = (event.type, tuple(event.facts), tuple(event.values))
        at = shapes.setdefault(shape, len(shapes))
        if at == len(facts):
            facts.append([])
        shape_at.append(at)
        facts[at].append(event.facts.values())
        for name, value in event.values.items():
            if isinstance(value, Erased):
                absent.append((event.seq, name, value.commit))
    times = [event.time_us for event in events]
    return _EventDirectory(
        first_seq=events[0].seq,
        shapes=[(kind, list(keys), list(names)) for kind, keys, names in shapes],
        shape_at=shape_at,
        times=[now - before for before, now in zip([0, *times], times, strict=False)],
        columns=[[list(column) for column in zip(*rows, strict=True)] for rows in facts],
        absent=absent,
    )


def read_events(data: bytes, run_id: str) -> list[Event]:
    """The events of one block. Their values are b"" still, or `Erased`.

    Raises `RecordCorruptError`.
    """
    directory, _, _ = _unpack(data, _EVENT_DECODER, run_id)
    try:
        return _events_from(directory)
    except (IndexError, ValueError, StopIteration, KeyError) as error:
        raise _damaged(run_id, f"its columns don't fit each other: {error!r}") from None


def _events_from(directory: _EventDirectory) -> list[Event]:
    """Raises `IndexError`, `KeyError`, `StopIteration` or `ValueError` where the directory makes no sense."""
    shapes = [
        # A shape without facts has no column that could say how often it occurs.
        (kind, keys, names, zip(*columns, strict=True) if keys else repeat(()))
        for (kind, keys, names), columns in zip(directory.shapes, directory.columns, strict=True)
    ]
    events: list[Event] = []
    moments = accumulate(directory.times)
    for seq, (at, time_us) in enumerate(zip(directory.shape_at, moments, strict=True), directory.first_seq):
        kind, keys, names, facts = shapes[at]
        row = dict(zip(keys, next(facts), strict=True))
        events.append(Event(seq, kind, time_us, row, dict.fromkeys(names, b"")))
    if any(keys and next(facts, None) is not None for _, keys, _, facts in shapes):
        raise ValueError("facts are left over")
    for seq, name, commit in directory.absent:
        if seq < directory.first_seq or name not in events[seq - directory.first_seq].values:
            raise ValueError(f"there is no value {name!r} in event {seq}")
        events[seq - directory.first_seq].values[name] = Erased(commit)
    return events


# --- values -------------------------------------------------------------------------


class _ValueWriter:
    """One block of values, until it is full."""

    def __init__(self) -> None:
        self._encode = DeltaEncoder().encode
        self._entries: list[tuple[int, int, int, int, int, int]] = []
        self._name_at: dict[str, int] = {}
        self._body: list[bytes] = []
        self._coded = 0
        self._expanded = 0
        self._referred: dict[int, int] = {}
        self._again = 0

    def full(self) -> bool:
        coded, again = self._coded, self._again
        if coded < _CLOSE_BYTES:
            return False
        if coded < _GROW_BYTES:
            return again * _AGAIN_SMALL < coded or self._expanded >= _GROW_EXPANDED
        return again * _AGAIN_LARGE < coded or coded >= _GROW_BYTES_MOST or self._expanded >= _GROW_EXPANDED

    def add(self, seq: int, name: str, slot_key: Hashable, data: bytes) -> None:
        delta = self._encode(slot_key, data)
        if delta is None:
            slot, prefix, suffix, middle = -1, 0, 0, data
        else:
            slot, prefix, suffix, middle = delta
            # Of the first value in a slot nobody knows yet whether the next will refer to it: assume so.
            again = prefix + suffix if slot in self._referred else len(data)
            self._again += again - self._referred.get(slot, 0)
            self._referred[slot] = again
        name_at = self._name_at.setdefault(name, len(self._name_at))
        self._entries.append((seq, name_at, slot, prefix, suffix, len(middle)))
        self._body.append(middle)
        self._coded += len(middle)
        self._expanded += len(data)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def close(self, packer: Packer) -> Block:
        columns = [list(column) for column in zip(*self._entries, strict=True)]
        directory = _ValueDirectory(list(self._name_at), *columns)
        repetitive = self._expanded > self._coded * _REPETITIVE
        data = packer.pack(directory, self._body, repetitive=repetitive)
        return Block(VALUES, directory.seqs[0], directory.seqs[-1], data)


def value_blocks(
    values: Iterable[tuple[int, str, Hashable, bytes]], packer: Packer, run_id: str, *, whole: bool = False
) -> Iterator[Block]:
    """Values as (seq, name, slot key, bytes), by `seq`; values of one slot key resemble each other.

    `whole` keeps them in one block, however long it grows. Raises `LimitError` for a value that is
    too long to be read again, or a run of them.
    """
    writer, last_seq, total = _ValueWriter(), -1, 0
    for seq, name, slot_key, data in values:
        total += len(data)
        if len(data) > MAX_BYTES or total > MAX_RUN_BYTES:
            raise LimitError(
                "a value, or the sum of a run's values, is too long to be kept",
                run_id=run_id,
                where=f"event {seq}, value {name!r}",
                expected=f"at most {MAX_BYTES} bytes a value, {MAX_RUN_BYTES} a run",
                got=len(data),
            )
        if seq != last_seq and not whole and writer.full():
            yield writer.close(packer)
            writer = _ValueWriter()
        writer.add(seq, name, slot_key, data)
        last_seq = seq
    if writer:
        yield writer.close(packer)


def read_values(
    data: bytes, run_id: str, wanted: Collection[ValueKey] | None = None
) -> dict[ValueKey, bytes]:
    """The values of one block in their order, or those of them that are wanted.

    Raises `RecordCorruptError`.
    """
    directory, plain, start = _unpack(data, _VALUE_DECODER, run_id)
    _check_values(directory, len(plain) - start, run_id)
    names, slots, lengths = directory.names, directory.slots, directory.lengths
    chosen = {
        index: key
        for index in _span(directory.seqs, wanted)
        if (key := (directory.seqs[index], names[directory.name_at[index]]))
        and (wanted is None or key in wanted)
    }
    followed = {slots[index] for index in chosen} - {-1}
    found: dict[ValueKey, bytes] = {}
    if not chosen:
        return found
    if followed:
        decode = DeltaDecoder(max_size=_MAX_PLAIN).decode
    # A value that is coded by itself can be cut out without a look at those before it.
    first = 0 if followed else min(chosen)
    end = start + sum(lengths[:first])
    for index in range(first, max(chosen) + 1):
        begin, end = end, end + lengths[index]
        slot = slots[index]
        if slot == -1:
            if index in chosen:
                found[chosen[index]] = plain[begin:end]
        elif slot in followed:
            middle = plain[begin:end]
            try:
                value = decode(slot, directory.prefixes[index], directory.suffixes[index], middle)
            except RecordCorruptError as error:
                raise _damaged(run_id, str(error)) from None
            if index in chosen:
                found[chosen[index]] = value
    return found


def _span(seqs: Sequence[int], wanted: Collection[ValueKey] | None) -> range:
    """Where in a block the wanted events stand: a block is by `seq`, and most of it need not be looked at."""
    if wanted is None:
        return range(len(seqs))
    asked = [seq for seq, _ in wanted]
    return range(bisect_left(seqs, min(asked, default=0)), bisect_right(seqs, max(asked, default=-1)))


def _check_values(directory: _ValueDirectory, body: int, run_id: str) -> None:
    """Raises `RecordCorruptError` where the columns don't fit each other or the body."""
    lengths = directory.lengths
    columns = (directory.seqs, directory.name_at, directory.slots, directory.prefixes, directory.suffixes)
    if {len(column) for column in columns} != {len(lengths)}:
        raise _damaged(run_id, "columns of different lengths")
    if sum(lengths) != body:
        raise _damaged(run_id, "the body is cut")
    if body + sum(directory.prefixes) + sum(directory.suffixes) > _MAX_EXPANDED:
        raise _damaged(run_id, "it would unpack to more than a block may hold")
    if lengths and max(directory.name_at) >= len(directory.names):
        raise _damaged(run_id, "a value has no name")


# --- salts --------------------------------------------------------------------------


def salt_blocks(salts: dict[ValueKey, bytes], packer: Packer) -> Iterator[Block]:
    """The salts of a run whose seed is gone; no block where there are none."""
    if not salts:
        return
    keys = sorted(salts)
    names = sorted({name for _, name in keys})
    directory = _SaltDirectory(names, [seq for seq, _ in keys], [names.index(name) for _, name in keys])
    yield Block(SALTS, keys[0][0], keys[-1][0], packer.pack(directory, [salts[key] for key in keys]))


def read_salts(data: bytes, run_id: str) -> dict[ValueKey, bytes]:
    """The inverse of `salt_blocks`. Raises `RecordCorruptError`."""
    directory, plain, start = _unpack(data, _SALT_DECODER, run_id)
    if (
        len(directory.seqs) != len(directory.name_at)
        or len(plain) - start != len(directory.seqs) * _SALT_BYTES
        or (directory.seqs and max(directory.name_at) >= len(directory.names))
    ):
        raise _damaged(run_id, "its salts don't fit its directory")
    return {
        (seq, directory.names[at]): plain[offset : offset + _SALT_BYTES]
        for seq, at, offset in zip(
            directory.seqs, directory.name_at, range(start, len(plain), _SALT_BYTES), strict=True
        )
    }
