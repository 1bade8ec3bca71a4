"""`to_plain` and `from_plain` as algebra: what goes in comes out, and what comes out is canonical."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isotrace.canonical import canonical_bytes, check, value_bytes
from isotrace.errors import RestoreError
from isotrace.plain import from_plain, to_plain, to_plain_report

OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXTS = st.text(st.characters(), max_size=8)
SURROGATES = st.lists(st.sampled_from(["\ud800", "\udcff", "\\", "\\ud800", "u", "a", "😀"]), max_size=6).map(
    "".join
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**60), 2**60),
    st.floats(),
    TEXTS,
    SURROGATES,
    st.sampled_from(["$iso:int", "$iso:", "$iso:object"]),
    st.binary(max_size=8),
    st.decimals(),
    st.datetimes(),
    st.datetimes(timezones=OFFSETS | st.just(UTC)),
    st.dates(),
    st.times(),
    st.times(timezones=OFFSETS),
    st.timedeltas(),
)
HASHABLE = st.recursive(
    # A signalling NaN can't be hashed.
    SCALARS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(TEXTS | SURROGATES | st.sampled_from(["$iso:int", "$iso:x"]), inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type, content and order; NaN equals NaN, and an aware time its moment."""
    if isinstance(a, set | frozenset):
        return (
            isinstance(b, set | frozenset) and len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, Decimal):
        return str(a) == str(b)
    if isinstance(a, datetime):
        return a == b and (a.tzinfo is None) is (b.tzinfo is None)
    return a == b


@given(VALUES)
def test_every_tagged_value_comes_back(value):
    plain, losses = to_plain_report(value)
    assert losses == []
    assert same(from_plain(plain), value)


@given(VALUES)
def test_plain_values_are_what_the_canonical_form_accepts(value):
    plain = to_plain(value)
    check(plain)
    canonical_bytes(plain)


@given(VALUES)
def test_a_plain_value_without_tags_is_left_as_it_is(value):
    plain = to_plain(value)
    again = to_plain(plain)
    if b'"$iso:' not in value_bytes(plain):
        assert again == plain
    # A tag in the content is the caller's own key, and comes back as such.
    assert same(from_plain(again), plain)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            TEXTS
            | st.sampled_from(
                [
                    f"$iso:{name}"
                    for name in (
                        *("int", "float", "str", "bytes", "decimal", "datetime", "date", "time"),
                        *("timedelta", "set", "dict", "object", "id", "erased", "unheard-of"),
                    )
                ]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_untrusted_plain_data_is_read_or_refused_by_name_with_a_pointer(value):
    pointers = []
    for wrapped in (value, [value]):
        try:
            from_plain(wrapped)
        except RestoreError as error:
            pointers.append(error.pointer or "")
    assert pointers in ([], [pointers[0], "/0" + pointers[0]] if pointers else [])


@given(st.dates(), st.times(), st.timedeltas())
def test_dates_times_and_spans_come_back(day, moment, span):
    assert from_plain(to_plain({"d": day, "t": moment, "s": span})) == {"d": day, "t": moment, "s": span}
    assert type(from_plain(to_plain(day))) is date
    assert type(from_plain(to_plain(moment))) is time
