"""One step as a page shows it: a line, and everything that is known of it behind that line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isotrace.events import lineage_text
from isotrace.models import Erased, TraceStep, Violation
from isotrace.report.figures import KIND_SIGNS, STATUS_SIGNS
from isotrace.report.html.values import Shown, shown
from isotrace.report.reading import failure_text, hash_of, outcome_of, usage_facts
from isotrace.report.safe import shortened, summary, visible

OTHER_SIGN = "•"
_LINE = 220


@dataclass(frozen=True, slots=True)
class StepHead:
    """What a step is called, and how it went."""

    index: int
    name: str
    kind: str
    sign: str
    status: str
    status_sign: str
    failure: str

    @property
    def colour(self) -> str:
        """What its bar looks like: its status where it did not succeed, else whether a model was called."""
        if self.status != "success":
            return self.status
        return self.kind if self.kind in ("llm", "retrieval") else "tool"


@dataclass(frozen=True, slots=True)
class StepView(StepHead):
    """A step, ready for a template. `values` are (title, value) in the order in which they came about."""

    retries: int
    going_in: str
    coming_out: str
    marks: tuple[str, ...]
    violations: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, Shown], ...]
    step: TraceStep


def kind_of(step: TraceStep) -> str:
    """The kind of a step; one of another system is a tool."""
    return step.context.kind if step.context else "tool"


def sign_of(kind: str) -> str:
    """The sign of a kind."""
    return KIND_SIGNS.get(kind, (OTHER_SIGN,))[0]


def line_of(value: Any, width: int = _LINE) -> str:
    """A value on one line."""
    if isinstance(value, Erased):
        return "erased"
    return summary(value, width)


def asked_line(params: Any, width: int = _LINE) -> str:
    """What a step was asked, on one line. Of a conversation the last message: how it began stands in every
    step before."""
    for name in ("messages", "input", "contents"):
        said = params.get(name) if isinstance(params, dict) else None
        if isinstance(said, list) and len(said) > 1 and isinstance(said[-1], dict) and "role" in said[-1]:
            return shortened(f"… message {len(said)}: {summary(said[-1], width)}", width)
    return line_of(params, width)


def answer_line(outcome: Any, width: int = _LINE) -> str:
    """What came back, on one line. Of a chat completion the message: ids and dates stand before it."""
    choices = outcome.get("choices") if isinstance(outcome, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and "message" in choices[0]:
        return line_of(choices[0]["message"], width)
    return line_of(outcome, width)


def head_of(step: TraceStep) -> tuple[int, str, str, str, str, str, str]:
    """The fields of a `StepHead`, in their order."""
    kind, status = kind_of(step), step.status.value
    return (
        step.step_index,
        visible(step.skill_name),
        visible(kind),
        sign_of(kind),
        status,
        STATUS_SIGNS[status][0],
        "" if status == "success" else visible(failure_text(step)),
    )


def step_view(step: TraceStep, violations: tuple[Violation, ...], limit: int) -> StepView:
    """The step, each of its values of at most `limit` characters."""
    context = step.context
    return StepView(
        *head_of(step),
        retries=step.retry_count,
        going_in=asked_line(step.params),
        coming_out=answer_line(outcome_of(step)) if step.status.value == "success" else "",
        marks=tuple(map(visible, context.marks)) if context else (),
        violations=tuple((visible(one.policy_id), reason_of(one)) for one in violations),
        facts=tuple(_facts(step)),
        values=tuple((title, shown(value, limit)) for title, value in values_of(step)),
        step=step,
    )


def reason_of(violation: Violation) -> str:
    """Why a policy was broken, `erased` where that was erased."""
    reason: Any = violation.reason
    return "erased" if isinstance(reason, Erased) else visible(str(reason))


def values_of(step: TraceStep) -> Iterator[tuple[str, Any]]:
    """The values of a step that a page shows, with their titles."""
    context = step.context
    yield "params", step.params
    if context and context.attempts:
        yield (
            "attempts",
            [
                {key: value.to_dict() if isinstance(value, Erased) else value for key, value in one.items()}
                for one in context.attempts
            ],
        )
    if context and context.error is not None:
        yield "error", context.error
    if step.outcome_data is not None or step.status.value == "success":
        yield "outcome", _plain_chunks(outcome_of(step))
    if context and context.raw_ids:
        yield "ids as the provider gave them", context.raw_ids
    if context and context.transport:
        yield "transport", context.transport


def _plain_chunks(outcome: Any) -> Any:
    """The outcome as JSON: chunks of a stream may have been erased one by one."""
    chunks = outcome.get("chunks") if isinstance(outcome, dict) else None
    if not isinstance(chunks, list) or not any(isinstance(one, Erased) for one in chunks):
        return outcome
    plain = [one.to_dict() if isinstance(one, Erased) else one for one in chunks]
    return {**outcome, "chunks": plain}


def _facts(step: TraceStep) -> Iterator[tuple[str, str]]:
    context = step.context
    if context is not None:
        yield "kind", f"{visible(context.kind)}, effect {visible(context.effect)}"
        if context.lineage:
            yield "lineage", visible(lineage_text(context.lineage))
        if context.end_seq:
            yield "events", f"{context.start_seq} and {context.end_seq}"
        if context.child_run_id:
            yield "run of its own", visible(context.child_run_id)
    if step.outcome_category:
        yield "category", visible(f"{step.outcome_category} {step.outcome_code or ''}".strip())
    if context is not None and context.usage is not None:
        yield "usage", ", ".join(usage_facts(context.usage))
    yield "hash", visible(hash_of(step))
