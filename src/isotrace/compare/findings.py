"""One constructor per divergence code: the fields filled alike, and a sentence for people.

Index and lineage come first. `original_index` and `replay_index` are the `step_index` of each side;
one that is not given is the index itself, as it is in a replay up to the first divergence, or
None where the code says that this side has no such step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, Unpack

from isotrace.compare.codes import Code, Severity
from isotrace.compare.divergence import Divergence
from isotrace.compare.wording import changes_text, names_text, plain
from isotrace.errors import (
    ChecksumMismatchError,
    IsotraceError,
    RecordCorruptError,
    RecordGapError,
    SchemaUnsupportedError,
    StepOrderError,
    StoreCorruptError,
    UncontrolledSourceError,
)
from isotrace.jsondiff import MISSING, Change, diff_values
from isotrace.models import Lineage, TraceStep


class Sides(TypedDict, total=False):
    """Where the step stands in each run."""

    original_index: int | None
    replay_index: int | None


class _Facts(TypedDict, total=False):
    pointers: list[str]
    expected: Any
    actual: Any
    nearest: dict[str, Any] | None
    severity: Severity


def brief(step: TraceStep, changes: Iterable[Change]) -> dict[str, Any]:
    """A step as `Divergence.nearest` describes it, with where it differs from the one looked for."""
    return {
        "step_index": step.step_index,
        "skill_name": step.skill_name,
        "lineage": list(lineage_of(step)),
        "params": plain(step.params),
        "pointers": [change.pointer for change in changes],
    }


def lineage_of(step: TraceStep) -> Lineage:
    """The step's place in its run; `()` where it was not recorded."""
    return step.context.lineage if step.context else ()


def _run(code: Code, message: str, facts: _Facts, index: int | None = None) -> Divergence:
    """A divergence of the run as a whole."""
    facts.setdefault("severity", code.severity)
    return Divergence(code, index, message=message, **facts)


def _step(code: Code, at: tuple[int, Lineage], message: str, facts: _Facts, sides: Sides) -> Divergence:
    index, lineage = at
    facts.setdefault("severity", code.severity)
    sides.setdefault("original_index", index)
    sides.setdefault("replay_index", index)
    return Divergence(code, index, tuple(lineage), message=message, **facts, **sides)


def _values(changes: Sequence[Change]) -> _Facts:
    """Pointers, and from each pointer to its value per side; no key for a side that has nothing there."""
    return {
        "pointers": [one.pointer for one in changes],
        "expected": {one.pointer: plain(one.expected) for one in changes if one.expected is not MISSING},
        "actual": {one.pointer: plain(one.actual) for one in changes if one.actual is not MISSING},
    }


def _differ(what: str, changes: Sequence[Change]) -> str:
    return f"{what} at {changes_text(changes)}" if changes else what


# --- R: the record ------------------------------------------------------------------


def schema_unsupported(message: str, *, expected: Any = None, actual: Any = None) -> Divergence:
    """The record is of a format that this version does not know."""
    return _run(Code.SCHEMA_UNSUPPORTED, message, {"expected": expected, "actual": actual})


def record_corrupt(
    message: str,
    *,
    index: int | None = None,
    lineage: Lineage = (),
    pointers: Sequence[str] = (),
    expected: Any = None,
    actual: Any = None,
    **sides: Unpack[Sides],
) -> Divergence:
    """A hash, a chain or a sequence of the record is broken. Pointers lead into the record."""
    facts: _Facts = {"pointers": list(pointers), "expected": expected, "actual": actual}
    if index is None:
        return _run(Code.RECORD_CORRUPT, message, facts)
    return _step(Code.RECORD_CORRUPT, (index, lineage), message, facts, sides)


def record_gap(
    index: int | None,
    lineage: Lineage,
    message: str,
    *,
    pointers: Sequence[str] = (),
    severity: Severity = Severity.ERROR,
    **sides: Unpack[Sides],
) -> Divergence:
    """Content that the comparison rests on is absent. Pointers begin with the field's name."""
    facts: _Facts = {"pointers": list(pointers), "severity": severity}
    if index is None:
        return _run(Code.RECORD_GAP, message, facts)
    return _step(Code.RECORD_GAP, (index, lineage), message, facts, sides)


def indeterminate_step(
    index: int,
    lineage: Lineage,
    skill_name: str,
    *,
    where: str = "the record",
    severity: Severity = Severity.ERROR,
    **sides: Unpack[Sides],
) -> Divergence:
    """A step was started and never completed; `where` says in which run."""
    message = f"{skill_name} was started and never completed in {where}: what it did is unknown"
    return _step(Code.INDETERMINATE_STEP, (index, lineage), message, {"severity": severity}, sides)


def of_error(error: IsotraceError, *, lineage: Lineage = ()) -> Divergence:
    """The divergence that an error about a record or a replay amounts to.

    Raises the error itself if it is about something else (a store that is down, a wrong option).
    """
    message = str(error)
    pointers = [] if error.pointer is None else [error.pointer]
    if isinstance(error, SchemaUnsupportedError):
        return schema_unsupported(message, expected=error.expected, actual=error.got)
    if isinstance(error, RecordGapError):
        return record_gap(error.step, lineage, message, pointers=pointers)
    if isinstance(error, RecordCorruptError | ChecksumMismatchError | StepOrderError | StoreCorruptError):
        return record_corrupt(
            message,
            index=error.step,
            lineage=lineage,
            pointers=pointers,
            expected=error.expected,
            actual=error.got,
        )
    if isinstance(error, UncontrolledSourceError):
        return uncontrolled_source(error.step, lineage, message)
    raise error


# --- E: the environment --------------------------------------------------------------


def input_changed(changes: Sequence[Change], *, severity: Severity = Severity.ERROR) -> Divergence:
    """The run's input or plan differs; pointers begin with `/input` or `/plan`."""
    facts = _values(changes)
    facts["severity"] = severity
    return _run(Code.INPUT_CHANGED, _differ("the run's input differs", changes), facts)


def runtime_mismatch(
    expected: Any, actual: Any, *, severity: Severity | None = None, changes: Sequence[Change] | None = None
) -> Divergence:
    """Python, hash seed or packages differ; pointers lead into the environment."""
    changes = diff_values(expected, actual) if changes is None else changes
    facts = _values(changes)
    facts["severity"] = severity or Code.RUNTIME_MISMATCH.severity
    return _run(Code.RUNTIME_MISMATCH, _differ("the environment differs", changes), facts)


def uncontrolled_source(index: int | None, lineage: Lineage, what: str) -> Divergence:
    """The agent used something outside the recorder; `what` says so in a sentence."""
    if index is None:
        return _run(Code.UNCONTROLLED_SOURCE, what, {"actual": what})
    return _step(Code.UNCONTROLLED_SOURCE, (index, lineage), what, {"actual": what}, {"original_index": None})


# --- C: the control flow --------------------------------------------------------------


def kind_changed(
    index: int, lineage: Lineage, expected_kind: str, actual_kind: str, **sides: Unpack[Sides]
) -> Divergence:
    """A step of another kind stands at the place."""
    message = f"kind: {expected_kind} → {actual_kind}"
    facts: _Facts = {"expected": expected_kind, "actual": actual_kind}
    return _step(Code.KIND_CHANGED, (index, lineage), message, facts, sides)


def skill_changed(
    index: int,
    lineage: Lineage,
    expected_skill: str,
    actual_skill: str,
    *,
    nearest: dict[str, Any] | None = None,
    **sides: Unpack[Sides],
) -> Divergence:
    """Another skill was called at the place."""
    facts: _Facts = {"expected": expected_skill, "actual": actual_skill, "nearest": nearest}
    message = f"skill: {expected_skill} → {actual_skill}"
    return _step(Code.SKILL_CHANGED, (index, lineage), message, facts, sides)


def params_changed(
    index: int,
    lineage: Lineage,
    expected_params: Any,
    actual_params: Any,
    *,
    changes: Sequence[Change] | None = None,
    nearest: dict[str, Any] | None = None,
    **sides: Unpack[Sides],
) -> Divergence:
    """The same skill was called with other params.

    `changes`: where they differ, if that is known already; otherwise it is looked for.
    """
    changes = diff_values(expected_params, actual_params) if changes is None else changes
    facts = _values(changes)
    facts["nearest"] = nearest
    return _step(Code.PARAMS_CHANGED, (index, lineage), _differ("params differ", changes), facts, sides)


def extra_step(
    index: int,
    lineage: Lineage,
    skill_name: str,
    params: Any,
    *,
    nearest: dict[str, Any] | None = None,
    **sides: Unpack[Sides],
) -> Divergence:
    """A step that is not on record; `nearest`: the recorded step that comes closest (see `brief`)."""
    sides.setdefault("original_index", None)
    actual = {"skill_name": skill_name, "params": plain(params)}
    facts: _Facts = {"actual": actual, "nearest": nearest}
    message = f"{skill_name} is not in the original"
    return _step(Code.EXTRA_STEP, (index, lineage), message, facts, sides)


def missing_step(
    index: int,
    lineage: Lineage,
    skill_name: str,
    params: Any,
    *,
    nearest: dict[str, Any] | None = None,
    **sides: Unpack[Sides],
) -> Divergence:
    """A step on record that was never called; `nearest`: the live step that comes closest."""
    sides.setdefault("replay_index", None)
    expected = {"skill_name": skill_name, "params": plain(params)}
    facts: _Facts = {"expected": expected, "nearest": nearest}
    message = f"{skill_name} is not in the replay"
    return _step(Code.MISSING_STEP, (index, lineage), message, facts, sides)


def reordered(
    index: int,
    lineage: Lineage,
    skill_names: Sequence[str],
    expected_skill: str,
    actual_skill: str,
    *,
    original_index: int,
    replay_index: int,
) -> Divergence:
    """Steps that follow one another in both runs came elsewhere.

    The indexes are those of the first of them in each run; `expected_skill` and `actual_skill` are
    what stands at the place in the original and in the replay.
    """
    verb = "comes" if len(skill_names) == 1 else "come"
    way = "earlier" if replay_index < original_index else "later"
    message = f"{names_text(skill_names)} {verb} {way}: step {original_index} → {replay_index}"
    facts: _Facts = {"expected": expected_skill, "actual": actual_skill}
    sides: Sides = {"original_index": original_index, "replay_index": replay_index}
    return _step(Code.REORDERED, (index, lineage), message, facts, sides)


def early_end(
    index: int, lineage: Lineage, counts: tuple[int, int], left: Sequence[str] = (), **sides: Unpack[Sides]
) -> Divergence:
    """The run ended after fewer steps than the original; `left` names what was not reached.

    `counts`: how many steps the original has, and the replay.
    """
    sides.setdefault("replay_index", None)
    rest = f"; not reached: {names_text(left)}" if left else ""
    return _ended(Code.EARLY_END, (index, lineage), counts, rest, sides)


def late_end(
    index: int, lineage: Lineage, counts: tuple[int, int], left: Sequence[str] = (), **sides: Unpack[Sides]
) -> Divergence:
    """The record ended and the run goes on; `left` names what it adds. `counts` as in `early_end`."""
    sides.setdefault("original_index", None)
    rest = f"; added: {names_text(left)}" if left else ""
    return _ended(Code.LATE_END, (index, lineage), counts, rest, sides)


def _ended(
    code: Code, at: tuple[int, Lineage], counts: tuple[int, int], rest: str, sides: Sides
) -> Divergence:
    expected, actual = counts
    message = f"step count: {expected} → {actual}{rest}"
    return _step(code, at, message, {"expected": expected, "actual": actual}, sides)


def schedule_changed(
    index: int, lineage: Lineage, expected: str, actual: str, **sides: Unpack[Sides]
) -> Divergence:
    """Starts and ends of the same steps are interleaved otherwise; both texts name an event."""
    facts: _Facts = {"expected": expected, "actual": actual}
    return _step(Code.SCHEDULE_CHANGED, (index, lineage), f"where {expected}, now {actual}", facts, sides)


def replay_stalled(index: int, lineage: Lineage, skill_name: str, waiting: Sequence[str]) -> Divergence:
    """The turn of a recorded step never comes; `waiting` names the lineages that wait for it."""
    waits = f"; waiting: {', '.join(waiting)}" if waiting else ""
    facts: _Facts = {"expected": skill_name, "actual": list(waiting)}
    message = f"the turn of {skill_name} never comes{waits}"
    return _step(Code.REPLAY_STALLED, (index, lineage), message, facts, {"replay_index": None})


# --- O: the outcomes ------------------------------------------------------------------


def status_changed(
    index: int,
    lineage: Lineage,
    expected_status: str,
    actual_status: str,
    *,
    detail: str = "",
    **sides: Unpack[Sides],
) -> Divergence:
    """Success here, failure there; `detail` may name the error."""
    message = f"status: {expected_status} → {actual_status}" + (f" ({detail})" if detail else "")
    facts: _Facts = {"expected": expected_status, "actual": actual_status}
    return _step(Code.STATUS_CHANGED, (index, lineage), message, facts, sides)


def output_changed(
    index: int,
    lineage: Lineage,
    expected_outcome: Any,
    actual_outcome: Any,
    *,
    changes: Sequence[Change] | None = None,
    **sides: Unpack[Sides],
) -> Divergence:
    """Both succeeded with different outcomes."""
    changes = diff_values(expected_outcome, actual_outcome) if changes is None else changes
    message = _differ("outcomes differ", changes)
    return _step(Code.OUTPUT_CHANGED, (index, lineage), message, _values(changes), sides)


def error_changed(
    index: int, lineage: Lineage, changes: Sequence[Change], **sides: Unpack[Sides]
) -> Divergence:
    """Both failed, in different ways; pointers are `/outcome_category` and `/outcome_code`."""
    message = _differ("errors differ", changes)
    return _step(Code.ERROR_CHANGED, (index, lineage), message, _values(changes), sides)


def retries_changed(
    index: int, lineage: Lineage, changes: Sequence[Change], **sides: Unpack[Sides]
) -> Divergence:
    """Another number or pattern of attempts; pointers are `/retry_count` or lead into `/context/attempts`."""
    message = _differ("retries differ", changes)
    return _step(Code.RETRIES_CHANGED, (index, lineage), message, _values(changes), sides)


def stream_changed(
    index: int,
    lineage: Lineage,
    message: str,
    changes: Sequence[Change] = (),
    *,
    partial: bool = False,
    **sides: Unpack[Sides],
) -> Divergence:
    """A stream came in other chunks (info); `partial`: only one run saw it to its end (error)."""
    facts = _values(changes)
    facts["severity"] = Severity.ERROR if partial else Severity.INFO
    return _step(Code.STREAM_CHANGED, (index, lineage), message, facts, sides)


def final_result_changed(
    index: int,
    expected: Any,
    actual: Any,
    *,
    changes: Sequence[Change] | None = None,
    what: str = "the run's result differs",
) -> Divergence:
    """The run's result differs, or its status. `index` is the position behind the last step.

    Without `changes`, the two results are compared, and the pointers begin with `/result`.
    """
    if changes is None:
        changes = diff_values({"result": expected}, {"result": actual})
    message = _differ(what, changes)
    return _run(Code.FINAL_RESULT_CHANGED, message, _values(changes), index)


def budget_changed(what: str, expected: float, actual: float, unit: str, allowed: str) -> Divergence:
    """Cost, tokens or time of the compared steps differ by more than was allowed."""
    message = f"{what}: {expected:g} → {actual:g} {unit}, allowed is ±{allowed}"
    return _run(Code.BUDGET_CHANGED, message, {"expected": expected, "actual": actual})


# --- X: policy ------------------------------------------------------------------------


def effect_blocked(
    index: int, lineage: Lineage, skill_name: str, effect: str, *, mode: str = "strict"
) -> Divergence:
    """A step is needed whose effect the mode forbids."""
    message = f"{skill_name} has the effect {effect}, which mode {mode} never executes"
    facts: _Facts = {"expected": mode, "actual": effect}
    return _step(Code.EFFECT_BLOCKED, (index, lineage), message, facts, {"original_index": None})
