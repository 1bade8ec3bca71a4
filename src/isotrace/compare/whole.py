"""What two runs show beyond their steps: soundness, input, environment, result, cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence, Severity
from isotrace.compare.findings import lineage_of
from isotrace.compare.rules import Rules, Tolerance, changes_between
from isotrace.compare.steps import object_pointers
from isotrace.compare.wording import plain
from isotrace.jsondiff import MISSING, diff_values
from isotrace.models import Erased, TraceRecord, TraceStep

# --- is it a record at all ------------------------------------------------------------


def check_record(record: TraceRecord, side: str) -> Divergence | None:
    """The first place where the record contradicts itself: step numbers, event numbers, lineages."""
    lineages: set[tuple[int | str, ...]] = set()
    events: set[int] = set()
    for index, step in enumerate(record.steps):
        if step.step_index != index:
            return _corrupt(index, step, side, "step_index", index, step.step_index)
        context = step.context
        if context is None:
            continue
        if context.lineage and context.lineage in lineages:
            return _corrupt(
                index, step, side, "context/lineage", "a lineage of its own", list(context.lineage)
            )
        lineages.add(context.lineage)
        for name, seq, least in (
            ("start_seq", context.start_seq, 0),
            ("end_seq", context.end_seq, (context.start_seq or 0) + 1),
        ):
            if seq is not None and (seq in events or seq < least):
                return _corrupt(
                    index, step, side, f"context/{name}", f"an unused number from {least} on", seq
                )
            if seq is not None:
                events.add(seq)
    return None


def _corrupt(index: int, step: TraceStep, side: str, field: str, expected: Any, actual: Any) -> Divergence:
    return findings.record_corrupt(
        f"the {side} contradicts itself: {field} is {actual}, expected {expected}",
        index=index,
        lineage=lineage_of(step),
        pointers=[f"/steps/{index}/{field}"],
        expected=expected,
        actual=actual,
        original_index=index if side == "original" else None,
        replay_index=index if side == "replay" else None,
    )


def nothing_of_kinds(kinds: Sequence[str]) -> Divergence:
    """`RECORD_GAP`: no step of either run is of a kind to be compared, which proves no match."""
    return findings.record_gap(
        None, (), f"neither run has a step of kind {' or '.join(kinds)}: there is nothing to compare"
    )


# --- what went in ---------------------------------------------------------------------


def input_divergences(
    original: TraceRecord, replay: TraceRecord, rules: Rules, *, exact: bool
) -> Iterator[Divergence]:
    """`INPUT_CHANGED`; at level `exact` also what of the inputs can't be compared."""
    before, after = inputs_of(original), inputs_of(replay)
    gaps = _take_out_gaps(before, after)
    if changes := changes_between(before, after, rules.lens(None)):
        yield findings.input_changed(changes)
    if exact and gaps:
        yield findings.record_gap(None, (), "the run's input is absent", pointers=gaps)
    if exact and (objects := object_pointers(before)):
        yield _objects_in("input", objects)


def inputs_of(record: TraceRecord) -> dict[str, Any]:
    values = {"plan": record.plan}
    if record.context and record.context.input is not MISSING:
        values["input"] = record.context.input
    return values


def _take_out_gaps(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Leaves the fields that both have and none has erased. Returns pointers to the erased ones."""
    gaps = []
    for name in {**before, **after}:
        values = [before.get(name, MISSING), after.get(name, MISSING)]
        erased = any(isinstance(value, Erased) for value in values)
        if erased or MISSING in values:
            before.pop(name, None)
            after.pop(name, None)
            if erased:
                gaps.append(f"/{name}")
    return gaps


def _objects_in(what: str, pointers: Sequence[str]) -> Divergence:
    return findings.record_gap(
        None,
        (),
        f"the run's {what} holds objects known by type only",
        pointers=pointers,
        severity=Severity.WARNING,
    )


def environment_divergences(original: TraceRecord, replay: TraceRecord) -> Iterator[Divergence]:
    """`RUNTIME_MISMATCH`, where both runs recorded their environment."""
    before = original.context.environment if original.context else MISSING
    after = replay.context.environment if replay.context else MISSING
    if not any(value is MISSING or isinstance(value, Erased) for value in (before, after)):
        changes = diff_values(before, after)
        if changes:
            yield findings.runtime_mismatch(before, after, changes=changes)


# --- what came out --------------------------------------------------------------------


def result_divergences(
    original: TraceRecord, replay: TraceRecord, rules: Rules, *, index: int, needed: bool
) -> Iterator[Divergence]:
    """`FINAL_RESULT_CHANGED`: status, result or kind of error. `needed`: nothing else is compared,
    so a result that neither run recorded leaves the question open."""
    before, after = results_of(original), results_of(replay)
    gaps = [
        name
        for name in ("result", "error")
        if any(isinstance(one.get(name), Erased) for one in (before, after))
    ]
    for name in gaps:
        before.pop(name, None)
        after.pop(name, None)
    if changes := changes_between(plain_values(before), plain_values(after), rules.lens(None)):
        yield findings.final_result_changed(index, None, None, changes=changes)
    elif gaps:
        pointers = [f"/{name}" for name in gaps]
        yield findings.record_gap(None, (), "the run's result is absent", pointers=pointers)
    elif needed and before.keys() == {"status"}:
        yield findings.record_gap(None, (), "neither run recorded a result", pointers=["/result"])
    elif objects := object_pointers(before):
        yield _objects_in("result", objects)


def end_divergences(
    original: TraceRecord, replay: TraceRecord, rules: Rules, *, index: int
) -> Iterator[Divergence]:
    """`FINAL_RESULT_CHANGED` as a warning, where the path decides: another status or kind of error."""
    before, after = _end(original), _end(replay)
    if original.status == replay.status:
        # An error that only one of them recorded says nothing about the other.
        both = [name for name in before if name in after]
        before, after = ({name: end[name] for name in both} for end in (before, after))
    if any(isinstance(end.get("error"), Erased) for end in (before, after)):
        before.pop("error", None)
        after.pop("error", None)
    if changes := changes_between(plain_values(before), plain_values(after), rules.lens(None)):
        found = findings.final_result_changed(
            index, None, None, changes=changes, what="the run's end differs"
        )
        yield replace(found, severity=Severity.WARNING)


def results_of(record: TraceRecord) -> dict[str, Any]:
    values = _end(record)
    if record.context and record.context.result is not MISSING:
        values["result"] = record.context.result
    return values


def _end(record: TraceRecord) -> dict[str, Any]:
    values: dict[str, Any] = {"status": record.status}
    if record.context and record.context.error is not MISSING:
        error = record.context.error
        # Which error it was, not its words: those name paths, times and addresses.
        values["error"] = {"type": error["type"]} if isinstance(error, dict) and "type" in error else error
    return values


def plain_values(values: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items()}


# --- what it took ---------------------------------------------------------------------

_TOKEN_FIELDS = (
    ("total_tokens",),
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
    ("totalTokenCount",),
)


def budget_divergences(
    original: Sequence[TraceStep], replay: Sequence[TraceStep], budget: dict[str, Tolerance]
) -> Iterator[Divergence]:
    """`BUDGET_CHANGED` for each sum over the compared steps that is beyond its tolerance."""
    for name, unit, measure in (
        ("cost", "cents", lambda step: step.cost_cents),
        ("duration", "ms", lambda step: step.duration_ms),
        ("tokens", "tokens", _tokens),
    ):
        if name not in budget:
            continue
        before, after = sum(map(measure, original)), sum(map(measure, replay))
        if not budget[name].covers(before, after):
            yield findings.budget_changed(name, before, after, unit, str(budget[name]))


def _tokens(step: TraceStep) -> float:
    """The tokens that the provider reported for the step; 0 if it reported none."""
    outcome: Any = step.outcome_data
    usage = outcome.get("usage", outcome.get("usageMetadata")) if isinstance(outcome, dict) else None
    if not isinstance(usage, dict):
        return 0
    for names in _TOKEN_FIELDS:
        counts = [usage[name] for name in names if isinstance(usage.get(name), int | float)]
        if counts:
            return float(sum(counts))
    return 0
