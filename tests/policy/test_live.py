"""A policy over live runs: what it stops does not happen, what it flags is on record, and a strict replay
needs no rules to tell the same again."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cel_expr_python  # noqa: F401  # conditions: where it is absent, this file is left out
import pytest
from tests.record.lab import Lab, Taken

import isotrace
from isotrace.errors import PolicyViolation
from isotrace.operations.backtesting import verdicts_of
from isotrace.policy import Limit, Loop, Policy, PolicyRule
from isotrace.replay import Plan, Replay

done: list[str] = []


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", f"sqlite:///{tmp_path}/traces.db")
    done.clear()


@isotrace.skill(effect="read")
def look(order: str) -> dict[str, Any]:
    done.append(f"look {order}")
    return {"order": order, "cents": 4990}


@isotrace.skill(effect="write")
def refund(order: str, cents: Any = 0) -> dict[str, Any]:
    done.append(f"refund {order}")
    return {"ok": True}


@isotrace.skill(effect="write", name="arefund")
async def arefund(order: str, cents: Any = 0) -> dict[str, Any]:
    await asyncio.sleep(0)
    done.append(f"refund {order}")
    return {"ok": True}


@isotrace.skill(effect="write", name="stream_refund")
def stream_refund(order: str, cents: Any = 0) -> Iterator[str]:
    done.append(f"refund {order}")
    yield "a"
    yield "b"


@isotrace.skill(effect="write", name="astream_refund")
async def astream_refund(order: str, cents: Any = 0) -> AsyncIterator[str]:
    done.append(f"refund {order}")
    yield "a"


@isotrace.skill(kind="llm", effect="read")
def ask(text: str) -> dict[str, Any]:
    done.append(f"ask {text}")
    return {"cost_cents": 40, "usage": {"prompt_tokens": 600, "completion_tokens": 100}, "model": "m"}


def rule(name: str = "r", action: str = "stop", **check: Any) -> PolicyRule:
    return PolicyRule(id=name, action=action, **check)


DENIED = Policy([rule("no-refunds", skills=("*refund",), deny=True, reason="ask a person")])


def told(taken: Taken) -> list[tuple[int | None, str, str]]:
    return [(one.step_index, one.policy_id, one.reason) for one in taken.record.violations]


def statuses(taken: Taken) -> list[tuple[str, str, Any]]:
    return [(one.skill_name, one.status.value, one.outcome_code) for one in taken.record.steps]


def check(taken: Taken, lab: Lab, agent: Callable[[], Any], policy: Policy) -> None:
    """Strict replay gives the same without rules, and a backtest tells what was told live."""
    before = list(done)
    result = lab.replay(taken, agent)
    assert (result.verdict, result.divergences) == ("MATCH", [])
    assert type(result.error) is type(taken.error)
    assert str(result.error) == str(taken.error)
    assert done == before, "a replay calls nothing"
    assert verdicts_of(Policy(policy.rules), taken.ledger) == [
        (one.step_index, one.policy_id, one.reason) for one in taken.record.violations
    ]


def plain() -> Any:
    return refund("a", cents=3)


async def awaited() -> Any:
    return await arefund("a", cents=3)


def streamed() -> Any:
    return list(stream_refund("a"))


async def astreamed() -> Any:
    return [item async for item in astream_refund("a")]


async def in_tasks() -> Any:
    answers = await asyncio.gather(
        arefund("a"), asyncio.to_thread(refund, "b"), arefund("c"), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def in_pool() -> Any:
    with isotrace.ThreadPool(2) as pool:
        return [future.result() for future in [pool.submit(refund, "a"), pool.submit(refund, "b")]]


def in_foreign_threads() -> Any:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda order: refund(order), ["a", "b"]))


FORMS = [plain, awaited, streamed, astreamed, in_tasks, in_pool]


@pytest.mark.parametrize("agent", FORMS, ids=lambda form: form.__name__)
def test_a_denied_call_does_not_happen_in_any_form(lab: Lab, agent: Callable[[], Any]) -> None:
    taken = lab.record(agent, policy=DENIED)
    assert isinstance(taken.error, PolicyViolation)
    assert (taken.error.policy_id, taken.error.run_id) == ("no-refunds", taken.record.run_id)
    assert "ask a person" in str(taken.error)
    assert done == []
    assert {(status, code) for _, status, code in statuses(taken)} == {("skipped", "no-refunds")}
    assert {step.outcome_category for step in taken.record.steps} == {"POLICY"}
    summary = taken.record.to_summary()
    assert (summary.violation_step_index, summary.violation_policy_id) == (0, "no-refunds")
    assert str(summary.violation_reason).startswith("ask a person (")
    check(taken, lab, agent, DENIED)
    assert done == []


def test_what_outlives_its_run_is_not_called_at_all(lab: Lab) -> None:
    late: list[BaseException] = []

    def agent() -> threading.Thread:
        context = contextvars.copy_context()

        def work() -> None:
            over.wait(10)
            for call in (lambda: refund("a"), lambda: subprocess.run(["true"], check=True)):
                try:
                    context.run(call)
                except PolicyViolation as error:
                    late.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    over = threading.Event()
    undo = isotrace.instrument()
    try:
        thread = lab.start(agent, store=lab.store, policy=DENIED)
        over.set()
        thread.join()
    finally:
        undo()
    assert [getattr(error, "policy_id", None) for error in late] == ["run_ended", "run_ended"]
    assert done == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_calls_nothing_either(lab: Lab) -> None:
    def agent() -> int:
        child = os.fork()
        if child == 0:
            try:
                refund("a")
            except PolicyViolation:
                os._exit(7)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert lab.record(agent, policy=DENIED).value == 7


def test_nor_in_threads_that_isotrace_does_not_order(lab: Lab) -> None:
    taken = lab.record(in_foreign_threads, policy=DENIED)
    assert isinstance(taken.error, PolicyViolation)
    assert done == []


def test_an_agent_that_catches_it_goes_on_and_is_stopped_again(lab: Lab) -> None:
    def agent() -> list[str]:
        answers = []
        for call in (lambda: look("a"), lambda: refund("a"), lambda: look("b"), lambda: refund("b")):
            try:
                answers.append(str(call()))
            except PolicyViolation as error:
                answers.append(error.reason)
        return answers

    taken = lab.record(agent, policy=DENIED)
    assert done == ["look a", "look b"]
    assert [status for _, status, _ in statuses(taken)] == ["success", "skipped", "success", "skipped"]
    assert [index for index, _, _ in told(taken)] == [1, 3]
    check(taken, lab, agent, DENIED)


def test_an_except_exception_does_not_swallow_a_stop(lab: Lab) -> None:
    def agent() -> str:
        try:
            refund("a")
        except Exception:
            return "swallowed"
        return "called"

    assert isinstance(lab.record(agent, policy=DENIED).error, PolicyViolation)


def test_a_flag_lets_the_step_happen_and_stands_on_record(lab: Lab) -> None:
    policy = Policy([rule("big", "flag", before="params.cents > 100")])

    def agent() -> Any:
        return [refund("a", cents=50), refund("b", cents=150)]

    taken = lab.record(agent, policy=policy)
    assert done == ["refund a", "refund b"]
    assert told(taken) == [(1, "big", "refund: params.cents > 100")]
    check(taken, lab, agent, policy)


def test_what_a_condition_is_not_given_is_flagged_and_stops_where_it_fails_closed(lab: Lab) -> None:
    def agent() -> Any:
        return look("a")

    for closed in (False, True):
        done.clear()
        policy = Policy([rule("big", "flag", before="params.cents > 100", fail_closed=closed)])
        taken = lab.record(agent, policy=policy)
        [(index, policy_id, reason)] = told(taken)
        assert (index, policy_id) == (0, "big")
        assert reason.startswith("could not be evaluated: look: params.cents > 100: ")
        assert done == ([] if closed else ["look a"])
        check(taken, lab, agent, policy)


def test_a_budget_is_told_where_it_is_spent_and_stops_every_step_after(lab: Lab) -> None:
    policy = Policy([rule("budget", limit=Limit(cost_cents=100))])

    def agent() -> list[str]:
        answers = []
        for text in "abcde":
            try:
                ask(text)
            except PolicyViolation as error:
                answers.append(error.reason)
        return answers

    taken = lab.record(agent, policy=policy)
    reason = "120 cents, at most 100 are allowed"
    assert done == ["ask a", "ask b", "ask c"]
    assert taken.value == [reason, reason]
    assert told(taken) == [(2, "budget", reason), (3, "budget", reason), (4, "budget", reason)]
    check(taken, lab, agent, policy)


@pytest.mark.parametrize(
    ("check_", "calls"),
    [
        ({"limit": Limit(steps=2)}, 2),
        ({"limit": Limit(tokens=1000)}, 2),
        ({"limit": Limit(duration_ms=0)}, 0),
        ({"limit": Limit(step_duration_ms=0)}, 1),
        ({"loop": Loop(times=3)}, 3),
        ({"loop": Loop(times=3, window=4)}, 3),
        ({"loop": Loop(times=4, cycle=1)}, 4),
        ({"before": "totals.steps >= 2"}, 2),
        ({"before": "step == 2 || totals.calls.ask > 4"}, None),
        ({"before": "totals.tokens > 700 || run.agent_id == 'other'"}, 2),
        ({"after": "tokens == 700 && outcome.model == 'm' && status == 'success'"}, 1),
        ({"allow": ("look",)}, 0),
        ({"kinds": ("llm",), "deny": True}, 0),
        ({"effects": ("read",), "deny": True}, 0),
        ({"agents": ("other",), "deny": True}, 6),
        ({"skills": ("refund",), "deny": True}, 6),
    ],
    ids=str,
)
def test_each_check_stops_where_it_says(lab: Lab, check_: dict[str, Any], calls: int | None) -> None:
    policy = Policy([rule(**check_)])

    def agent() -> Any:
        return [ask("same") for _ in range(6)]

    taken = lab.record(agent, policy=policy)
    if calls is None:  # its field is not there at first: flagged, and step 2 is stopped
        assert [index for index, _, _ in told(taken)] == [0, 2]
        assert len(done) == 2
        return
    assert len(done) == calls
    assert isinstance(taken.error, PolicyViolation) is (calls < 6)
    if "duration" not in str(check_):
        check(taken, lab, agent, policy)


def test_cycles_are_found(lab: Lab) -> None:
    policy = Policy([rule("cycle", loop=Loop(times=2, cycle=3))])

    def agent() -> Any:
        for order in "abcxabababab":
            look(order)

    taken = lab.record(agent, policy=policy)
    assert done == [f"look {order}" for order in "abcxababa"]
    assert told(taken)[0][0] == 9
    assert told(taken)[0][2] == "look: the same 2 calls more than 2 times in succession"
    check(taken, lab, agent, policy)


def test_retries_are_stopped_before_the_next_try(lab: Lab) -> None:
    @isotrace.skill(retries=5)
    def shaky() -> None:
        done.append("try")
        raise ValueError("no")

    policy = Policy([rule("retries", limit=Limit(retries=2))])
    taken = lab.record(shaky, policy=policy)
    assert done == ["try"] * 3
    assert isinstance(taken.error, PolicyViolation)
    assert statuses(taken) == [("shaky", "failure", "PolicyViolation")]
    check(taken, lab, shaky, policy)


def test_concurrent_calls_do_not_get_past_a_limit_of_steps(lab: Lab) -> None:
    policy = Policy([rule("few", limit=Limit(steps=5))])

    async def agent() -> Any:
        return await asyncio.gather(*(arefund(str(n)) for n in range(20)), return_exceptions=True)

    def threaded() -> Any:
        barrier = threading.Barrier(8)

        def work(n: int) -> None:
            barrier.wait()
            for _ in range(5):
                try:
                    refund(str(n))
                except PolicyViolation:
                    pass

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    lab.record(agent, policy=policy)
    assert len(done) == 5
    done.clear()
    lab.record(threaded, policy=policy)
    assert len(done) == 5


def test_a_step_that_was_stopped_does_not_count(lab: Lab) -> None:
    policy = Policy(
        [
            rule("few", limit=Limit(steps=2)),
            rule("same", loop=Loop(times=1)),
            rule("big", before="params.cents > 100 || totals.steps > 5"),
        ]
    )

    def agent() -> None:
        for order, cents in [("a", 900), ("a", 900), ("b", 900), ("a", 1), ("b", 1), ("c", 1)]:
            try:
                refund(order, cents=cents)
            except PolicyViolation:
                pass

    taken = lab.record(agent, policy=policy)
    assert done == ["refund a", "refund b"]
    assert [policy_id for _, policy_id, _ in told(taken)] == ["big", "big", "big", "few"]
    check(taken, lab, agent, policy)


def test_runs_of_one_correlation_in_many_threads_share_one_count(lab: Lab) -> None:
    # The others take their time between the look at the count and the counting.
    others = [rule(f"r{n}", before="params.order == 'b'") for n in range(20)]
    policy = Policy([rule("few", limit=Limit(steps=50), scope="correlation"), *others])
    barrier = threading.Barrier(6)

    def work(_: int) -> None:
        with isotrace.run("many", correlation_id="c", policy=policy, store=lab.store):
            barrier.wait()
            for _ in range(30):
                try:
                    look("a")
                except PolicyViolation:
                    pass

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(done) == 50


def test_a_nested_agent_is_held_to_the_policies_around_it_and_to_its_own(lab: Lab) -> None:
    @isotrace.agent("inner", policy=Policy([rule("no-look", skills=("look",), deny=True)]))
    def inner() -> list[str]:
        answers = []
        for call in (lambda: refund("a"), lambda: look("a"), lambda: ask("a")):
            try:
                call()
            except PolicyViolation as error:
                answers.append(str(error.policy_id))
        return answers

    taken = lab.record(inner, policy=DENIED)
    assert taken.value == ["no-refunds", "no-look"]
    assert done == ["ask a"]


def test_a_scope_of_the_correlation_counts_over_its_runs(lab: Lab) -> None:
    policy = Policy([rule("budget", limit=Limit(steps=3), scope="correlation")])
    for correlation, expected in (("one", [2, 1, 0]), ("two", [2, 1, 0])):
        for count in expected:
            done.clear()
            lab.record(lambda: [look("a"), look("b")], policy=policy, correlation_id=correlation)
            assert len(done) == count


def test_the_environment_names_a_policy_for_every_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[[rules]]\nid = 'no'\naction = 'stop'\nskills = ['refund']\ndeny = true\n")
    monkeypatch.setenv("ISOTRACE_POLICY", str(file))
    taken = lab.record(plain)
    assert told(taken) == [(0, "no", "refund is denied")]
    monkeypatch.setenv("ISOTRACE_POLICY", str(tmp_path / "none.toml"))
    with pytest.raises(isotrace.errors.PolicyError):
        lab.start(plain, store=lab.store)
    assert done == []


def test_a_policy_that_fails_itself_flags(lab: Lab) -> None:
    class Broken:
        looks_at: frozenset[str] = frozenset()
        name = "broken"
        fail_closed = False

        def opened(self, started: Any) -> Any:
            return self

        def judge(self, event: Any) -> Any:
            raise RuntimeError("oh")

    broken = Broken()
    taken = lab.record(plain, policy=broken)
    assert told(taken)[0] == (0, "broken", "could not be evaluated: RuntimeError: oh")
    assert done == ["refund a"]
    broken.fail_closed = True
    assert isinstance(lab.record(plain, policy=broken).error, PolicyViolation)
    assert done == ["refund a"]


def test_a_run_whose_recording_has_stopped_is_still_held_to_its_policy(lab: Lab) -> None:
    def agent() -> Any:
        run = isotrace.current_run()
        assert run is not None
        run._driver.writer._stop(OSError("full"))  # type: ignore[union-attr]
        return refund("a")

    with pytest.warns(isotrace.errors.RecordingWarning), pytest.raises(PolicyViolation):
        lab.start(agent, store=lab.store, policy=DENIED)
    assert done == []


def test_a_fork_is_held_to_the_policy_given_to_it(lab: Lab) -> None:
    def agent() -> list[Any]:
        found = look("a")
        try:
            return [found, refund("a")]
        except PolicyViolation as error:
            return [found, error.policy_id]

    taken = lab.record(agent)
    done.clear()
    for plan in (
        Plan(mode="live", allow=("*",), fork_at=1, policy=DENIED),
        Plan(mode="tools-live", policy=DENIED),
        Plan(mode="live", allow=("*",), policy=DENIED),
    ):
        result = Replay(taken.ledger, plan, store=lab.store).run(lambda: lab.start(agent, store=lab.store))
        assert result.value == [{"order": "a", "cents": 4990}, "no-refunds"]
        assert "refund a" not in done
        assert result.new_run is not None
        assert [one.policy_id for one in result.new_run.violations] == ["no-refunds"]
        assert [one.status.value for one in result.new_run.steps] == ["success", "skipped"]


def test_a_stop_on_record_is_served_to_a_fork_too(lab: Lab) -> None:
    async def agent() -> Any:
        try:
            await arefund("a")
        except PolicyViolation as error:
            return [error.policy_id, look("b")]

    taken = lab.record(agent, policy=DENIED)
    plan = Plan(mode="live", allow=("*",), fork_at=1)
    result = Replay(taken.ledger, plan, store=lab.store).run(lambda: lab.start(agent, store=lab.store))
    assert result.value == ["no-refunds", {"order": "b", "cents": 4990}]
    assert result.new_run is not None
    assert [one.status.value for one in result.new_run.steps] == ["skipped", "success"]
    assert [one.policy_id for one in result.new_run.violations] == ["no-refunds"]
    assert result.verdict == "MATCH"


def test_a_replay_from_the_record_alone_raises_it_again(lab: Lab) -> None:
    taken = lab.record(plain, policy=DENIED)
    result = Replay(taken.record, store=lab.store).run(lambda: lab.start(plain, store=lab.store))
    assert isinstance(result.error, PolicyViolation)
    assert str(result.error) == str(taken.error)
    assert result.verdict == "MATCH"


def test_rules_see_values_before_they_are_redacted_and_their_reasons_are_redacted_too(lab: Lab) -> None:
    def agent() -> Any:
        return look("bob@evil.com")

    outside = rule("outside", before="params.order.endsWith('@evil.com')", reason="not to bob@evil.com")
    taken = lab.record(agent, policy=Policy([outside]), redact=["email"])
    assert isinstance(taken.error, PolicyViolation)
    assert taken.error.reason.startswith("not to bob@evil.com (")
    assert done == []
    [step] = taken.record.steps
    assert "bob@" not in str(step.params)
    assert [one.reason.startswith("not to [email] (") for one in taken.record.violations] == [True]
    assert lab.replay(taken, agent).verdict == "MATCH"


@isotrace.agent("helper")
def helper(order: str) -> Any:
    return refund(order)


@isotrace.skill(effect="write")
def in_a_thread(order: str) -> list[Any]:
    found: list[Any] = []

    def body() -> None:
        try:
            found.append(helper(order))
        except PolicyViolation as error:
            found.append(error.policy_id)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return found


@isotrace.skill(effect="write")
def in_a_pool(order: str) -> list[Any]:
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(helper, order).exception()
    return [error.policy_id if isinstance(error, PolicyViolation) else None]


@pytest.mark.parametrize("skill", [in_a_thread, in_a_pool])
def test_an_agent_in_a_thread_of_a_skill_is_held_to_the_policies_around_it(lab: Lab, skill: Any) -> None:
    no_refunds = Policy([PolicyRule(id="no-refunds", action="stop", skills=("refund",), deny=True)])
    with isotrace.run("desk", policy=no_refunds, store=lab.store):
        assert skill("W-1") == ["no-refunds"]
    assert done == []


def test_an_agent_in_an_executed_step_of_a_replay_is_held_to_the_policies_around_it(lab: Lab) -> None:
    no_refunds = Policy([PolicyRule(id="no-refunds", action="stop", skills=("refund",), deny=True)])

    @isotrace.skill(effect="write")
    def delegate(order: str) -> Any:
        return helper(order)

    with isotrace.run("desk", store=lab.store) as recorded:
        delegate("W-1")
    isotrace.flush()
    done.clear()

    def again() -> None:
        with isotrace.run("desk", store=lab.store):
            delegate("W-1")

    ledger = lab.store.ledger(recorded.run_id, tenant_id="default")
    plan = Plan(mode="live", allow=("*",), keep=False, policy=no_refunds)
    result = Replay(ledger, plan).run(again)
    assert done == []
    assert isinstance(result.error, PolicyViolation)
