"""What a run and its steps say, in words and places that every face shows alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

from isotrace.errors import CanonicalizationError, RecordGapError, StepOrderError
from isotrace.models import META_REPLAYABILITY, META_TIME, Erased, TraceRecord, TraceStep, Usage
from isotrace.report.safe import visible

# --- the run --------------------------------------------------------------------------


def timed(record: TraceRecord) -> bool:
    """Whether the times of the run are known."""
    return record.metadata.get(META_TIME) != "absent"


def total_tokens(record: TraceRecord) -> str:
    """The tokens of all steps, empty where none were counted."""
    used = [step.context.usage for step in record.steps if step.context and step.context.usage]
    sent = [usage.input_tokens for usage in used if usage.input_tokens is not None]
    given = [usage.output_tokens for usage in used if usage.output_tokens is not None]
    return f"{sum(sent):,} tokens in, {sum(given):,} out" if sent or given else ""


def unpriced(record: TraceRecord) -> Iterator[str]:
    """Why steps have no cost, each reason once."""
    used = [step.context.usage for step in record.steps if step.context and step.context.usage]
    reasons = dict.fromkeys((usage.model, usage.unpriced) for usage in used if usage.unpriced)
    for model, reason in reasons:
        yield f"no cost of {model}, {reason}"


def elapsed_ms(record: TraceRecord) -> float:
    """From start to end; of a run without an end, the sum of its steps."""
    if record.completed_at is None:
        return record.total_duration_ms
    return (record.completed_at - record.started_at).total_seconds() * 1000


def doubts(record: TraceRecord) -> list[str] | None:
    """Why the run may not replay; empty where it will, None where that is not known."""
    grade = record.metadata.get(META_REPLAYABILITY)
    if grade is None:
        return None
    if grade == "replayable":
        return []
    return [str(reason) for reason in grade] if isinstance(grade, list) else [str(grade)]


def signature_of(record: TraceRecord) -> str:
    """The signature, or why there is none."""
    if any(isinstance(step.params, Erased) for step in record.steps):
        return "none: params were erased"
    try:
        return record.determinism_signature()
    except (CanonicalizationError, StepOrderError) as error:
        return f"none: {error.what}"


# --- time -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """Places steps in the time of a run: from its start to its last end."""

    start: datetime
    total_ms: float

    def offset_ms(self, step: TraceStep) -> float:
        """From the start of the run to that of the step."""
        return (step.timestamp - self.start).total_seconds() * 1000

    def span(self, step: TraceStep) -> tuple[float, float]:
        """Where a step begins and how long it takes, as shares of the whole."""
        first = min(max(self.offset_ms(step) / self.total_ms, 0.0), 1.0)
        return first, min(max(step.duration_ms / self.total_ms, 0.0), 1.0 - first)


def scale_of(record: TraceRecord) -> Scale | None:
    """The scale of a run, None where its times are unknown or nothing took any time."""
    if not timed(record) or not record.steps:
        return None
    start = min(record.started_at, *(step.timestamp for step in record.steps))
    end = max((step.timestamp - start).total_seconds() * 1000 + step.duration_ms for step in record.steps)
    return Scale(start, end) if end > 0 else None


_SLACK = 0.002
"""Steps of one branch that overlap by less of the run follow each other: start and length come from
two clocks."""


def lanes_of(steps: Sequence[TraceStep], scale: Scale) -> list[int]:
    """The lane of each step, from 0 on, by position: what goes on at the same time is in different
    lanes, and a branch has a lane to itself as long as it lives."""
    spans = [scale.span(step) for step in steps]
    branches: dict[tuple[Any, ...], list[int]] = {}
    for at in sorted(range(len(steps)), key=lambda at: spans[at][0]):
        context = steps[at].context
        branches.setdefault(context.lineage[:-1] if context else (), []).append(at)
    strands: list[tuple[int, float, list[int]]] = []
    for branch, inside in branches.items():
        parted: dict[int, list[int]] = {}
        for at, strand in zip(inside, _packed([spans[at] for at in inside]), strict=True):
            parted.setdefault(strand, []).append(at)
        strands += [(len(branch), spans[members[0]][0], members) for members in parted.values()]
    # The branch that others start from comes first, so it gets the first lane.
    strands.sort(key=lambda one: (one[1], one[0]))
    lives = [(begin, max(sum(spans[at]) for at in members) - begin) for _, begin, members in strands]
    lanes = [0] * len(steps)
    for (_, _, members), lane in zip(strands, _packed(lives), strict=True):
        for at in members:
            lanes[at] = lane
    return lanes


def _packed(spans: Sequence[tuple[float, float]]) -> list[int]:
    """For each (begin, length), by begin, the lowest row in which nothing is in its way."""
    rows: list[int] = []
    taken: list[tuple[float, int]] = []
    free: list[int] = []
    for begin, length in spans:
        while taken and taken[0][0] <= begin + _SLACK:
            heappush(free, heappop(taken)[1])
        row = heappop(free) if free else len(taken)
        rows.append(row)
        heappush(taken, (begin + length, row))
    return rows


# --- a step ---------------------------------------------------------------------------


def outcome_of(step: TraceStep) -> Any:
    """The outcome as the function returned it: `{"value": x}` is how a bare `x` is kept."""
    outcome = step.outcome_data
    if isinstance(outcome, dict) and list(outcome) == ["value"]:
        return outcome["value"]
    return outcome


def hash_of(step: TraceStep) -> str:
    """The step's hash, or why there is none."""
    try:
        return step.determinism_hash()
    except (CanonicalizationError, RecordGapError) as error:
        return f"none: {error.what}"


def failure_text(step: TraceStep) -> str:
    """Category, code and message of a step that did not succeed."""
    if step.outcome_category == "INDETERMINATE":
        return "INDETERMINATE: the step's end was never recorded"
    error = step.context.error if step.context else None
    code = step.outcome_code or ""
    message = "" if error is None or isinstance(error, Erased) else error_message(error, code)
    return ": ".join(filter(None, [f"{step.outcome_category} {code}".strip(), message]))


def error_message(error: Any, code: str = "") -> str:
    """The message of a recorded error: a text, or an object with `type` and `message`. The type
    is left out where `code` says it already."""
    if not isinstance(error, dict):
        return str(error)
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    return message if kind == code else ": ".join(filter(None, [kind, message]))


def usage_facts(usage: Usage | None) -> Iterator[str]:
    """The model, its tokens, and where their price came from."""
    if usage is None:
        return
    if usage.model is not None:
        yield f"model {visible(usage.model)}"
    for count, what in (
        (usage.input_tokens, "tokens in"),
        (usage.cached_tokens, "of them from the cache"),
        (usage.cache_write_tokens, "written to the cache"),
        (usage.output_tokens, "tokens out"),
        (usage.reasoning_tokens, "of them for reasoning"),
    ):
        if count or (count == 0 and what.startswith("tokens")):
            yield f"{count:,} {what}"
    if usage.prices is not None:
        yield f"prices of {visible(usage.prices)}"
    if usage.unpriced is not None:
        yield f"no cost: {visible(usage.unpriced)}"


def redactors(record: TraceRecord) -> str:
    """What was not to be recorded of the run, empty where all was."""
    said = (record.context.redactors if record.context else None) or {}
    use = said.get("use")
    names = [str(one[0]) for one in use if isinstance(one, list) and one] if isinstance(use, list) else []
    key = said.get("key")
    return ", ".join(names) + (f" (pseudonyms, key {key})" if key else "")
