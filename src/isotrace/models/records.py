"""A run with its steps, its violations, and its line in a listing."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, cast

from isotrace import hashing
from isotrace.errors import (
    ChecksumMismatchError,
    SchemaUnsupportedError,
    StepOrderError,
    UnverifiedChecksumWarning,
)
from isotrace.models.fields import Erased, Fields, read_object, shown, time_or_none, time_text, utc
from isotrace.models.runs import RunContext
from isotrace.models.steps import TraceStatus, TraceStep

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


@dataclass(slots=True)
class Violation:
    """A policy that a run broke. `step_index` is None if it was not about one step."""

    step_index: int | None
    timestamp: datetime
    policy_id: str
    reason: str

    def __post_init__(self) -> None:
        self.timestamp = utc(self.timestamp)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "step_index": self.step_index,
            "timestamp": time_text(self.timestamp),
            "policy_id": self.policy_id,
            "reason": shown(self.reason),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> Violation:
        """The inverse of `to_dict`. Raises `FieldError`."""
        fields = Fields(data, pointer)
        reason = fields.any("reason")
        if not isinstance(reason, str | Erased):
            raise fields.wrong("reason", "a string")
        return cls(
            step_index=fields.whole_or_none("step_index"),
            timestamp=fields.time("timestamp"),
            policy_id=fields.text("policy_id"),
            reason=cast("str", reason),
        )


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
        self.started_at = utc(self.started_at)
        if self.completed_at is not None:
            self.completed_at = utc(self.completed_at)
        if self.violation_timestamp is not None:
            self.violation_timestamp = utc(self.violation_timestamp)

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
            "started_at": time_text(self.started_at),
            "completed_at": time_or_none(self.completed_at),
            "status": self.status,
            "violation_step_index": self.violation_step_index,
            "violation_timestamp": time_or_none(self.violation_timestamp),
            "violation_policy_id": self.violation_policy_id,
            "violation_reason": shown(self.violation_reason),
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
    context: RunContext | None = None

    def __post_init__(self) -> None:
        self.started_at = utc(self.started_at)
        if self.completed_at is not None:
            self.completed_at = utc(self.completed_at)

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
        check_order(self)
        return hashing.signature(step.determinism_hash() for step in self.steps)

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
            "plan": shown(self.plan),
            "steps": [step.to_dict() for step in self.steps],
            "started_at": time_text(self.started_at),
            "completed_at": time_or_none(self.completed_at),
            "status": self.status,
            "metadata": shown(self.metadata),
            "seed": self.seed,
            "frozen_timestamp": self.frozen_timestamp,
            "root_hash": self.root_hash,
            "violations": [violation.to_dict() for violation in self.violations],
            "context": None if self.context is None else self.context.to_dict(),
            "checksum": None if gap else self.determinism_signature(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TraceRecord:
        """The inverse of `to_dict`. A missing seed is 42.

        Raises `SchemaUnsupportedError` for another major version, `FieldError` for a missing field
        or a wrong type, `StepOrderError`, and `ChecksumMismatchError` if the steps do not give the
        checksum. The checksum of another scheme can't be verified: `UnverifiedChecksumWarning`.
        """
        fields = Fields(data, "")
        _check_version(fields)
        plan = fields.any("plan")
        if not isinstance(plan, Erased):
            plan = [read_object(part, f"/plan/{i}") for i, part in enumerate(fields.list("plan"))]
        steps = fields.list("steps")
        violations = fields.list("violations") if data.get("violations") is not None else []
        context = data.get("context")
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
            context=None if context is None else RunContext.from_dict(context, pointer="/context"),
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


def check_order(record: TraceRecord) -> None:
    """Raises `StepOrderError` if the steps are not numbered 0..n−1 in the order of the list."""
    for expected, step in enumerate(record.steps):
        if step.step_index != expected:
            raise StepOrderError(
                "steps are not numbered 0, 1, 2, …",
                run_id=record.run_id,
                pointer=f"/steps/{expected}/step_index",
                expected=expected,
                got=step.step_index,
            )


def _check_version(fields: Fields) -> None:
    version = fields.text("schema_version")
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
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


def _verify_checksum(record: TraceRecord, fields: Fields) -> None:
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
