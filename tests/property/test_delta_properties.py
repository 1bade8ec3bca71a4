"""Delta coding as algebra: decoding undoes encoding, and hostile deltas are refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.delta import Delta, DeltaDecoder, DeltaEncoder, common_prefix, common_suffix
from isotrace.errors import RecordCorruptError

PIECES = st.sampled_from([b"a", b"ab", b"\x00", b"x" * 64, b"y" * 63, b"xy" * 100])
STRINGS = st.lists(PIECES, max_size=8).map(b"".join)


@given(STRINGS, STRINGS)
def test_the_common_ends_are_the_longest_ones(a, b):
    prefix = common_prefix(a, b)
    assert a[:prefix] == b[:prefix]
    assert prefix == min(len(a), len(b)) or a[prefix] != b[prefix]
    limit = min(len(a), len(b)) - prefix
    suffix = common_suffix(a, b, limit)
    assert a[len(a) - suffix :] == b[len(b) - suffix :]
    assert suffix == limit or a[-suffix - 1] != b[-suffix - 1]


@given(st.lists(st.tuples(st.integers(0, 5), STRINGS), max_size=30), st.integers(1, 4), st.integers(0, 300))
def test_decoding_undoes_encoding(strings, slots, min_size):
    encoder = DeltaEncoder(slots, min_size)
    decoder = DeltaDecoder(slots)
    for key, data in strings:
        delta = encoder.encode(key, data)
        if len(data) < min_size:
            assert delta is None
        else:
            assert delta is not None
            assert decoder.decode(*delta) == data


NUMBERS = st.integers(-2, 5) | st.integers(-(2**63), 2**63)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=20)), max_size=20))
def test_a_hostile_delta_is_refused_and_never_grows_beyond_the_limit(deltas):
    decoder = DeltaDecoder(slots=4, max_size=50)
    kept: dict[int, int] = {}
    for delta in deltas:
        try:
            kept[delta[0]] = len(decoder.decode(*delta))
        except RecordCorruptError:
            continue
        assert sum(kept.values()) <= 50


def test_the_key_used_longest_ago_loses_its_slot():
    encoder = DeltaEncoder(slots=2, min_size=0)
    assert encoder.encode("a", b"1" * 200) == Delta(0, 0, 0, b"1" * 200)
    assert encoder.encode("b", b"2" * 200) == Delta(1, 0, 0, b"2" * 200)
    assert encoder.encode("a", b"1" * 200 + b"!") == Delta(0, 200, 0, b"!")
    assert encoder.encode("c", b"3" * 200) == Delta(1, 0, 0, b"3" * 200)
    assert encoder.encode("b", b"2" * 200) == Delta(0, 0, 0, b"2" * 200)


def test_a_history_that_grows_in_the_middle_costs_what_was_added():
    encoder = DeltaEncoder()
    head, tail = b'{"model":"m","messages":[' + b"x" * 1000, b'],"tools":[' + b"t" * 1000 + b"]}"
    encoder.encode("llm", head + tail)
    assert encoder.encode("llm", head + b',{"role":"user"}' + tail) == Delta(
        0, len(head), len(tail), b',{"role":"user"}'
    )


def test_a_delta_that_takes_a_byte_twice_or_grows_too_large_is_refused():
    decoder = DeltaDecoder(slots=2, max_size=10)
    decoder.decode(0, 0, 0, b"abcd")
    assert decoder.decode(0, 2, 2, b"-") == b"ab-cd"
    for prefix, suffix in ((3, 3), (6, 0), (0, 6)):
        with pytest.raises(RecordCorruptError, match="beyond the string"):
            decoder.decode(0, prefix, suffix, b"")
    decoder.decode(1, 0, 0, b"12345")
    for slot, prefix, middle in ((0, 5, b"x"), (1, 0, b"123456")):
        with pytest.raises(RecordCorruptError, match="too large"):
            decoder.decode(slot, prefix, 0, middle)
    assert decoder.decode(1, 0, 0, b"1") == b"1"
    assert decoder.decode(0, 5, 0, b"wxyz") == b"ab-cdwxyz"
