"""The vector files against this code, and against a second implementation that shares none of it."""

from __future__ import annotations

import hmac
import json
import runpy
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from isotrace import canonical, errors, hashing
from isotrace.canonical import canonical_bytes, canonical_bytes_exact, parse_json, value_bytes
from isotrace.models import TraceRecord, TraceStatus, TraceStep

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="ascii"))


# --- a naive implementation ---------------------------------------------------------


def naive_hash(label: str, data: bytes) -> bytes:
    return sha256(f"isotrace/v1/{label}".encode() + b"\0" + data).digest()


def naive_rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6f}") + 0.0
    if isinstance(value, dict):
        return {key: naive_rounded(child) for key, child in value.items()}
    return [naive_rounded(child) for child in value] if isinstance(value, list) else value


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_proof(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 9162 section 2.1.3.1, as it is written there."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*naive_proof(leaves[:split], index), naive_root(leaves[split:])]
    return [*naive_proof(leaves[split:], index - split), naive_root(leaves[:split])]


def naive_salt(seed: bytes, seq: int, name: str) -> bytes:
    return hmac.digest(seed, b"isotrace/v1/salt\0" + struct.pack(">Q", seq) + name.encode(), "sha256")


def naive_commitment(salt: bytes, data: bytes) -> bytes:
    return hmac.digest(salt, b"isotrace/v1/commitment\0" + sha256(data).digest(), "sha256")


# --- the files ----------------------------------------------------------------------


def test_the_generator_writes_exactly_these_files() -> None:
    generate = runpy.run_path(str(VECTORS / "generate.py"))
    written = {name: generate["text_of"](content) for name, content in generate["vectors"]().items()}
    stored = {path.name: path.read_text(encoding="ascii") for path in VECTORS.glob("*.json")}
    assert written == stored


@pytest.mark.parametrize("vector", load("numbers.json"), ids=lambda vector: vector["text"])
def test_numbers(vector: dict[str, str]) -> None:
    value = struct.unpack(">d", bytes.fromhex(vector["ieee"]))[0]
    assert float(vector["text"]) == value
    forms = {canonical_bytes(value), canonical_bytes_exact(value), rfc8785.dumps(value)}
    assert canonical_bytes([value]) == b"[" + vector["text"].encode() + b"]"
    assert forms == {vector["text"].encode()}


@pytest.mark.parametrize("vector", load("canonical.json"), ids=lambda vector: vector["name"])
def test_canonical_form_and_value_bytes(vector: dict[str, str]) -> None:
    value = parse_json(vector["input"])
    forms = {canonical_bytes(value), canonical_bytes_exact(value), rfc8785.dumps(value)}
    assert forms == {vector["canonical"].encode()}
    assert sha256(canonical_bytes(value)).hexdigest() == vector["sha256"]
    assert value_bytes(value) == vector["value_bytes"].encode()
    assert value_bytes(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("vector", load("normalization.json"), ids=lambda vector: vector["name"])
def test_normalization(vector: dict[str, Any]) -> None:
    value = parse_json(vector["input"])
    assert canonical_bytes(value, digits=6) == vector["canonical"].encode()
    assert rfc8785.dumps(naive_rounded(value)) == vector["canonical"].encode()
    assert [one.pointer for one in hashing.explain_normalization(value)] == vector["rounded"]


@pytest.mark.parametrize("vector", load("rejected.json"), ids=lambda vector: vector["name"])
def test_what_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(errors.CanonicalizationError) as caught:
        canonical.check(parse_json(vector["input"]))
    assert (type(caught.value).__name__, caught.value.pointer) == (vector["error"], vector["pointer"])


def test_steps_paths_and_signature() -> None:
    parity = load("parity.json")
    path = naive_hash("path", b"")
    paths = [path.hex()]
    steps = []
    for index, step in enumerate(parity["steps"]):
        params = json.loads(step["params"])
        digest = naive_hash("params", rfc8785.dumps(naive_rounded(params))).hex()
        assert digest == step["params_digest"] == hashing.params_digest(params)
        body = {key: value for key, value in step.items() if key not in ("params", "determinism_hash")}
        assert naive_hash("step", rfc8785.dumps(body)).hex() == step["determinism_hash"]
        path = naive_hash("path", path + bytes.fromhex(step["determinism_hash"]))
        paths.append(path.hex())
        steps.append(
            TraceStep.from_dict(
                {
                    **step,
                    "step_index": index,
                    "params": params,
                    "status": TraceStatus(step["status"]),
                    "outcome_data": None,
                    "cost_cents": 0,
                    "duration_ms": 0,
                    "timestamp": "2026-01-01T00:00:00Z",
                }
            )
        )
    assert [step.determinism_hash() for step in steps] == [
        step["determinism_hash"] for step in parity["steps"]
    ]
    assert paths == parity["paths"]
    record = TraceRecord("r", "c", "t", None, [], steps, steps[0].timestamp, None, "completed")
    assert record.determinism_signature() == parity["signature"] == paths[-1]


def test_outcome_digests() -> None:
    for vector in load("parity.json")["outcomes"]:
        outcome = json.loads(vector["outcome_data"])
        assert hashing.outcome_digest(outcome) == vector["outcome_digest"]
        assert naive_hash("outcome", vector["hashed"].encode()).hex() == vector["outcome_digest"]
        if "choices" not in outcome:
            assert rfc8785.dumps(naive_rounded(outcome)).decode() == vector["hashed"]


def test_salts_and_commitments() -> None:
    integrity = load("integrity.json")
    seed = bytes.fromhex(integrity["seed"])
    for vector in integrity["commitments"]:
        salt = naive_salt(seed, vector["seq"], vector["name"])
        assert salt.hex() == vector["salt"] == hashing.salt(seed, vector["seq"], vector["name"]).hex()
        data = vector["value"].encode()
        assert naive_commitment(salt, data).hex() == vector["commit"] == hashing.commitment(salt, data).hex()


def test_merkle_roots_and_inclusion_proofs() -> None:
    integrity = load("integrity.json")
    all_leaves = [bytes.fromhex(leaf) for leaf in integrity["leaves"]]
    for tree in integrity["trees"]:
        leaves = all_leaves[: tree["size"]]
        root = naive_root(leaves)
        assert root.hex() == tree["root"] == hashing.merkle_root(leaves).hex()
        for index, proof in enumerate(tree["proofs"]):
            path = [bytes.fromhex(node) for node in proof]
            assert path == naive_proof(leaves, index) == hashing.inclusion_proof(leaves, index)
            assert hashing.verify_inclusion(leaves[index], index, len(leaves), path, root)


def test_ids() -> None:
    identity = load("identity.json")
    for vector in identity["imports"]:
        source = [vector["format"], vector["tenant"], vector["source_digest"]]
        assert naive_hash("import", rfc8785.dumps(source)).hex() == vector["run_id"]
        assert hashing.import_run_id(*source) == vector["run_id"]
    for vector in identity["idempotency"]:
        parts = [vector["tenant"], vector["origin_run_id"], vector["lineage"], vector["params_digest"]]
        assert naive_hash("idempotency", rfc8785.dumps(parts)).hex() == vector["key"]
        assert hashing.idempotency_key(*parts) == vector["key"]


def test_a_whole_run_gives_its_root() -> None:
    run = load("run.json")
    seed = bytes.fromhex(run["seed"])
    leaves = []
    for seq, event in enumerate(run["events"]):
        for name, value in event["values"].items():
            salt = naive_salt(seed, seq, name)
            assert salt.hex() == value["salt"]
            commit = naive_commitment(salt, value["json"].encode()).hex()
            assert event["envelope"][name] == {"commit": commit}
        leaf = b"isotrace/v1/event\0" + rfc8785.dumps(event["envelope"])
        assert leaf.hex() == event["leaf_data"]
        assert leaf == hashing.leaf_data(event["envelope"])
        assert sha256(b"\x00" + leaf).hexdigest() == event["leaf_hash"] == hashing.leaf_hash(leaf).hex()
        leaves.append(leaf)
    assert naive_root(leaves).hex() == run["root_hash"]
