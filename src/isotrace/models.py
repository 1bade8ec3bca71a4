"""The contract: what a run is, as plain dataclasses that need nothing but the standard library.

A `TraceRecord` is one run, its `TraceStep`s are the skill calls in it, a `TraceSummary` is its line
in a listing, and a `ParityResult` says whether two runs took the same path. Fields named after
the ones that every system of this schema shares come first; what isotrace adds is optional and last.

Dictionaries are read strictly: a missing field or a wrong type is a `FieldError` with a JSON Pointer.
Keys that this version does not know are left out of account, so that a newer minor version can be read.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar, Final, cast

from isotrace import hashing
from isotrace.canonical import value_bytes
from isotrace.errors import (
    CanonicalizationError,
    ChecksumMismatchError,
    FieldError,
    RecordGapError,
    SchemaUnsupportedError,
    StepOrderError,
    UnverifiedChecksumWarning,
)
from isotrace.jsondiff import MISSING, Change, diff_values, pointer_escape

__all__ = [
    "META_MODEL",
    "META_PARENT_RUN",
    "META_REPLAYABILITY",
    "META_REPLAY_OF",
    "META_REWARD",
    "META_SOURCE",
    "META_TASK",
    "META_TIME",
    "META_TRIAL",
    "Erased",
    "Lineage",
    "ParityResult",
    "StepContext",
    "TraceRecord",
    "TraceStatus",
    "TraceStep",
    "TraceSummary",
    "Violation",
    "compare_traces",
]

Lineage = tuple[int | str, ...]
"""A step's place in its run: the numbers (or branch keys) from the root branch down."""

META_SOURCE: Final = "source"
META_TASK: Final = "task"
META_TRIAL: Final = "trial"
META_MODEL: Final = "model"
META_REWARD: Final = "reward"
META_REPLAYABILITY: Final = "replayability"
META_REPLAY_OF: Final = "replay_of"
META_TIME: Final = "time"
META_PARENT_RUN: Final = "parent_run_id"

_DEFAULT_SEED = 42
_ERASED_TAG = "$iso:erased"


class TraceStatus(str, Enum):
    """Status of a step. `RETRY` comes from imports only; our own retries are a number on one step."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRY = "retry"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Erased:
    """Stands where a value was erased or withheld. `commit` is its commitment, 64 hex digits."""

    commit: str

    def to_dict(self) -> dict[str, str]:
        """The plain form: `{"$iso:erased": commit}`, a key that no recorded value has."""
        return {_ERASED_TAG: self.commit}


def _utc(moment: datetime) -> datetime:
    # Without this a record read back would differ from the one written.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _time_text(moment: datetime) -> str:
    return _utc(moment).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else _time_text(moment)


def _normalize_for_determinism(value: Any) -> Any:
    """The value as hashes see it: floats rounded to 6 places, −0.0 as 0.0, everything else unchanged.

    Containers are copied. Raises `CycleError` and `LimitError` as `hashing.normalize` does.
    """
    return hashing.normalize(value)


# --- reading dictionaries -----------------------------------------------------------


def _object(value: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(
            "a field has the wrong type", pointer=pointer, expected="an object", got=_kind(value)
        )
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


class _Fields:
    """Typed access to the fields of one dictionary; its errors say where it stands in the whole."""

    def __init__(self, data: Any, pointer: str) -> None:
        self.data = _object(data, pointer)
        self.pointer = pointer

    def at(self, name: str) -> str:
        return f"{self.pointer}/{pointer_escape(name)}"

    def wrong(self, name: str, expected: str) -> FieldError:
        value = self.data[name]
        got = _kind(value) if isinstance(value, dict | list | None) else f"{value!r} ({_kind(value)})"
        return FieldError("a field has the wrong type", pointer=self.at(name), expected=expected, got=got)

    def any(self, name: str) -> Any:
        """A field that must be there, erased values restored."""
        if name not in self.data:
            raise FieldError("a field is missing", pointer=self.at(name))
        return _restored(self.data[name])

    def text(self, name: str) -> str:
        value = self.any(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.data.get(name) is None else self.text(name)

    def whole(self, name: str) -> int:
        value = self.any(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "an integer")
        return value

    def whole_or_none(self, name: str) -> int | None:
        return None if self.data.get(name) is None else self.whole(name)

    def number(self, name: str) -> float:
        value = self.any(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        return float(value)

    def time(self, name: str) -> datetime:
        try:
            return _utc(datetime.fromisoformat(self.text(name)))
        except ValueError as error:
            if isinstance(error, FieldError):
                raise
            raise self.wrong(name, "a time as ISO 8601 has it") from None

    def time_or_none(self, name: str) -> datetime | None:
        return None if self.data.get(name) is None else self.time(name)

    def list(self, name: str) -> list[Any]:
        value = self.any(name)
        if not isinstance(value, list | tuple):
            raise self.wrong(name, "an array")
        return list(value)

    def object(self, name: str) -> dict[str, Any]:
        """A dictionary, or what stands for an erased one."""
        value = self.any(name)
        if not isinstance(value, dict | Erased):
            raise self.wrong(name, "an object")
        return cast("dict[str, Any]", value)


def _restored(value: Any) -> Any:
    """The value, or `Erased` where its plain form stands for one."""
    if isinstance(value, dict) and len(value) == 1 and _ERASED_TAG in value:
        commit = value[_ERASED_TAG]
        if isinstance(commit, str):
            return Erased(commit)
    return value


def _shown(value: Any) -> Any:
    """The plain form of a value that may be erased."""
    return value.to_dict() if isinstance(value, Erased) else value


def _chunks_mapped(outcome: Any, change: Callable[[Any], Any]) -> Any:
    """An outcome with each of its stream's chunks changed: chunks are values that are erased one by one."""
    if not isinstance(outcome, dict) or not isinstance(outcome.get("chunks"), list):
        return outcome
    chunks = [change(chunk) for chunk in outcome["chunks"]]
    if all(new is old for new, old in zip(chunks, outcome["chunks"], strict=True)):
        return outcome
    return {**outcome, "chunks": chunks}


# --- steps --------------------------------------------------------------------------


@dataclass(slots=True)
class StepContext:
    """What isotrace knows of a step beyond the shared fields. No hash covers it.

    `kind`: llm, tool, retrieval, code, agent, timer. `effect`: pure, read, idempotent_write, write.
    `start_seq` and `end_seq` are the step's events in the ledger; `raw_ids` maps JSON Pointers
    into params to the provider's own ids; `marks` are reasons why the step may not replay.
    """

    kind: str = "tool"
    lineage: Lineage = ()
    effect: str = "write"
    attempts: list[dict[str, Any]] = field(default_factory=list)
    start_seq: int | None = None
    end_seq: int | None = None
    raw_ids: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    child_run_id: str | None = None
    marks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "kind": self.kind,
            "lineage": list(self.lineage),
            "effect": self.effect,
            "attempts": [{key: _shown(value) for key, value in one.items()} for one in self.attempts],
            "start_seq": self.start_seq,
            "end_seq": self.end_seq,
            "raw_ids": _shown(self.raw_ids),
            "error": _shown(self.error),
            "child_run_id": self.child_run_id,
            "marks": list(self.marks),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> StepContext:
        """The inverse of `to_dict`. Raises `FieldError`."""
        fields = _Fields(data, pointer)
        lineage = fields.list("lineage")
        if not all(isinstance(part, int | str) and not isinstance(part, bool) for part in lineage):
            raise fields.wrong("lineage", "an array of integers and strings")
        attempts = [
            _object(one, f"{fields.at('attempts')}/{i}") for i, one in enumerate(fields.list("attempts"))
        ]
        marks = fields.list("marks")
        if not all(isinstance(mark, str) for mark in marks):
            raise fields.wrong("marks", "an array of strings")
        error = fields.any("error")
        if not isinstance(error, str | Erased | None):
            raise fields.wrong("error", "a string or null")
        return cls(
            kind=fields.text("kind"),
            lineage=tuple(lineage),
            effect=fields.text("effect"),
            attempts=[{key: _restored(value) for key, value in one.items()} for one in attempts],
            start_seq=fields.whole_or_none("start_seq"),
            end_seq=fields.whole_or_none("end_seq"),
            raw_ids=fields.object("raw_ids"),
            error=cast("str | None", error),
            child_run_id=fields.text_or_none("child_run_id"),
            marks=marks,
        )


@dataclass(slots=True)
class TraceStep:
    """A single step of a run.

    `params` are the call's arguments by name, `outcome_data` is what came back (None: nothing
    did). Either may be `Erased` in a record whose content was erased or withheld.
    `timestamp` is the step's start; a naive one is taken as UTC.
    """

    step_index: int
    skill_name: str
    params: dict[str, Any]
    status: TraceStatus
    outcome_category: str
    outcome_code: str | None
    outcome_data: dict[str, Any] | None
    cost_cents: float
    duration_ms: float
    retry_count: int
    timestamp: datetime
    context: StepContext | None = None

    def __post_init__(self) -> None:
        self.timestamp = _utc(self.timestamp)

    def to_dict(self) -> dict[str, Any]:
        """Plain data. `params` and `outcome_data` are not copied."""
        return {
            "step_index": self.step_index,
            "skill_name": self.skill_name,
            "params": _shown(self.params),
            "status": self.status.value,
            "outcome_category": self.outcome_category,
            "outcome_code": self.outcome_code,
            "outcome_data": _chunks_mapped(_shown(self.outcome_data), _shown),
            "cost_cents": self.cost_cents,
            "duration_ms": self.duration_ms,
            "retry_count": self.retry_count,
            "timestamp": _time_text(self.timestamp),
            "context": None if self.context is None else self.context.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> TraceStep:
        """The inverse of `to_dict`; `pointer` is where `data` stands in a larger document.

        Raises `FieldError` for a missing field, a wrong type or an unknown status.
        """
        fields = _Fields(data, pointer)
        try:
            status = TraceStatus(fields.text("status"))
        except ValueError as error:
            if isinstance(error, FieldError):
                raise
            raise fields.wrong("status", ", ".join(status.value for status in TraceStatus)) from None
        outcome = None if data.get("outcome_data") is None else fields.object("outcome_data")
        context = data.get("context")
        return cls(
            step_index=fields.whole("step_index"),
            skill_name=fields.text("skill_name"),
            params=fields.object("params"),
            status=status,
            outcome_category=fields.text("outcome_category"),
            outcome_code=fields.text_or_none("outcome_code"),
            outcome_data=_chunks_mapped(outcome, _restored),
            cost_cents=fields.number("cost_cents"),
            duration_ms=fields.number("duration_ms"),
            retry_count=fields.whole("retry_count"),
            timestamp=fields.time("timestamp"),
            context=None if context is None else StepContext.from_dict(context, pointer=fields.at("context")),
        )

    def determinism_hash(self) -> str:
        """64 hex digits over skill, params, status, category, code and retries; not over place,
        time, cost or outcome.

        Raises `RecordGapError` if the params were erased, `CanonicalizationError` if they are
        not plain values.
        """
        if isinstance(self.params, Erased):
            raise RecordGapError(
                "the params of a step are absent, so it has no hash",
                step=self.step_index,
                got=f"erased, commitment {self.params.commit}",
            )
        return hashing.step_hash(
            skill_name=self.skill_name,
            params_digest=hashing.params_digest(self.params),
            status=self.status.value,
            outcome_category=self.outcome_category,
            outcome_code=self.outcome_code,
            retry_count=self.retry_count,
        )


@dataclass(slots=True)
class Violation:
    """A policy that a run broke. `step_index` is None if it was not about one step."""

    step_index: int | None
    timestamp: datetime
    policy_id: str
    reason: str

    def __post_init__(self) -> None:
        self.timestamp = _utc(self.timestamp)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "step_index": self.step_index,
            "timestamp": _time_text(self.timestamp),
            "policy_id": self.policy_id,
            "reason": _shown(self.reason),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> Violation:
        """The inverse of `to_dict`. Raises `FieldError`."""
        fields = _Fields(data, pointer)
        reason = fields.any("reason")
        if not isinstance(reason, str | Erased):
            raise fields.wrong("reason", "a string")
        return cls(
            step_index=fields.whole_or_none("step_index"),
            timestamp=fields.time("timestamp"),
            policy_id=fields.text("policy_id"),
            reason=cast("str", reason),
        )


# --- runs ---------------------------------------------------------------------------


@dataclass(slots=True)
class TraceSummary:
    """A run as a listing shows it. The violation fields tell of the first violation, if there was one."""

    run_id: str
    correlation_id: str
    tenant_id: str
    agent_id: str | None
    total_steps: int
    success_count: int
    failure_count: int
    total_cost_cents: float
    total_duration_ms: float
    started_at: datetime
    completed_at: datetime | None
    status: str
    violation_step_index: int | None = None
    violation_timestamp: datetime | None = None
    violation_policy_id: str | None = None
    violation_reason: str | None = None

    def __post_init__(self) -> None:
        self.started_at = _utc(self.started_at)
        if self.completed_at is not None:
            self.completed_at = _utc(self.completed_at)
        if self.violation_timestamp is not None:
            self.violation_timestamp = _utc(self.violation_timestamp)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "run_id": self.run_id,
            "correlation_id": self.correlation_id,
            "tenant_id": self.tenant_id,
            "agent_id": self.agent_id,
            "total_steps": self.total_steps,
            "success_count": self.success_count,
            "failure_count": self.failure_count,
            "total_cost_cents": self.total_cost_cents,
            "total_duration_ms": self.total_duration_ms,
            "started_at": _time_text(self.started_at),
            "completed_at": _time_or_none(self.completed_at),
            "status": self.status,
            "violation_step_index": self.violation_step_index,
            "violation_timestamp": _time_or_none(self.violation_timestamp),
            "violation_policy_id": self.violation_policy_id,
            "violation_reason": _shown(self.violation_reason),
        }


@dataclass(slots=True)
class TraceRecord:
    """One run with all its steps.

    `status` is running, completed, failed or aborted; other systems may use other words.
    `root_hash` is the Merkle root over the run's events, set once the run is sealed.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0.0"

    run_id: str
    correlation_id: str
    tenant_id: str
    agent_id: str | None
    plan: list[dict[str, Any]]
    steps: list[TraceStep]
    started_at: datetime
    completed_at: datetime | None
    status: str
    metadata: dict[str, Any] = field(default_factory=dict)
    seed: int = _DEFAULT_SEED
    frozen_timestamp: str | None = None
    root_hash: str | None = None
    violations: list[Violation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started_at = _utc(self.started_at)
        if self.completed_at is not None:
            self.completed_at = _utc(self.completed_at)

    @property
    def total_cost_cents(self) -> float:
        """Cost of all steps, in cents."""
        return math.fsum(step.cost_cents for step in self.steps)

    @property
    def total_duration_ms(self) -> float:
        """Duration of all steps, in milliseconds; concurrent steps count each."""
        return math.fsum(step.duration_ms for step in self.steps)

    @property
    def success_count(self) -> int:
        """How many steps succeeded."""
        return sum(step.status is TraceStatus.SUCCESS for step in self.steps)

    @property
    def failure_count(self) -> int:
        """How many steps failed; retries and skipped steps are neither."""
        return sum(step.status is TraceStatus.FAILURE for step in self.steps)

    def determinism_signature(self) -> str:
        """64 hex digits: the end of the chain over the steps' hashes.

        Raises `StepOrderError` if `step_index` is not 0..n−1, `RecordGapError` if a step's params
        were erased, `CanonicalizationError` if they are not plain values.
        """
        return hashing.signature(self._step_hashes())

    def _step_hashes(self) -> list[str]:
        self._check_order()
        return [step.determinism_hash() for step in self.steps]

    def _check_order(self) -> None:
        for expected, step in enumerate(self.steps):
            if step.step_index != expected:
                raise StepOrderError(
                    "steps are not numbered 0, 1, 2, …",
                    run_id=self.run_id,
                    pointer=f"/steps/{expected}/step_index",
                    expected=expected,
                    got=step.step_index,
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain data with `schema_version`, `scheme` and `checksum`, which is the signature, or None
        where the params of a step were erased. Contents are not copied.

        Raises `StepOrderError` and `CanonicalizationError` as `determinism_signature` does.
        """
        gap = any(isinstance(step.params, Erased) for step in self.steps)
        return {
            "schema_version": self.SCHEMA_VERSION,
            "scheme": hashing.SCHEME,
            "run_id": self.run_id,
            "correlation_id": self.correlation_id,
            "tenant_id": self.tenant_id,
            "agent_id": self.agent_id,
            "plan": _shown(self.plan),
            "steps": [step.to_dict() for step in self.steps],
            "started_at": _time_text(self.started_at),
            "completed_at": _time_or_none(self.completed_at),
            "status": self.status,
            "metadata": _shown(self.metadata),
            "seed": self.seed,
            "frozen_timestamp": self.frozen_timestamp,
            "root_hash": self.root_hash,
            "violations": [violation.to_dict() for violation in self.violations],
            "checksum": None if gap else self.determinism_signature(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TraceRecord:
        """The inverse of `to_dict`. A missing seed is 42.

        Raises `SchemaUnsupportedError` for another major version, `FieldError` for a missing field
        or a wrong type, `StepOrderError`, and `ChecksumMismatchError` if the steps do not give the
        checksum. The checksum of another scheme can't be verified: `UnverifiedChecksumWarning`.
        """
        fields = _Fields(data, "")
        _check_version(fields)
        plan = fields.any("plan")
        if not isinstance(plan, Erased):
            plan = [_object(part, f"/plan/{i}") for i, part in enumerate(fields.list("plan"))]
        steps = fields.list("steps")
        violations = fields.list("violations") if data.get("violations") is not None else []
        record = cls(
            run_id=fields.text("run_id"),
            correlation_id=fields.text("correlation_id"),
            tenant_id=fields.text("tenant_id"),
            agent_id=fields.text_or_none("agent_id"),
            plan=cast("list[dict[str, Any]]", plan),
            steps=[TraceStep.from_dict(step, pointer=f"/steps/{i}") for i, step in enumerate(steps)],
            started_at=fields.time("started_at"),
            completed_at=fields.time_or_none("completed_at"),
            status=fields.text("status"),
            metadata=fields.object("metadata") if data.get("metadata") is not None else {},
            seed=fields.whole("seed") if data.get("seed") is not None else _DEFAULT_SEED,
            frozen_timestamp=fields.text_or_none("frozen_timestamp"),
            root_hash=fields.text_or_none("root_hash"),
            violations=[
                Violation.from_dict(one, pointer=f"/violations/{i}") for i, one in enumerate(violations)
            ],
        )
        _verify_checksum(record, fields)
        return record

    def to_summary(self) -> TraceSummary:
        """The run's line in a listing."""
        first = min(
            self.violations,
            key=lambda one: (one.step_index is None, one.step_index or 0),
            default=None,
        )
        return TraceSummary(
            run_id=self.run_id,
            correlation_id=self.correlation_id,
            tenant_id=self.tenant_id,
            agent_id=self.agent_id,
            total_steps=len(self.steps),
            success_count=self.success_count,
            failure_count=self.failure_count,
            total_cost_cents=self.total_cost_cents,
            total_duration_ms=self.total_duration_ms,
            started_at=self.started_at,
            completed_at=self.completed_at,
            status=self.status,
            violation_step_index=None if first is None else first.step_index,
            violation_timestamp=None if first is None else first.timestamp,
            violation_policy_id=None if first is None else first.policy_id,
            violation_reason=None if first is None else first.reason,
        )


def _check_version(fields: _Fields) -> None:
    version = fields.text("schema_version")
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise fields.wrong("schema_version", "a version such as 1.0.0")
    known = TraceRecord.SCHEMA_VERSION
    if int(parts[0]) != int(known.split(".")[0]):
        raise SchemaUnsupportedError(
            "the record is of another major schema version",
            pointer="/schema_version",
            expected=known,
            got=version,
            hint="upgrade isotrace to read it",
        )


def _verify_checksum(record: TraceRecord, fields: _Fields) -> None:
    scheme, checksum = fields.text_or_none("scheme"), fields.text_or_none("checksum")
    gap = any(isinstance(step.params, Erased) for step in record.steps)
    if scheme != hashing.SCHEME or (gap and checksum is not None):
        why = "params are erased" if gap else f"its scheme is {scheme!r}, not {hashing.SCHEME!r}"
        warnings.warn(
            f"the checksum of run {record.run_id!r} could not be verified: {why}",
            UnverifiedChecksumWarning,
            stacklevel=3,
        )
        return
    if gap:
        return
    signature = record.determinism_signature()
    if signature != checksum:
        raise ChecksumMismatchError(
            "the steps do not give the record's checksum: it was altered",
            run_id=record.run_id,
            pointer="/checksum",
            expected=checksum if checksum is not None else "a checksum",
            got=signature,
        )


# --- comparison ---------------------------------------------------------------------


@dataclass(slots=True)
class ParityResult:
    """Whether two runs took the same path; if not, the first step where they part, and why.

    `divergence_reason` starts with one of the divergence codes. A signature is empty where the
    run has none, because content was erased.
    """

    is_parity: bool
    original_signature: str
    replay_signature: str
    divergence_step: int | None = None
    divergence_reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "is_parity": self.is_parity,
            "original_signature": self.original_signature,
            "replay_signature": self.replay_signature,
            "divergence_step": self.divergence_step,
            "divergence_reason": self.divergence_reason,
        }


def compare_traces(original: TraceRecord, replay: TraceRecord) -> ParityResult:
    """Whether two runs took the same path.

    Compares skills, params (floats rounded), statuses, categories, codes and retries, step by
    step; not outcomes, times, durations or cost. Equal signatures are parity, always.

    `divergence_step` is the first position at which the hashes differ, or one run has no step
    left. Both runs are held against each other by position, so the reason names what is to be
    seen there; one run of added, missing or reordered steps is recognised by what follows.
    Content that is absent before any difference is no parity either: `RECORD_GAP`.

    Raises `StepOrderError`, and `CanonicalizationError` if params are not plain values.
    """
    ours, theirs = _hashes_with_gaps(original), _hashes_with_gaps(replay)
    signatures = (_signature_or_empty(ours), _signature_or_empty(theirs))
    step = _first_difference(ours, theirs)
    if step is None:
        return ParityResult(True, *signatures)
    return ParityResult(False, *signatures, step, _reason(original, replay, ours, theirs, step))


def _hashes_with_gaps(record: TraceRecord) -> list[str | None]:
    record._check_order()
    return [None if isinstance(step.params, Erased) else step.determinism_hash() for step in record.steps]


def _signature_or_empty(hashes: list[str | None]) -> str:
    known = [one for one in hashes if one is not None]
    return hashing.signature(known) if len(known) == len(hashes) else ""


def _first_difference(ours: list[str | None], theirs: list[str | None]) -> int | None:
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other or one is None:
            return index
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def _reason(
    original: TraceRecord,
    replay: TraceRecord,
    ours: list[str | None],
    theirs: list[str | None],
    step: int,
) -> str:
    counts = f"step count: {len(ours)} → {len(theirs)}"
    if step == len(theirs):
        return f"EARLY_END: {counts}"
    if step == len(ours):
        return f"LATE_END: {counts}"
    if ours[step] is None or theirs[step] is None:
        return "RECORD_GAP: params are absent, so the steps can't be compared"
    before, after = original.steps[step], replay.steps[step]
    surplus = len(theirs) - len(ours)
    if surplus > 0 and theirs[step + surplus :] == ours[step:]:
        return f"EXTRA_STEP: {after.skill_name} is not in the original; {counts}"
    if surplus < 0 and ours[step - surplus :] == theirs[step:]:
        return f"MISSING_STEP: {before.skill_name} is not in the replay; {counts}"
    if surplus == 0 and Counter(ours[step:]) == Counter(theirs[step:]):
        return f"REORDERED: {before.skill_name} comes later, {after.skill_name} comes first"
    return _step_reason(before, after)


def _step_reason(before: TraceStep, after: TraceStep) -> str:
    """What differs between two steps at one place, the cause before its consequences."""
    if before.context and after.context and before.context.kind != after.context.kind:
        return f"KIND_CHANGED: kind: {before.context.kind} → {after.context.kind}"
    if before.skill_name != after.skill_name:
        return f"SKILL_CHANGED: skill: {before.skill_name} → {after.skill_name}"
    changes = diff_values(
        hashing.normalize(before.params), hashing.normalize(after.params), limit=_LISTED + 1
    )
    if changes:
        return f"PARAMS_CHANGED: params differ at {_changes_text(changes)}"
    if before.status is not after.status:
        return f"STATUS_CHANGED: status: {before.status.value} → {after.status.value}"
    if before.outcome_category != after.outcome_category:
        return f"ERROR_CHANGED: category: {before.outcome_category} → {after.outcome_category}"
    if before.outcome_code != after.outcome_code:
        return f"ERROR_CHANGED: code: {_value_text(before.outcome_code)} → {_value_text(after.outcome_code)}"
    return f"RETRIES_CHANGED: retries: {before.retry_count} → {after.retry_count}"


_LISTED = 3
_VALUE_SHOWN = 60


def _changes_text(changes: list[Change]) -> str:
    shown = [
        f"{change.pointer or 'the root'} ({_value_text(change.expected)} → {_value_text(change.actual)})"
        for change in changes[:_LISTED]
    ]
    return ", ".join(shown) + (" and more" if len(changes) > _LISTED else "")


def _value_text(value: Any) -> str:
    if value is MISSING:
        return "absent"
    try:
        text = value_bytes(value).decode()
    except CanonicalizationError:
        text = type(value).__name__
    return text if len(text) <= _VALUE_SHOWN else text[: _VALUE_SHOWN - 1] + "…"
