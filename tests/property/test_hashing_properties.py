"""Chains, commitments and trees as algebra."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace import hashing
from isotrace.models import TraceRecord, TraceStatus, TraceStep, compare_traces

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
leaves = st.lists(st.binary(max_size=20), min_size=1, max_size=40)
params = st.dictionaries(
    st.text(max_size=3), st.integers(-3, 3) | st.floats(-1, 1) | st.text(max_size=3), max_size=3
)


def step(index: int, values: dict[str, Any], skill: str = "skill", retries: int = 0) -> TraceStep:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    status = TraceStatus.SUCCESS
    return TraceStep(index, skill, values, status, "SUCCESS", None, None, 0.0, 0.0, retries, moment)


steps = st.lists(st.tuples(params, st.sampled_from("abc"), st.integers(0, 1)), max_size=8).map(
    lambda found: [step(index, *parts) for index, parts in enumerate(found)]
)


def run(found: list[TraceStep]) -> TraceRecord:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return TraceRecord("r", "c", "t", None, [], found, moment, None, "completed")


@given(steps, st.data())
def test_the_signature_of_a_run_cut_at_k_is_path_k(found: list[TraceStep], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(found)))
    path = hashing.path_start()
    for one in found[:cut]:
        path = hashing.path_next(path, bytes.fromhex(one.determinism_hash()))
    assert run(found[:cut]).determinism_signature() == path.hex()


@given(steps, steps)
def test_two_runs_have_one_signature_exactly_if_all_their_steps_have_one_hash(
    one: list[TraceStep], other: list[TraceStep]
) -> None:
    hashes = [found.determinism_hash() for found in one] == [found.determinism_hash() for found in other]
    assert (run(one).determinism_signature() == run(other).determinism_signature()) == hashes


@given(steps, steps)
def test_parts_of_a_path_never_meet_again(one: list[TraceStep], other: list[TraceStep]) -> None:
    def paths(found: list[TraceStep]) -> list[str]:
        return [run(found[:k]).determinism_signature() for k in range(len(found) + 1)]

    differ = [a != b for a, b in zip(paths(one), paths(other), strict=False)]
    assert differ == sorted(differ)
    result = compare_traces(run(one), run(other))
    if result.divergence_step is not None:
        assert not any(differ[: result.divergence_step + 1])
        assert all(differ[result.divergence_step + 1 :])


@given(leaves, st.data())
def test_every_proof_leads_to_the_root(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    proof = hashing.inclusion_proof(data, index)
    root = hashing.merkle_root(data)
    assert hashing.verify_inclusion(data[index], index, len(data), proof, root)
    assert len(proof) <= (len(data) - 1).bit_length()


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@settings(max_examples=25)
@given(leaves, st.data())
def test_every_single_bit_that_changes_makes_a_proof_fail(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    size = len(data)
    leaf, proof, root = data[index], hashing.inclusion_proof(data, index), hashing.merkle_root(data)
    verify: Callable[..., bool] = hashing.verify_inclusion
    for bit in range(len(leaf) * 8):
        assert not verify(flipped(leaf, bit), index, size, proof, root)
    for bit in range(256):
        assert not verify(leaf, index, size, proof, flipped(root, bit))
    for place, node in enumerate(proof):
        for bit in range(256):
            changed = [*proof[:place], flipped(node, bit), *proof[place + 1 :]]
            assert not verify(leaf, index, size, changed, root)


@given(leaves, st.data())
def test_a_proof_is_for_one_leaf_at_one_place_in_one_tree(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    leaf, proof, root = data[index], hashing.inclusion_proof(data, index), hashing.merkle_root(data)
    assert not hashing.verify_inclusion(leaf + b"x", index, len(data), proof, root)
    assert not hashing.verify_inclusion(leaf, index, len(data), [*proof, root], root)
    if proof:
        assert not hashing.verify_inclusion(leaf, index, len(data), proof[:-1], root)
    for other in range(len(data)):
        if other != index and data[other] != leaf:
            assert not hashing.verify_inclusion(data[other], index, len(data), proof, root)


@given(leaves, st.data())
def test_the_root_sees_every_leaf_its_place_and_the_number_of_leaves(
    data: list[bytes], draw: st.DataObject
) -> None:
    root = hashing.merkle_root(data)
    index = draw.draw(st.integers(0, len(data) - 1))
    other = draw.draw(st.integers(0, len(data) - 1))
    swapped = list(data)
    swapped[index], swapped[other] = swapped[other], swapped[index]
    assert (hashing.merkle_root(swapped) == root) == (swapped == data)
    assert hashing.merkle_root(data[:-1]) != root
    assert hashing.merkle_root([*data, data[-1]]) != root
    assert hashing.merkle_root([*data[:index], data[index] + b"\0", *data[index + 1 :]]) != root


@given(st.binary(max_size=100), st.binary(max_size=200))
def test_our_hmac_is_hmac(key: bytes, message: bytes) -> None:
    assert hashing._hmac(key, message) == hmac.digest(key, message, "sha256")


@given(st.lists(digests, max_size=6), st.lists(digests, max_size=6))
def test_a_signature_is_a_fold_of_path_next(first: list[str], second: list[str]) -> None:
    path = bytes.fromhex(hashing.signature(first))
    for digest in second:
        path = hashing.path_next(path, bytes.fromhex(digest))
    assert path.hex() == hashing.signature(first + second)
