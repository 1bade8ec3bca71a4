"""What compiled code writes for sealing is, byte for byte, what the standard library's writers give."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isotrace import digests, hashing
from isotrace.canonical import MAX_DEPTH, MAX_INT, MAX_NODES, canonical_bytes_exact, value_bytes
from isotrace.minted import PROVIDERS, may_hold_provider_object, strip_volatile

awkward = st.sampled_from(
    [1e-7, 1e-6, 5e-7, 1e-5, 1e15, 1e16, 1e20, 1e21, 1e22, 1e300, 2.0**53, 0.0, -0.0, 20.0, 0.1234565]
)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e9, 1e9) | awkward
integers = st.integers(-MAX_INT, MAX_INT) | st.integers(-3, 3)
# Characters on both sides of the surrogates, whose order differs between UTF-16 and code points.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(
    'a"\\/\x00\x1f\x7f\u2028\ue000\uffff\U00010000😀', max_size=4
)
names = texts | st.sampled_from(["type", "choices", "output", "outputs", "id", "usage"])
scalars = st.none() | st.booleans() | integers | floats | texts
values = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=5) | st.dictionaries(names, children, max_size=5),
    max_leaves=25,
)


def outcome_of(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        return type(error)


def by_the_standard_library(label: str, value: Any) -> str:
    return hashing.H(label, canonical_bytes_exact(value, digits=6)).hex()


def assert_same_digests(data: bytes) -> None:
    value = orjson.loads(data)
    for digest, label, seen in (
        (digests.params_digest, "isotrace/v1/params", value),
        (digests.outcome_digest, "isotrace/v1/outcome", strip_volatile(value)),
    ):
        assert outcome_of(digest, data) == outcome_of(by_the_standard_library, label, seen)


@given(values)
@example({"\ue000": 1, "😀": 2})
@example({"\uffff": "😀", "\U00010000": "\ue000"})
@example({"b": [1.5, -0.0], "a": {"z": 0.1 + 0.2, "": 1e-7}})
def test_digests_of_value_bytes_are_those_of_the_value(value: Any) -> None:
    assert_same_digests(value_bytes(value))


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_how_json_spells_a_value_does_not_matter(value: Any, ascii_only: bool, indent: int | None) -> None:
    assert_same_digests(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode())


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2.50}',
        b"-0",
        b"[-0.0,0e5,1E2,1.10]",
        b"[9007199254740991,-9007199254740991]",
        b"[9007199254740992]",
        b"[-9007199254740992]",
        b"[18446744073709551615]",
        b"[18446744073709551616]",
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * MAX_DEPTH + b"1.0" + b"}" * MAX_DEPTH,
        b'{"a":' * (MAX_DEPTH + 1) + b"1.0" + b"}" * (MAX_DEPTH + 1),
        b"[" + b"[]," * 400 + b"[]]",
        b"[" + b"1," * (MAX_NODES - 2) + b"1]",
        b"[" + b"1," * (MAX_NODES - 1) + b"1]",
    ],
    ids=lambda data: f"{data[:30]!r}, {len(data)} bytes",
)
def test_what_is_at_the_limits_or_beyond_has_the_same_digest_or_the_same_error(data: bytes) -> None:
    assert_same_digests(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1",
        b"[1]]",
        b"[NaN]",
        b"[1e400]",
        b"[1" + b"0" * 400 + b"]",
        b'["\\ud800"]',
        b'["\xff"]',
        b'["\n"]',
        b"[01]",
        b"[1.]",
        b"[.5]",
        b"[+1]",
        b"[" * 2000 + b"]" * 2000,
    ],
    ids=lambda data: f"{data[:30]!r}",
)
def test_what_is_no_json_has_no_digest(data: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        digests.params_digest(data)


facts = st.dictionaries(
    texts,
    scalars
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.integers(0, 9) | texts | floats, max_size=3)
    | st.dictionaries(texts, values, max_size=2),
    max_size=6,
)


@given(facts)
@example({"cost_cents": -0.0, "lineage": [0, "eu"], "params": {"commit": "00"}})
@example({"\ue000": 1, "😀": 2})
@example({"n": 2**53})
@example({"n": float("nan")})
@example({"s": "\ud800"})
def test_leaf_data_is_that_of_hashing(envelope: dict[str, Any]) -> None:
    assert outcome_of(digests.leaf_data, envelope) == outcome_of(hashing.leaf_data, envelope)


MADE_BY_PROVIDERS: list[dict[str, Any]] = [
    {"id": "chatcmpl-1", "choices": [{"message": {"content": "hi"}}], "usage": {"n": 1}},
    {"role": "assistant", "tool_calls": [{"id": "call_1"}]},
    {"object": "response", "output": [{"id": "msg_1"}], "usage": {}},
    {"type": "response.created", "response": {"id": "resp_1"}},
    {"type": "message", "role": "assistant", "content": [], "usage": {}},
    {"type": "message_start", "message": {"id": "msg_1"}},
    {"candidates": [{"content": {}}], "usageMetadata": {}},
    {"object": "conversation.response", "outputs": [{"id": "1"}], "usage": {}},
]


def test_there_is_an_example_of_each_provider() -> None:
    fitting = [next(p.name for p in PROVIDERS if p.fits(made)) for made in MADE_BY_PROVIDERS]
    assert fitting == [provider.name for provider in PROVIDERS]


@pytest.mark.parametrize("made", MADE_BY_PROVIDERS, ids=[provider.name for provider in PROVIDERS])
@pytest.mark.parametrize("wrap", [lambda made: made, lambda made: {"value": [made]}], ids=["bare", "wrapped"])
def test_what_a_provider_made_is_seen_in_its_bytes(made: Any, wrap: Callable[[Any], Any]) -> None:
    data = value_bytes(wrap(made))
    escaped = "".join(f"\\u{ord(char):04x}" if char.isalpha() else char for char in data.decode()).encode()
    assert may_hold_provider_object(data)
    assert may_hold_provider_object(escaped)
    assert_same_digests(data)
    assert_same_digests(escaped)


@given(values)
def test_bytes_without_markers_are_never_stripped(value: Any) -> None:
    assert may_hold_provider_object(value_bytes(value)) or strip_volatile(value) is value
