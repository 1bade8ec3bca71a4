from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import numpy as np
import pytest

from isotrace import errors
from isotrace.canonical import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INT,
    MAX_NODES,
    canonical_bytes,
    canonical_bytes_exact,
    check,
    exact,
    fast,
    parse_json,
    value_bytes,
)

Writer = Callable[[Any], bytes]
WRITERS = pytest.mark.parametrize("write", [canonical_bytes, canonical_bytes_exact, value_bytes])


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Loud(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "LOUD"

    __str__ = __repr__


class Odd(str):
    """Equal to nothing but itself, so that a dict can hold its content twice."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Point(NamedTuple):
    x: int


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def dag(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return value


def cycle() -> dict[str, Any]:
    inner: list[Any] = [1]
    value = {"a": inner}
    inner.append(value)
    return value


# --- what is written ----------------------------------------------------------------


def test_value_bytes_keep_key_order_and_the_form_of_floats() -> None:
    value = {"z": 20.0, "a": [1, 1e16, 1e-7, -0.0], "ü": "\u2028"}
    assert value_bytes(value) == '{"z":20.0,"a":[1,1e+16,1e-07,-0.0],"ü":"\u2028"}'.encode()


@WRITERS
def test_subclasses_count_by_their_content_never_by_their_repr(write: Writer) -> None:
    value = {Loud("k"): [Colour.RED, Level.LOW, np.float64(0.5), Loud("text"), True]}
    assert write(value) == write({"k": ["red", 1, 0.5, "text", True]})


@WRITERS
def test_subclasses_of_containers_count_by_their_content(write: Writer) -> None:
    value: dict[str, Any] = defaultdict(list, {"a": OrderedDict(b=(1, 2))})
    assert write(value) == write({"a": {"b": [1, 2]}})


@WRITERS
@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, "", "x", [], {}, ()])
def test_a_value_may_be_a_scalar_or_empty(write: Writer, value: Any) -> None:
    assert parse_json(write(value)) == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    "value",
    [
        {"city": "Zürich", "n": 3, "deep": [{"ok": True}, None, ("a", 1)]},
        {"prices": [20.0, 19.99, 0.000012, 1e300, -0.0], "text": "😀"},
    ],
)
def test_ordinary_values_take_the_fast_way(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (
        canonical_bytes_exact(value),
        canonical_bytes_exact(value, digits=6),
        exact.value_bytes_exact(value),
    )

    def refuse(*args: Any, **options: Any) -> bytes:
        raise AssertionError("the exact writer was asked")

    monkeypatch.setattr(fast, "canonical_bytes_exact", refuse)
    monkeypatch.setattr(fast, "value_bytes_exact", refuse)
    assert (canonical_bytes(value), canonical_bytes(value, digits=6), value_bytes(value)) == expected


def test_keys_that_utf_16_orders_otherwise_take_the_exact_way() -> None:
    assert canonical_bytes({"\ufb33": 1, "😀": 2}) == '{"😀":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize("digits", [0, 15, -1])
def test_the_number_of_digits_is_bounded(digits: int) -> None:
    with pytest.raises(ValueError, match="1 to 14 places"):
        canonical_bytes([0.5], digits=digits)


# --- what is refused ----------------------------------------------------------------

REFUSED: dict[str, tuple[Any, type[errors.CanonicalizationError], str]] = {
    "nan": ({"a": [0.5, float("nan")]}, errors.NonFiniteError, "/a/1"),
    "infinity": ([float("inf")], errors.NonFiniteError, "/0"),
    "negative infinity, as a whole value": (float("-inf"), errors.NonFiniteError, ""),
    "numpy's nan": ({"x": np.float64("nan")}, errors.NonFiniteError, "/x"),
    "a large int": ({"id": MAX_INT + 1}, errors.IntegerRangeError, "/id"),
    "a large negative int": ([-MAX_INT - 1], errors.IntegerRangeError, "/0"),
    "a lone surrogate in a value": ({"a": ["x", "\ud800"]}, errors.InvalidUnicodeError, "/a/1"),
    "a lone surrogate in a key": ({"a": {"\udfff": 1}}, errors.InvalidUnicodeError, "/a/\\udfff"),
    "an int as a key": ({"a": {1: 2}}, errors.NonStringKeyError, "/a"),
    "None as a key": ({None: 2}, errors.NonStringKeyError, ""),
    "keys that can't be sorted": ({"a": {1: 2, "b": 3}}, errors.NonStringKeyError, "/a"),
    "a tuple as a key": ([{(1, 2): 3}], errors.NonStringKeyError, "/0"),
    "bytes": ({"a/b": {"c~d": b""}}, errors.UnsupportedTypeError, "/a~1b/c~0d"),
    "a set": ([{1}], errors.UnsupportedTypeError, "/0"),
    "a named tuple": ([Point(1)], errors.UnsupportedTypeError, "/0"),
    "an object": (object(), errors.UnsupportedTypeError, ""),
    "a numpy array": ({"v": np.zeros(2)}, errors.UnsupportedTypeError, "/v"),
    "a numpy int": ({"v": np.int64(2)}, errors.UnsupportedTypeError, "/v"),
    "a complex number": ([1j], errors.UnsupportedTypeError, "/0"),
    "a cycle": (cycle(), errors.CycleError, "/a/1"),
    "two keys of one content": ({"a": {Odd("k"): 1, Odd("k"): 2}}, errors.DuplicateKeyError, "/a/k"),
    "a level too many": (nested(MAX_DEPTH + 1), errors.LimitError, "/0" * MAX_DEPTH),
    "100,000 levels": ({"deep": nested(100_000)}, errors.LimitError, "/deep" + "/0" * (MAX_DEPTH - 1)),
}


@WRITERS
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_refused_by_name_and_place(write: Writer, name: str) -> None:
    value, error, pointer = REFUSED[name]
    with pytest.raises(error) as caught:
        write(value)
    assert (type(caught.value), caught.value.pointer) == (error, pointer)
    str(caught.value).encode()
    with pytest.raises(error):
        check(value)


MANY: dict[str, Callable[[], Any]] = {
    "2^40 nodes by sharing": lambda: dag(40),
    "a list too long": lambda: [None] * MAX_NODES,
    "a list of lists too long": lambda: [[0] * 1000] * 1000,
}

LONG: dict[str, Callable[[], Any]] = {
    "a string too long": lambda: {"a": "x" * (MAX_BYTES + 1)},
    "a string too long in UTF-8": lambda: ["é" * (MAX_BYTES // 2 + 1)],
    "a key too long": lambda: {"x" * (MAX_BYTES + 1): 1},
    "one string many times": lambda: ["x" * 1_000_000] * 100_000,
    "one string under many keys": lambda: dict.fromkeys(map(str, range(1000)), "x" * 1_000_000),
    "one key in many objects": lambda: [{"x" * 1_000_000: 1}] * 10_000,
    "one string on many levels": lambda: wide(60 * 1024 * 1024),
}


def wide(chars: int) -> list[Any]:
    text = "x" * chars
    value: list[Any] = [text]
    for _ in range(100):
        value = [text, value]
    return value


@pytest.mark.parametrize("name", MANY)
def test_what_has_too_many_nodes_is_refused(name: str) -> None:
    value = MANY[name]()
    with pytest.raises(errors.LimitError):
        canonical_bytes(value)


@pytest.mark.parametrize("name", LONG)
def test_what_is_too_long_is_refused_before_it_is_built(name: str) -> None:
    value = LONG[name]()
    for write in (canonical_bytes, value_bytes):
        with pytest.raises(errors.LimitError) as caught:
            write(value)
        assert len(str(caught.value)) < 1000


@WRITERS
def test_the_limits_themselves_are_within(write: Writer) -> None:
    assert write(nested(MAX_DEPTH)) == b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert len(write("x" * (MAX_BYTES - 2))) == MAX_BYTES


def test_a_million_nodes_are_within() -> None:
    assert len(canonical_bytes([0] * (MAX_NODES - 1))) == 2 * (MAX_NODES - 1) + 1


def test_a_caller_with_hardly_any_stack_left_gets_the_same_bytes() -> None:
    value = {"b": nested(100), "a": [0.5, {"c": ["d"]}]}
    expected = canonical_bytes(value), value_bytes(value)

    def at_the_bottom(frames: int) -> tuple[bytes, bytes]:
        return at_the_bottom(frames - 1) if frames else (canonical_bytes(value), value_bytes(value))

    depth = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    assert at_the_bottom(sys.getrecursionlimit() - depth - 60) == expected


# --- the strict reader --------------------------------------------------------------

UNREADABLE: dict[str, tuple[bytes | str, type[errors.CanonicalizationError], str | None]] = {
    "a key twice": (b'{"a": {"b": 1, "c": 2, "b": 3}}', errors.DuplicateKeyError, "/a/b"),
    "a key twice, spelled otherwise": (b'[{"a": 1, "\\u0061": 2}]', errors.DuplicateKeyError, "/0/a"),
    "NaN": (b'{"a": NaN}', errors.NonFiniteError, "/a"),
    "-Infinity": (b"-Infinity", errors.NonFiniteError, ""),
    "1e400": (b"[1, 1e400]", errors.NonFiniteError, "/1"),
    "not UTF-8": (b'["\xff"]', errors.InvalidUnicodeError, None),
    "a surrogate as UTF-8": (b'["\xed\xa0\x80"]', errors.InvalidUnicodeError, None),
    "a lone surrogate by escape": (b'{"k": "\\ud83d"}', errors.InvalidUnicodeError, "/k"),
    "a pair the wrong way round": (b'["\\ude00\\ud83d"]', errors.InvalidUnicodeError, "/0"),
    "a lone surrogate in a text": ('["\ud800"]', errors.InvalidUnicodeError, "/0"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), errors.InvalidUnicodeError, None),
    "a level too many": (b"[" * 129 + b"]" * 129, errors.LimitError, "/0" * 128),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, errors.LimitError, None),
    "100,000 levels, never closed": (b'{"a":' * 100_000, errors.LimitError, None),
    "too many nodes": (b"[" + b"0," * MAX_NODES + b"0]", errors.LimitError, ""),
    "far too many nodes": (b"[" + b"[]," * 3 * MAX_NODES + b"0]", errors.LimitError, None),
    "an integer of 5000 digits": (b"[" + b"9" * 5000 + b"]", errors.LimitError, None),
    "nothing": (b"", errors.JsonSyntaxError, None),
    "a control character": (b'["\n"]', errors.JsonSyntaxError, None),
    "a comment": (b"{} // x", errors.JsonSyntaxError, None),
    "single quotes": (b"{'a': 1}", errors.JsonSyntaxError, None),
    "a leading zero": (b"[01]", errors.JsonSyntaxError, None),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_plain_json_is_refused_by_name_and_place(name: str) -> None:
    data, error, pointer = UNREADABLE[name]
    with pytest.raises(error) as caught:
        parse_json(data)
    assert (type(caught.value), caught.value.pointer) == (error, pointer)


def test_a_syntax_error_says_where() -> None:
    with pytest.raises(errors.JsonSyntaxError, match="line 2, column 8"):
        parse_json('{\n  "a": ,\n}')


def test_a_text_may_be_as_long_as_allowed_and_no_longer() -> None:
    assert parse_json(b'"abc"', max_bytes=5) == "abc"
    with pytest.raises(errors.LimitError):
        parse_json(b'"abc"', max_bytes=4)


def test_the_reader_keeps_large_integers_exactly_and_key_order() -> None:
    value = parse_json('{"id": 12345678901234567890, "b": 1.0, "a": "\\ud83d\\ude00 ü"}')
    assert repr(value) == "{'id': 12345678901234567890, 'b': 1.0, 'a': '😀 ü'}"


def test_a_fault_beside_a_large_integer_is_still_found() -> None:
    with pytest.raises(errors.NonFiniteError):
        parse_json("[12345678901234567890, 1e999]")


def test_commas_in_text_are_no_nodes() -> None:
    text = "," * (3 * MAX_NODES)
    assert parse_json(f'["{text}", 1]') == [text, 1]


def test_reading_with_hardly_any_stack_left_is_a_named_error_or_works() -> None:
    def at_the_bottom(frames: int) -> Any:
        return at_the_bottom(frames - 1) if frames else parse_json(b"[" * 100 + b"]" * 100)

    depth = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    try:
        value = at_the_bottom(sys.getrecursionlimit() - depth - 60)
    except errors.LimitError as error:
        assert "stack" in str(error)  # noqa: PT017  # either way is right
    else:
        assert value == nested(100)
