"""A gate over many runs: how many it needs, what it says, and which steps it names."""

from __future__ import annotations

import json
import pickle
import random
from datetime import UTC, datetime

import pytest

import isotrace
from isotrace.errors import IsotraceError, ParityNotReached, ParityUndecided, UsageError
from isotrace.models import StepContext, TraceRecord, TraceStatus, TraceStep
from isotrace.population import Decision

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def record(run_id: str, *calls: tuple[str, dict], kind: str = "tool") -> TraceRecord:
    steps = [
        TraceStep(
            step_index=index,
            skill_name=skill,
            params=params,
            status=TraceStatus.SUCCESS,
            outcome_category="SUCCESS",
            outcome_code=None,
            outcome_data={},
            cost_cents=0.0,
            duration_ms=1.0,
            retry_count=0,
            timestamp=NOON,
            context=StepContext(kind=kind),
        )
        for index, (skill, params) in enumerate(calls)
    ]
    return TraceRecord(run_id, run_id, "default", None, [], steps, NOON, NOON, "completed")


LOOKUP = ("lookup", {"id": 7})


def good(number: int) -> TraceRecord:
    return record(f"good-{number}", LOOKUP, ("refund", {"amount": 10}))


def other(number: int) -> TraceRecord:
    return record(f"other-{number}", LOOKUP, ("refund", {"amount": number}))


def shorter(number: int) -> TraceRecord:
    return record(f"shorter-{number}", LOOKUP)


def counted(runs, taken: list[int]):
    for number, run in enumerate(runs):
        taken.append(number)
        yield run


def test_equal_runs_pass_and_no_more_are_asked_for_than_it_takes() -> None:
    taken: list[int] = []
    found = isotrace.assert_parity(counted((good(n) for n in range(500)), taken))
    assert (found.decision, found.runs, found.equal, found.reference) == (Decision.ACCEPTED, 27, 27, "good-0")
    assert len(taken) == 28, "the first is the reference"
    assert found.words == (
        "parity of at least 95 % at level decisions is reached after 27 runs: 27 of 27 runs are like the "
        "expected one: at least 87 % with 95 % confidence; an agent with only 85 % passes in 5 % of cases"
    )
    json.dumps(found.to_dict())


def test_a_reference_that_is_given_is_held_against_every_run() -> None:
    found = isotrace.assert_parity((good(n) for n in range(1, 500)), expected=good(0))
    assert (found.runs, found.reference) == (27, "good-0")


def test_others_fail_it_and_the_steps_at_which_they_part_are_named() -> None:
    runs = [good(0), good(1), other(1), shorter(1), other(2), good(2), good(3)]
    with pytest.raises(ParityNotReached) as caught:
        isotrace.assert_parity(runs)
    result = caught.value.result
    assert (result.decision, result.runs, result.equal) == (Decision.REJECTED, 4, 1)
    assert [step.to_dict() for step in result.flaky] == [
        {
            "index": 1,
            "skill": "refund",
            "count": 3,
            "codes": ["PARAMS_CHANGED", "EARLY_END"],
            "pointers": ["/amount"],
            "runs": ["other-1", "shorter-1", "other-2"],
        }
    ]
    assert str(caught.value) == (
        "parity of at least 95 % at level decisions is not reached, decided after 4 runs: 1 of 4 runs are "
        "like the expected one: 25 %, between 4 % and 70 % with 95 % confidence; the first divergence is "
        "PARAMS_CHANGED at step 1: params differ at /amount (10 → 1); flaky: step 1 refund "
        "(3 runs: PARAMS_CHANGED, EARLY_END, /amount)"
    )


def test_the_error_is_an_assertion_and_survives_pickling() -> None:
    with pytest.raises(AssertionError) as caught:
        isotrace.assert_parity([good(0), *(other(n) for n in range(1, 9))])
    assert isinstance(caught.value, IsotraceError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.result.runs) == (str(caught.value), 3)


def test_too_few_runs_are_undecided_and_say_how_many_would_do() -> None:
    with pytest.raises(ParityUndecided) as caught:
        isotrace.assert_parity([good(n) for n in range(11)])
    assert str(caught.value) == (
        "parity of at least 95 % at level decisions is undecided after 10 runs: 10 of 10 runs are like the "
        "expected one: at least 72 % with 95 % confidence; 17 more runs without another would decide"
    )
    for none in ([], [good(0)]):
        with pytest.raises(ParityUndecided) as caught:
            isotrace.assert_parity(none)
        assert caught.value.result.runs == 0


def test_a_callable_makes_runs_until_it_is_decided_or_the_most_are_made() -> None:
    made: list[int] = []

    def run_agent() -> TraceRecord:
        made.append(len(made))
        return good(len(made))

    assert isotrace.assert_parity(run_agent, expected=good(0)).runs == 27
    assert len(made) == 27
    with pytest.raises(ParityUndecided):
        isotrace.assert_parity(run_agent, expected=good(0), most=5)
    assert len(made) == 32


def test_where_all_runs_must_be_equal_the_first_other_one_decides() -> None:
    runs = [good(0), good(1), shorter(1), good(2)]
    with pytest.raises(ParityNotReached) as caught:
        isotrace.assert_parity(runs, at_least=1.0)
    assert caught.value.result.runs == 2
    assert isotrace.assert_parity((good(n) for n in range(99)), at_least=1.0).runs == 58


def test_what_is_unacceptable_can_be_said() -> None:
    runs = (good(n) for n in range(99))
    assert isotrace.assert_parity(runs, at_least=0.9, unacceptable=0.5).runs == 6


def test_level_kinds_and_rules_are_those_of_a_diff() -> None:
    runs = [good(0), *(other(n) for n in range(60))]
    assert isotrace.assert_parity(runs, level="skeleton").decision is Decision.ACCEPTED
    rules = isotrace.Rules.parse(ignore=["refund:/amount"])
    assert isotrace.assert_parity(runs, rules=rules).decision is Decision.ACCEPTED
    thought = record("m", ("think", {"n": 1}), kind="llm")
    mixed = []
    for number in range(40):
        run = good(number)
        step = record("x", ("think", {"n": number}), kind="llm").steps[0]
        step.step_index = 2
        run.steps.append(step)
        mixed.append(run)
    assert isotrace.assert_parity(mixed, kinds=["tool"]).decision is Decision.ACCEPTED
    with pytest.raises(ParityNotReached):
        isotrace.assert_parity(mixed)
    with pytest.raises(ParityNotReached, match="neither run has a step of kind tool"):
        isotrace.assert_parity([thought] * 40, kinds=["tool"])


def test_a_gate_that_passes_names_its_flaky_steps_too() -> None:
    runs = [good(0), other(1), *(good(n) for n in range(80))]
    found = isotrace.assert_parity(runs)
    assert (found.runs, found.equal) == (38, 37)
    assert found.words.endswith("; flaky: step 1 refund (1 run: PARAMS_CHANGED, /amount)")


@pytest.mark.parametrize(
    "options",
    [
        {"at_least": 0},
        {"at_least": 1.1},
        {"unacceptable": 0.99},
        {"most": 0},
        {"level": "exactly"},
        {"alpha": 0},
    ],
)
def test_gates_that_can_not_be_are_refused(options) -> None:
    with pytest.raises(UsageError):
        isotrace.assert_parity([good(0), good(1)], **options)


def test_one_run_is_no_sample() -> None:
    with pytest.raises(UsageError, match="one run is no sample"):
        isotrace.assert_parity(good(0))  # type: ignore[arg-type]  # what is refused
    with pytest.raises(UsageError):
        isotrace.assert_parity("@last")


def test_what_is_no_run_is_refused() -> None:
    async def agent() -> str:
        return "run"

    made = agent()
    with pytest.raises(UsageError, match=r"wrap it in asyncio\.run"):
        isotrace.assert_parity(lambda: made)  # type: ignore[arg-type, return-value]  # what is refused
    made.close()
    with pytest.raises(UsageError, match="this is no run"):
        isotrace.assert_parity([None])  # type: ignore[list-item]  # what is refused


def test_a_gate_keeps_its_error_rates() -> None:
    reference, same, differs = good(0), good(1), other(1)
    source, failed, passed = random.Random(6), 0, 0
    for _ in range(150):
        for share in (0.95, 0.7):
            runs = (same if source.random() < share else differs for _ in range(400))
            try:
                isotrace.assert_parity(runs, expected=reference, unacceptable=0.7, most=400)
                passed += share == 0.7
            except ParityNotReached:
                failed += share == 0.95
    assert failed / 150 < 0.11
    assert passed / 150 < 0.11


# --- runs that a store keeps --------------------------------------------------------------


def recorded_agent(values: list[int]):
    """An agent that is recorded, with a step whose params come from outside."""

    @isotrace.skill
    def ask(value: int) -> int:
        return value

    def once() -> isotrace.Run:
        with isotrace.run(agent_id="asks") as run:
            ask(values.pop(0))
        return run

    return once


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOTRACE_STORE", raising=False)


def test_an_agent_is_run_until_the_gate_is_decided() -> None:
    values = [1] * 100
    found = isotrace.assert_parity(recorded_agent(values), at_least=0.9, unacceptable=0.5)
    assert found.runs == 6
    assert len(values) == 93


def test_runs_are_named_by_id_or_prefix_in_a_store() -> None:
    once = recorded_agent([1, 1, 1, 2, 2, 2])
    ids = [once().run_id for _ in range(6)]
    with pytest.raises(ParityNotReached) as caught:
        isotrace.assert_parity([run_id[:20] for run_id in ids])
    (flaky,) = caught.value.result.flaky
    assert (flaky.index, flaky.count, flaky.pointers, flaky.runs) == (0, 3, ("/value",), tuple(ids[3:]))
    assert caught.value.result.reference == ids[0]
    with pytest.raises(isotrace.errors.RunNotFoundError):
        isotrace.assert_parity(["nothing"])
