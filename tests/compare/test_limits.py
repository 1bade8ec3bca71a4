"""Records that hold what no recording holds: values beyond the limits of hashing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from isotrace import compare_traces, diff_traces
from isotrace.canonical import MAX_BYTES, MAX_DEPTH, MAX_NODES
from isotrace.compare import Code, Level, Rules, Verdict
from isotrace.compare.cause import Why
from isotrace.errors import LimitError, NonFiniteError
from isotrace.models import RunContext, TraceRecord, TraceStatus, TraceStep

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def nested(depth: int, leaf: Any = "leaf") -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


def step(index: int, skill: str, params: Any, outcome: Any = None) -> TraceStep:
    return TraceStep(
        index, skill, params, TraceStatus.SUCCESS, "SUCCESS", None, outcome or {}, 0.0, 1.0, 0, NOON
    )


def record(*steps: TraceStep, **context: Any) -> TraceRecord:
    return TraceRecord(
        "run", "run", "default", None, [], list(steps), NOON, NOON, "completed", context=RunContext(**context)
    )


def run(large: Any, city: str = "Paris", **context: Any) -> TraceRecord:
    """Three steps, the one in the middle with a value that may be too large."""
    return record(
        step(0, "search", {"city": city}),
        step(1, "store", {"id": 7, "value": large}),
        step(2, "say", {"text": "done"}),
        **context,
    )


HUGE = {
    "deep": nested(MAX_DEPTH),
    "very deep": nested(100_000),
}
HEAVY = {
    "many nodes": [0] * MAX_NODES,
    "many bytes": "x" * MAX_BYTES,
    "shared": [[[0] * 1000] * 1000] * 1000,
}


def found(diff: Any) -> list[tuple[Any, ...]]:
    return [(one.code, one.index, one.pointers) for one in diff.divergences]


@pytest.mark.parametrize("kind", [*HUGE, *(pytest.param(kind, marks=pytest.mark.slow) for kind in HEAVY)])
def test_equal_but_for_what_can_not_be_compared_is_inconclusive(kind: str) -> None:
    large = {**HUGE, **HEAVY}[kind]
    diff = diff_traces(run(large), run(large), level="exact")
    assert diff.verdict is Verdict.INCONCLUSIVE
    (gap,) = diff.divergences
    assert (gap.code, gap.index) == (Code.RECORD_GAP, 1)
    assert gap.pointers[0].startswith("/params/value")
    assert [pair.op for pair in diff.alignment] == ["equal"] * 3


@pytest.mark.parametrize("kind", HUGE)
def test_everything_else_is_compared_all_the_same(kind: str) -> None:
    diff = diff_traces(run(HUGE[kind]), run(HUGE[kind], city="Rome"))
    assert diff.verdict is Verdict.DIVERGED
    assert diff.first is not None
    assert (diff.first.code, diff.first.index, diff.first.pointers) == (Code.PARAMS_CHANGED, 0, ["/city"])


def test_what_can_be_compared_of_the_value_is_compared() -> None:
    before, after = run({"deep": nested(200), "n": 1}), run({"deep": nested(200), "n": 2})
    assert found(diff_traces(before, after)) == [(Code.PARAMS_CHANGED, 1, ["/value/n"])]


def test_too_large_on_one_side_only_is_a_difference() -> None:
    diff = diff_traces(run([0]), run(HUGE["very deep"]))
    assert [(one.code, one.index) for one in diff.divergences] == [(Code.PARAMS_CHANGED, 1)]


def test_a_step_of_one_side_may_be_too_large() -> None:
    before = run("small")
    after = run(HUGE["very deep"])
    after.steps = [after.steps[0], after.steps[2]]
    after.steps[1] = replace(after.steps[1], step_index=1)
    assert [one.code for one in diff_traces(before, after).divergences] == [Code.MISSING_STEP]
    more = record(*run(HUGE["very deep"]).steps)
    assert [one.code for one in diff_traces(after, more).divergences] == [Code.EXTRA_STEP]


@pytest.mark.parametrize(
    "rules", [Rules.parse(ignore=["/id"]), Rules.parse(tolerance=["/id=1"]), Rules.parse(ignore=["/value"])]
)
def test_rules_apply_to_what_is_left(rules: Rules) -> None:
    before, after = run(HUGE["deep"]), run(HUGE["deep"])
    after.steps[1].params["id"] = 8
    ignored = rules.ignore and rules.ignore[0].segments == ("value",)
    verdict = diff_traces(before, after, rules=rules).verdict
    assert verdict is (Verdict.DIVERGED if ignored else Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("field", ["outcome", "input", "result", "error", "environment", "plan"])
def test_values_that_no_hash_covers_are_bounded_too(field: str, kind: str) -> None:
    def one() -> TraceRecord:
        large = {"large": HUGE[kind]}
        if field == "outcome":
            return record(step(0, "search", {}, large))
        if field == "plan":
            return replace(record(step(0, "search", {})), plan=[large])
        return record(step(0, "search", {}), **{field: large})

    verdicts = {diff_traces(one(), one(), level=level).verdict for level in Level}
    assert verdicts <= {Verdict.MATCH, Verdict.INCONCLUSIVE}
    if field not in ("environment", "error"):  # whose contents decide nothing
        assert diff_traces(one(), one(), level="exact").verdict is Verdict.INCONCLUSIVE


def test_an_input_as_deep_as_may_be_is_compared_whole() -> None:
    before, after = (run("x", input=nested(MAX_DEPTH - 1, leaf)) for leaf in ("a", "b"))
    (change,) = diff_traces(before, after, level="exact").divergences
    assert (change.code, change.pointers) == (Code.INPUT_CHANGED, ["/input" + "/0" * (MAX_DEPTH - 1)])


def test_outcomes_that_can_not_be_hashed_are_no_equal_answers() -> None:
    def asked(answer: Any, then: str) -> TraceRecord:
        return record(step(0, "search", {}, {"answer": answer}), step(1, "say", {"text": then}))

    cause = diff_traces(asked(float("nan"), "a"), asked("fine", "b")).cause
    assert cause is not None
    assert (cause.why, cause.step_index) == (Why.TOOL, 0)


@pytest.mark.parametrize("kind", HUGE)
def test_compare_traces_names_the_step_and_the_place(kind: str) -> None:
    parity = compare_traces(run(HUGE[kind]), run(HUGE[kind]))
    assert (parity.is_parity, parity.divergence_step) == (False, 1)
    assert (parity.original_signature, parity.replay_signature) == ("", "")
    assert str(parity.divergence_reason).startswith(
        "RECORD_GAP: the params of store in the original can't be hashed, so the steps can't be compared: "
    )
    assert "'/value" in str(parity.divergence_reason)


def test_compare_traces_sees_a_difference_before_it() -> None:
    parity = compare_traces(run(HUGE["deep"]), run("small", city="Rome"))
    assert parity.divergence_step == 0
    assert str(parity.divergence_reason).startswith("PARAMS_CHANGED: params differ at /city")
    assert "in the original can't be" in str(compare_traces(run(HUGE["deep"]), run(1)).divergence_reason)
    assert "in the replay can't be" in str(compare_traces(run(1), run(HUGE["deep"])).divergence_reason)


def test_a_hash_that_can_not_be_made_names_its_step() -> None:
    with pytest.raises(LimitError) as caught:
        run(HUGE["deep"]).determinism_signature()
    assert (caught.value.step, caught.value.where) == (1, "params of store")
    with pytest.raises(NonFiniteError) as other:
        diff_traces(run(float("nan")), run(1))
    assert (other.value.step, other.value.pointer) == (1, "/value")
