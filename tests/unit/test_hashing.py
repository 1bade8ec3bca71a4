from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

import pytest

from isotrace import hashing
from isotrace.canonical import canonical_bytes
from isotrace.errors import (
    CycleError,
    IntegerRangeError,
    InvalidUnicodeError,
    LimitError,
    NonFiniteError,
    UnsupportedTypeError,
)
from isotrace.hashing import H, Rounded, explain_normalization, normalize, step_hash

STEP: dict[str, Any] = {
    "skill_name": "book",
    "params_digest": "a" * 64,
    "status": "success",
    "outcome_category": "SUCCESS",
    "outcome_code": None,
    "retry_count": 0,
}


# --- domain separation --------------------------------------------------------------


def test_h_separates_the_label_from_the_parts() -> None:
    assert H("isotrace/v1/path", b"ab", b"c") == sha256(b"isotrace/v1/path\0abc").digest()
    assert H("isotrace/v1/path", b"x") != H("isotrace/v1/pathx", b"")


def test_h_refuses_a_label_that_could_reach_into_the_parts() -> None:
    with pytest.raises(ValueError, match="NUL"):
        H("isotrace\0v1", b"")
    with pytest.raises(ValueError, match="ascii"):
        H("größe", b"")


def test_params_and_outcome_of_one_content_have_different_digests() -> None:
    assert hashing.params_digest({"value": 1}) != hashing.outcome_digest({"value": 1})


# --- normalisation ------------------------------------------------------------------


def test_normalization_rounds_floats_and_nothing_else() -> None:
    value = {"a": 1.23456789, "b": [-0.0, (4.9e-7, 7)], "c": True, "d": None, "e": "1.23456789", 3: b"x"}
    expected = {"a": 1.234568, "b": [0.0, (0.0, 7)], "c": True, "d": None, "e": "1.23456789", 3: b"x"}
    assert repr(normalize(value)) == repr(expected)


def test_normalization_leaves_the_argument_as_it_was() -> None:
    value = {"a": [1.23456789]}
    normalize(value)["a"].append(2)
    assert value == {"a": [1.23456789]}


def test_normalization_keeps_what_is_not_finite_for_the_writer_to_refuse() -> None:
    assert repr(normalize([float("nan"), float("inf")])) == "[nan, inf]"
    with pytest.raises(NonFiniteError):
        hashing.params_digest({"a": float("nan")})


def test_the_explanation_lists_what_was_rounded_away() -> None:
    value = {"a/b": [0.1, 0.1234567], "zero": -0.0, "n": 1, "same": 2.5}
    assert explain_normalization(value) == [
        Rounded("/a~1b/1", 0.1234567, 0.123457),
        Rounded("/zero", -0.0, 0.0),
    ]


def test_normalization_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "MAX_NODES", 10_000)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(LimitError):
        normalize(deep)
    shared: list[Any] = []
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(LimitError):
        normalize(shared)
    ring: list[Any] = [0.5]
    ring.append({"back": ring})
    with pytest.raises(CycleError) as caught:
        normalize({"a": ring})
    assert caught.value.pointer == "/a/1/back"


# --- parity -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1}, {"x": 1.0}),
        ({"x": 0.30000000000000004}, {"x": 0.3}),
        ({"x": -0.0}, {"x": 0}),
        ({"x": (1, 2)}, {"x": [1, 2]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_params_that_parity_does_not_tell_apart(one: Any, other: Any) -> None:
    assert hashing.params_digest(one) == hashing.params_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1}, {"x": True}),
        ({"x": 0}, {"x": None}),
        ({"x": 1}, {"x": "1"}),
        ({"x": 0.1}, {"x": 0.100001}),
        ({"x": []}, {"x": {}}),
        ({"x": [1, 2]}, {"x": [2, 1]}),
        ({}, {"x": None}),
    ],
)
def test_params_that_parity_tells_apart(one: Any, other: Any) -> None:
    assert hashing.params_digest(one) != hashing.params_digest(other)


@pytest.mark.parametrize(
    "change",
    [
        {"skill_name": "cook"},
        {"params_digest": "b" * 64},
        {"status": "failure"},
        {"outcome_category": "TRANSIENT"},
        {"outcome_code": ""},
        {"retry_count": 1},
    ],
)
def test_a_step_hash_sees_every_one_of_its_fields(change: dict[str, Any]) -> None:
    assert step_hash(**STEP) != step_hash(**{**STEP, **change})


def test_a_step_hash_is_over_the_canonical_form_of_its_fields() -> None:
    fields = {**STEP, "skill_name": 'b"ö\\\n', "outcome_code": "404"}
    assert step_hash(**fields) == H("isotrace/v1/step", canonical_bytes(fields)).hex()


def test_a_step_hash_refuses_what_has_no_canonical_form() -> None:
    with pytest.raises(InvalidUnicodeError):
        step_hash(**{**STEP, "skill_name": "\ud800"})
    with pytest.raises(IntegerRangeError):
        step_hash(**{**STEP, "retry_count": 2**53})
    with pytest.raises(UnsupportedTypeError):
        step_hash(**{**STEP, "retry_count": b""})


def test_the_path_is_a_chain_over_raw_digests() -> None:
    first = sha256(b"isotrace/v1/path\0").digest()
    second = sha256(b"isotrace/v1/path\0" + first + b"\xaa" * 32).digest()
    assert (hashing.path_start(), hashing.path_next(first, b"\xaa" * 32)) == (first, second)
    assert hashing.signature(["aa" * 32]) == second.hex()
    assert hashing.signature([]) == first.hex()


# --- integrity ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 32, 63, 64, 65, 200])
def test_our_hmac_is_hmac(size: int) -> None:
    key = bytes(range(size))
    assert hashing._hmac(key, b"message") == hmac.digest(key, b"message", "sha256")


def test_salts_differ_by_seed_event_and_name() -> None:
    salts = {
        hashing.salt(b"s" * 32, 1, "params"),
        hashing.salt(b"t" * 32, 1, "params"),
        hashing.salt(b"s" * 32, 2, "params"),
        hashing.salt(b"s" * 32, 1, "raw_ids"),
    }
    assert {len(salt) for salt in salts} == {32}
    assert len(salts) == 4


def test_a_commitment_depends_on_salt_and_on_every_byte() -> None:
    commit = hashing.commitment(b"s" * 32, b"20.0")
    assert commit == hashing.commitment(b"s" * 32, b"20.0")
    assert commit != hashing.commitment(b"s" * 32, b"20")
    assert commit != hashing.commitment(b"t" * 32, b"20.0")


def test_leaf_data_sees_floats_unrounded_and_keys_in_any_order() -> None:
    one = hashing.leaf_data({"seq": 1, "duration_ms": 0.12345678})
    assert one == b'isotrace/v1/event\0{"duration_ms":0.12345678,"seq":1}'
    assert one == hashing.leaf_data({"duration_ms": 0.12345678, "seq": 1})


def test_a_leaf_is_never_a_node() -> None:
    left, right = hashing.leaf_hash(b"a"), hashing.leaf_hash(b"b")
    assert hashing.merkle_root([b"a", b"b"]) != hashing.leaf_hash(left + right)
    assert hashing.merkle_root([left + right]) != hashing.merkle_root([b"a", b"b"])


def test_a_repeated_last_leaf_changes_the_root() -> None:
    assert hashing.merkle_root([b"a", b"b", b"c"]) != hashing.merkle_root([b"a", b"b", b"c", b"c"])


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_beyond_the_leaves(index: int) -> None:
    with pytest.raises(IndexError):
        hashing.inclusion_proof([b"a", b"b", b"c"], index)
    assert not hashing.verify_inclusion(b"a", index, 3, [], b"")


def test_a_proof_for_a_tree_of_another_height_is_refused_though_it_leads_to_the_root() -> None:
    root = hashing.merkle_root([b"a", b"b"])
    proof = [hashing.leaf_hash(b"b")]
    assert hashing.verify_inclusion(b"a", 0, 2, proof, root)
    assert not hashing.verify_inclusion(b"a", 0, 4, proof, root)
    assert not hashing.verify_inclusion(b"b", 0, 1, [hashing.leaf_hash(b"a")], root)


# --- identity -----------------------------------------------------------------------


def test_idempotency_keys_differ_by_each_part() -> None:
    keys = {
        hashing.idempotency_key("t", "r", (0, "eu", 1), "d"),
        hashing.idempotency_key("u", "r", (0, "eu", 1), "d"),
        hashing.idempotency_key("t", "s", (0, "eu", 1), "d"),
        hashing.idempotency_key("t", "r", (0, "eu", 2), "d"),
        hashing.idempotency_key("t", "r", (0, "1", 1), "d"),
        hashing.idempotency_key("t", "r", (0, 1, 1), "d"),
        hashing.idempotency_key("t", "r", (0, "eu", 1), "e"),
    }
    assert len(keys) == 7


def test_the_parts_of_an_id_can_not_run_into_each_other() -> None:
    assert hashing.import_run_id("a", "bc", "d") != hashing.import_run_id("ab", "c", "d")
    assert hashing.import_run_id("jsonl", "t", "d") == hashing.import_run_id("jsonl", "t", "d")
