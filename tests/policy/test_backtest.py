"""A backtest says of recorded runs what would have happened to them live."""

from __future__ import annotations

import json
from typing import Any

import cel_expr_python  # noqa: F401  # conditions: where it is absent, this file is left out
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.record.lab import Lab, Taken

import isotrace
from isotrace.errors import PolicyError, PolicyViolation
from isotrace.ledger import SealedRun, erase, project
from isotrace.operations import backtest_stored
from isotrace.operations.backtesting import breaches_of, step_indexes, verdicts_of
from isotrace.operations.queries import select
from isotrace.policy import Limit, Loop, Policy, PolicyRule
from isotrace.stores.memory import MemoryStore


@isotrace.skill(kind="llm", effect="read")
def ask(text: str, n: int = 0) -> dict[str, Any]:
    return {"cost_cents": 10, "usage": {"prompt_tokens": 90, "completion_tokens": 10}, "model": "m", "n": n}


@isotrace.skill(effect="write")
def refund(cents: Any) -> dict[str, Any]:
    if cents == 13:
        raise ValueError("unlucky")
    return {"done": cents}


@isotrace.skill(retries=2, retry_on=(ValueError,))
def shaky(times: int) -> int:
    left.append(1)
    if len(left) <= times:
        raise ValueError("again")
    return times


left: list[int] = []


def calls(*steps: Any) -> Any:
    """An agent that makes these calls, and goes on whatever comes of them."""

    def agent() -> None:
        for skill, value in steps:
            left.clear()
            try:
                skill(value)
            except (ValueError, PolicyViolation):
                pass

    return agent


def test_it_names_run_step_rule_and_saving(lab: Lab) -> None:
    good = lab.record(calls((ask, "a"), (refund, 10), (ask, "b")), metadata={"reward": 1.0})
    bad = lab.record(calls((ask, "a"), (refund, 9000), (ask, "b"), (ask, "c")), metadata={"reward": 0})
    alarm = lab.record(calls((refund, 7000)), metadata={"reward": 1})
    flagged = lab.record(calls(*[(ask, "same")] * 3))
    policy = Policy(
        [
            PolicyRule(id="big", action="stop", skills=("refund",), before="params.cents > 5000"),
            PolicyRule(id="loop", action="flag", loop=Loop(times=2)),
            PolicyRule(id="never", action="stop", limit=Limit(steps=100)),
        ]
    )
    runs = [taken.record.run_id for taken in (good, bad, alarm, flagged)]
    found = isotrace.backtest(policy, runs, store=lab.store)
    hits = [
        [(hit.step_index, hit.skill_name, hit.policy_id, hit.stops) for hit in run.hits]
        for run in found.found
    ]
    told = [(run.run_id, run.good, each) for run, each in zip(found.found, hits, strict=True)]
    assert told == [
        (runs[1], False, [(1, "refund", "big", True)]),
        (runs[2], True, [(0, "refund", "big", True)]),
        (runs[3], True, [(2, "ask", "loop", False)]),
    ]
    assert (found.runs, found.violating, found.stopped, found.false_alarms) == (4, 3, 2, 1)
    saving = found.found[0].saving
    assert saving is not None
    assert (saving.steps, saving.cost_cents, saving.tokens) == (3, 20.0, 200)
    assert saving.duration_ms > 0
    assert [(one.policy_id, one.runs, one.stopped, one.false_alarms) for one in found.rules.values()] == [
        ("big", 2, 2, 1),
        ("loop", 1, 0, 0),
        ("never", 0, 0, 0),
    ]
    assert found.exit_code == 1
    assert backtest_stored(lab.store, policy, select("")).to_dict()["rules"] == found.to_dict()["rules"]
    records = [taken.record for taken in (good, bad, alarm, flagged)]
    by_record = isotrace.backtest(policy, records)
    assert [[hit.to_dict() for hit in run.hits] for run in by_record.found] == [
        [hit.to_dict() for hit in run.hits] for run in found.found
    ]
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_nothing_stopped_is_exit_code_0(lab: Lab) -> None:
    taken = lab.record(calls((ask, "a")))
    policy = Policy([PolicyRule(id="f", action="flag", kinds=("llm",), deny=True)])
    found = isotrace.backtest(policy, [taken.record])
    assert (found.exit_code, found.violating, found.stopped) == (0, 1, 0)


def test_a_run_whose_values_were_erased_is_named_and_not_judged(lab: Lab) -> None:
    taken = lab.record(calls((refund, 10)))
    ledger = erase(taken.ledger, {(1, "params")})
    store = MemoryStore()
    store.put(SealedRun(ledger, project(ledger)))
    big = Policy([PolicyRule(id="big", action="stop", before="params.cents > 5")])
    found = backtest_stored(store, big, select(""))
    assert found.to_dict() | {"rules": []} == {
        "runs": 1,
        "violating": 0,
        "stopped": 0,
        "false_alarms": 0,
        "not_judged": 1,
        "saving": {"steps": 0, "cost_cents": 0.0, "tokens": 0, "duration_ms": 0.0},
        "rules": [],
        "found": [],
        "unjudged": [{"run_id": taken.record.run_id, "why": "params of event 1 was erased"}],
    }
    denied = Policy([PolicyRule(id="no", action="stop", deny=True)])
    assert backtest_stored(store, denied, select("")).stopped == 1


def test_values_that_are_damaged_are_flagged_and_not_passed_over(lab: Lab) -> None:
    events = lab.record(calls((refund, 10))).events
    events[1].values["params"] = b'{"cents":'
    for closed in (False, True):
        rule = PolicyRule(id="big", action="flag", before="params.cents > 5", fail_closed=closed)
        [(_, breach)] = breaches_of(Policy([rule]), events)
        assert breach.reason.startswith("could not be evaluated: refund: params.cents > 5: ")
        assert breach.stop is closed


def test_a_scope_of_the_correlation_is_counted_in_the_order_of_the_runs(lab: Lab) -> None:
    policy = Policy([PolicyRule(id="few", action="stop", limit=Limit(steps=3), scope="correlation")])
    for _ in range(3):
        lab.record(calls((ask, "a"), (ask, "b")), correlation_id="c")
    live = [
        lab.record(calls((ask, "a"), (ask, "b")), correlation_id="d", policy=policy).record.violations
        for _ in range(3)
    ]
    expected = [[one.step_index for one in violations] for violations in live if violations]
    assert expected == [[1], [0, 1]]  # it goes on, and is stopped again
    for correlation, hits in (("c", [[1], [0]]), ("d", expected)):
        found = backtest_stored(lab.store, policy, select(f"correlation={correlation}"))
        assert [[hit.step_index for hit in run.hits] for run in found.found] == hits


def test_rules_that_are_wrong_are_an_error(lab: Lab) -> None:
    with pytest.raises(PolicyError):
        isotrace.backtest([{"id": "a", "action": "stop", "before": "nothing"}], [])


# --- one judgement ------------------------------------------------------------------------

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(ask), st.sampled_from(["a", "b"])),
        st.tuples(st.just(refund), st.sampled_from([1, 13, 9000, float("nan"), "x", None, 2**60])),
        st.tuples(st.just(shaky), st.integers(0, 3)),
    ),
    max_size=12,
)
_CHECKS = st.one_of(
    st.just({"deny": True}),
    st.just({"allow": ("ask", "s*")}),
    st.builds(lambda n: {"limit": Limit(steps=n)}, st.integers(0, 6)),
    st.builds(lambda n: {"limit": Limit(cost_cents=n, tokens=150)}, st.integers(0, 40)),
    st.builds(lambda n: {"limit": Limit(retries=n)}, st.integers(0, 3)),
    st.builds(
        lambda n, w: {"loop": Loop(times=n, window=w)}, st.integers(1, 3), st.sampled_from([None, 4, 6])
    ),
    st.builds(lambda n, c: {"loop": Loop(times=n, cycle=c)}, st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(
        [
            {"before": "params.cents > 100", "fail_closed": True},
            {"before": "params.cents > 100"},
            {"before": "totals.steps > 3 || totals.calls.exists(c, totals.calls[c] > 2)"},
            {"before": "totals.tokens > 200 && totals.cost_cents > 5.0"},
            {"after": "status == 'failure' && code == 'ValueError' && error != ''"},
            {"after": "outcome.n == 0 && tokens > 50"},
            {"after": "retries > 1"},
        ]
    ),
)


@st.composite
def _rules(draw: Any) -> list[PolicyRule]:
    return [
        PolicyRule(
            id=f"r{index}",
            action=draw(st.sampled_from(["flag", "stop"])),
            skills=draw(st.sampled_from([(), ("ask",), ("refund", "shaky"), ("*a*",)])),
            kinds=draw(st.sampled_from([(), ("llm",), ("tool",)])),
            **check,
        )
        for index, check in enumerate(draw(st.lists(_CHECKS, min_size=1, max_size=4)))
    ]


def told(taken: Taken) -> list[tuple[int | None, str, str]]:
    indexes = step_indexes(taken.events)
    return [
        (indexes[event.lineage], event.facts["policy_id"], event.value("reason"))
        for event in taken.events
        if event.type == "violation"
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, rules=_rules())
@example(steps=[(shaky, 1), (ask, "a")], rules=[PolicyRule(id="r0", action="stop", limit=Limit(retries=0))])
def test_live_and_on_record_the_verdict_is_the_same(lab: Lab, steps: Any, rules: list[PolicyRule]) -> None:
    taken = lab.record(calls(*steps), policy=Policy(rules))
    assert taken.error is None
    assert verdicts_of(Policy(rules), taken.ledger) == told(taken)
    # Over a run that nobody stopped, the first stop is the one that would have come.
    free = lab.record(calls(*steps))
    said = list(breaches_of(Policy(rules), free.events))
    live = told(taken)
    assert [breach.policy_id for _, breach in said] == [policy_id for _, policy_id, _ in live[: len(said)]]
