"""Events for a `TraceRecord` that comes without its ledger, such as one read from JSON."""

from __future__ import annotations

from typing import Any

from isotrace.canonical import value_bytes
from isotrace.events import Event, microseconds_of
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, TraceRecord, TraceStep
from isotrace.models.steps import stream_chunks


def events_of(record: TraceRecord) -> list[Event]:
    """The events that a record stands for: enough to replay it, not what was sealed.

    Starts and ends come in the order that the steps' contexts tell, else one after the other.
    """
    marks: list[tuple[int, Event]] = []
    for position, step in enumerate(record.steps):
        context = step.context
        start = context.start_seq if context and context.start_seq is not None else 2 * position + 1
        end = context.end_seq if context and context.start_seq is not None else 2 * position + 2
        marks.append((start, _started(step, position)))
        if end is not None:
            marks += [(end, chunk) for chunk in _chunks(step, position)]
            marks.append((end, _finished(step, position)))
    marks.sort(key=lambda mark: mark[0])
    events = [_run_started(record), *(event for _, event in marks), *_run_ended(record)]
    for seq, event in enumerate(events):
        event.seq = seq
    return events


def _lineage(step: TraceStep, position: int) -> list[int | str]:
    return list(step.context.lineage) if step.context and step.context.lineage else [position]


def _data(value: Any) -> bytes | Erased:
    return value if isinstance(value, Erased) else value_bytes(value)


def _started(step: TraceStep, position: int) -> Event:
    context = step.context
    facts = {
        "lineage": _lineage(step, position),
        "kind": context.kind if context else "tool",
        "skill_name": step.skill_name,
        "effect": context.effect if context else "write",
    }
    return Event(0, "step_started", microseconds_of(step.timestamp), facts, {"params": _data(step.params)})


def _finished(step: TraceStep, position: int) -> Event:
    context = step.context
    facts: dict[str, Any] = {
        "lineage": _lineage(step, position),
        "status": step.status.value,
        "outcome_category": step.outcome_category,
        "outcome_code": step.outcome_code,
        "cost_cents": step.cost_cents,
        "duration_ms": step.duration_ms,
        "retry_count": step.retry_count,
    }
    if step.outcome_category == "CANCELLED" and step.outcome_code in _BY_AGENT:
        facts["delivered"] = False
    if context and "closed_early" in context.marks:
        facts |= {"closed_early": True, "delivered": False}
    if context and context.chunks is not None:
        facts |= {"stream": True, "assembled": True}
        if "partial" in context.marks:
            facts["partial"] = True
    if context and context.at_once:
        facts["at_once"] = True
    values: dict[str, bytes | Erased] = {}
    if step.outcome_data is not None:
        values["outcome_data"] = _data(step.outcome_data)
        facts["wrapped"] = isinstance(step.outcome_data, dict) and list(step.outcome_data) == ["value"]
    if context and context.transport is not None:
        values["transport"] = _data(context.transport)
    error = context.error if context else None
    if error is not None:
        values["error"] = _data(
            {"type": step.outcome_code, "message": error} if isinstance(error, str) else error
        )
    ended = microseconds_of(step.timestamp) + round(step.duration_ms * 1000)
    return Event(0, "step_finished", ended, facts, values)


_BY_AGENT = ("CancelledError", "GeneratorExit")


def _chunks(step: TraceStep, position: int) -> list[Event]:
    """The pieces of a stream; that they came in one go is all that a record without a ledger can say."""
    chunks = stream_chunks(step)
    kept_apart = step.context is not None and step.context.chunks is not None
    if chunks is None or not (kept_apart or set(step.outcome_data or ()) <= {"chunks", "return"}):
        return []
    ended = microseconds_of(step.timestamp) + round(step.duration_ms * 1000)
    lineage = _lineage(step, position)
    return [
        Event(0, "step_chunk", ended, {"lineage": lineage, "index": index}, {"chunk": _data(chunk)})
        for index, chunk in enumerate(chunks)
    ]


def _run_started(record: TraceRecord) -> Event:
    context = record.context
    facts: dict[str, Any] = {
        "run_id": record.run_id,
        "origin_run_id": (context.origin_run_id if context else None) or record.run_id,
        "correlation_id": record.correlation_id,
        "tenant_id": record.tenant_id,
        "agent_id": record.agent_id,
        "seed": record.seed,
        "frozen_timestamp": record.frozen_timestamp,
        "entry_point": context.entry_point if context else None,
        **({"redactors": context.redactors} if context and context.redactors is not None else {}),
        "parent": context.parent if context else None,
    }
    values: dict[str, bytes | Erased] = {}
    if record.plan:
        values["plan"] = value_bytes(record.plan)
    for name in ("input", "environment"):
        if context and (value := getattr(context, name)) is not MISSING:
            values[name] = _data(value)
    return Event(0, "run_started", microseconds_of(record.started_at), facts, values)


def _run_ended(record: TraceRecord) -> list[Event]:
    moment = microseconds_of(record.completed_at or record.started_at)
    if record.status not in ("completed", "failed"):
        return [Event(0, "run_aborted", moment, {"reason": record.status}, {})]
    values: dict[str, bytes | Erased] = {}
    for name in ("result", "error"):
        if record.context and (value := getattr(record.context, name)) is not MISSING:
            values[name] = _data(value)
    return [Event(0, "run_finished", moment, {"status": record.status}, values)]
