"""Whatever events go into a journal come out of it, to the byte."""

from __future__ import annotations

import json
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isotrace.canonical import value_bytes
from isotrace.errors import IsotraceError
from isotrace.events import EVENT_TYPES, Event
from isotrace.record.journal import Journal
from isotrace.record.lines import JournalHeader, LineWriter, read_lines
from isotrace.record.memory_journal import MemoryJournal

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
# Long values that begin and end alike, with cuts that fall into the middle of characters.
HISTORIES = st.lists(st.sampled_from(["é", "è", "ĩ", "😀", "😁", "🨀", "x", '"', "\\", "\n"]), max_size=6).map(
    lambda parts: ["h" * 1500, *parts, "é" * 600]
)
NAMES = st.sampled_from(["params", "outcome_data", "error", "raw_ids"])
EVENTS = st.tuples(
    st.sampled_from(sorted(EVENT_TYPES)),
    st.integers(0, 2**60),
    st.dictionaries(st.text(max_size=4), JSON, max_size=3),
    st.dictionaries(NAMES, JSON | HISTORIES, max_size=3),
    st.sampled_from(["", "llm", "search", *map(str, range(70))]),
)


@given(st.lists(EVENTS, max_size=12))
def test_what_is_appended_is_read_back(events):
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(folder, "r", "t", bytes(32))
        memory = MemoryJournal("r", "t", bytes(32))
        want = []
        for seq, (kind, time_us, facts, values, slot) in enumerate(events):
            inner = json.dumps(facts).encode()[1:-1]
            data = {name: value_bytes(value) for name, value in values.items()}
            assert journal.append(kind, time_us, inner, data, slot) == seq
            assert memory.append(kind, time_us, inner, data, slot) == seq
            want.append(Event(seq, kind, time_us, facts, dict(data)))
        content = journal.content()
        assert content.events == want == memory.content().events
        assert not content.torn
        journal.remove()


@given(st.lists(HISTORIES, min_size=2, max_size=4))
def test_histories_that_differ_within_a_character_are_read_back(histories):
    writer = LineWriter()
    with tempfile.TemporaryFile() as stream:
        stream.write(writer.header(JournalHeader("r", "t", bytes(32), 1)))
        for seq, history in enumerate(histories):
            stream.write(writer.event(seq, "step_chunk", 1, b"", {"chunk": value_bytes(history)}, "llm"))
        stream.seek(0)
        events = read_lines(stream, "test").events
    assert [event.values for event in events] == [{"chunk": value_bytes(history)} for history in histories]


def damaged(lines: list[bytes], cuts: list[tuple[int, bytes]]) -> bytes:
    data = b"".join(lines)
    for at, piece in cuts:
        data = data[: at % (len(data) + 1)] + piece + data[at % (len(data) + 1) + len(piece) :]
    return data


@given(
    st.lists(EVENTS, min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=3),
)
def test_a_damaged_journal_is_a_prefix_or_a_named_error(events, cuts):
    writer = LineWriter()
    lines = [writer.header(JournalHeader("r", "t", bytes(32), 1))]
    for seq, (kind, time_us, facts, values, slot) in enumerate(events):
        inner = json.dumps(facts).encode()[1:-1]
        data = {name: value_bytes(value) for name, value in values.items()}
        lines.append(writer.event(seq, kind, time_us, inner, data, slot))

    def read(data: bytes) -> Any:
        with tempfile.TemporaryFile() as stream:
            stream.write(data)
            stream.seek(0)
            return read_lines(stream, "test").events

    whole = read(b"".join(lines))
    try:
        got = read(damaged(lines, cuts))
    except IsotraceError:
        return
    assert got == whole[: len(got)]
