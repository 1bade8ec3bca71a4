from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from isotrace import jsondiff
from isotrace.errors import FieldError, LimitError
from isotrace.jsondiff import (
    MISSING,
    Change,
    diff_values,
    pointer_escape,
    pointer_get,
    pointer_join,
    pointer_split,
)

DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "m~n": 8,
    "~1": 9,
    "deep": [{"x": None}],
    "0": "key",
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/m~0n", 8),
        ("/~01", 9),
        ("/deep/0/x", None),
        ("/0", "key"),
    ],
)
def test_a_pointer_finds_what_stands_there(pointer: str, value: Any) -> None:
    assert pointer_get(DOCUMENT, pointer) == value
    assert pointer_join(pointer_split(pointer)) == pointer


@pytest.mark.parametrize(
    "pointer",
    [
        "/x",
        "/foo/2",
        "/foo/-",
        "/foo/-1",
        "/foo/00",
        "/foo/01",
        "/foo/٣",
        "/foo/bar",
        "/a~1b/c",
        "/foo/9" * 99,
    ],
)
def test_where_nothing_stands_is_missing_which_is_not_none(pointer: str) -> None:
    assert pointer_get(DOCUMENT, pointer) is MISSING
    assert MISSING is not None
    assert not MISSING


def test_what_is_no_pointer_is_refused() -> None:
    with pytest.raises(FieldError):
        pointer_get(DOCUMENT, "foo")


def test_tokens_are_escaped() -> None:
    assert pointer_escape("~/~1") == "~0~1~01"
    assert pointer_join(["a/b", 0, "~"]) == "/a~1b/0/~0"


def test_missing_stays_the_one_object() -> None:
    assert copy.deepcopy([MISSING])[0] is MISSING
    assert copy.copy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert repr(MISSING) == "MISSING"


def test_changes_come_in_the_order_of_the_expected_value() -> None:
    expected = {"z": 1, "city": "Paris", "gone": None, "stops": [1, {"t": 1.5}, 3]}
    actual = {"new": 0, "city": "Rome", "z": 1.0, "stops": [1, {"t": 2.5}]}
    assert diff_values(expected, actual) == [
        Change("/city", "Paris", "Rome"),
        Change("/gone", None, MISSING),
        Change("/stops/1/t", 1.5, 2.5),
        Change("/stops/2", 3, MISSING),
        Change("/new", MISSING, 0),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (0.0, -0.0), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (None, None), ([], ())],
)
def test_what_json_does_not_tell_apart_is_no_change(one: Any, other: Any) -> None:
    assert diff_values(one, other) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), (0, None), ("1", 1), ([], {}), ({}, None), ("", None), ([1], [[1]])],
)
def test_what_json_tells_apart_is_a_change(one: Any, other: Any) -> None:
    assert diff_values(one, other)
    assert diff_values({"a": [one]}, {"a": [other]})[0].pointer.startswith("/a/0")


def test_a_change_of_the_whole_value_has_the_empty_pointer() -> None:
    assert diff_values({"a": 1}, [1]) == [Change("", {"a": 1}, [1])]
    assert diff_values(1, 2) == [Change("", 1, 2)]


def test_the_number_of_changes_is_bounded() -> None:
    changes = diff_values(list(range(1000)), list(range(1, 1001)), limit=5)
    assert [change.pointer for change in changes] == ["/0", "/1", "/2", "/3", "/4"]


def test_depth_and_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsondiff, "MAX_NODES", 10_000)

    def deep() -> list[Any]:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    def shared() -> list[Any]:
        value: list[Any] = []
        for _ in range(40):
            value = [value, value]
        return value

    with pytest.raises(LimitError):
        diff_values(deep(), deep())
    with pytest.raises(LimitError):
        diff_values(shared(), shared())
    same = shared()
    assert diff_values({"a": same}, {"a": same}) == []
