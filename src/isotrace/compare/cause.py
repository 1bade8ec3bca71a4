"""Why two runs parted: inside the agent, or because the world answered otherwise.

The code of a divergence says what differs. Its cause is found by looking at what the agent had
observed before it: if every earlier answer was the same, the agent decided otherwise by itself; if
one was not, that answer is where the difference came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isotrace.compare.divergence import Code, Divergence, Severity
from isotrace.compare.rules import Rules, changes_between
from isotrace.compare.views import kind_of
from isotrace.errors import CanonicalizationError, LimitError
from isotrace.hashing import outcome_digest
from isotrace.jsondiff import diff_values, pointer_split
from isotrace.models import Erased, TraceRecord, TraceStep


class Why(StrEnum):
    """Causes. In the agent: `CODE`, `PROMPT`, `MODEL`. In the world: `TOOL`, `ENV`, `INPUT`."""

    CODE = "CODE"
    PROMPT = "PROMPT"
    MODEL = "MODEL"
    TOOL = "TOOL"
    ENV = "ENV"
    INPUT = "INPUT"
    UNEXPLAINED = "UNEXPLAINED"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the first divergence came about. `step_index` is the original's step that gives it away."""

    why: Why
    message: str
    step_index: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {"why": self.why.value, "message": self.message, "step_index": self.step_index}


_MODEL_SETTINGS = frozenset(
    {"model", "model_name", "temperature", "top_p", "top_k", "max_tokens", "seed", "reasoning_effort"}
)


def cause_of(
    original: TraceRecord, replay: TraceRecord, divergences: Sequence[Divergence], rules: Rules
) -> Cause:
    """The cause of the first divergence, from all steps of both records.

    Comparing some kinds of step only restricts what is compared, not what may have been the reason.
    """
    errors = [one for one in divergences if one.severity is Severity.ERROR]
    if any(one.code is Code.INPUT_CHANGED for one in errors):
        return Cause(Why.INPUT, "the run was given another input")
    if any(one.code is Code.UNCONTROLLED_SOURCE for one in errors):
        return Cause(Why.ENV, "the code reads what is no step, and what is not on record")
    count = _shared_decisions(original.steps, replay.steps, rules)
    before = original.steps[count] if count < len(original.steps) else None
    after = replay.steps[count] if count < len(replay.steps) else None
    observed = _observed_before(original.steps, replay.steps, count)
    for one, other in observed:
        if not _same_answer(one, other):
            return _answered_otherwise(one)
    if before or after:
        return _asked_otherwise(before, after, any(kind_of(one) == "llm" for one, _ in observed))
    return Cause(Why.UNEXPLAINED, "every step is the same, so what differs came about outside the steps")


def _shared_decisions(original: Sequence[TraceStep], replay: Sequence[TraceStep], rules: Rules) -> int:
    """How many steps asked for the same on both sides, before the first that did not."""
    for count, (before, after) in enumerate(zip(original, replay, strict=False)):
        if before.skill_name != after.skill_name or kind_of(before) != kind_of(after):
            return count
        if before.params != after.params and changes_between(
            before.params, after.params, rules.lens(before.skill_name)
        ):
            return count
    return min(len(original), len(replay))


def _observed_before(
    original: Sequence[TraceStep], replay: Sequence[TraceStep], count: int
) -> list[tuple[TraceStep, TraceStep]]:
    """The steps whose answers the agent had when it went on to step `count`, with their counterparts.

    With parallel branches that is not what stands before it in the run's order, but what had ended.
    """
    start = _sequence(original[count])[0] if count < len(original) else None
    if start is None:
        return list(zip(original[:count], replay[:count], strict=True))
    there = {step.context.lineage: step for step in replay if step.context and step.context.lineage}
    ended = [
        (end, place, step)
        for place, step in enumerate(original)
        if (end := _sequence(step)[1]) is not None and end < start
    ]
    return [
        (step, there[step.context.lineage])
        for _, _, step in sorted(ended)
        if step.context and step.context.lineage in there
    ]


def _sequence(step: TraceStep) -> tuple[int | None, int | None]:
    return (step.context.start_seq, step.context.end_seq) if step.context else (None, None)


def _same_answer(before: TraceStep, after: TraceStep) -> bool:
    """Whether the same came back. Content that is absent is not held against a step."""
    one: Any = before.outcome_data
    other: Any = after.outcome_data
    if _ending(before) != _ending(after):
        return False
    if one == other or isinstance(one, Erased) or isinstance(other, Erased):
        return True
    if one is None or other is None:
        return False
    if _lacks_chunks(one) or _lacks_chunks(other):
        return True
    try:
        return outcome_digest(one) == outcome_digest(other)
    except LimitError:
        raise
    except CanonicalizationError:
        # No plain values: they are not equal, as they stand.
        return False


def _lacks_chunks(outcome: Any) -> bool:
    """Whether chunks of a stream were erased one by one."""
    chunks = outcome.get("chunks") if isinstance(outcome, dict) else None
    return isinstance(chunks, list | tuple) and any(isinstance(chunk, Erased) for chunk in chunks)


def _ending(step: TraceStep) -> tuple[Any, ...]:
    return (step.status, step.outcome_category, step.outcome_code)


def _answered_otherwise(step: TraceStep) -> Cause:
    name, at = step.skill_name, step.step_index
    if kind_of(step) == "llm":
        return Cause(Why.MODEL, f"step {at} ({name}) asked the model the same, and it answered otherwise", at)
    if kind_of(step) == "timer":
        return Cause(Why.ENV, f"step {at} ({name}) took another course", at)
    return Cause(Why.TOOL, f"step {at} ({name}) was asked the same, and answered otherwise", at)


def _asked_otherwise(before: TraceStep | None, after: TraceStep | None, seen_model: bool) -> Cause:
    """All observations were equal, so the agent itself decided otherwise."""
    step = before or after
    assert step is not None
    at = step.step_index
    if before and after and kind_of(before) == kind_of(after) == "llm":
        if before.skill_name != after.skill_name:
            return Cause(Why.MODEL, f"step {at} asks another model", at)
        pointers = [change.pointer for change in diff_values(before.params, after.params)]
        if pointers and all(
            pointer_split(one)[:1] and pointer_split(one)[0] in _MODEL_SETTINGS for one in pointers
        ):
            return Cause(Why.MODEL, f"step {at} asks the model with other settings", at)
        return Cause(Why.PROMPT, f"step {at} asks the model something else after the same observations", at)
    if seen_model:
        return Cause(Why.CODE, f"the model and every tool answered the same up to step {at}", at)
    return Cause(Why.UNEXPLAINED, f"all recorded observations up to step {at} are the same", at)
