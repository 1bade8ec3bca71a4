"""Sealing and verifying a ledger: pure functions over events (`docs/explanation/ledger.md`).

`seal` turns the events of a finished run into commitments, a Merkle root and the rows that
stores search by. The same events and seed give the same bytes, so a run can be sealed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isotrace import digests, hashing
from isotrace.errors import LimitError, RecordCorruptError, RecordGapError
from isotrace.events import Event, fold, lineage_text, time_text
from isotrace.hashing import (
    commitment,
    inclusion_proof,
    leaf_data,
    merkle_root,
    path_next,
    path_start,
    salt,
    step_hash,
    verify_inclusion,
)
from isotrace.models import Erased, TraceRecord, TraceStep, TraceSummary

META_RECORDED_TENANT = "recorded_tenant"
"""Metadata of a run that another tenant took over: whose it was when it was recorded."""


@dataclass(slots=True)
class Ledger:
    """A sealed run.

    `events` are all events by `seq`, without gaps. While nothing is erased `seed` (32 bytes)
    gives every salt; afterwards it is None and `salts` holds those of the values that are left.
    `owner` is the tenant that took the run over, None while it belongs to whom its events name.
    The events never change, so that the root holds.
    """

    events: list[Event]
    root_hash: str
    seed: bytes | None = None
    salts: dict[tuple[int, str], bytes] = field(default_factory=dict)
    owner: str | None = None

    def owned_by(self, tenant_id: str) -> Ledger:
        """The same ledger, in the hands of this tenant: a store's key decides whose a run is."""
        recorded = self.events[0].facts.get("tenant_id") if self.events else tenant_id
        return replace(self, owner=None if recorded == tenant_id else tenant_id)

    def salt_of(self, seq: int, name: str) -> bytes:
        """The 32-byte salt of one value. Raises `RecordGapError` where it was destroyed."""
        if self.seed is not None:
            return salt(self.seed, seq, name)
        try:
            return self.salts[seq, name]
        except KeyError:
            raise RecordGapError(
                "the salt of a value is gone, so its commitment can't be checked",
                where=f"event {seq}, value {name!r}",
            ) from None

    def record(self, *, contents: bool = True) -> TraceRecord:
        """The run as a `TraceRecord`, with `root_hash` set; of its owner, if it was taken over.

        Without `contents` as `fold` leaves them out.
        """
        record = fold(self.events, self.root_hash, contents=contents)
        if self.owner is not None:
            record.metadata = {**record.metadata, META_RECORDED_TENANT: record.tenant_id}
            record.tenant_id = self.owner
        return record


@dataclass(slots=True)
class StepRow:
    """What a store keeps of a step beside the ledger: narrow, searchable, rebuildable.

    `path` is the chain up to and including this step; `tool_path` the chain over tool steps
    alone, None for a step of another kind. Digests are 32 bytes, None where content is absent or
    beyond the limits.
    """

    step_index: int
    start_seq: int
    end_seq: int | None
    lineage: str
    skill_name: str
    kind: str
    status: str
    determinism_hash: bytes | None
    path: bytes | None
    tool_path: bytes | None
    outcome_digest: bytes | None
    cost_cents: float
    duration_ms: float


@dataclass(slots=True)
class Projection:
    """All that is derived from a ledger for searching: it can be dropped and rebuilt."""

    summary: TraceSummary
    metadata: dict[str, Any]
    signature: str | None
    tool_signature: str | None
    steps: list[StepRow]


@dataclass(slots=True)
class SealedRun:
    """A ledger and its projection: what `TraceStore.put` takes.

    `local`: sealed here, from a journal of this machine. Only such a run's entry point is followed
    by a replay, so a store keeps the mark; what was imported never has it.
    """

    ledger: Ledger
    projection: Projection
    local: bool = False

    @property
    def run_id(self) -> str:
        return self.projection.summary.run_id

    @property
    def tenant_id(self) -> str:
        return self.projection.summary.tenant_id


def envelope(event: Event, ledger: Ledger) -> dict[str, Any]:
    """The event as the root covers it: facts, and a commitment in place of each value."""
    body: dict[str, Any] = {"seq": event.seq, "type": event.type, "time": time_text(event.time_us)}
    body.update(event.facts)
    for name, data in event.values.items():
        commit = (
            data.commit
            if isinstance(data, Erased)
            else commitment(ledger.salt_of(event.seq, name), data).hex()
        )
        body[name] = {"commit": commit}
    return body


def leaves(ledger: Ledger) -> list[bytes]:
    """The leaf data of every event, by `seq`."""
    return [digests.leaf_data(envelope(event, ledger)) for event in ledger.events]


def seal(events: Sequence[Event], seed: bytes) -> SealedRun:
    """Seals the events of one run under its 32-byte run seed.

    Raises `RecordCorruptError` where the events do not make a run.
    """
    ledger = Ledger(events=list(events), root_hash="", seed=seed)
    ledger.root_hash = merkle_root(leaves(ledger)).hex()
    return SealedRun(ledger, project(ledger))


def project(ledger: Ledger) -> Projection:
    """The rows of a ledger. Where params were erased, the step has no hash and the path ends.

    A digest is also None where content is beyond the limits of `canonical`: each value of a ledger is
    within them, but the chunks of a stream add up, and canonical numbers can be longer than recorded
    ones. Such a run is kept, shown and verified as any other, because the root covers each value by
    its own bytes.
    """
    # The digests are taken of the value bytes as they are, so nobody has to read them here.
    record = ledger.record(contents=False)
    rows: list[StepRow] = []
    path: bytes | None = path_start()
    tool_path: bytes | None = path_start()
    for step in record.steps:
        row = _row(step, ledger.events)
        digest, before = row.determinism_hash, path
        row.path = path = None if path is None or digest is None else path_next(path, digest)
        if row.kind == "tool":
            if tool_path == before:
                tool_path = path  # no step of another kind so far
            else:
                tool_path = None if tool_path is None or digest is None else path_next(tool_path, digest)
            row.tool_path = tool_path
        rows.append(row)
    return Projection(
        summary=record.to_summary(),
        metadata=record.metadata,
        signature=path.hex() if path is not None else None,
        tool_signature=tool_path.hex() if tool_path is not None else None,
        steps=rows,
    )


def _row(step: TraceStep, events: Sequence[Event]) -> StepRow:
    """A step's row without its paths. The record that it is of was made without contents."""
    context = step.context
    assert context is not None  # a fold gives every step its context
    assert context.start_seq is not None
    return StepRow(
        step_index=step.step_index,
        start_seq=context.start_seq,
        end_seq=context.end_seq,
        lineage=lineage_text(context.lineage),
        skill_name=step.skill_name,
        kind=context.kind,
        status=step.status.value,
        determinism_hash=_determinism_hash(step, events[context.start_seq]),
        path=None,
        tool_path=None,
        outcome_digest=None
        if context.end_seq is None
        else _outcome_digest(step.outcome_data, events[context.end_seq]),
        cost_cents=step.cost_cents,
        duration_ms=step.duration_ms,
    )


def _determinism_hash(step: TraceStep, start: Event) -> bytes | None:
    """The step's hash: 32 bytes; None where params were erased, or are too large to have one."""
    params = start.values.get("params", b"{}")
    if isinstance(params, Erased):
        return None
    return _digest(
        lambda: step_hash(
            skill_name=step.skill_name,
            params_digest=digests.params_digest(params),
            status=step.status.value,
            outcome_category=step.outcome_category,
            outcome_code=step.outcome_code,
            retry_count=step.retry_count,
        )
    )


def _outcome_digest(stream: Any, end: Event) -> bytes | None:
    """32 bytes, None where there is no outcome, or not all of it. `stream`: the outcome, if it was one."""
    if stream is not None:
        # Chunks are erased one by one.
        chunks = stream["chunks"]
        whole = not (isinstance(chunks, list) and any(isinstance(chunk, Erased) for chunk in chunks))
        return _digest(lambda: hashing.outcome_digest(stream)) if whole else None
    data = end.values.get("outcome_data")
    if data is None or isinstance(data, Erased) or data.strip() == b"null":
        return None
    return _digest(lambda: digests.outcome_digest(data))


def _digest(digest: Callable[[], str]) -> bytes | None:
    """The 32 bytes of a digest, None where the content is too large to have one."""
    try:
        return bytes.fromhex(digest())
    except LimitError:
        return None


def verify(ledger: Ledger) -> None:
    """Recomputes every commitment and the root.

    Raises `RecordCorruptError` (events missing, swapped, altered; a cut tail) or
    `RecordGapError` (a value without its salt). Returns None: what verifies is as it was sealed.
    """
    for expected, event in enumerate(ledger.events):
        if event.seq != expected:
            raise RecordCorruptError("events are missing or out of order", expected=expected, got=event.seq)
    if not ledger.events:
        raise RecordCorruptError("a ledger holds no events", expected="run_started first")
    last = ledger.events[-1]
    if last.type not in ("run_finished", "run_aborted"):
        raise RecordCorruptError(
            "the ledger's tail is cut",
            where=f"event {last.seq}",
            expected="run_finished or run_aborted last",
            got=last.type,
        )
    root = merkle_root(leaves(ledger)).hex()
    if root != ledger.root_hash:
        raise RecordCorruptError(
            "the ledger does not give its root: an event or a value was altered",
            run_id=ledger.events[0].facts.get("run_id"),
            expected=ledger.root_hash,
            got=root,
        )


@dataclass(slots=True)
class StepProof:
    """Evidence that one event belongs to a root (RFC 9162, 2.1.3), without the rest of the run."""

    root_hash: str
    tree_size: int
    leaf_index: int
    envelope: dict[str, Any]
    path: list[str]

    def holds(self) -> bool:
        """Whether the proof leads from the envelope to the root."""
        return verify_inclusion(
            leaf_data(self.envelope),
            self.leaf_index,
            self.tree_size,
            [bytes.fromhex(node) for node in self.path],
            bytes.fromhex(self.root_hash),
        )


def prove(ledger: Ledger, seq: int) -> StepProof:
    """The inclusion proof of the event with this `seq`. Raises `IndexError` beyond the ledger."""
    data = leaves(ledger)
    return StepProof(
        root_hash=ledger.root_hash,
        tree_size=len(data),
        leaf_index=seq,
        envelope=envelope(ledger.events[seq], ledger),
        path=[node.hex() for node in inclusion_proof(data, seq)],
    )


def erase(ledger: Ledger, targets: set[tuple[int, str]]) -> Ledger:
    """The same ledger without these values: `(seq, field name)` each.

    The commitments stay, so the root is unchanged; the salts of the erased values and the run
    seed are gone. Raises `RecordGapError` for a target that the ledger does not hold.
    """
    left = set(targets)
    events: list[Event] = []
    salts: dict[tuple[int, str], bytes] = {}
    for event in ledger.events:
        values: dict[str, bytes | Erased] = {}
        for name, data in event.values.items():
            key = (event.seq, name)
            if isinstance(data, Erased):
                values[name] = data
            elif key in left:
                left.discard(key)
                values[name] = Erased(commitment(ledger.salt_of(*key), data).hex())
            else:
                values[name] = data
                salts[key] = ledger.salt_of(*key)
        events.append(Event(event.seq, event.type, event.time_us, dict(event.facts), values))
    if left:
        seq, name = min(left)
        raise RecordGapError("there is no such value to erase", where=f"event {seq}, value {name!r}")
    return replace(ledger, events=events, seed=None, salts=salts)
