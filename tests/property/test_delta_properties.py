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


@given(
    st.lists(st.tuples(st.integers(0, 5), STRINGS), max_size=30),
    st.integers(1, 8),
    st.integers(0, 300),
    st.sampled_from([0, 500, 10**6]),
)
def test_decoding_undoes_encoding(strings, slots, min_size, max_kept):
    encoder = DeltaEncoder(slots, min_size, max_kept)
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
def test_a_hostile_delta_is_refused_by_name(deltas):
    decoder = DeltaDecoder(slots=4, max_size=50)
    for delta in deltas:
        try:
            assert len(decoder.decode(*delta)) <= 50
        except RecordCorruptError:
            continue


def test_the_string_used_longest_ago_loses_its_slot():
    encoder = DeltaEncoder(slots=2, min_size=0)
    assert encoder.encode("a", b"1" * 200) == Delta(0, 0, 0, b"1" * 200)
    assert encoder.encode("b", b"2" * 200) == Delta(1, 0, 0, b"2" * 200)
    assert encoder.encode("a", b"1" * 200 + b"!") == Delta(0, 200, 0, b"!")
    assert encoder.encode("c", b"3" * 200) == Delta(1, 0, 0, b"3" * 200)
    assert encoder.encode("b", b"2" * 200) == Delta(0, 0, 0, b"2" * 200)


def test_strings_beyond_the_bytes_that_may_be_kept_push_out_older_ones():
    encoder = DeltaEncoder(max_kept=1000)
    assert encoder.encode("a", b"1" * 600) == Delta(0, 0, 0, b"1" * 600)
    assert encoder.encode("a", b"1" * 601) == Delta(0, 600, 0, b"1")
    assert encoder.encode("b", b"2" * 600) == Delta(0, 0, 0, b"2" * 600)
    assert encoder.encode("a", b"1" * 602) == Delta(0, 0, 0, b"1" * 602)
    assert encoder.encode("a", b"1" * 5000) == Delta(0, 0, 0, b"1" * 5000)


def test_histories_that_grow_side_by_side_under_one_key_each_cost_what_was_added():
    encoder, decoder = DeltaEncoder(), DeltaDecoder()
    histories = [b"%d" % number * 2000 for number in range(4)]
    for turn in range(50):
        number = turn * 7 % 4
        histories[number] += b"turn %d of %d" % (turn, number)
        delta = encoder.encode("llm", histories[number])
        assert delta is not None
        assert decoder.decode(*delta) == histories[number]
        if turn >= 4:
            assert delta.middle == b"turn %d of %d" % (turn, number)


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
    for slot, prefix, middle in ((0, 5, b"123456"), (1, 0, b"1" * 11)):
        with pytest.raises(RecordCorruptError, match="too large"):
            decoder.decode(slot, prefix, 0, middle)
    assert decoder.decode(0, 5, 0, b"12345") == b"ab-cd12345"
