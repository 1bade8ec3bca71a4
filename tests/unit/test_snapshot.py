"""Snapshots of what is large, deep, shared or odd: bounded, never an error, never another value's bytes."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from isotrace.canonical import MAX_BYTES, MAX_DEPTH, MAX_NODES, check, value_bytes
from isotrace.plain import Conversion, to_plain
from isotrace.record import snapshot as module
from isotrace.record.snapshot import JSON, NOT_JSON, json_form, snapshot, snapshot_params


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


@pytest.fixture
def only_the_fast_way(monkeypatch):
    def refuse(*_):
        raise AssertionError("this value took the slow way")

    monkeypatch.setattr(Conversion, "run", refuse)


@pytest.mark.usefixtures("only_the_fast_way")
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        5,
        -0.0,
        1e-4,
        "text",
        "€ \x7f \u2028 😀",
        "costs $5, not $iso:5",
        {"price": "$iso", "$": 1},
        {"a": [1, {"b": (2.5, None)}]},
        {},
        [],
        (),
        {"": {"": {}}},
        2**53 - 1,
        nested(MAX_DEPTH),
        [[] for _ in range(1000)],
        [{f"k{n}": n} for n in range(1000)],
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_is_written_the_fast_way(value):
    got = snapshot(value)
    assert got.data == value_bytes(value)
    assert got.losses == ()
    assert got.typed is (isinstance(value, tuple) or "(" in str(value))


def test_the_params_of_a_call_are_as_they_were_before_it():
    params = {"items": [1, 2], "options": {"deep": {"er": []}}}
    got = snapshot_params(params)
    params["items"].append(3)  # type: ignore[attr-defined]  # a list, as above
    params["options"]["deep"]["er"].append(1)  # type: ignore[index]  # a dict, as above
    assert got.data == b'{"items":[1,2],"options":{"deep":{"er":[]}}}'


def test_one_param_that_cannot_be_kept_leaves_the_others():
    got = snapshot_params({"a": 1, "connection": object(), "b": np.array([1.5]), "c": nested(200)})
    assert got.data.startswith(b'{"a":1,"connection":{"$iso:object":"builtins.object"},"b":[1.5],"c":')
    assert got.losses[0] == "object at /connection: builtins.object"
    assert [loss.split(" at ")[0] for loss in got.losses] == ["object", "depth"]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 200, 300, 100_000])
def test_what_is_too_deep_is_cut(depth):
    got = snapshot(nested(depth))
    assert len(got.losses) == 1
    assert got.losses[0].startswith("depth at /")


def test_a_cycle_is_cut():
    value: dict[str, Any] = {"a": 1}
    value["self"] = [value]
    got = snapshot(value)
    assert got.data == b'{"a":1,"self":[{"$iso:object":"builtins.dict"}]}'
    assert got.losses == ("cycle at /self/0: builtins.dict",)


def test_a_value_of_2_to_the_40_nodes_is_cut_in_little_memory():
    value: Any = ["x"]
    for _ in range(40):
        value = [value, value]
    tracemalloc.start()
    got = snapshot({"dag": value, "b": 1})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.data == b'{"dag":{"$iso:object":"builtins.list"},"b":1}'
    assert peak < 100 * 1024 * 1024


def test_a_string_that_stands_in_many_places_is_not_written_out_beyond_the_limit():
    text = "x" * (1024 * 1024)
    value = {"texts": [text] * 500, "b": 1}
    keys = {"dicts": [{text: n} for n in range(500)], "b": 1}
    for shared, kept in ((value, "texts"), (keys, "dicts")):
        tracemalloc.start()
        got = snapshot(shared)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert got.data == b'{"%b":{"$iso:object":"builtins.list"},"b":1}' % kept.encode()
        assert got.losses == (f"size at /{kept}: builtins.list",)
        assert peak < 4 * MAX_BYTES


def test_the_limits_are_those_of_the_canonical_form():
    largest = ["x" * (MAX_BYTES - 4)]
    got = snapshot(largest)
    assert len(got.data) == MAX_BYTES
    assert got.losses == ()
    assert snapshot(["x" * (MAX_BYTES - 3)]).losses == ("size at /0: builtins.str",)
    assert snapshot(["\x01" * (MAX_BYTES // 5)]).losses == ("size at /0: builtins.str",)
    assert snapshot([0] * (MAX_NODES - 1)).losses == ()
    assert snapshot([0] * MAX_NODES).losses == ("size at the top: builtins.list",)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [1.0, float("inf")],
        1e16,
        [1e-5],
        5e-324,
        -1e-7,
        2**53,
        {"$iso:int": "5"},
        {"a": {"$iso:set": []}},
        {1: 2},
        {("a",): 1},
        {b"a": 1},
        {None: 1},
        "\ud800",
        {"\udc80": "x"},
        b"\x00",
        {1, 2},
        "$iso:",
    ],
    ids=str,
)
def test_what_orjson_would_write_differently_is_written_as_the_contract_says(value):
    got = snapshot(value)
    assert got.data == value_bytes(to_plain(value))
    check(to_plain(value))
    assert got.losses == ()


def test_a_value_that_another_thread_changes_is_kept_in_some_state():
    shared: dict[str, Any] = {str(n): [n] for n in range(500)}
    stop = threading.Event()

    def change() -> None:
        n = 0
        while not stop.is_set():
            shared[f"new{n}"] = n
            shared.pop(f"new{n - 20}", None)
            n += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            assert snapshot(shared).losses == ()
            assert json_form(shared) in (NOT_JSON, JSON)
            assert json_form([shared]) in (NOT_JSON, JSON)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("key", [1, None, ("a",), 1.5])
def test_keys_that_are_no_text_are_for_the_slow_way_wherever_they_stand(key):
    value = [{key: 1}] * 200
    assert json_form(value) == NOT_JSON
    assert snapshot(value).data == value_bytes(to_plain(value))


def test_an_object_reads_as_what_it_is():
    assert repr(snapshot([1])) == "Snapshot(b'[1]', losses=(), typed=False)"
    assert module.Snapshot(b"1").losses == ()
