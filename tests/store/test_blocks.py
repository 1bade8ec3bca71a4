"""Blocks: what is packed is unpacked to the same bytes, and what was damaged is named, never guessed."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.canonical import MAX_BYTES
from isotrace.errors import LimitError, RecordCorruptError
from isotrace.events import Event
from isotrace.models import Erased
from isotrace.stores.assembly import blocks_of
from isotrace.stores.blocks import (
    EVENTS,
    SALTS,
    VALUES,
    Block,
    Packer,
    event_blocks,
    read_events,
    read_salts,
    read_values,
    salt_blocks,
    value_blocks,
)
from isotrace.testing.contract_keeping import history, rich_run
from isotrace.testing.runs import make_run, make_steps

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

QUICK = Packer(3)
Item = tuple[int, str, str, bytes]


def _noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _read_all(blocks: list[Block]) -> dict[tuple[int, str], bytes]:
    found: dict[tuple[int, str], bytes] = {}
    for block in blocks:
        found.update(read_values(block.data, "run"))
    return found


def _histories(count: int, step: int) -> list[Item]:
    """Values that each begin as the one before them."""
    text = _noise(count * step, 1)
    return [(seq, "params", "chat", text[: (seq + 1) * step]) for seq in range(count)]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["params", "outcome_data", ""]),
            st.sampled_from(["chat", "search"]),
            st.binary(max_size=40).flatmap(lambda head: st.just(head * 60) | st.just(head)),
        ),
        max_size=12,
    ),
    st.sampled_from([None, 0, 1, 9]),
)
def test_values_come_back_whatever_they_are(values: list[tuple[str, str, bytes]], level: int | None) -> None:
    items = [(seq, name, skill, data) for seq, (name, skill, data) in enumerate(values)]
    blocks = list(value_blocks(items, Packer(level), "run"))
    assert _read_all(blocks) == {(seq, name): data for seq, name, _, data in items}
    for seq, name, _, data in items:
        holding = [block for block in blocks if block.first_seq <= seq <= block.last_seq]
        assert [read_values(block.data, "run", [(seq, name)]) for block in holding] == [{(seq, name): data}]


_FACTS = st.dictionaries(
    st.text(max_size=3), st.none() | st.integers(-9, 9) | st.text(max_size=3), max_size=3
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), _FACTS, st.sets(st.sampled_from("xyz"))), max_size=9))
def test_events_come_back_whatever_their_facts(
    given_events: list[tuple[str, dict[str, Any], set[str]]],
) -> None:
    events = [
        Event(seq, kind, 1000 - 7 * seq, facts, {name: Erased("ab" * 32) for name in sorted(names)})
        for seq, (kind, facts, names) in enumerate(given_events)
    ]
    found = [event for block in event_blocks(events, QUICK) for event in read_events(block.data, "run")]
    assert found == events


def test_floats_and_large_integers_in_facts_keep_their_value_and_kind() -> None:
    facts = {"a": [1.0, 1, -0.0, 1e16, 5e-324, 0.1 + 0.2, 2**53 - 1], "b": True, "c": None}
    (block,) = event_blocks([Event(0, "t", 1, facts)], QUICK)
    (event,) = read_events(block.data, "run")
    assert repr(event.facts) == repr(facts)


def test_salts_come_back() -> None:
    salts = {(seq, name): _noise(32, seq) for seq in range(5) for name in ("params", "error")}
    (block,) = salt_blocks(salts, QUICK)
    assert (block.kind, block.first_seq, block.last_seq) == (SALTS, 0, 4)
    assert read_salts(block.data, "run") == salts
    assert list(salt_blocks({}, QUICK)) == []


# --- how large blocks grow --------------------------------------------------------------


def test_blocks_of_unlike_values_close_at_64_kib() -> None:
    items = [(seq, "params", "chat", _noise(1000, seq)) for seq in range(300)]
    blocks = list(value_blocks(items, QUICK, "run"))
    sizes = [len(block.data) for block in blocks]
    assert len(blocks) == 5
    assert all(64 * 1024 <= size < 68 * 1024 for size in sizes[:-1])


def test_the_values_of_one_event_are_never_parted() -> None:
    items = [(seq // 4, f"name-{seq % 4}", "chat", _noise(30_000, seq)) for seq in range(40)]
    blocks = list(value_blocks(items, QUICK, "run"))
    edges = [(block.first_seq, block.last_seq) for block in blocks]
    assert len(edges) > 2
    assert all(before[1] < after[0] for before, after in pairwise(edges))


def test_a_growing_history_is_written_once() -> None:
    items = _histories(200, 2000)  # 40 MB of values, 400 kB of text
    blocks = list(value_blocks(items, QUICK, "run"))
    assert sum(len(block.data) for block in blocks) < 1.1 * 200 * 2000
    assert _read_all(blocks) == {(seq, name): data for seq, name, _, data in items}


def test_a_history_that_begins_with_more_than_a_block_is_written_once_as_well() -> None:
    prompt = _noise(100_000, 1)
    items = [(seq, "params", "chat", prompt + _noise(seq * 100, 2)) for seq in range(50)]
    blocks = list(value_blocks(items, QUICK, "run"))
    assert sum(len(block.data) for block in blocks) < 110_000


def test_a_block_of_a_growing_history_ends_before_it_expands_without_bound() -> None:
    step, count = 1000, 1000
    text = _noise(step * count, 1)
    items = ((seq, "params", "chat", text[: (seq + 1) * step]) for seq in range(count))  # 500 MB in all
    blocks = value_blocks(items, Packer(0), "run")
    expanded = [sum(step * (seq + 1) for seq in range(one.first_seq, one.last_seq + 1)) for one in blocks]
    assert len(expanded) == 2
    assert max(expanded) < 260 * 1024 * 1024


def test_a_value_longer_than_values_may_be_is_refused() -> None:
    with pytest.raises(LimitError) as caught:
        list(value_blocks([(3, "params", "chat", bytes(MAX_BYTES + 1))], QUICK, "run"))
    assert (caught.value.run_id, caught.value.where) == ("run", "event 3, value 'params'")


# --- damage -----------------------------------------------------------------------------


def _reader(kind: int) -> Callable[[bytes, str], object]:
    readers: dict[int, Callable[[bytes, str], object]] = {
        EVENTS: read_events,
        VALUES: read_values,
        SALTS: read_salts,
    }
    return readers[kind]


def _some_blocks(level: int) -> list[Block]:
    run = rich_run()
    blocks = blocks_of(run.ledger, Packer(level), "run")
    return [*blocks, *salt_blocks({(1, "params"): bytes(32)}, Packer(level))]


def test_every_changed_byte_of_a_compressed_block_is_noticed_or_changes_nothing() -> None:
    named: list[str | None] = []
    for block in (block for block in _some_blocks(3) if block.data[0] == 1):
        read = _reader(block.kind)
        intact = read(block.data, "run-7")
        for position in range(len(block.data)):
            damaged = bytearray(block.data)
            damaged[position] ^= 0x10
            try:
                # zstd has one bit in its header that means nothing.
                assert read(bytes(damaged), "run-7") == intact
            except RecordCorruptError as error:
                named.append(error.run_id)
    assert len(named) > 500
    assert set(named) == {"run-7"}


def test_every_cut_block_is_noticed() -> None:
    for level in (0, 3):
        for block in _some_blocks(level):
            for length in range(len(block.data)):
                with pytest.raises(RecordCorruptError):
                    _reader(block.kind)(block.data[:length], "run")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_nonsense_is_named_whatever_it_is(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(_some_blocks(0)))
    changed = bytearray(block.data)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(changed) - 1))
        changed[position : position + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"0", b"99999999", b"-1", b"]", b"[", b"null", b"1e999", b'"a"'])
        )
    for kind in (EVENTS, VALUES, SALTS):
        try:
            _reader(kind)(bytes(changed), "run")
        except RecordCorruptError:
            pass


def test_a_frame_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    frame = zstd.compress(bytes(400 * 1024 * 1024), level=1)
    assert len(frame) < 50_000
    with pytest.raises(RecordCorruptError, match="claims 419430400 bytes"):
        read_values(b"\x01" + frame, "run")


def test_a_frame_that_does_not_say_how_long_it_is_is_refused() -> None:
    writer = zstd.ZstdCompressor()
    frame = writer.compress(bytes(1000)) + writer.flush()
    with pytest.raises(RecordCorruptError, match="claims None bytes"):
        read_values(b"\x01" + frame, "run")


def test_deltas_that_unpack_to_gigabytes_are_refused_before_they_are_unpacked() -> None:
    size, count = 1_000_000, 2000
    head = (
        f'[["p"],{list(range(count))},{[0] * count},{[0] * count},'
        f"{[0] + [size] * (count - 1)},{[0] * count},{[size] + [0] * (count - 1)}]"
    ).encode()
    block = b"\x00" + len(head).to_bytes(4, "little") + head + bytes(size)
    with pytest.raises(RecordCorruptError, match="unpack to more"):
        read_values(block, "run", [(count - 1, "p")])


def test_packing_gives_the_same_bytes_each_time() -> None:
    for run in (rich_run(), history(30), make_run("r", steps=make_steps(100, 900))):
        assert blocks_of(run.ledger, Packer(None), "run") == blocks_of(run.ledger, Packer(None), "run")
