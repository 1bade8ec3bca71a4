"""`compare_traces`: the first place where two runs part, and a reason that starts with its code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isotrace.errors import CanonicalizationError, SchemeMismatchError
from isotrace.models import (
    Erased,
    ParityResult,
    RunContext,
    StepContext,
    TraceRecord,
    TraceStatus,
    TraceStep,
    compare_traces,
)
from isotrace.models.parity import step_reason

START = datetime(2026, 1, 1, tzinfo=UTC)


def call(skill: str, /, kind: str | None = None, **fields: Any) -> TraceStep:
    own = {
        name: fields.pop(name)
        for name in ("status", "outcome_category", "outcome_code", "retry_count", "outcome_data", "params")
        if name in fields
    }
    defaults: dict[str, Any] = {
        "params": fields,
        "status": TraceStatus.SUCCESS,
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "outcome_data": {"value": 1},
        "retry_count": 0,
    }
    context = StepContext(kind=kind) if kind else None
    return TraceStep(
        step_index=-1,
        skill_name=skill,
        cost_cents=1.0,
        duration_ms=1.0,
        timestamp=START,
        context=context,
        **(defaults | own),
    )


def run(*steps: TraceStep, **fields: Any) -> TraceRecord:
    for index, step in enumerate(steps):
        step.step_index = index
    return TraceRecord("r", "c", "t", None, [], list(steps), START, None, "completed", **fields)


def parting(original: TraceRecord, replay: TraceRecord) -> tuple[int | None, str | None]:
    result = compare_traces(original, replay)
    assert result.is_parity is (result.divergence_step is None) is (result.divergence_reason is None)
    assert result.is_parity is (result.original_signature == result.replay_signature)
    return result.divergence_step, result.divergence_reason


def test_equal_runs_are_in_parity() -> None:
    one = run(call("a", x=1), call("b"))
    signature = one.determinism_signature()
    assert compare_traces(one, run(call("a", x=1.0), call("b"))) == ParityResult(True, signature, signature)


def test_a_parity_result_as_a_dictionary() -> None:
    one, other = run(call("a")), run(call("b"))
    assert compare_traces(one, other).to_dict() == {
        "is_parity": False,
        "original_signature": one.determinism_signature(),
        "replay_signature": other.determinism_signature(),
        "divergence_step": 0,
        "divergence_reason": "SKILL_CHANGED: skill: a → b",
    }


def test_outcome_times_cost_and_kind_alone_are_no_divergence() -> None:
    original = run(call("a", x=1.0))
    replay = run(call("a", kind="llm", x=1.0000001, outcome_data=None))
    replay.steps[0].timestamp += timedelta(days=1)
    replay.steps[0].cost_cents = replay.steps[0].duration_ms = 99.0
    assert parting(original, replay) == (None, None)


A, B, C, D = (call(name) for name in "abcd")

CASES: list[tuple[str, list[TraceStep], list[TraceStep], int, str]] = [
    (
        "params",
        [call("get", city="Paris", day=1)],
        [call("get", city="Rome", day=1)],
        0,
        'PARAMS_CHANGED: params differ at /city ("Paris" → "Rome")',
    ),
    (
        "several params, one of them only by rounding",
        [call("get", a=1, b=[1, 2], c=0.1, d=None)],
        [call("get", b=[1], a=2, c=0.1000000001, e="new")],
        0,
        "PARAMS_CHANGED: params differ at /a (1 → 2), /b/1 (2 → absent), /d (null → absent) and more",
    ),
    (
        "a float by its rounded values",
        [call("get", x=0.12345649)],
        [call("get", x=0.12345651)],
        0,
        "PARAMS_CHANGED: params differ at /x (0.123456 → 0.123457)",
    ),
    (
        "params of another shape",
        [call("get", params={"a": {"b": 1}})],
        [call("get", params={"a": [1]})],
        0,
        'PARAMS_CHANGED: params differ at /a ({"b":1} → [1])',
    ),
    (
        "a long value is shortened",
        [call("get", text="x" * 500)],
        [call("get", text="y")],
        0,
        f'PARAMS_CHANGED: params differ at /text ("{"x" * 58}… → "y")',
    ),
    ("another skill", [A, B], [A, C], 1, "SKILL_CHANGED: skill: b → c"),
    (
        "another kind comes before another skill",
        [call("ask", kind="llm")],
        [call("book", kind="tool")],
        0,
        "KIND_CHANGED: kind: llm → tool",
    ),
    (
        "another status comes before its category",
        [A],
        [call("a", status=TraceStatus.FAILURE, outcome_category="TRANSIENT")],
        0,
        "STATUS_CHANGED: status: success → failure",
    ),
    (
        "another category",
        [call("a", status=TraceStatus.FAILURE, outcome_category="TRANSIENT", outcome_code="x")],
        [call("a", status=TraceStatus.FAILURE, outcome_category="PERMANENT", outcome_code="y")],
        0,
        "ERROR_CHANGED: category: TRANSIENT → PERMANENT",
    ),
    (
        "another code",
        [call("a", status=TraceStatus.FAILURE, outcome_code=None)],
        [call("a", status=TraceStatus.FAILURE, outcome_code="404")],
        0,
        'ERROR_CHANGED: code: null → "404"',
    ),
    ("more retries", [A], [call("a", retry_count=2)], 0, "RETRIES_CHANGED: retries: 0 → 2"),
    ("an early end", [A, B, C, D, A], [A, B, C], 3, "EARLY_END: step count: 5 → 3"),
    ("a late end", [A], [A, B, C], 1, "LATE_END: step count: 1 → 3"),
    ("nothing at all happened", [A], [], 0, "EARLY_END: step count: 1 → 0"),
    ("a step more", [A, B], [A, C, B], 1, "EXTRA_STEP: c is not in the original; step count: 2 → 3"),
    (
        "a step more, of the same skill",
        [call("a", x=1), call("a", x=2)],
        [call("a", x=0), call("a", x=1), call("a", x=2)],
        0,
        "EXTRA_STEP: a is not in the original; step count: 2 → 3",
    ),
    ("two steps fewer", [A, B, C, D], [A, D], 1, "MISSING_STEP: b is not in the replay; step count: 4 → 2"),
    ("another order", [A, B, C], [A, C, B], 1, "REORDERED: b comes later, c comes first"),
    (
        "a repeated step dropped",
        [A, B, B, B, C],
        [A, B, B, C],
        3,
        "MISSING_STEP: b is not in the replay; step count: 5 → 4",
    ),
    ("a repeated step added", [B, B], [B, B, B], 2, "LATE_END: step count: 2 → 3"),
    (
        "two changes: what is to be seen at the first",
        [A, B, C],
        [A, D, D, D],
        1,
        "SKILL_CHANGED: skill: b → d",
    ),
]


@pytest.mark.parametrize(
    ("original", "replay", "index", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_first_divergence(
    original: list[TraceStep], replay: list[TraceStep], index: int, reason: str
) -> None:
    def copies(steps: list[TraceStep]) -> list[TraceStep]:
        return [TraceStep.from_dict(step.to_dict()) for step in steps]

    assert parting(run(*copies(original)), run(*copies(replay))) == (index, reason)


def test_the_first_of_several_divergences_counts() -> None:
    original = run(call("a", x=1), call("b"), call("c"))
    replay = run(call("a", x=2), call("x"))
    assert parting(original, replay) == (0, "PARAMS_CHANGED: params differ at /x (1 → 2)")


def test_erased_params_leave_a_gap_and_no_signature() -> None:
    gone: Any = Erased("c" * 64)
    original, replay = run(call("a"), call("b", params=gone)), run(call("a"), call("b"))
    result = compare_traces(original, replay)
    assert result == ParityResult(
        False,
        "",
        replay.determinism_signature(),
        1,
        "RECORD_GAP: params are absent, so the steps can't be compared",
    )
    assert compare_traces(replay, original).divergence_step == 1
    assert compare_traces(original, original).divergence_reason == result.divergence_reason


def test_a_difference_before_a_gap_is_found() -> None:
    gone: Any = Erased("c" * 64)
    result = compare_traces(
        run(call("a"), call("b", params=gone)), run(call("x"), call("a"), call("b", params=gone))
    )
    assert (result.divergence_step, result.divergence_reason) == (0, "SKILL_CHANGED: skill: a → x")


def test_what_comes_after_a_gap_is_no_evidence_but_an_end_is() -> None:
    gone: Any = Erased("c" * 64)
    result = compare_traces(run(call("a")), run(call("a"), call("b", params=gone)))
    assert (result.divergence_step, result.divergence_reason) == (1, "LATE_END: step count: 1 → 2")


def test_a_reason_names_what_has_no_text() -> None:
    before, after = call("a", params={"x": Erased("c" * 64)}), call("a", x=1)
    assert step_reason(before, after) == "PARAMS_CHANGED: params differ at /x (Erased → 1)"


def test_params_that_are_not_plain_are_refused() -> None:
    with pytest.raises(CanonicalizationError):
        compare_traces(run(call("a", x=object())), run(call("a")))


def test_runs_of_two_schemes_can_not_be_compared() -> None:
    with pytest.raises(SchemeMismatchError):
        compare_traces(run(context=RunContext()), run(context=RunContext(scheme="iso0")))
