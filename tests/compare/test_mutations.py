"""One labelled mutation per code: exactly that code, at exactly that index, with exactly those pointers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from isotrace.compare import Code, Divergence, Rules, Verdict, diff_traces
from isotrace.compare.divergence import Severity
from isotrace.models import Erased, StepContext, TraceRecord, TraceStatus, TraceStep, compare_traces


@dataclass
class Mutant:
    """A changed copy of a run, and everything that a comparison must say about it."""

    record: TraceRecord
    code: Code
    index: int | None
    pointers: list[str]
    verdict: Verdict = Verdict.DIVERGED
    severity: Severity = Severity.ERROR
    levels: tuple[str, ...] = ("decisions", "exact")
    unseen: tuple[str, ...] = ("outcome",)
    rules: Rules | None = None


def exact_only(*facts: Any) -> Mutant:
    """A mutant that level `exact` alone tells from the original."""
    return replace(Mutant(*facts), levels=("exact",), unseen=("decisions", "skeleton", "outcome"))


def no_skeleton(*facts: Any) -> Mutant:
    """A mutant whose skeleton is that of the original."""
    return replace(Mutant(*facts), unseen=("skeleton", "outcome"))


Mutation = Callable[[TraceRecord], Iterator[Mutant]]
MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


# --- tools ----------------------------------------------------------------------------


def each(record: TraceRecord) -> Iterator[tuple[int, TraceRecord, TraceStep]]:
    """Every position (of a long run a few), with a copy of the run and the step of the copy."""
    count = len(record.steps)
    for index in (
        range(count) if count <= 12 else sorted({0, 1, count // 3, count // 2, count - 2, count - 1})
    ):
        mutant = copy.deepcopy(record)
        yield index, mutant, mutant.steps[index]


def context(step: TraceStep) -> StepContext:
    assert step.context is not None
    return step.context


def renumber(record: TraceRecord) -> TraceRecord:
    for index, step in enumerate(record.steps):
        step.step_index = index
    return record


def shift(record: TraceRecord, at: tuple[int | str, ...], by: int) -> None:
    """Moves the numbers of a branch from `at` on, as one more or one less call of it would."""
    depth = len(at) - 1
    for step in record.steps:
        lineage = context(step).lineage
        number, start = lineage[depth : depth + 1], at[depth]
        if lineage[:depth] == at[:depth] and isinstance(number[0], int) and isinstance(start, int):
            moved = number[0] + (by if number[0] >= start else 0)
            context(step).lineage = (*at[:depth], moved, *lineage[depth + 1 :])


def novel(like: TraceStep, **changes: Any) -> TraceStep:
    """A step that is in no run, at the place of another."""
    step = copy.deepcopy(like)
    step.skill_name, step.params = "novel", {"never": "seen"}
    context(step).start_seq = context(step).end_seq = None
    for name, value in changes.items():
        setattr(step, name, value)
    return step


def hashes(record: TraceRecord) -> list[str]:
    return [step.determinism_hash() for step in record.steps]


def parting(one: TraceRecord, other: TraceRecord) -> int:
    """The first k at which the paths differ, found by looking."""
    mine, theirs = hashes(one), hashes(other)
    return next(k for k in range(len(mine) + 1) if mine[: k + 1] != theirs[: k + 1])


# --- R ----------------------------------------------------------------------------------


@mutation
def a_step_is_numbered_twice(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.step_index += 1
        pointers = [f"/steps/{index}/step_index"]
        yield Mutant(mutant, Code.RECORD_CORRUPT, index, pointers, Verdict.INVALID_RECORD, unseen=())


@mutation
def two_steps_claim_one_lineage(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if index:
            context(step).lineage = context(mutant.steps[index - 1]).lineage
            pointers = [f"/steps/{index}/context/lineage"]
            yield Mutant(mutant, Code.RECORD_CORRUPT, index, pointers, Verdict.INVALID_RECORD, unseen=())


@mutation
def a_step_ends_when_it_starts(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        context(step).end_seq = context(step).start_seq
        pointers = [f"/steps/{index}/context/end_seq"]
        yield Mutant(mutant, Code.RECORD_CORRUPT, index, pointers, Verdict.INVALID_RECORD, unseen=())


@mutation
def a_step_ends_before_it_starts(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        context(step).start_seq, context(step).end_seq = 10_000, 9_999
        pointers = [f"/steps/{index}/context/end_seq"]
        yield Mutant(mutant, Code.RECORD_CORRUPT, index, pointers, Verdict.INVALID_RECORD, unseen=())


@mutation
def params_are_erased(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.params = Erased("ab" * 32)  # type: ignore[assignment]  # what erasing leaves there
        yield no_skeleton(mutant, Code.RECORD_GAP, index, ["/params"], Verdict.INCONCLUSIVE)


@mutation
def an_outcome_is_erased(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.outcome_data = Erased("ab" * 32)  # type: ignore[assignment]  # what erasing leaves there
        pointers = ["/outcome_data"]
        yield exact_only(mutant, Code.RECORD_GAP, index, pointers, Verdict.INCONCLUSIVE)


@mutation
def a_chunk_is_erased(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.outcome_data and "chunks" in step.outcome_data:
            step.outcome_data["chunks"][1] = Erased("ab" * 32)
            pointers = ["/outcome_data/chunks/1"]
            yield exact_only(mutant, Code.RECORD_GAP, index, pointers, Verdict.INCONCLUSIVE)


@mutation
def a_step_is_never_completed(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.status, step.outcome_category = TraceStatus.FAILURE, "INDETERMINATE"
        step.outcome_code = step.outcome_data = context(step).end_seq = None
        yield Mutant(mutant, Code.INDETERMINATE_STEP, index, [], Verdict.INCONCLUSIVE)


# --- E ----------------------------------------------------------------------------------


@mutation
def the_input_is_another(record: TraceRecord) -> Iterator[Mutant]:
    mutant = copy.deepcopy(record)
    assert mutant.context is not None
    mutant.context.input = {**mutant.context.input, "never": "seen"}
    # Equal paths match: beside them another input is only worth a remark.
    common = (Code.INPUT_CHANGED, None, ["/input/never"])
    yield Mutant(mutant, *common, Verdict.MATCH, Severity.WARNING, levels=("decisions", "skeleton"))
    yield exact_only(mutant, *common)


@mutation
def the_plan_is_another(record: TraceRecord) -> Iterator[Mutant]:
    mutant = copy.deepcopy(record)
    mutant.plan.append({"goal": "sell"})
    yield exact_only(mutant, Code.INPUT_CHANGED, None, [f"/plan/{len(record.plan)}"])


@mutation
def python_is_another(record: TraceRecord) -> Iterator[Mutant]:
    mutant = copy.deepcopy(record)
    assert mutant.context is not None
    mutant.context.environment = {**mutant.context.environment, "python": "3.14.0"}
    yield no_skeleton(mutant, Code.RUNTIME_MISMATCH, None, ["/python"], Verdict.MATCH, Severity.WARNING)


# --- C ----------------------------------------------------------------------------------


@mutation
def a_step_is_of_another_kind(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        context(step).kind = "retrieval"
        step.params = {"never": "seen"}
        yield no_skeleton(mutant, Code.KIND_CHANGED, index, [])


@mutation
def a_step_calls_another_skill(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.skill_name = "novel"
        yield Mutant(mutant, Code.SKILL_CHANGED, index, [], levels=("decisions", "exact", "skeleton"))


@mutation
def a_param_is_added(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.params["a/b~c"] = 1
        yield no_skeleton(mutant, Code.PARAMS_CHANGED, index, ["/a~1b~0c"])


@mutation
def a_param_has_another_value(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        for name in step.params:
            step.params[name] = "never seen"
            yield no_skeleton(mutant, Code.PARAMS_CHANGED, index, [f"/{name}"])
            break


@mutation
def a_step_is_added(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        added = novel(step)
        shift(mutant, context(step).lineage, 1)
        mutant.steps.insert(index, added)
        yield Mutant(renumber(mutant), Code.EXTRA_STEP, index, [], levels=("decisions", "exact", "skeleton"))


@mutation
def a_step_is_left_out(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, _ in each(record):
        del mutant.steps[index]
        at = parting(record, renumber(mutant))
        if at < len(mutant.steps):
            yield Mutant(mutant, Code.MISSING_STEP, at, [])


@mutation
def neighbours_change_places(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        other = mutant.steps[index + 1] if index + 1 < len(mutant.steps) else step
        same_branch = context(step).lineage[:-1] == context(other).lineage[:-1]
        if same_branch and step.determinism_hash() != other.determinism_hash():
            mine, theirs = context(step), context(other)
            for name in ("lineage", "start_seq", "end_seq"):
                kept = getattr(mine, name)
                setattr(mine, name, getattr(theirs, name))
                setattr(theirs, name, kept)
            mutant.steps[index : index + 2] = [other, step]
            yield Mutant(renumber(mutant), Code.REORDERED, index, [])


@mutation
def the_run_stops_early(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, _ in each(record):
        del mutant.steps[index:]
        yield Mutant(mutant, Code.EARLY_END, index, [], levels=("decisions", "exact", "skeleton"))


@mutation
def the_run_goes_on(record: TraceRecord) -> Iterator[Mutant]:
    for count in (1, 3):
        mutant = copy.deepcopy(record)
        for number in range(count):
            step = novel(mutant.steps[-1], params={"number": number})
            context(step).lineage = (99, number)
            mutant.steps.append(step)
        yield Mutant(renumber(mutant), Code.LATE_END, len(record.steps), [])


@mutation
def parallel_steps_take_turns_otherwise(record: TraceRecord) -> Iterator[Mutant]:
    events = sorted(
        (seq, step.step_index, name)
        for step in record.steps
        for name, seq in (("start_seq", context(step).start_seq), ("end_seq", context(step).end_seq))
        if seq is not None
    )
    for (seq, index, name), (later, other, its_name) in pairwise(events):
        if (
            index != other
            and context(record.steps[index]).lineage[0] != context(record.steps[other]).lineage[0]
        ):
            mutant = copy.deepcopy(record)
            setattr(context(mutant.steps[index]), name, later)
            setattr(context(mutant.steps[other]), its_name, seq)
            yield no_skeleton(mutant, Code.SCHEDULE_CHANGED, index, [], Verdict.MATCH, Severity.WARNING)


# --- O ----------------------------------------------------------------------------------


@mutation
def a_step_fails_or_recovers(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.status is TraceStatus.SUCCESS:
            step.status, step.outcome_category, step.outcome_code = TraceStatus.FAILURE, "RESOURCE", "Boom"
        else:
            step.status, step.outcome_category, step.outcome_code = TraceStatus.SUCCESS, "SUCCESS", None
        yield Mutant(mutant, Code.STATUS_CHANGED, index, [], levels=("decisions", "exact", "skeleton"))


@mutation
def something_else_comes_back(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.status is TraceStatus.SUCCESS and step.outcome_data is not None:
            step.outcome_data["never"] = "seen"
            yield exact_only(mutant, Code.OUTPUT_CHANGED, index, ["/never"])


@mutation
def a_success_has_another_code(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.status is TraceStatus.SUCCESS:
            step.outcome_code = "201"
            yield no_skeleton(mutant, Code.OUTPUT_CHANGED, index, ["/outcome_code"])


@mutation
def a_failure_is_another(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.status is TraceStatus.FAILURE:
            step.outcome_category, step.outcome_code = "RESOURCE", "MemoryError"
            yield no_skeleton(mutant, Code.ERROR_CHANGED, index, ["/outcome_category", "/outcome_code"])


@mutation
def a_failure_brings_other_content(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.status is TraceStatus.FAILURE:
            step.outcome_data = {"body": "no"}
            yield exact_only(mutant, Code.ERROR_CHANGED, index, ["/outcome_data"])


@mutation
def one_more_attempt_is_made(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        step.retry_count += 1
        yield no_skeleton(mutant, Code.RETRIES_CHANGED, index, ["/retry_count"])


@mutation
def an_attempt_fails_otherwise(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if context(step).attempts:
            context(step).attempts[-1]["outcome_code"] = "500"
            pointers = [f"/context/attempts/{len(context(step).attempts) - 1}/outcome_code"]
            yield exact_only(mutant, Code.RETRIES_CHANGED, index, pointers)


@mutation
def a_stream_comes_in_other_chunks(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        chunks = (step.outcome_data or {}).get("chunks")
        if chunks and isinstance(chunks[0], str):
            chunks[:] = ["".join(chunks)]
        elif chunks:
            chunks[:] = [{"$iso:bytes": "aGVsbG8h"}]
        else:
            continue
        common = (Verdict.MATCH, Severity.INFO)
        yield exact_only(mutant, Code.STREAM_CHANGED, index, ["/chunks"], *common)


@mutation
def a_stream_is_closed_early(record: TraceRecord) -> Iterator[Mutant]:
    for index, mutant, step in each(record):
        if step.outcome_data and "chunks" in step.outcome_data:
            del step.outcome_data["chunks"][-1]
            context(step).marks.append("closed_early")
            yield exact_only(mutant, Code.STREAM_CHANGED, index, ["/chunks"])


@mutation
def the_result_is_another(record: TraceRecord) -> Iterator[Mutant]:
    mutant = copy.deepcopy(record)
    assert mutant.context is not None
    mutant.context.result = "never seen"
    pointers = ["/result"]
    end = len(record.steps)
    yield Mutant(
        mutant,
        Code.FINAL_RESULT_CHANGED,
        end,
        pointers,
        levels=("exact", "outcome"),
        unseen=("decisions", "skeleton"),
    )


@mutation
def the_run_fails(record: TraceRecord) -> Iterator[Mutant]:
    mutant = copy.deepcopy(record)
    mutant.status = "failed"
    common = (Code.FINAL_RESULT_CHANGED, len(record.steps), ["/status"])
    yield Mutant(mutant, *common, levels=("exact", "outcome"), unseen=())
    yield Mutant(
        mutant, *common, Verdict.MATCH, Severity.WARNING, levels=("decisions", "skeleton"), unseen=()
    )


@mutation
def a_step_costs_more(record: TraceRecord) -> Iterator[Mutant]:
    for _, mutant, step in each(record):
        step.cost_cents += 100
        rules = Rules.parse(budget=["cost=10%", "duration=5", "tokens=0"])
        yield Mutant(
            mutant,
            Code.BUDGET_CHANGED,
            None,
            [],
            Verdict.MATCH,
            Severity.WARNING,
            rules=rules,
            unseen=("decisions", "skeleton", "outcome"),
        )


# --- the test -----------------------------------------------------------------------------


def told(divergences: list[Divergence]) -> list[tuple[Any, ...]]:
    return [(one.code, one.index, one.pointers, one.severity) for one in divergences]


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_shows_as_its_code_at_its_place_and_as_nothing_else(
    recorded: Callable[[], TraceRecord], name: str
) -> None:
    original = recorded()
    for mutant in MUTATIONS[name](original):
        for level in mutant.levels:
            diff = diff_traces(original, mutant.record, level=level, rules=mutant.rules)
            expected = (mutant.code, mutant.index, mutant.pointers, mutant.severity)
            assert told(diff.divergences) == [expected], (level, mutant.index)
            assert diff.verdict is mutant.verdict
            assert diff.first == diff.divergences[0]
            assert diff.parity.is_parity == (mutant.severity is not Severity.ERROR)
            if not diff.parity.is_parity:
                assert diff.parity.divergence_step == mutant.index
                assert (diff.parity.divergence_reason or "").startswith(mutant.code)


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_contract_finds_the_same_step(recorded: Callable[[], TraceRecord], name: str) -> None:
    original = recorded()
    for mutant in MUTATIONS[name](original):
        if mutant.code is not Code.RECORD_CORRUPT:
            parity = compare_traces(original, mutant.record)
            diff = diff_traces(original, mutant.record)
            assert diff.parity.is_parity == parity.is_parity
            assert diff.parity.divergence_step == parity.divergence_step
            assert diff.parity.original_signature == parity.original_signature
            assert diff.parity.replay_signature == parity.replay_signature


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_level_that_does_not_look_there_sees_nothing(
    recorded: Callable[[], TraceRecord], name: str
) -> None:
    original = recorded()
    for mutant in MUTATIONS[name](original):
        for level in mutant.unseen:
            diff = diff_traces(original, mutant.record, level=level)
            assert (diff.verdict, diff.parity.is_parity) == (Verdict.MATCH, True), level


def test_every_code_that_two_records_can_show_has_a_mutation(
    sample: Callable[[str], TraceRecord],
) -> None:
    runs = [sample(name) for name in ("plain", "branches", "streams", "errors")]
    shown = {mutant.code for make in MUTATIONS.values() for one in runs for mutant in make(one)}
    # A record of an unknown schema can't be read; the others need a running replay.
    never = {Code.SCHEMA_UNSUPPORTED, Code.UNCONTROLLED_SOURCE, Code.REPLAY_STALLED, Code.EFFECT_BLOCKED}
    assert shown == set(Code) - never
