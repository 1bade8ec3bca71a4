"""Codes, their order, verdicts, and the sentences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.compare import (
    CODES,
    Code,
    Divergence,
    Group,
    Severity,
    Verdict,
    findings,
    first_divergence,
    in_order,
    verdict_of,
)
from isotrace.errors import (
    ChecksumMismatchError,
    IsotraceError,
    RecordCorruptError,
    RecordGapError,
    SchemaUnsupportedError,
    StepOrderError,
    StoreUnavailableError,
    UncontrolledSourceError,
)
from isotrace.jsondiff import Change
from isotrace.models import Erased

divergences = st.lists(
    st.builds(
        Divergence,
        st.sampled_from(list(Code)),
        st.one_of(st.none(), st.integers(0, 4)),
        severity=st.sampled_from(list(Severity)),
    ),
    max_size=6,
)


# --- codes ----------------------------------------------------------------------------


def test_there_are_25_codes_in_five_groups() -> None:
    assert list(CODES) == list(Code)
    counts = {group.name: sum(info.group is group for info in CODES.values()) for group in Group}
    assert counts == {"R": 4, "E": 3, "C": 10, "O": 7, "X": 1}


def test_what_decides_nothing_is_the_environment_the_schedule_streams_and_budgets() -> None:
    lenient = {code for code in Code if code.severity is not Severity.ERROR}
    assert lenient == {
        Code.RUNTIME_MISMATCH,
        Code.SCHEDULE_CHANGED,
        Code.STREAM_CHANGED,
        Code.BUDGET_CHANGED,
    }


def test_codes_and_verdicts_print_as_their_bare_names() -> None:
    assert f"{Code.PARAMS_CHANGED} {Verdict.MATCH}" == "PARAMS_CHANGED MATCH"
    assert {verdict: verdict.exit_code for verdict in Verdict} == {
        Verdict.MATCH: 0,
        Verdict.DIVERGED: 1,
        Verdict.INVALID_RECORD: 2,
        Verdict.INCONCLUSIVE: 125,
    }


@pytest.mark.parametrize("code", Code)
def test_every_definition_is_one_sentence(code: Code) -> None:
    assert code.info.definition.endswith(".")
    assert code.info.definition.count(". ") == 0


# --- order and verdict ------------------------------------------------------------------


def test_the_smallest_index_comes_first_and_groups_break_a_tie() -> None:
    expected = [
        Divergence(Code.RECORD_GAP),
        Divergence(Code.INPUT_CHANGED),
        Divergence(Code.OUTPUT_CHANGED, 0),
        Divergence(Code.RECORD_GAP, 1),
        Divergence(Code.UNCONTROLLED_SOURCE, 1),
        Divergence(Code.PARAMS_CHANGED, 1),
        Divergence(Code.STATUS_CHANGED, 1),
        Divergence(Code.EFFECT_BLOCKED, 1),
        Divergence(Code.FINAL_RESULT_CHANGED, 2),
        Divergence(Code.BUDGET_CHANGED),
    ]
    assert in_order(reversed(expected)) == expected
    assert in_order(expected) == expected


def test_the_first_one_decides_the_verdict_if_any_does() -> None:
    warning = Divergence(Code.SCHEDULE_CHANGED, 0, severity=Severity.WARNING)
    error = Divergence(Code.PARAMS_CHANGED, 3)
    assert first_divergence([error, warning]) is error
    assert first_divergence([warning]) is warning
    assert first_divergence([]) is None


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([], Verdict.MATCH),
        ([Divergence(Code.STREAM_CHANGED, 0, severity=Severity.INFO)], Verdict.MATCH),
        ([Divergence(Code.PARAMS_CHANGED, 0)], Verdict.DIVERGED),
        ([Divergence(Code.RECORD_GAP, 0)], Verdict.INCONCLUSIVE),
        ([Divergence(Code.RECORD_GAP, 0, severity=Severity.WARNING)], Verdict.INCONCLUSIVE),
        ([Divergence(Code.INDETERMINATE_STEP, 0)], Verdict.INCONCLUSIVE),
        ([Divergence(Code.RECORD_GAP, 0), Divergence(Code.EARLY_END, 4)], Verdict.DIVERGED),
        ([Divergence(Code.RECORD_CORRUPT), Divergence(Code.EARLY_END, 4)], Verdict.INVALID_RECORD),
        ([Divergence(Code.SCHEMA_UNSUPPORTED)], Verdict.INVALID_RECORD),
    ],
)
def test_the_verdict_follows_from_the_divergences(found: list[Divergence], verdict: Verdict) -> None:
    assert verdict_of(found) is verdict


@given(divergences, divergences)
def test_more_divergences_never_make_a_better_verdict(some: list[Divergence], more: list[Divergence]) -> None:
    ranks = [Verdict.MATCH, Verdict.INCONCLUSIVE, Verdict.DIVERGED, Verdict.INVALID_RECORD]
    assert ranks.index(verdict_of(some + more)) >= ranks.index(verdict_of(some))


# --- constructors -----------------------------------------------------------------------


def test_params_changed_lists_every_pointer_with_both_values() -> None:
    found = findings.params_changed(
        3, (1, 0), {"city": "Paris", "days": 3, "x": 1}, {"city": "Rome", "days": 3, "y": None}
    )
    assert found.to_dict() == {
        "code": "PARAMS_CHANGED",
        "group": "C",
        "severity": "error",
        "index": 3,
        "original_index": 3,
        "replay_index": 3,
        "lineage": [1, 0],
        "pointers": ["/city", "/x", "/y"],
        "expected": {"/city": "Paris", "/x": 1},
        "actual": {"/city": "Rome", "/y": None},
        "nearest": None,
        "message": 'params differ at /city ("Paris" → "Rome"), /x (1 → absent), /y (absent → null)',
    }
    assert str(found).startswith("PARAMS_CHANGED at step 3: params differ at /city")
    assert found.reason.startswith("PARAMS_CHANGED: params differ at /city")


def test_of_two_long_texts_the_sentence_shows_where_they_part() -> None:
    start = "You are a helpful assistant. " * 20
    found = findings.params_changed(0, (), {"prompt": start + "Be brief."}, {"prompt": start + "Be kind."})
    assert found.message == (
        'params differ at /prompt ("…lpful assistant. Be brief." → "…lpful assistant. Be kind.")'
    )
    assert found.expected == {"/prompt": start + "Be brief."}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (findings.skill_changed(1, (1,), "search", "fetch"), "SKILL_CHANGED: skill: search → fetch"),
        (findings.kind_changed(1, (1,), "tool", "llm"), "KIND_CHANGED: kind: tool → llm"),
        (findings.extra_step(1, (1,), "pay", {}), "EXTRA_STEP: pay is not in the original"),
        (findings.missing_step(1, (1,), "pay", {}), "MISSING_STEP: pay is not in the replay"),
        (
            findings.early_end(3, (3,), (5, 3), ["a", "b"]),
            "EARLY_END: step count: 5 → 3; not reached: 2 steps (a, b)",
        ),
        (findings.late_end(5, (5,), (5, 6), ["a"]), "LATE_END: step count: 5 → 6; added: a"),
        (
            findings.reordered(1, (1,), ["b"], "a", "b", original_index=4, replay_index=1),
            "REORDERED: b comes earlier: step 4 → 1",
        ),
        (
            findings.status_changed(1, (), "success", "failure", detail="TRANSIENT: 503"),
            "STATUS_CHANGED: status: success → failure (TRANSIENT: 503)",
        ),
        (
            findings.error_changed(1, (), [Change("/outcome_code", "503", "429")]),
            'ERROR_CHANGED: errors differ at /outcome_code ("503" → "429")',
        ),
        (
            findings.retries_changed(1, (), [Change("/retry_count", 0, 2)]),
            "RETRIES_CHANGED: retries differ at /retry_count (0 → 2)",
        ),
        (
            findings.output_changed(1, (), {"t": 20}, {"t": 21}),
            "OUTPUT_CHANGED: outcomes differ at /t (20 → 21)",
        ),
        (
            findings.final_result_changed(4, "yes", "no"),
            'FINAL_RESULT_CHANGED: the run\'s result differs at /result ("yes" → "no")',
        ),
        (
            findings.runtime_mismatch({"python": "3.11"}, {"python": "3.12"}),
            'RUNTIME_MISMATCH: the environment differs at /python ("3.11" → "3.12")',
        ),
        (
            findings.budget_changed("cost", 1, 2, "cents", "10 %"),
            "BUDGET_CHANGED: cost: 1 → 2 cents, allowed is ±10 %",
        ),
        (
            findings.effect_blocked(1, (), "pay", "write"),
            "EFFECT_BLOCKED: pay has the effect write, which mode strict never executes",
        ),
        (
            findings.replay_stalled(1, (), "pay", ["0.1", "0.2"]),
            "REPLAY_STALLED: the turn of pay never comes; waiting: 0.1, 0.2",
        ),
        (
            findings.indeterminate_step(1, (), "pay"),
            "INDETERMINATE_STEP: pay was started and never completed in the record: what it did is unknown",
        ),
        (
            findings.schedule_changed(1, (), "a (0) ended", "b (1) ended"),
            "SCHEDULE_CHANGED: where a (0) ended, now b (1) ended",
        ),
    ],
)
def test_each_constructor_says_in_one_sentence_what_differs(found: Divergence, sentence: str) -> None:
    assert found.reason == sentence


def test_a_side_without_the_step_has_no_index() -> None:
    indexes = {
        found.code: (found.original_index, found.replay_index)
        for found in (
            findings.extra_step(2, (), "a", {}),
            findings.missing_step(2, (), "a", {}),
            findings.early_end(2, (), (3, 2)),
            findings.late_end(2, (), (2, 3)),
            findings.skill_changed(2, (), "a", "b"),
            findings.skill_changed(2, (), "a", "b", replay_index=7),
        )
    }
    assert indexes == {
        Code.EXTRA_STEP: (None, 2),
        Code.MISSING_STEP: (2, None),
        Code.EARLY_END: (2, None),
        Code.LATE_END: (None, 2),
        Code.SKILL_CHANGED: (2, 7),
    }


def test_an_erased_value_stands_in_its_plain_form() -> None:
    found = findings.missing_step(0, (), "a", Erased("ab"))
    assert found.to_dict()["expected"] == {"skill_name": "a", "params": {"$iso:erased": "ab"}}


@pytest.mark.parametrize(
    ("error", "code", "index"),
    [
        (SchemaUnsupportedError("newer", got="9.0.0"), Code.SCHEMA_UNSUPPORTED, None),
        (RecordGapError("gone", step=4), Code.RECORD_GAP, 4),
        (RecordGapError("gone"), Code.RECORD_GAP, None),
        (RecordCorruptError("bad", step=2), Code.RECORD_CORRUPT, 2),
        (ChecksumMismatchError("bad", pointer="/checksum"), Code.RECORD_CORRUPT, None),
        (StepOrderError("bad"), Code.RECORD_CORRUPT, None),
        (UncontrolledSourceError("socket"), Code.UNCONTROLLED_SOURCE, None),
    ],
)
def test_an_error_about_a_record_is_a_divergence(error: IsotraceError, code: Code, index: int | None) -> None:
    found = findings.of_error(error)
    assert (found.code, found.index, found.message) == (code, index, str(error))


def test_an_error_about_something_else_is_raised() -> None:
    error: Any = StoreUnavailableError("locked")
    with pytest.raises(StoreUnavailableError):
        findings.of_error(error)
