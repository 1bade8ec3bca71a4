"""Whether two runs took the same path."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from isotrace import hashing
from isotrace.canonical import value_bytes
from isotrace.errors import CanonicalizationError, LimitError, SchemeMismatchError
from isotrace.jsondiff import MISSING, Change, diff_values
from isotrace.models.fields import Erased
from isotrace.models.records import TraceRecord, check_order
from isotrace.models.steps import TraceStep


def _normalize_for_determinism(value: Any) -> Any:
    """The value as hashes see it: floats rounded to 6 places, −0.0 as 0.0, everything else unchanged.

    Containers are copied. Raises `CycleError` and `LimitError` as `hashing.normalize` does.
    """
    return hashing.normalize(value)


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
    Content that is absent before any difference is no parity either: `RECORD_GAP`. So are params
    beyond the limits of hashing, which no recording holds.

    Raises `StepOrderError`, `SchemeMismatchError` for runs that were recorded under two hash
    schemes, and `CanonicalizationError` if params are not plain values, with the step.
    """
    check_schemes(original, replay)
    ours, theirs = _hashes_with_gaps(original), _hashes_with_gaps(replay)
    signatures = (_signature_or_empty(ours), _signature_or_empty(theirs))
    step = _first_difference(ours, theirs)
    if step is None:
        return ParityResult(True, *signatures)
    return ParityResult(False, *signatures, step, _reason(original, replay, ours, theirs, step))


def check_schemes(original: TraceRecord, replay: TraceRecord) -> None:
    """Raises `SchemeMismatchError` if both runs say their hash scheme, and not the same one."""
    if original.context and replay.context and original.context.scheme != replay.context.scheme:
        raise SchemeMismatchError(
            "the runs were recorded under two hash schemes, which can't be compared",
            expected=f"{original.context.scheme} (run {original.run_id})",
            got=f"{replay.context.scheme} (run {replay.run_id})",
        )


def _hashes_with_gaps(record: TraceRecord) -> list[str | None]:
    check_order(record)
    return [_hash_or_none(step) for step in record.steps]


def _hash_or_none(step: TraceStep) -> str | None:
    try:
        return None if isinstance(step.params, Erased) else step.determinism_hash()
    except LimitError:
        return None


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
    if reason := end_reason(len(ours), len(theirs), step):
        return reason
    before, after = original.steps[step], replay.steps[step]
    if ours[step] is None or theirs[step] is None:
        return _gap_reason(before, after)
    if None in ours[step:] or None in theirs[step:]:
        # What follows can't be known, so it explains nothing.
        return step_reason(before, after) or _UNSEEN
    counts = _counts(len(ours), len(theirs))
    surplus = len(theirs) - len(ours)
    if surplus > 0 and theirs[step + surplus :] == ours[step:]:
        return f"EXTRA_STEP: {after.skill_name} is not in the original; {counts}"
    if surplus < 0 and ours[step - surplus :] == theirs[step:]:
        return f"MISSING_STEP: {before.skill_name} is not in the replay; {counts}"
    if surplus == 0 and Counter(ours[step:]) == Counter(theirs[step:]):
        return f"REORDERED: {before.skill_name} comes later, {after.skill_name} comes first"
    return step_reason(before, after) or _UNSEEN


_UNSEEN = "PARAMS_CHANGED: params differ in their canonical form"
GAP_REASON = "RECORD_GAP: params are absent, so the steps can't be compared"


def _gap_reason(before: TraceStep, after: TraceStep) -> str:
    for side, one in (("original", before), ("replay", after)):
        if not isinstance(one.params, Erased):
            try:
                one.determinism_hash()
            except LimitError as error:
                return (
                    f"RECORD_GAP: the params of {one.skill_name} in the {side} can't be hashed, "
                    f"so the steps can't be compared: {error}"
                )
    return GAP_REASON


def end_reason(original_steps: int, replay_steps: int, step: int) -> str | None:
    """The reason of a divergence at this step if one of the runs ended there."""
    if step == replay_steps:
        return f"EARLY_END: {_counts(original_steps, replay_steps)}"
    if step == original_steps:
        return f"LATE_END: {_counts(original_steps, replay_steps)}"
    return None


def _counts(original_steps: int, replay_steps: int) -> str:
    return f"step count: {original_steps} → {replay_steps}"


def step_reason(before: TraceStep, after: TraceStep) -> str | None:
    """What differs between two steps at one place, the cause before its consequences.

    None if nothing does that hashes see.
    """
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
    if before.retry_count != after.retry_count:
        return f"RETRIES_CHANGED: retries: {before.retry_count} → {after.retry_count}"
    return None


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
        # Stored steps may hold what stands for an erased value.
        text = type(value).__name__
    return text if len(text) <= _VALUE_SHOWN else text[: _VALUE_SHOWN - 1] + "…"
