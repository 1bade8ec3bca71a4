"""A snapshot's bytes are `value_bytes(to_plain(value))`, whichever way they were written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from isotrace.canonical import value_bytes
from isotrace.plain import to_plain, to_plain_report
from isotrace.record.snapshot import snapshot, snapshot_params


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


@dataclass
class Point:
    x: Any


NUMBERS = (
    st.floats()
    | st.floats(-1e-3, 1e-3)
    | st.floats(1e15, 1e17)
    | st.sampled_from([1e16, 1e-4, 1e-5, 9999999999999998.0, -1e16, 5e-324, 1.7e308, -0.0, 0.0])
    | st.integers()
    | st.integers(2**53 - 2, 2**53 + 1)
)
TEXTS = st.text(st.characters(), max_size=6) | st.sampled_from(
    ["\x7f", "\u2028", "/", "\x00", '"', "null", "NaN"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    st.sampled_from([Level.LOW, Text("t"), UUID(int=5), datetime(2024, 1, 1, tzinfo=UTC), b"\xff", {3}]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(TEXTS | st.sampled_from(["$iso:int", "$", Text("key")]), inner, max_size=4),
        st.dictionaries(st.integers() | st.none() | st.booleans(), inner, max_size=2),
        inner.map(Point),
    ),
    max_leaves=20,
)
EXACT_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_the_bytes_are_the_value_bytes_of_the_plain_value(value):
    plain, losses = to_plain_report(value)
    got = snapshot(value)
    assert got.data == value_bytes(plain)
    assert got.losses == tuple(map(str, losses))


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES))
def test_params_are_snapshotted_as_the_dict_that_they_are(params):
    assert snapshot_params(params).data == value_bytes(to_plain(params))


@given(EXACT_JSON)
def test_json_is_kept_to_the_byte_and_not_marked(value):
    got = snapshot(value)
    assert got.data == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    assert not got.losses
    if '"$iso:' not in got.data.decode():
        assert not got.typed


def holds_more_than_json(value: Any) -> bool:
    if type(value) is dict:
        return any(type(key) is not str or key.startswith("$iso:") for key in value) or any(
            map(holds_more_than_json, value.values())
        )
    if type(value) is list:
        return any(map(holds_more_than_json, value))
    if type(value) is float:
        return not math.isfinite(value)
    if type(value) is int:
        return abs(value) >= 2**53
    if type(value) is str:
        return any("\ud800" <= char <= "\udfff" for char in value)
    return value is not None and type(value) is not bool


@given(VALUES)
def test_typed_says_whether_there_is_more_than_json(value):
    def keys_are_text(node: Any) -> bool:
        if isinstance(node, dict):
            return all(map(keys_are_text, node)) and all(map(keys_are_text, node.values()))
        if isinstance(node, list | tuple):
            return all(map(keys_are_text, node))
        return not isinstance(node, str) or not any("\ud800" <= char <= "\udfff" for char in node)

    if holds_more_than_json(value):
        assert snapshot(value).typed
    elif keys_are_text(value):
        assert not snapshot(value).typed
