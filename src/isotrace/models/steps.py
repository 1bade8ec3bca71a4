"""One step of a run, and what isotrace knows of it beyond the shared fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, cast

from isotrace import hashing
from isotrace.errors import CanonicalizationError, RecordGapError
from isotrace.models.fields import Erased, Fields, chunks_mapped, read_object, restored, shown, time_text, utc
from isotrace.models.usage import Usage

Lineage = tuple[int | str, ...]
"""A step's place in its run: the numbers (or branch keys) from the root branch down."""


class TraceStatus(str, Enum):  # noqa: UP042  # the contract names these bases
    """Status of a step. `RETRY` comes from imports only; our own retries are a number on one step."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRY = "retry"
    SKIPPED = "skipped"


_STATUSES = [status.value for status in TraceStatus]


@dataclass(slots=True)
class StepContext:
    """What isotrace knows of a step beyond the shared fields. No hash covers it.

    `kind`: llm, tool, retrieval, code, agent, timer, http, mcp, process. `effect`: pure, read,
    idempotent_write, write.
    `start_seq` and `end_seq` are the step's events in the ledger; `raw_ids` maps JSON Pointers
    into params to the provider's own ids; `marks` are reasons why the step may not replay.
    `at_once`: it was awaited, and did not wait for anything. `transport`: how the answer of a captured
    call came, such as an HTTP status and headers. `chunks`: the pieces of a stream whose outcome is the
    answer that they make; the outcome of any other stream is its chunks. `usage`: the model that
    answered, and its tokens.
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
    at_once: bool = False
    transport: dict[str, Any] | None = None
    chunks: list[Any] | None = None
    usage: Usage | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "kind": self.kind,
            "lineage": list(self.lineage),
            "effect": self.effect,
            "attempts": [{key: shown(value) for key, value in one.items()} for one in self.attempts],
            "start_seq": self.start_seq,
            "end_seq": self.end_seq,
            "raw_ids": shown(self.raw_ids),
            "error": shown(self.error),
            "child_run_id": self.child_run_id,
            "marks": list(self.marks),
            "at_once": self.at_once,
            "transport": shown(self.transport),
            "chunks": None if self.chunks is None else [shown(chunk) for chunk in self.chunks],
            "usage": None if self.usage is None else self.usage.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> StepContext:
        """The inverse of `to_dict`. Raises `FieldError`."""
        fields = Fields(data, pointer)
        lineage = fields.list("lineage")
        if not all(isinstance(part, int | str) and not isinstance(part, bool) for part in lineage):
            raise fields.wrong("lineage", "an array of integers and strings")
        attempts = [
            read_object(one, f"{fields.at('attempts')}/{i}") for i, one in enumerate(fields.list("attempts"))
        ]
        marks = fields.list("marks")
        if not all(isinstance(mark, str) for mark in marks):
            raise fields.wrong("marks", "an array of strings")
        at_once = data.get("at_once", False)
        if not isinstance(at_once, bool):
            raise fields.wrong("at_once", "a boolean")
        transport = None if data.get("transport") is None else fields.object("transport")
        usage = data.get("usage")
        error = fields.any("error")
        if not isinstance(error, str | Erased | None):
            raise fields.wrong("error", "a string or null")
        return cls(
            kind=fields.text("kind"),
            lineage=tuple(lineage),
            effect=fields.text("effect"),
            attempts=[{key: restored(value) for key, value in one.items()} for one in attempts],
            start_seq=fields.whole_or_none("start_seq"),
            end_seq=fields.whole_or_none("end_seq"),
            raw_ids=fields.object("raw_ids"),
            error=cast("str | None", error),
            child_run_id=fields.text_or_none("child_run_id"),
            marks=marks,
            at_once=at_once,
            transport=transport,
            chunks=None if data.get("chunks") is None else [restored(one) for one in fields.list("chunks")],
            usage=None if usage is None else Usage.from_dict(usage, pointer=fields.at("usage")),
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
        self.timestamp = utc(self.timestamp)
        if type(self.status) is not TraceStatus:
            self.status = TraceStatus(self.status)

    def to_dict(self) -> dict[str, Any]:
        """Plain data. `params` and `outcome_data` are not copied."""
        return {
            "step_index": self.step_index,
            "skill_name": self.skill_name,
            "params": shown(self.params),
            "status": self.status.value,
            "outcome_category": self.outcome_category,
            "outcome_code": self.outcome_code,
            "outcome_data": chunks_mapped(shown(self.outcome_data), shown),
            "cost_cents": self.cost_cents,
            "duration_ms": self.duration_ms,
            "retry_count": self.retry_count,
            "timestamp": time_text(self.timestamp),
            "context": None if self.context is None else self.context.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> TraceStep:
        """The inverse of `to_dict`; `pointer` is where `data` stands in a larger document.

        Raises `FieldError` for a missing field, a wrong type or an unknown status.
        """
        fields = Fields(data, pointer)
        text = fields.text("status")
        if text not in _STATUSES:
            raise fields.wrong("status", " or ".join(_STATUSES))
        outcome = None if data.get("outcome_data") is None else fields.object("outcome_data")
        context = data.get("context")
        return cls(
            step_index=fields.whole("step_index"),
            skill_name=fields.text("skill_name"),
            params=fields.object("params"),
            status=TraceStatus(text),
            outcome_category=fields.text("outcome_category"),
            outcome_code=fields.text_or_none("outcome_code"),
            outcome_data=chunks_mapped(outcome, restored),
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
        not plain values within the limits, with the step and the place.
        """
        if isinstance(self.params, Erased):
            raise RecordGapError(
                "the params of a step are absent, so it has no hash",
                step=self.step_index,
                got=f"erased, commitment {self.params.commit}",
            )
        try:
            digest = hashing.params_digest(self.params)
        except CanonicalizationError as error:
            error.where, error.step = f"params of {self.skill_name}", self.step_index
            raise
        return hashing.step_hash(
            skill_name=self.skill_name,
            params_digest=digest,
            status=self.status.value,
            outcome_category=self.outcome_category,
            outcome_code=self.outcome_code,
            retry_count=self.retry_count,
        )


def stream_chunks(step: TraceStep) -> list[Any] | None:
    """The pieces of a step that was a stream, None of one that was none."""
    if step.context is not None and step.context.chunks is not None:
        return step.context.chunks
    outcome: Any = step.outcome_data
    chunks = outcome.get("chunks") if isinstance(outcome, dict) else None
    return chunks if isinstance(chunks, list) else None
