"""The full comparison: rows, levels, kinds, what can't be known."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from isotrace.compare import Code, Level, Rules, Severity, TraceDiff, Verdict, diff_traces
from isotrace.errors import CanonicalizationError, SchemeMismatchError, UsageError
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, RunContext, TraceRecord

Sample = Callable[[str], TraceRecord]


def told(diff: TraceDiff) -> list[tuple[Code, int | None, list[str]]]:
    return [(one.code, one.index, one.pointers) for one in diff.divergences]


# --- the whole answer -------------------------------------------------------------------


def test_the_answer_as_plain_data(run: Any, step: Any) -> None:
    one = run([step("search", {"city": "Paris"}), step("fetch"), step("score")])
    other = run([step("search", {"city": "Rome"}), step("score"), step("answer")])
    data = json.loads(json.dumps(diff_traces(one, other).to_dict()))
    assert data["verdict"] == "DIVERGED"
    assert data["level"] == "decisions"
    assert data["parity"] == {
        "is_parity": False,
        "original_signature": one.determinism_signature(),
        "replay_signature": other.determinism_signature(),
        "divergence_step": 0,
        "divergence_reason": 'PARAMS_CHANGED: params differ at /city ("Paris" → "Rome")',
    }
    assert data["alignment"] == [
        ["changed", 0, 0],
        ["removed", 1, None],
        ["equal", 2, 1],
        ["inserted", None, 2],
    ]
    assert data["counts"] == {"equal": 1, "changed": 1, "inserted": 1, "removed": 1, "moved": 0}
    found = data["divergences"]
    assert [(one["code"], one["index"]) for one in found] == [
        ("PARAMS_CHANGED", 0),
        ("MISSING_STEP", 1),
        ("LATE_END", 3),
    ]
    assert found[0]["expected"] == {"/city": "Paris"}
    assert found[0]["actual"] == {"/city": "Rome"}
    assert data["cause"]["why"] == "UNEXPLAINED"


def test_a_step_can_differ_in_several_ways_at_once(run: Any, step: Any) -> None:
    one = run([step("pay", {"cents": 1})])
    other = run([step("pay", {"cents": 2}, error="Boom", attempts=["503"])])
    assert told(diff_traces(one, other)) == [
        (Code.PARAMS_CHANGED, 0, ["/cents"]),
        (Code.STATUS_CHANGED, 0, []),
        (Code.RETRIES_CHANGED, 0, ["/retry_count"]),
    ]


def test_later_differences_are_found_behind_the_first(run: Any, step: Any) -> None:
    skills = [f"s{number}" for number in range(12)]
    one = run([step(skill, {"n": 1}) for skill in skills])
    changed = [step(skill, {"n": 2 if skill == "s9" else 1}) for skill in skills if skill != "s6"]
    changed.insert(3, step("novel"))
    diff = diff_traces(one, run(changed))
    assert told(diff) == [
        (Code.EXTRA_STEP, 3, []),
        (Code.MISSING_STEP, 7, []),
        (Code.PARAMS_CHANGED, 10, ["/n"]),
    ]
    last = diff.divergences[-1]
    assert (last.original_index, last.replay_index, last.lineage) == (9, 9, (9,))


def test_steps_that_moved_together_are_one_divergence(run: Any, step: Any) -> None:
    skills = list("abcdefghij")
    diff = diff_traces(run([step(one) for one in skills]), run([step(one) for one in "adefghbcij"]))
    assert told(diff) == [(Code.REORDERED, 1, [])]
    (found,) = diff.divergences
    assert found.message == "2 steps (b, c) come later: step 1 → 6"
    assert (found.expected, found.actual) == ("b", "d")
    assert diff.counts["moved"] == 2


def test_steps_that_moved_each_on_its_own_are_divergences_of_their_own(run: Any, step: Any) -> None:
    diff = diff_traces(run([step(one) for one in "abcd"]), run([step(one) for one in "dcba"]))
    assert [one.code for one in diff.divergences] == [Code.REORDERED] * 3
    assert diff.counts == {"equal": 1, "changed": 0, "inserted": 0, "removed": 0, "moved": 3}


def test_an_extra_step_names_the_nearest_recorded_one(run: Any, step: Any) -> None:
    one = run([step("search", {"q": 1}), step("fetch"), step("search", {"q": 5, "n": 1}), step("end")])
    other = run(
        [
            step("search", {"q": 1}),
            step("fetch"),
            step("search", {"q": 5, "n": 1}),
            step("search", {"q": 6, "n": 1}),
            step("end"),
        ]
    )
    (found,) = diff_traces(one, other).divergences
    assert found.code is Code.EXTRA_STEP
    assert found.actual == {"skill_name": "search", "params": {"q": 6, "n": 1}}
    assert found.nearest == {
        "step_index": 2,
        "skill_name": "search",
        "lineage": [2],
        "params": {"q": 5, "n": 1},
        "pointers": ["/q"],
    }


def test_floats_are_compared_as_hashes_see_them(run: Any, step: Any) -> None:
    one, other = run([step("a", {"x": 0.1 + 0.2, "y": 1})]), run([step("a", {"x": 0.3, "y": 2})])
    assert told(diff_traces(one, other)) == [(Code.PARAMS_CHANGED, 0, ["/y"])]


# --- kinds of step ----------------------------------------------------------------------


def test_restricted_to_a_kind_positions_count_its_steps_only(sample: Sample) -> None:
    one, other = sample("plain"), sample("plain")
    other.steps[0].params = {"model": "other"}
    other.steps[3].params = {"url": "http://x/2"}
    diff = diff_traces(one, other, kinds=["tool"])
    (found,) = diff.divergences
    assert (found.index, found.original_index, found.replay_index) == (1, 3, 3)
    assert diff.alignment == [("equal", 1, 1), ("changed", 3, 3)]
    assert diff.parity.divergence_step == 1
    assert diff.parity.original_signature == one.determinism_signature()
    assert diff_traces(one, other, kinds=["code"]).verdict is Verdict.MATCH


def test_a_kind_that_nobody_knows_is_refused(sample: Sample) -> None:
    with pytest.raises(UsageError, match="nearest: tool"):
        diff_traces(sample("plain"), sample("plain"), kinds=["tools"])


def test_a_kind_that_is_in_one_of_the_runs_is_known(run: Any, step: Any) -> None:
    one, other = run([step("a", kind="retriever")]), run([step("b", kind="retriever")])
    assert diff_traces(one, other, kinds=["retriever"]).verdict is Verdict.DIVERGED
    assert diff_traces(one, run([]), kinds=["retriever"]).verdict is Verdict.DIVERGED
    with pytest.raises(UsageError, match="nearest: retrieval"):
        diff_traces(run([]), run([]), kinds=["retriever"])


@pytest.mark.parametrize("level", ["exact", "decisions", "skeleton"])
def test_a_kind_without_a_step_in_either_run_leaves_nothing_to_compare(
    run: Any, step: Any, level: str
) -> None:
    diff = diff_traces(run([step("a")]), run([step("b")]), level=level, kinds=["retrieval", "llm"])
    assert diff.verdict is Verdict.INCONCLUSIVE
    assert told(diff) == [(Code.RECORD_GAP, None, [])]
    assert diff.divergences[0].message == (
        "neither run has a step of kind llm or retrieval: there is nothing to compare"
    )


def test_the_outcome_of_a_run_is_compared_whatever_the_kinds(run: Any, step: Any) -> None:
    diff = diff_traces(run([step("a")]), run([step("b")]), level="outcome", kinds=["retrieval"])
    assert diff.verdict is Verdict.MATCH


def test_equal_paths_match_whatever_the_kinds(run: Any, step: Any) -> None:
    one, other = run([step("a", kind="tool")]), run([step("a", kind="llm")])
    assert diff_traces(one, other).divergences == []
    assert diff_traces(one, other, level="exact").divergences == []


# --- levels -----------------------------------------------------------------------------


@pytest.fixture
def two_runs(run: Any, step: Any) -> tuple[TraceRecord, TraceRecord]:
    one = run([step("a", {"n": 1}), step("b", outcome={"x": 1}), step("c")], result=1)
    other = run([step("a", {"n": 2}), step("b", outcome={"x": 2}), step("c")], result=2)
    return one, other


@pytest.mark.parametrize(
    ("level", "codes"),
    [
        ("exact", [Code.PARAMS_CHANGED, Code.OUTPUT_CHANGED, Code.FINAL_RESULT_CHANGED]),
        ("decisions", [Code.PARAMS_CHANGED]),
        ("skeleton", []),
        ("outcome", [Code.FINAL_RESULT_CHANGED]),
    ],
)
def test_each_level_looks_at_its_own(
    two_runs: tuple[TraceRecord, TraceRecord], level: str, codes: list[Code]
) -> None:
    diff = diff_traces(*two_runs, level=level)
    assert [one.code for one in diff.divergences] == codes
    assert diff.verdict is (Verdict.DIVERGED if codes else Verdict.MATCH)
    assert diff.parity.is_parity is not bool(codes)
    assert diff.level is Level(level)


def test_at_level_outcome_the_rows_still_show_the_steps(two_runs: tuple[TraceRecord, TraceRecord]) -> None:
    diff = diff_traces(*two_runs, level="outcome")
    assert [pair.op for pair in diff.alignment] == ["changed", "equal", "equal"]


def test_another_input_is_an_error_beside_another_path(run: Any, step: Any) -> None:
    one = run([step("a", {"n": 1})], given={"n": 1})
    other = run([step("a", {"n": 2})], given={"n": 2})
    diff = diff_traces(one, other)
    assert told(diff) == [
        (Code.INPUT_CHANGED, None, ["/input/n"]),
        (Code.PARAMS_CHANGED, 0, ["/n"]),
    ]
    assert diff.first is diff.divergences[0]
    assert diff.parity.divergence_step == 0
    assert [one.severity for one in diff.divergences] == [Severity.ERROR, Severity.ERROR]


def test_volatile_fields_and_minted_ids_are_no_difference_between_outcomes(sample: Sample) -> None:
    one, other = sample("minted"), sample("minted")
    outcome: Any = other.steps[0].outcome_data
    outcome["id"] = "chatcmpl-2"
    outcome["choices"][0]["message"]["tool_calls"][0]["id"] = "call_zzz"
    assert diff_traces(one, other, level="exact").divergences == []
    outcome["choices"][0]["finish_reason"] = "stop"
    diff = diff_traces(one, other, level="exact")
    assert told(diff) == [(Code.OUTPUT_CHANGED, 0, ["/choices/0/finish_reason"])]


def test_the_words_of_a_failed_runs_error_are_no_difference_but_its_type_is(run: Any, step: Any) -> None:
    one, other, third = (run([step("a")], status="failed") for _ in range(3))
    one.context.error = {"type": "KeyError", "message": "at 0x7f01"}
    other.context.error = {"type": "KeyError", "message": "at 0x7f02"}
    third.context.error = {"type": "OSError", "message": "at 0x7f01"}
    assert diff_traces(one, other, level="outcome").divergences == []
    diff = diff_traces(one, third, level="outcome")
    assert told(diff) == [(Code.FINAL_RESULT_CHANGED, 1, ["/error/type"])]


@pytest.fixture
def ends(run: Any, step: Any) -> Callable[..., TraceRecord]:
    def ended(status: str, kind: str | None = None, **params: Any) -> TraceRecord:
        record: TraceRecord = run([step("a", params)], status=status)
        assert record.context is not None
        record.context.result = MISSING
        if kind is not None:
            record.context.error = {"type": kind, "message": "at 0x7f01"}
        return record

    return ended


@pytest.mark.parametrize("level", ["decisions", "skeleton"])
def test_equal_paths_that_ended_differently_match_with_a_warning(
    ends: Callable[..., TraceRecord], level: str
) -> None:
    diff = diff_traces(ends("completed"), ends("failed", "KeyError"), level=level)
    assert diff.verdict is Verdict.MATCH
    assert told(diff) == [(Code.FINAL_RESULT_CHANGED, 1, ["/status", "/error"])]
    (found,) = diff.divergences
    assert found.severity is Severity.WARNING
    assert found.expected == {"/status": "completed"}
    assert found.actual == {"/status": "failed", "/error": {"type": "KeyError"}}
    assert "the run's end differs" in found.message


def test_runs_that_failed_by_different_errors_match_with_a_warning(ends: Callable[..., TraceRecord]) -> None:
    diff = diff_traces(ends("failed", "KeyError"), ends("failed", "OSError"))
    assert diff.verdict is Verdict.MATCH
    assert told(diff) == [(Code.FINAL_RESULT_CHANGED, 1, ["/error/type"])]
    assert diff_traces(ends("failed", "KeyError"), ends("failed")).divergences == []


def test_another_end_is_listed_where_a_step_differs_too(ends: Callable[..., TraceRecord]) -> None:
    diff = diff_traces(ends("completed", n=1), ends("failed", "KeyError", n=2), level="exact")
    assert [(one.code, one.severity) for one in diff.divergences] == [
        (Code.PARAMS_CHANGED, Severity.ERROR),
        (Code.FINAL_RESULT_CHANGED, Severity.ERROR),
    ]
    assert diff.first is diff.divergences[0]


def test_a_result_that_is_absent_opens_no_question_where_a_step_differs(run: Any, step: Any) -> None:
    one, other = run([step("a", {"n": 1})]), run([step("a", {"n": 2})])
    other.context.result = Erased("ab" * 32)
    assert told(diff_traces(one, other, level="exact")) == [(Code.PARAMS_CHANGED, 0, ["/n"])]


def test_a_budget_counts_the_tokens_that_providers_reported(run: Any, step: Any) -> None:
    def usage(total: int) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": total - 10, "completion_tokens": 10}}

    one = run([step("chat", kind="llm", outcome=usage(100)), step("tool")])
    other = run([step("chat", kind="llm", outcome=usage(200)), step("tool")])
    within, beyond = Rules.parse(budget=["tokens=60%"]), Rules.parse(budget=["tokens=40%"])
    assert diff_traces(one, other, rules=within).divergences == []
    diff = diff_traces(one, other, rules=beyond)
    assert (diff.verdict, told(diff)) == (Verdict.MATCH, [(Code.BUDGET_CHANGED, None, [])])
    assert diff.divergences[0].message == "tokens: 100 → 200 tokens, allowed is ±40 %"


# --- what can't be known ----------------------------------------------------------------


def test_equality_that_rests_on_a_type_name_is_inconclusive(run: Any, step: Any) -> None:
    params = {"client": {"$iso:object": "db.Client"}, "q": [{"$iso:object": "x.Y"}]}
    one = run([step("a", params)])
    diff = diff_traces(one, copy.deepcopy(one))
    assert diff.verdict is Verdict.INCONCLUSIVE
    assert told(diff) == [(Code.RECORD_GAP, 0, ["/params/client", "/params/q/0"])]
    # The contract knows no third answer, and equal signatures are parity, always.
    assert diff.parity.is_parity
    assert [pair.op for pair in diff.alignment] == ["equal"]


def test_a_real_difference_stands_beside_unknown_objects(run: Any, step: Any) -> None:
    unknown = {"client": {"$iso:object": "db.Client"}}
    one, other = run([step("a", unknown), step("b")]), run([step("a", unknown), step("c")])
    diff = diff_traces(one, other)
    assert diff.verdict is Verdict.DIVERGED
    assert diff.first is not None
    assert (diff.first.code, diff.first.index) == (Code.SKILL_CHANGED, 1)


def test_a_key_that_only_looks_like_an_unknown_object_is_none(run: Any, step: Any) -> None:
    one = run([step("a", {"client": {"$iso:object": "db.Client", "id": 1}, "text": "$iso:object"})])
    assert diff_traces(one, copy.deepcopy(one)).verdict is Verdict.MATCH


def test_ignoring_the_unknown_object_settles_the_question(run: Any, step: Any) -> None:
    one = run([step("a", {"client": {"$iso:object": "db.Client"}})])
    rules = Rules.parse(ignore=["/client"])
    assert diff_traces(one, copy.deepcopy(one), rules=rules).verdict is Verdict.MATCH


def test_unknown_objects_in_outcomes_and_results_matter_at_level_exact(run: Any, step: Any) -> None:
    unknown = {"$iso:object": "db.Row"}
    one = run([step("a", outcome={"row": unknown})], result=[unknown], given=[unknown])
    assert diff_traces(one, copy.deepcopy(one)).verdict is Verdict.MATCH
    diff = diff_traces(one, copy.deepcopy(one), level="exact")
    assert diff.verdict is Verdict.INCONCLUSIVE
    assert sorted(told(diff), key=str) == sorted(
        [
            (Code.RECORD_GAP, None, ["/result/0"]),
            (Code.RECORD_GAP, None, ["/input/0"]),
            (Code.RECORD_GAP, 0, ["/outcome_data/row"]),
        ],
        key=str,
    )


def test_a_record_with_erased_params_does_not_even_match_itself(sample: Sample) -> None:
    one: Any = sample("plain")
    one.steps[2].params = Erased("ab" * 32)
    diff = diff_traces(one, copy.deepcopy(one))
    assert (diff.verdict, told(diff)) == (Verdict.INCONCLUSIVE, [(Code.RECORD_GAP, 2, ["/params"])])
    assert diff.parity.original_signature == ""
    assert not diff.parity.is_parity


def test_an_erased_input_or_result_matters_at_level_exact(sample: Sample) -> None:
    one, other = sample("plain"), sample("plain")
    assert other.context
    other.context.input = other.context.result = Erased("ab" * 32)
    assert diff_traces(one, other).divergences == []
    diff = diff_traces(one, other, level="exact")
    assert diff.verdict is Verdict.INCONCLUSIVE
    assert told(diff) == [(Code.RECORD_GAP, None, ["/result"]), (Code.RECORD_GAP, None, ["/input"])]


def test_without_a_recorded_result_level_outcome_has_no_answer(sample: Sample) -> None:
    one, other = sample("plain"), sample("plain")
    for record in (one, other):
        assert record.context
        record.context.result = MISSING
    assert told(diff_traces(one, other, level="outcome")) == [(Code.RECORD_GAP, None, ["/result"])]
    assert diff_traces(one, other, level="exact").divergences == []


def test_two_unfinished_steps_match_as_decisions_and_are_unknown_at_level_exact(run: Any, step: Any) -> None:
    one, other = (run([step("a"), step("b", unfinished=True)]) for _ in range(2))
    assert diff_traces(one, other).verdict is Verdict.MATCH
    diff = diff_traces(one, other, level="exact")
    assert (diff.verdict, told(diff)) == (Verdict.INCONCLUSIVE, [(Code.INDETERMINATE_STEP, 1, [])])


def test_both_broken_records_are_reported(sample: Sample) -> None:
    one, other = sample("plain"), sample("plain")
    one.steps[3].step_index = other.steps[1].step_index = 99
    diff = diff_traces(one, other)
    assert diff.verdict is Verdict.INVALID_RECORD
    assert [(found.index, found.original_index, found.replay_index) for found in diff.divergences] == [
        (1, None, 1),
        (3, 3, None),
    ]
    assert diff.alignment == []


# --- errors -----------------------------------------------------------------------------


def test_runs_of_two_schemes_are_not_compared(sample: Sample) -> None:
    other = sample("plain")
    other.context = RunContext(scheme="iso2")
    with pytest.raises(SchemeMismatchError):
        diff_traces(sample("plain"), other)


def test_params_that_are_no_plain_values_are_refused(sample: Sample) -> None:
    other = sample("plain")
    other.steps[0].params = {"x": float("nan")}
    with pytest.raises(CanonicalizationError):
        diff_traces(sample("plain"), other)


def test_records_made_by_hand_without_contexts_can_be_compared(sample: Sample) -> None:
    one, other = sample("plain"), sample("plain")
    for record in (one, other):
        record.context = None
        for step in record.steps:
            step.context = None
    other.steps[1].params["query"] = "rome"
    for level in (Level.EXACT, Level.DECISIONS):
        assert told(diff_traces(one, other, level=level)) == [(Code.PARAMS_CHANGED, 1, ["/query"])]


def test_runs_without_steps_match(run: Any) -> None:
    diff = diff_traces(run([]), run([]))
    assert (diff.verdict, diff.alignment, diff.first) == (Verdict.MATCH, [], None)
