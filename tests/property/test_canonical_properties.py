"""Canonical form as algebra: idempotent, injective up to JSON's equality, one form by every writer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from isotrace.canonical import (
    MAX_INT,
    canonical_bytes,
    canonical_bytes_exact,
    check,
    parse_json,
    value_bytes,
)
from isotrace.errors import CanonicalizationError
from isotrace.hashing import explain_normalization, normalize

finite = st.floats(allow_nan=False, allow_infinity=False)
# Near the places where Python and ECMAScript write numbers differently, and near rounding edges.
awkward = st.sampled_from([1e-7, 1e-6, 1e-5, 1e-4, 1e15, 1e16, 1e20, 1e21, 1e22, 5e-7, 2.0**53, 0.0, -0.0])
large = st.floats(1e8, 1e14)
halves = st.integers(-(10**9), 10**9).map(lambda n: n / 128)
floats = finite | large | halves | awkward | awkward.map(lambda x: -x * 1.1)
integers = st.integers(-MAX_INT, MAX_INT)
# Plenty of characters above the surrogates, whose order differs between UTF-16 and code points.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(
    "a\ue000\uffff\U00010000😀", max_size=4
)
scalars = st.none() | st.booleans() | integers | floats | texts


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(children, max_size=5)
    return lists | lists.map(tuple) | st.dictionaries(texts, children, max_size=5)


values = st.recursive(scalars, containers, max_leaves=25)

# Also what JSON does not have.
anything = st.recursive(
    scalars
    | st.floats()
    | st.integers()
    | st.text()
    | st.binary(max_size=3)
    | st.sets(st.integers(), max_size=2),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(texts | st.integers() | st.text(), children, max_size=4)
    ),
    max_leaves=12,
)


def read_canonical(data: bytes) -> Any:
    """Canonical bytes as RFC 8785 means them: every number is a double.

    `parse_json` keeps large integers exactly, because a foreign file may mean them.
    """
    return json.loads(data, parse_int=lambda text: int(text) if abs(int(text)) <= MAX_INT else float(text))


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: one type of number, booleans are none, lists by position, dicts by key."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and bool(one == other)


@given(values)
def test_fast_and_exact_writer_and_rfc8785_agree(value: Any) -> None:
    assert canonical_bytes(value) == canonical_bytes_exact(value) == rfc8785.dumps(value)


@given(values)
def test_canonical_form_is_idempotent(value: Any) -> None:
    data = canonical_bytes(value)
    assert canonical_bytes(read_canonical(data)) == data


@given(values)
def test_canonical_form_loses_nothing_but_types_that_json_does_not_tell_apart(value: Any) -> None:
    assert same(read_canonical(canonical_bytes(value)), value)


@given(values, values)
@example(1, True)
@example(0.0, False)
@example([], {})
@example("1", 1)
@example({"a": 1.0, "b": 2}, {"b": 2.0, "a": 1})
def test_canonical_form_is_injective_up_to_json_equality(one: Any, other: Any) -> None:
    assert (canonical_bytes(one) == canonical_bytes(other)) == same(one, other)


@given(st.dictionaries(texts, scalars, min_size=2))
def test_key_order_does_not_matter(value: dict[str, Any]) -> None:
    assert canonical_bytes(dict(reversed(value.items()))) == canonical_bytes(value)


@given(anything)
def test_both_writers_accept_and_refuse_the_same_values(value: Any) -> None:
    outcomes: list[tuple[type | None, Any]] = []
    for write in (canonical_bytes, canonical_bytes_exact, lambda value: bool(value_bytes(value))):
        try:
            outcomes.append((None, write(value)))
        except CanonicalizationError as error:
            outcomes.append((type(error), None if error.pointer is None else str(error)))
    by_fast, by_exact, by_values = outcomes
    assert by_fast == by_exact
    # Only the order in which faults are met may differ, where there are several.
    assert (by_fast[0] is None) == (by_values[0] is None)


@given(anything)
def test_whatever_rfc8785_accepts_has_the_same_form_here(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, AttributeError, TypeError):
        return
    assert canonical_bytes(value) == expected


@given(values)
def test_value_bytes_are_what_the_standard_library_writes(value: Any) -> None:
    assert value_bytes(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@given(values)
def test_value_bytes_are_read_back_exactly(value: Any) -> None:
    back = parse_json(value_bytes(value))
    assert repr(back) == repr(json.loads(json.dumps(value)))


@given(values)
def test_rounding_while_writing_is_rounding_before_writing(value: Any) -> None:
    expected = canonical_bytes_exact(normalize(value))
    assert canonical_bytes(value, digits=6) == canonical_bytes_exact(value, digits=6) == expected


@given(values)
def test_normalization_is_idempotent_and_explained(value: Any) -> None:
    once = normalize(value)
    assert repr(normalize(once)) == repr(once)
    assert bool(explain_normalization(value)) == (repr(once) != repr(value))


@given(finite)
def test_rounding_is_half_to_even_on_the_binary_value(value: float) -> None:
    assert repr(normalize(value)) == repr(round(value, 6) + 0.0)
    assert math.copysign(1, normalize(-abs(value) * 1e-320)) == 1


@given(st.text() | st.binary())
def test_the_reader_gives_a_plain_value_or_a_named_error(data: str | bytes) -> None:
    try:
        value = parse_json(data)
    except CanonicalizationError:
        return
    assert repr(parse_json(data)) == repr(json.loads(data))
    if "9" * 15 not in repr(value):
        check(value)


@given(values, st.data())
def test_a_changed_text_is_never_read_as_the_same_bytes_with_another_meaning(
    value: Any, data: st.DataObject
) -> None:
    text = bytearray(canonical_bytes(value))
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = parse_json(bytes(text))
        form = canonical_bytes(other)
    except CanonicalizationError:
        return
    assert (form == canonical_bytes(value)) == same(other, value)


@pytest.mark.parametrize("digits", [1, 2, 6, 9, 14])
@given(value=floats)
def test_every_number_of_digits_is_rounded_alike(digits: int, value: float) -> None:
    assert canonical_bytes([value], digits=digits) == canonical_bytes_exact([value], digits=digits)
