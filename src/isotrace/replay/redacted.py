"""A new run has redactors that the one it repeats had not: what they find is taken out of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from isotrace.canonical import value_bytes
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, TraceRecord, TraceStep
from isotrace.redact.redaction import Redaction, redaction_of
from isotrace.redact.wanted import redactors_wanted


def redaction_of_new(recorded: Redaction | None, given: Redaction | None) -> Redaction | None:
    """The redactors of a run that is to be kept: those of the recorded one, those that its code names, and
    those of the environment and the project by now. `recorded` itself where there are no others."""
    before = () if recorded is None else recorded.names
    names = redactors_wanted(() if given is None else given.names, before)
    return recorded if set(names) == set(before) else redaction_of(names)


def redacted_record(record: TraceRecord, redaction: Redaction) -> TraceRecord:
    """The record as it would be with these redactors; itself it stays as it is."""

    def kept(value: Any, name: str, skill: str | None = None) -> Any:
        return value if value is MISSING or isinstance(value, Erased) else redaction.value(value, name, skill)

    def step_of(step: TraceStep) -> TraceStep:
        params, outcome = kept(step.params, "params", step.skill_name), step.outcome_data
        if isinstance(outcome, dict) and isinstance(outcome.get("chunks"), list):
            outcome = {**outcome, "chunks": _pieces(step, outcome["chunks"], redaction)}
        return replace(step, params=params, outcome_data=kept(outcome, "outcome_data", step.skill_name))

    context = record.context
    if context is not None:
        given, result = kept(context.input, "input"), kept(context.result, "result")
        context = replace(context, input=given, result=result, error=kept(context.error, "error"))
    plan = kept(record.plan, "plan")
    return replace(record, steps=[step_of(step) for step in record.steps], plan=plan, context=context)


def _pieces(step: TraceStep, chunks: list[Any], redaction: Redaction) -> list[Any]:
    if any(isinstance(chunk, Erased) for chunk in chunks):
        return chunks
    joined = step.context is not None and step.context.kind == "llm"
    data = redaction.pieces([value_bytes(chunk) for chunk in chunks], step.skill_name, joined=joined)
    return [orjson.loads(piece) for piece in data]
