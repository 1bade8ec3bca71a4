"""Whether a record is what was recorded: verify, prove, erase, rebuild."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isotrace import ledger as ledgers
from isotrace.canonical import parse_json
from isotrace.contracts import RunQuery, TraceStore
from isotrace.errors import (
    CanonicalizationError,
    RecordCorruptError,
    UsageError,
)
from isotrace.events import Event
from isotrace.ledger import Ledger, StepProof
from isotrace.models import Erased
from isotrace.operations.runs import Selection, find_run, list_runs

_JSON_IN_TEXT = 4
"""How many times JSON inside a string is looked into: tool arguments inside a message inside a body."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A ledger that gives its root. `erased` counts values of which only the commitment is left."""

    run_id: str
    root_hash: str
    events: int
    values: int
    erased: int
    source: str
    taken_over: tuple[str, str] | None = None
    """Tenants: who recorded the run, and who took it over."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "verified": True,
            "run_id": self.run_id,
            "root_hash": self.root_hash,
            "events": self.events,
            "values": self.values,
            "erased": self.erased,
            "source": self.source,
            "recorded_for": self.taken_over[0] if self.taken_over else None,
            "taken_over_by": self.taken_over[1] if self.taken_over else None,
        }


def verify_run(store: TraceStore, name: str, *, tenant_id: str) -> Verified:
    """Recomputes a stored run: every commitment, the root, and what the store searches by.

    Raises `RecordCorruptError` naming what does not fit, `RecordGapError` where a salt is missing,
    and as `find_run` does.
    """
    run_id = find_run(store, name, tenant_id=tenant_id)
    ledger = store.ledger(run_id, tenant_id=tenant_id)
    verified = verify_ledger(ledger, source=store.url)
    if verified.run_id != run_id:
        raise RecordCorruptError(
            "the ledger under this id is another run's", run_id=run_id, expected=run_id, got=verified.run_id
        )
    _verify_projection(store, ledger, run_id, tenant_id)
    return verified


def verify_ledger(ledger: Ledger, *, source: str) -> Verified:
    """Recomputes every commitment and the root of a ledger. Raises as `verify_run` does."""
    ledgers.verify(ledger)
    values = [data for event in ledger.events for data in event.values.values()]
    erased = sum(isinstance(data, Erased) for data in values)
    owner = ledger.owner
    return Verified(
        run_id=ledger.events[0].facts["run_id"],
        root_hash=ledger.root_hash,
        events=len(ledger.events),
        values=len(values),
        erased=erased,
        source=source,
        taken_over=(ledger.events[0].facts["tenant_id"], owner) if owner else None,
    )


def _verify_projection(store: TraceStore, ledger: Ledger, run_id: str, tenant_id: str) -> None:
    """Rows are projections: they must be what the ledger gives."""
    expected = ledgers.project(ledger)
    item = store.get(run_id, tenant_id=tenant_id)
    found: dict[str, tuple[Any, Any]] = {
        "signature": (expected.signature, item.signature),
        "tool signature": (expected.tool_signature, item.tool_signature),
        "metadata": (dict(expected.metadata), dict(item.metadata)),
        "root": (ledger.root_hash, item.root_hash),
        "summary": (expected.summary.to_dict(), item.summary.to_dict()),
        "steps": (expected.steps, store.steps(run_id, tenant_id=tenant_id)),
    }
    for name, (wanted, got) in found.items():
        if wanted != got:
            raise RecordCorruptError(
                f"the store's {name} {'are' if name == 'steps' else 'is'} not what the ledger gives",
                run_id=run_id,
                expected=wanted if isinstance(wanted, str) else None,
                got=got if isinstance(got, str) else None,
                hint="the ledger itself is intact: `isotrace rebuild` recomputes what the store searches by",
            )


# --- proofs ---------------------------------------------------------------------------

PROOF_FORMAT = "isotrace-proof/1"


def prove(store: TraceStore, name: str, step_index: int, *, tenant_id: str) -> dict[str, Any]:
    """Proofs that a step's start and end belong to the run's root, as JSON data that
    `verify_proof` accepts without the rest of the run.

    Raises `UsageError` for a step that the run does not have, and as `find_run` does.
    """
    run_id = find_run(store, name, tenant_id=tenant_id)
    rows = store.steps(run_id, tenant_id=tenant_id, start=max(step_index, 0), stop=max(step_index, 0) + 1)
    if step_index < 0 or not rows:
        total = store.get(run_id, tenant_id=tenant_id).summary.total_steps
        raise UsageError(
            f"the run has no step {step_index}",
            run_id=run_id,
            expected=f"0 to {total - 1}" if total else "no step at all: the run is empty",
        )
    ledger = store.ledger(run_id, tenant_id=tenant_id)
    row = rows[0]
    sequence = [seq for seq in (row.start_seq, row.end_seq) if seq is not None]
    return {
        "format": PROOF_FORMAT,
        "run_id": run_id,
        "step_index": step_index,
        "skill_name": row.skill_name,
        "root_hash": ledger.root_hash,
        "proofs": [_proof_data(ledgers.prove(ledger, seq)) for seq in sequence],
    }


def _proof_data(proof: StepProof) -> dict[str, Any]:
    return {
        "tree_size": proof.tree_size,
        "leaf_index": proof.leaf_index,
        "envelope": proof.envelope,
        "path": proof.path,
    }


def verify_proof(data: dict[str, Any]) -> dict[str, Any]:
    """Checks what `prove` gave. Returns its root, run and step.

    Raises `RecordCorruptError` where a proof does not lead to the root, or is not a proof.
    """
    try:
        root = data["root_hash"]
        proofs = [StepProof(root_hash=root, **entry) for entry in data["proofs"]]
        held = [proof.holds() for proof in proofs]
    except (KeyError, TypeError, ValueError, CanonicalizationError) as error:
        raise RecordCorruptError(f"this is not a proof: {error}") from error
    if not held or not all(held):
        raise RecordCorruptError(
            "the proof does not lead to the root: the step, the path or the root was altered",
            run_id=data.get("run_id"),
            step=data.get("step_index"),
        )
    return {
        "verified": True,
        "root_hash": root,
        "run_id": data.get("run_id"),
        "step_index": data.get("step_index"),
        "events": [proof.envelope["type"] for proof in proofs],
    }


# --- erasing --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is to be erased, or was: `(seq, field name)` by run.

    `in_facts` names events whose facts hold the text: facts can't be erased.
    """

    targets: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    in_facts: list[tuple[str, int]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "values": sum(map(len, self.targets.values())),
            "runs": [
                {"run_id": run_id, "values": [{"seq": seq, "field": name} for seq, name in targets]}
                for run_id, targets in self.targets.items()
            ],
            "in_facts": [{"run_id": run_id, "seq": seq} for run_id, seq in self.in_facts],
        }


def find_text(store: TraceStore, name: str, text: str, *, tenant_id: str) -> Erasure:
    """Every value that holds `text`, in all runs of the correlation that the run belongs to.

    Looks into strings, keys and numbers, and into JSON inside strings. Raises `UsageError` for
    an empty text, and as `find_run` does.
    """
    if not text:
        raise UsageError("an empty text is in every value", expected="the text to erase")
    run_id = find_run(store, name, tenant_id=tenant_id)
    correlation = store.get(run_id, tenant_id=tenant_id).summary.correlation_id
    found = Erasure()
    query = RunQuery(tenant_id=tenant_id, correlation_id=correlation)
    for item in list_runs(store, Selection(query, limit=None)):
        ledger = store.ledger(item.summary.run_id, tenant_id=tenant_id)
        for event in ledger.events:
            _find_in_event(found, item.summary.run_id, event, text)
    return found


def _find_in_event(found: Erasure, run_id: str, event: Event, text: str) -> None:
    for name in event.values:
        value = event.value(name)
        if not isinstance(value, Erased) and holds_text(value, text):
            found.targets.setdefault(run_id, []).append((event.seq, name))
    if holds_text(event.facts, text):
        found.in_facts.append((run_id, event.seq))


def holds_text(value: Any, text: str) -> bool:
    """Whether a plain value holds the text: in a string, a key, a number as written, or in JSON
    that stands inside a string."""
    return any(text in piece for piece in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    left: list[tuple[Any, int]] = [(value, 0)]
    while left:
        item, depth = left.pop()
        if isinstance(item, dict):
            yield from map(str, item)
            left.extend((inner, depth) for inner in item.values())
        elif isinstance(item, list | tuple):
            left.extend((inner, depth) for inner in item)
        elif isinstance(item, str):
            yield item
            if depth < _JSON_IN_TEXT and item.lstrip()[:1] in ("{", "[", '"'):
                try:
                    left.append((parse_json(item), depth + 1))
                except CanonicalizationError:
                    continue  # text that only looks like JSON
        elif item is not None:
            yield json.dumps(item)


def step_values(
    store: TraceStore, name: str, step_index: int, fields: Sequence[str], *, tenant_id: str
) -> Erasure:
    """The values of one step: of these fields, or all that it has. Raises as `prove` does."""
    run_id = find_run(store, name, tenant_id=tenant_id)
    rows = store.steps(run_id, tenant_id=tenant_id, start=max(step_index, 0), stop=max(step_index, 0) + 1)
    if step_index < 0 or not rows:
        raise UsageError(f"the run has no step {step_index}", run_id=run_id)
    ledger = store.ledger(run_id, tenant_id=tenant_id)
    lineage = ledger.events[rows[0].start_seq].lineage
    targets = [
        (event.seq, value)
        for event in ledger.events
        if event.lineage == lineage
        for value, data in event.values.items()
        if not isinstance(data, Erased) and (not fields or value in fields)
    ]
    return Erasure({run_id: targets} if targets else {})


def erase(store: TraceStore, erasure: Erasure, *, tenant_id: str, reason: str) -> None:
    """Erases for good what was found. Raises as `TraceStore.erase` does."""
    for run_id, targets in erasure.targets.items():
        store.erase(run_id, targets, tenant_id=tenant_id, reason=reason)


def read_proof(path: Path) -> dict[str, Any] | None:
    """The proof in a file, None if the file is something else."""
    with path.open("rb") as stream:
        head = stream.read(1 << 20)
    if not head.lstrip().startswith(b"{"):
        return None
    try:
        data = parse_json(head)
    except CanonicalizationError:
        return None
    return data if isinstance(data, dict) and data.get("format") == PROOF_FORMAT else None
