"""What a proof proves: each of its bytes that means something is covered by the root."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.errors import RecordCorruptError
from isotrace.events import Event
from isotrace.ledger import seal
from isotrace.operations.exchange import verify_file
from isotrace.operations.integrity import prove, read_proof, verify_proof
from isotrace.stores.memory import MemoryStore

RUN_FACTS = {
    "scheme": "iso1",
    "run_id": "r" * 32,
    "origin_run_id": None,
    "correlation_id": "c",
    "tenant_id": "default",
    "agent_id": "a",
    "seed": 7,
    "frozen_timestamp": None,
    "entry_point": None,
    "parent": None,
}
STEP_END = {"status": "success", "outcome_category": "SUCCESS", "outcome_code": None, "duration_ms": 1.5}


def proof_of(step: int) -> dict[str, Any]:
    """The proof of one of three steps."""
    events = [Event(0, "run_started", 0, RUN_FACTS, {"metadata": b"{}"})]
    for lineage in range(3):
        start = {"lineage": [lineage], "kind": "tool", "skill_name": "same", "effect": "read"}
        events.append(Event(len(events), "step_started", 1, start, {"params": b"{}"}))
        events.append(Event(len(events), "step_finished", 2, {"lineage": [lineage], **STEP_END}))
    events.append(Event(len(events), "run_finished", 3, {"status": "completed", "step_count": 3}))
    store = MemoryStore()
    store.put(seal(events, bytes(32)))
    return prove(store, "@last", step, tenant_id="default")


PROOF = proof_of(1)
TEXT = json.dumps(PROOF)


def test_proof_says_what_its_events_say() -> None:
    assert verify_proof(PROOF, root=PROOF["root_hash"]) == {
        "verified": True,
        "held_against": "given",
        "root_hash": PROOF["root_hash"],
        "run_id": "r" * 32,
        "lineage": [1],
        "skill_name": "same",
        "events": ["step_started", "step_finished"],
    }


def _scalars(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _scalars(inner, (*place, key))
    if not isinstance(value, dict | list):
        yield place


def _altered(value: Any) -> Iterator[Any]:
    if isinstance(value, str):
        for index in range(len(value)):
            for other in ("0", "1", "A", "f"):
                if value[index] != other:
                    yield value[:index] + other + value[index + 1 :]
        yield value + "0"
    elif isinstance(value, bool) or value is None:
        yield from (not value, 0, "")
    else:
        yield from (value + 1, value - 1, value + 0.5, str(value), None)


@pytest.mark.parametrize("place", list(_scalars(PROOF)), ids=str)
def test_proof_with_any_scalar_altered_does_not_hold(place: tuple[Any, ...]) -> None:
    *folders, last = place
    proof = copy.deepcopy(PROOF)
    holder = proof
    for part in folders:
        holder = holder[part]
    for other in _altered(holder[last]):
        holder[last] = other
        with pytest.raises(RecordCorruptError):
            verify_proof(proof)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.characters(min_codepoint=32, max_codepoint=126))
def test_file_with_any_byte_altered_fails_unless_it_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, index: int, character: str
) -> None:
    text = TEXT[:index] + character + TEXT[index + 1 :]
    file = tmp_path_factory.getbasetemp() / "proof.json"
    file.write_text(text)
    data = read_proof(file)
    if data == PROOF and json.dumps(data) == TEXT:
        assert verify_proof(data)["run_id"] == "r" * 32
        return
    with pytest.raises((RecordCorruptError, ValueError)):  # ImportFormatError is one
        verify_file(Path(file)) if data is None else verify_proof(data)


@pytest.mark.parametrize("place", [(), ("events", 0), ("events", 1, "envelope")])
def test_unknown_key_is_refused(place: tuple[Any, ...]) -> None:
    proof = copy.deepcopy(PROOF)
    holder = proof
    for part in place:
        holder = holder[part]
    holder["run_id_of"] = "x"
    with pytest.raises(RecordCorruptError):
        verify_proof(proof)


def test_start_and_end_of_two_steps_are_no_proof() -> None:
    mixed = copy.deepcopy(PROOF)
    mixed["events"][2] = proof_of(2)["events"][2]
    with pytest.raises(RecordCorruptError, match="of two steps"):
        verify_proof(mixed)


def test_events_of_other_types_are_no_proof() -> None:
    swapped = copy.deepcopy(PROOF)
    swapped["events"][1] = swapped["events"][2]
    with pytest.raises(RecordCorruptError, match="not the start and the end"):
        verify_proof(swapped)


def test_without_its_end_a_proof_is_one_of_the_start_alone() -> None:
    start = copy.deepcopy(PROOF)
    del start["events"][2]
    assert verify_proof(start)["events"] == ["step_started"]


def test_proof_is_held_against_a_root_that_was_kept() -> None:
    assert verify_proof(PROOF, root=PROOF["root_hash"].upper())["verified"]
    with pytest.raises(RecordCorruptError, match="not the one that was kept"):
        verify_proof(PROOF, root="0" * 64)


def test_proof_is_held_against_the_root_of_the_run_that_it_names() -> None:
    roots = {"r" * 32: PROOF["root_hash"]}
    found = verify_proof(PROOF, stored_root=roots.get)
    assert (found["verified"], found["held_against"]) == (True, "store")
    with pytest.raises(RecordCorruptError, match="not the one that was kept"):
        verify_proof(PROOF, stored_root=lambda _: "0" * 64)
    assert verify_proof(PROOF, root=PROOF["root_hash"], stored_root=lambda _: "0" * 64)["verified"]


def test_proof_alone_proves_nothing() -> None:
    """A forged run gives as good a proof of itself as a recorded one."""
    for found in (verify_proof(PROOF), verify_proof(PROOF, stored_root=lambda _: None)):
        assert (found["verified"], found["held_against"]) == (False, None)
