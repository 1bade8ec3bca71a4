"""The ledger of a run: its event types, and the fold from events to a `TraceRecord`.

A run is an append-only list of events. An event states *facts* in the clear and keeps
*values* (what a user or a model said) apart, as the exact bytes that were recorded, so that a
value can be withheld or erased while the facts and the run's root stay verifiable.

- `run_started`: scheme, run_id, origin_run_id, correlation_id, tenant_id, agent_id, seed, frozen_timestamp,
  entry_point, parent, sources (what is noted of what the code reads by itself), edges (what alone is on
  record, if not all is); values plan, input,
  metadata, environment
- `step_started`: lineage, kind, skill_name, effect, captured (the library whose call it is, where no skill
  was marked); values params, raw_ids
- `step_attempt`: lineage, attempt, outcome_category, outcome_code; value error
- `step_chunk`: lineage, index; value chunk
- `value_read`: lineage, source, index; its value. Of what the code read by itself: lineage, source, gap (the
  number of the branch's next step); the values that were read there
- `step_finished`: lineage, status, outcome_category, outcome_code, cost_cents, duration_ms, retry_count;
  values outcome_data, error, transport (how the answer of an exchange came: no part of any digest)
- `violation`: lineage, policy_id; value reason
- `run_finished`: status, step_count; values result, error, metadata
- `run_aborted`: reason; value metadata

Optional facts of `step_finished`: `stream` (the outcome is the chunks), `assembled` (it is the answer that
they make, and the chunks stand beside it), `partial` (not all of that answer came), `closed_early`,
`delivered: false` (the agent's own code ended the step, by cancelling or closing it), `survived` (how
often it had been cancelled before that, without ending), `usage` (the model that answered and its tokens, by
name; the list that the cost was computed by, or why it gave none), `at_once` (it was
awaited and did not wait for anything, so its end came without a turn), `child_run_id`, `marks` (reasons
why this step may not replay).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, get_args
from unicodedata import category

import orjson

from isotrace.errors import RecordCorruptError, SchemaUnsupportedError
from isotrace.hashing import SCHEME
from isotrace.jsondiff import MISSING
from isotrace.models import (
    Erased,
    Lineage,
    RunContext,
    StepContext,
    TraceRecord,
    TraceStatus,
    TraceStep,
    Usage,
    Violation,
)

EventType = Literal[
    "run_started",
    "step_started",
    "step_attempt",
    "step_chunk",
    "value_read",
    "step_finished",
    "violation",
    "run_finished",
    "run_aborted",
]
EVENT_TYPES: frozenset[str] = frozenset(get_args(EventType))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UTC = _EPOCH.replace(tzinfo=None)


MAX_RUN_ID = 200
"""How many characters a run id may have."""


def run_id_problem(run_id: str) -> str | None:
    """Why a text can't be the id of a run that comes in, None if it can."""
    if not 0 < len(run_id) <= MAX_RUN_ID:
        return f"a run id has 1 to {MAX_RUN_ID} characters"
    if run_id.startswith("@"):
        return "a run id does not start with @, because `@last` is a name on the command line"
    if any(category(char) in _UNSEEN for char in run_id):
        return "a run id holds no control characters"
    return None


# Control characters, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Zl", "Zp"})


@dataclass(slots=True)
class Event:
    """One line of a ledger.

    `time_us` is microseconds since 1970-01-01 UTC. `facts` holds what stands in the clear,
    without `seq`, `type` and `time`. `values` maps a field's name to its value bytes (compact
    JSON in insertion order), or to `Erased` where only the commitment is left.
    """

    seq: int
    type: str
    time_us: int
    facts: dict[str, Any] = field(default_factory=dict)
    values: dict[str, bytes | Erased] = field(default_factory=dict)

    @property
    def lineage(self) -> Lineage:
        """The step's place in the run; `()` for events of the run itself."""
        return tuple(self.facts.get("lineage") or ())

    def value(self, name: str, default: Any = None) -> Any:
        """The value under `name` as plain JSON data, `Erased` if it was, `default` if there is none."""
        data = self.values.get(name)
        if data is None:
            return default
        return data if isinstance(data, Erased) else orjson.loads(data)


def datetime_of(time_us: int) -> datetime:
    """The aware UTC datetime of a number of microseconds since 1970."""
    return _EPOCH + timedelta(0, 0, time_us)


def microseconds_of(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime; a naive one is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def time_text(time_us: int) -> str:
    """The form that envelopes carry: UTC, six digits, `Z`."""
    # Sealing writes one for each event, and those of a run mostly fall into few seconds.
    seconds, fraction = divmod(time_us, 1_000_000)
    return f"{_second_text(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    return (_EPOCH_UTC + timedelta(seconds=seconds)).isoformat()


def lineage_key(lineage: Iterable[int | str]) -> tuple[tuple[int, int, str], ...]:
    """Sort key of the canonical order of steps.

    Numbers sort as numbers; a keyed branch (`isotrace.branch`) sorts before the numbered
    children of the same place, because it was opened before the counter moved on.
    """
    return tuple((0, 0, part) if isinstance(part, str) else (1, part, "") for part in lineage)


class LedgerFold:
    """Reads events one by one and becomes a `TraceRecord`: `fold` in steps, for runs that still run.

    `contents` is that of `fold`.
    """

    def __init__(self, *, contents: bool = True) -> None:
        self._contents = contents
        self._started: Event | None = None
        self._steps: dict[Lineage, TraceStep] = {}
        self._chunks: dict[Lineage, list[Any]] = {}
        self._violations: list[tuple[Lineage, Event]] = []
        self._metadata: dict[str, Any] = {}
        self._context = RunContext()
        self._status = "running"
        self._completed: datetime | None = None

    def add(self, event: Event) -> None:
        """Takes the next event.

        Raises `SchemaUnsupportedError` for an event type of a newer version and
        `RecordCorruptError` where the events contradict each other.
        """
        handler = _HANDLERS.get(event.type)
        if handler is None:
            raise SchemaUnsupportedError(
                "unknown event type",
                where=f"event {event.seq}",
                expected=", ".join(sorted(EVENT_TYPES)),
                got=event.type,
                hint="the run was written by a newer isotrace: upgrade to read it",
            )
        if self._started is None and event.type != "run_started":
            raise RecordCorruptError(
                "a ledger must begin with run_started", where=f"event {event.seq}", got=event.type
            )
        try:
            handler(self, event)
        except KeyError as missing:
            raise RecordCorruptError(
                f"{event.type} lacks a fact", where=f"event {event.seq}", expected=missing.args[0]
            ) from None
        except (TypeError, ValueError) as odd:
            raise RecordCorruptError(
                f"{event.type} holds what no recorder writes", where=f"event {event.seq}", got=str(odd)
            ) from None

    def record(self, root_hash: str | None = None) -> TraceRecord:
        """The run as far as it has been read. Steps without an end are failures of category
        INDETERMINATE. Raises `RecordCorruptError` if there was no `run_started`."""
        if self._started is None:
            raise RecordCorruptError("a ledger holds no events", expected="run_started first")
        facts = self._started.facts
        ordered = sorted(self._steps.items(), key=lambda item: lineage_key(item[0]))
        index_of: dict[Lineage, int] = {}
        for index, (lineage, step) in enumerate(ordered):
            step.step_index = index
            index_of[lineage] = index
        return TraceRecord(
            run_id=facts["run_id"],
            correlation_id=facts["correlation_id"],
            tenant_id=facts["tenant_id"],
            agent_id=facts.get("agent_id"),
            plan=self._started.value("plan", []),
            steps=[step for _, step in ordered],
            started_at=datetime_of(self._started.time_us),
            completed_at=self._completed,
            status=self._status,
            metadata=self._metadata,
            seed=facts["seed"],
            frozen_timestamp=facts.get("frozen_timestamp"),
            root_hash=root_hash,
            violations=[
                Violation(
                    step_index=index_of.get(lineage),
                    timestamp=datetime_of(event.time_us),
                    policy_id=event.facts["policy_id"],
                    reason=event.value("reason", ""),
                )
                for lineage, event in self._violations
            ],
            context=self._context,
        )

    def _add_metadata(self, event: Event) -> None:
        added = event.value("metadata", {})
        if isinstance(added, Mapping):
            self._metadata.update(added)
        elif isinstance(added, Erased):
            self._metadata["erased"] = True

    def _run_started(self, event: Event) -> None:
        if self._started is not None:
            raise RecordCorruptError("a ledger holds two run_started", where=f"event {event.seq}")
        for fact in ("run_id", "correlation_id", "tenant_id", "seed"):
            event.facts[fact]
        self._started = event
        self._add_metadata(event)
        facts = event.facts
        self._context.scheme = facts.get("scheme", SCHEME)
        self._context.origin_run_id = facts.get("origin_run_id")
        self._context.entry_point = facts.get("entry_point")
        self._context.parent = facts.get("parent")
        redactors = facts.get("redactors")
        self._context.redactors = redactors if isinstance(redactors, dict) else None
        self._context.input = event.value("input", MISSING)
        self._context.environment = event.value("environment", MISSING)

    def _step_started(self, event: Event) -> None:
        facts, lineage = event.facts, event.lineage
        if lineage in self._steps:
            raise RecordCorruptError(
                "two steps have one lineage", where=f"event {event.seq}", got=lineage_text(lineage)
            )
        self._steps[lineage] = TraceStep(
            step_index=-1,
            skill_name=facts["skill_name"],
            params=event.value("params", {}) if self._contents else {},
            status=TraceStatus.FAILURE,
            outcome_category="INDETERMINATE",
            outcome_code=None,
            outcome_data=None,
            cost_cents=0.0,
            duration_ms=0.0,
            retry_count=0,
            timestamp=datetime_of(event.time_us),
            context=StepContext(
                kind=facts["kind"],
                lineage=lineage,
                effect=facts["effect"],
                start_seq=event.seq,
                raw_ids=event.value("raw_ids", {}),
            ),
        )

    def _step_of(self, event: Event) -> TraceStep:
        step = self._steps.get(event.lineage)
        if step is None:
            raise RecordCorruptError(
                f"{event.type} of a step that never started",
                where=f"event {event.seq}",
                got=lineage_text(event.lineage),
            )
        return step

    def _step_attempt(self, event: Event) -> None:
        step = self._step_of(event)
        attempt = {key: value for key, value in event.facts.items() if key != "lineage"}
        if (error := event.value("error")) is not None:
            attempt["error"] = error
        if step.context is not None:
            step.context.attempts.append(attempt)

    def _step_chunk(self, event: Event) -> None:
        self._step_of(event)
        self._chunks.setdefault(event.lineage, []).append(event.value("chunk"))

    def _value_read(self, event: Event) -> None:
        pass

    def _step_finished(self, event: Event) -> None:
        facts, step = event.facts, self._step_of(event)
        step.status = TraceStatus(facts["status"])
        step.outcome_category = facts["outcome_category"]
        step.outcome_code = facts.get("outcome_code")
        assembled = facts.get("assembled") is True
        stream = facts.get("stream") and not assembled
        if stream or self._contents:
            step.outcome_data = event.value("outcome_data")
        step.cost_cents = facts.get("cost_cents", 0.0)
        step.duration_ms = facts.get("duration_ms", 0.0)
        step.retry_count = facts.get("retry_count", 0)
        if stream:
            pieces: dict[str, Any] = {"chunks": self._chunks.pop(event.lineage, [])}
            if isinstance(step.outcome_data, dict):
                pieces.update(step.outcome_data)
            step.outcome_data = pieces
        context = step.context
        if context is not None:
            context.end_seq = event.seq
            context.error = _message_of(event.value("error"))
            context.child_run_id = facts.get("child_run_id")
            context.marks = list(facts.get("marks", ()))
            context.at_once = facts.get("at_once") is True
            if (usage := facts.get("usage")) is not None:
                context.usage = Usage.from_dict(usage)
            if "transport" in event.values:
                context.transport = event.value("transport")
            if assembled:
                chunks = self._chunks.pop(event.lineage, [])
                context.chunks = chunks if self._contents else None
            for mark in ("closed_early", "partial"):
                if facts.get(mark):
                    context.marks.append(mark)

    def _violation(self, event: Event) -> None:
        self._violations.append((event.lineage, event))

    def _run_finished(self, event: Event) -> None:
        self._status = event.facts["status"]
        self._completed = datetime_of(event.time_us)
        self._add_metadata(event)
        self._context.result = event.value("result", MISSING)
        self._context.error = event.value("error", MISSING)

    def _run_aborted(self, event: Event) -> None:
        self._status = "aborted"
        self._completed = datetime_of(event.time_us)
        self._add_metadata(event)
        self._metadata.setdefault("abort_reason", event.facts.get("reason"))


def _message_of(error: Any) -> Any:
    """What a person reads of a recorded error: its message, where more than that was kept. A str, None or
    `Erased`; whatever else an error was recorded as gives its JSON text."""
    if isinstance(error, dict) and "message" in error:
        error = error["message"]
    if error is None or isinstance(error, str | Erased):
        return error
    return orjson.dumps(error).decode()


_HANDLERS = {name: getattr(LedgerFold, f"_{name}") for name in EVENT_TYPES}


def lineage_text(lineage: Iterable[int | str]) -> str:
    """A lineage as people read it: `0.2.1`; a key of a keyed branch stands in brackets: `0.2[eu].1`."""
    text = ""
    for part in lineage:
        text += f"[{part}]" if isinstance(part, str) else (f".{part}" if text else f"{part}")
    return text


def fold(events: Iterable[Event], root_hash: str | None = None, *, contents: bool = True) -> TraceRecord:
    """The record that these events of one run add up to, by `seq` and without gaps.

    Without `contents` the values of steps stay unread: params are empty and outcomes None, but for the
    outcomes of streams, which nothing but a fold puts together.

    Raises `SchemaUnsupportedError` and `RecordCorruptError` as `LedgerFold.add` does, and
    `RecordCorruptError` for a gap in `seq`.
    """
    state = LedgerFold(contents=contents)
    for expected, event in enumerate(events):
        if event.seq != expected:
            raise RecordCorruptError("events are missing or out of order", expected=expected, got=event.seq)
        state.add(event)
    return state.record(root_hash)
