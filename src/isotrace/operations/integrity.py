"""Whether a record is what was recorded: verify, prove, erase, rebuild."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isotrace import ledger as ledgers
from isotrace.canonical import parse_json
from isotrace.contracts import RunQuery, TraceStore
from isotrace.errors import (
    CanonicalizationError,
    IsotraceError,
    RecordCorruptError,
    RecordError,
    UsageError,
)
from isotrace.events import Event
from isotrace.hashing import inclusion_proof
from isotrace.ledger import Ledger, SealedRun, StepProof
from isotrace.models import Erased
from isotrace.operations.runs import Selection, find_run, list_runs

_REBUILD = "the ledger itself is intact: `isotrace rebuild` recomputes what the store searches by"
_JSON_IN_TEXT = 4
"""How many times JSON inside a string is looked into: tool arguments inside a message inside a body."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A ledger whose values give its commitments, and these its root.

    `erased` counts values of which only the commitment is left.
    """

    run_id: str
    root_hash: str
    events: int
    values: int
    erased: int
    source: str
    against: str | None
    """What the root was held against: `store`, `file` (which states it itself), `given`; None: nothing."""
    taken_over: tuple[str, str] | None = None
    """Tenants: who recorded the run, and who took it over."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "verified": self.against is not None,
            "held_against": self.against,
            "run_id": self.run_id,
            "root_hash": self.root_hash,
            "events": self.events,
            "values": self.values,
            "erased": self.erased,
            "source": self.source,
            "recorded_for": self.taken_over[0] if self.taken_over else None,
            "taken_over_by": self.taken_over[1] if self.taken_over else None,
        }


def verify_run(store: TraceStore, name: str, *, tenant_id: str, root: str | None = None) -> Verified:
    """Recomputes a stored run: every commitment, the root, and what the store searches by.

    `root` is one that was kept elsewhere. Raises `RecordCorruptError` naming what does not fit,
    `RecordGapError` where a salt is missing, and as `find_run` does.
    """
    run_id = find_run(store, name, tenant_id=tenant_id)
    ledger = store.ledger(run_id, tenant_id=tenant_id)
    try:
        verified = verify_ledger(ledger, source=store.url, against="store" if root is None else "given")
    except RecordError as error:
        error.run_id = run_id
        error.where = error.where or _where_altered(store, ledger, run_id, tenant_id)
        raise
    if verified.run_id != run_id:
        raise RecordCorruptError(
            "the ledger under this id is another run's", run_id=run_id, expected=run_id, got=verified.run_id
        )
    hold_against(verified.root_hash, root, run_id)
    _verify_projection(store, ledger, run_id, tenant_id)
    return verified


def verify_ledger(ledger: Ledger, *, source: str, against: str | None) -> Verified:
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
        against=against,
        taken_over=(ledger.events[0].facts["tenant_id"], owner) if owner else None,
    )


def _where_altered(store: TraceStore, ledger: Ledger, run_id: str, tenant_id: str) -> str | None:
    """The first event that is not what the store's rows say of it; None if the rows can't tell.

    A stored ledger keeps no commitment of a value that is there, so its root alone tells no place.
    """
    try:
        expected = ledgers.project(ledger)
        rows = store.steps(run_id, tenant_id=tenant_id)
        item = store.get(run_id, tenant_id=tenant_id)
    except (IsotraceError, ValueError, TypeError, LookupError, AttributeError):
        return None  # altered so that it can't be read
    for found, row in zip(expected.steps, rows, strict=False):
        if found.outcome_digest != row.outcome_digest:
            return f"event {row.end_seq}, value 'outcome_data'"
        if (found.skill_name, found.kind, found.lineage) != (row.skill_name, row.kind, row.lineage):
            return f"event {row.start_seq}, facts of the step"
        ends = ((one.status, one.cost_cents, one.duration_ms) for one in (found, row))
        if len(set(ends)) > 1:
            return f"event {row.end_seq}, facts of the step's end"
        if found.determinism_hash != row.determinism_hash:
            return f"event {row.start_seq}, value 'params'"
    if dict(expected.metadata) != dict(item.metadata):
        return "event 0, value 'metadata'"
    return None


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
                hint=_REBUILD,
            )
    # Only a store that keeps an index beside the rows has anything more to hold against the ledger.
    unlisted = getattr(store, "unlisted", None)
    if unlisted is not None and (wrong := unlisted(SealedRun(ledger, expected))):
        raise RecordCorruptError(
            "the store's index is not what the ledger gives: a listing by these filters would be wrong",
            run_id=run_id,
            got=", ".join(wrong),
            hint=_REBUILD,
        )


# --- proofs ---------------------------------------------------------------------------

PROOF_FORMAT = "isotrace-proof/2"
_PROOF_FAMILY = "isotrace-proof/"

_RUN_ENDS = ("run_finished", "run_aborted")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def prove(store: TraceStore, name: str, step_index: int, *, tenant_id: str) -> dict[str, Any]:
    """Proofs that a step's start and end belong to the run's root, as JSON data that
    `verify_proof` accepts without the rest of the run.

    Besides the step's events there are the run's first, which names the run, and its last, whose
    number says how large the tree is. Nothing stands in a proof that no audit path covers.

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
    data = ledgers.leaves(ledger)
    wanted = (0, rows[0].start_seq, rows[0].end_seq, len(data) - 1)
    return {
        "format": PROOF_FORMAT,
        "root_hash": ledger.root_hash,
        "events": [
            {
                "envelope": ledgers.envelope(ledger.events[seq], ledger),
                "path": [node.hex() for node in inclusion_proof(data, seq)],
            }
            for seq in wanted
            if seq is not None
        ],
    }


def verify_proof(
    data: dict[str, Any],
    *,
    root: str | None = None,
    stored_root: Callable[[str], str | None] = lambda _: None,
) -> dict[str, Any]:
    """Checks what `prove` gave. Returns the root, what it was held against, and what the proven
    events say: run, lineage and skill of the step, and the types of its events.

    A proof leads to the root that it names itself, and anybody can make one that does. So it proves
    something of a run only where that root is known from elsewhere: `root` (`given`), else what
    `stored_root` gives for the run's id (`store`). Where neither is there, `held_against` is None and
    `verified` False.

    Raises `RecordCorruptError` where a proof does not lead to its root, or that is not the known one,
    its events are not those of one step, or it is no proof.
    """
    _check_shape(data)
    envelopes = [entry["envelope"] for entry in data["events"]]
    _check_events(envelopes)
    size = envelopes[-1]["seq"] + 1
    for entry in data["events"]:
        seq = entry["envelope"]["seq"]
        proof = StepProof(data["root_hash"], size, seq, entry["envelope"], entry["path"])
        if not _holds(proof):
            raise RecordCorruptError(
                "the proof does not lead to the root: the step, the path or the root was altered",
                where=f"event {seq}",
            )
    run_id, step = envelopes[0]["run_id"], envelopes[1:-1]
    known = root if root is not None else stored_root(run_id)
    hold_against(data["root_hash"], known, run_id)
    against = None if known is None else "store" if root is None else "given"
    return {
        "verified": against is not None,
        "held_against": against,
        "root_hash": data["root_hash"],
        "run_id": run_id,
        "lineage": step[0]["lineage"],
        "skill_name": step[0]["skill_name"],
        "events": [envelope["type"] for envelope in step],
    }


def _no_proof(why: str) -> RecordCorruptError:
    return RecordCorruptError(f"this is not a proof: {why}", expected=PROOF_FORMAT)


def _check_shape(data: dict[str, Any]) -> None:
    """Exactly the known keys, each of its type, digests in their one spelling."""
    if data.get("format") != PROOF_FORMAT:
        raise _no_proof("it is of another format")
    if data.keys() != {"format", "root_hash", "events"}:
        raise _no_proof("its keys are not format, root_hash and events")
    if not _is_digest(data["root_hash"]):
        raise _no_proof("its root is not 64 hex digits")
    if not isinstance(data["events"], list) or len(data["events"]) not in (3, 4):
        raise _no_proof("it does not hold the run's first event, the step's, and the run's last")
    for entry in data["events"]:
        if not isinstance(entry, dict) or entry.keys() != {"envelope", "path"}:
            raise _no_proof("an event is not an envelope and a path")
        if not isinstance(entry["path"], list) or not all(map(_is_digest, entry["path"])):
            raise _no_proof("a path is not a list of digests")
        if not isinstance(entry["envelope"], dict) or type(entry["envelope"].get("seq")) is not int:
            raise _no_proof("an envelope has no number")


def _check_events(envelopes: list[dict[str, Any]]) -> None:
    """That these are the first event of a run, start and end of one step, and the run's last."""
    first, start, *end, last = envelopes
    if first.get("type") != "run_started" or first["seq"] != 0 or not isinstance(first.get("run_id"), str):
        raise _no_proof("its first event is not the start of a run")
    if last.get("type") not in _RUN_ENDS:
        raise _no_proof("its last event is not the end of a run")
    if start.get("type") != "step_started" or any(one.get("type") != "step_finished" for one in end):
        raise _no_proof("its events are not the start and the end of a step")
    if not isinstance(start.get("lineage"), list) or not isinstance(start.get("skill_name"), str):
        raise _no_proof("its step has no lineage or no skill")
    if any(one.get("lineage") != start["lineage"] for one in end):
        raise _no_proof("its events are of two steps")
    seqs = [envelope["seq"] for envelope in envelopes]
    if seqs != sorted(set(seqs)):
        raise _no_proof("its events are out of order")


def _holds(proof: StepProof) -> bool:
    try:
        return proof.holds()
    except CanonicalizationError:
        return False


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def hold_against(found: str, root: str | None, run_id: str) -> None:
    """Compares a root with one that was kept elsewhere, if there is one.

    Raises `RecordCorruptError` if they differ, `UsageError` if `root` is no root.
    """
    if root is None:
        return
    if not _is_digest(root.lower()):
        raise UsageError("this is not a root", expected="64 hex digits", got=root)
    if found != root.lower():
        raise RecordCorruptError(
            "the run's root is not the one that was kept", run_id=run_id, expected=root.lower(), got=found
        )


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
        _add_pieces(found, item.summary.run_id, ledger)
    return found


def _add_pieces(found: Erasure, run_id: str, ledger: Ledger) -> None:
    """The text of an answer may lie across several pieces of its stream, so they all go with it."""
    known = found.targets.get(run_id, [])
    answers = {
        ledger.events[seq].lineage
        for seq, name in known
        if name == "outcome_data" and ledger.events[seq].facts.get("assembled")
    }
    if answers:
        pieces = [
            (event.seq, "chunk")
            for event in ledger.events
            if event.type == "step_chunk"
            and event.lineage in answers
            and not isinstance(event.values.get("chunk"), Erased)
        ]
        found.targets[run_id] = sorted({*known, *pieces})


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


_OF_A_STREAM = frozenset({"outcome_data", "chunk"})


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
    if _OF_A_STREAM.intersection(fields):
        # Each holds what the other does.
        fields = [*fields, *_OF_A_STREAM]
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
    if not isinstance(data, dict) or not str(data.get("format")).startswith(_PROOF_FAMILY):
        return None
    return data
