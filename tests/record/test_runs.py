"""A run: who it is, what its code may ask of it, and runs inside runs."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.clock import ManualClock
from isotrace.errors import FieldError, RecordingError, UsageError
from isotrace.jsondiff import MISSING
from isotrace.record import (
    agent,
    branch,
    current_run,
    extract_headers,
    flush,
    inject_headers,
    read_headers,
    run,
    skill,
)
from isotrace.stores.memory import MemoryStore
from isotrace.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from tests.record.lab import Lab

START_US = 1_700_000_000_000_000


@skill(effect="read")
def note(what: Any) -> Any:
    return what


@skill(effect="read")
async def anote(what: Any) -> Any:
    await asyncio.sleep(0)
    return what


# --- identity -------------------------------------------------------------------------------------


def test_a_run_says_who_it_is(lab: Lab) -> None:
    def body() -> tuple[Any, ...]:
        me = current_run()
        assert me is not None
        return me.run_id, me.correlation_id, me.tenant_id, me.agent_id, me.seed, me.input

    taken = lab.record(
        body,
        run_id="r-1",
        correlation_id="c-1",
        tenant_id="acme",
        seed=7,
        input={"task": "x"},
        plan=[{"step": 1}],
        metadata={"team": "a"},
        frozen_timestamp="2026-01-31T12:00:00Z",
    )
    assert taken.value == ("r-1", "c-1", "acme", "lab", 7, {"task": "x"})
    record = taken.record
    assert (record.run_id, record.correlation_id, record.tenant_id, record.agent_id) == (
        "r-1",
        "c-1",
        "acme",
        "lab",
    )
    assert (record.seed, record.plan, record.frozen_timestamp, record.status) == (
        7,
        [{"step": 1}],
        "2026-01-31T12:00:00+00:00",
        "completed",
    )
    assert record.metadata == {"team": "a", "replayability": "replayable"}
    assert record.context
    assert record.context.input == {"task": "x"}
    assert record.context.origin_run_id == "r-1"


def test_ids_and_seed_are_fresh_unless_given(lab: Lab) -> None:
    one, other = lab.record(lambda: None).record, lab.record(lambda: None).record
    assert one.run_id != other.run_id
    assert one.seed != other.seed
    assert one.correlation_id == one.run_id


def test_seed_zero_is_a_seed(lab: Lab) -> None:
    taken, result = lab.again(lambda: current_run().random.random(), seed=0)  # type: ignore[union-attr]
    assert taken.record.seed == 0
    assert (result.verdict, result.value) == ("MATCH", taken.value)


@pytest.mark.parametrize("given", [0, "", [], {}, False, {"a": None}])
def test_an_input_that_counts_as_false_is_an_input(lab: Lab, given: Any) -> None:
    record = lab.record(lambda: None, input=given).record
    assert record.context
    assert record.context.input == given


def test_a_run_without_input_has_none_on_record(lab: Lab) -> None:
    record = lab.record(lambda: None).record
    assert record.context
    assert record.context.input is MISSING


def test_result_and_late_metadata_are_kept(lab: Lab) -> None:
    def body() -> None:
        me = current_run()
        assert me is not None
        me.set_result({"answer": 42})
        me.add_metadata(reward=1.0, task="t")

    record = lab.record(body).record
    assert record.context
    assert record.context.result == {"answer": 42}
    assert record.metadata == {"reward": 1.0, "task": "t", "replayability": "replayable"}


def test_violations_belong_to_the_step_made_last(lab: Lab) -> None:
    @skill
    def risky() -> None:
        me = current_run()
        assert me is not None
        me.violation("budget", "inside the body")

    def body() -> None:
        me = current_run()
        assert me is not None
        me.violation("early", "before any step")
        note(1)
        me.violation("pii", "a name")
        risky()

    record = lab.record(body).record
    assert [(v.step_index, v.policy_id, v.reason) for v in record.violations] == [
        (None, "early", "before any step"),
        (0, "pii", "a name"),
        (1, "budget", "inside the body"),
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": -1}, UsageError),
        ({"seed": 2**53}, UsageError),
        ({"seed": 1.5}, UsageError),
        ({"seed": True}, UsageError),
        ({"run_id": ""}, UsageError),
        ({"run_id": "\ud800"}, UsageError),
        ({"run_id": "@last"}, UsageError),
        ({"run_id": "@"}, UsageError),
        ({"run_id": "r" * 201}, UsageError),
        ({"run_id": "a\nb"}, UsageError),
        ({"run_id": "a\x1b[31m"}, UsageError),
        ({"run_id": "a\u2028b"}, UsageError),
        ({"plan": "abc"}, UsageError),
        ({"plan": b"abc"}, UsageError),
        ({"plan": {"step": 1}}, UsageError),
        ({"plan": ["step"]}, UsageError),
        ({"plan": [{"step": 1}, None]}, UsageError),
        ({"plan": 5}, UsageError),
        ({"plan": None}, UsageError),
        ({"tenant_id": 5}, UsageError),
        ({"correlation_id": b"x"}, UsageError),
        ({"agent_id": 3}, UsageError),
        ({"durability": "eternal"}, UsageError),
        ({"durability": None}, UsageError),
        ({"durability": ["power"]}, UsageError),
        ({"frozen_timestamp": "yesterday"}, FieldError),
    ],
)
def test_a_wrong_option_is_a_named_error(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        run(**options)


def test_an_unknown_durability_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match="expected process or power; got 'eternal'"):
        run(durability="eternal")  # type: ignore[arg-type]  # what a program without types passes


@pytest.mark.parametrize("durability", ["process", "power"])
def test_both_durabilities_record_a_run(durability: Any, tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with run("durable", run_id="durable", durability=durability, store=str(path)):
        note("a")
    assert flush(60)
    with SqliteStore(path, create=False) as store:
        assert store.get("durable", tenant_id="default").summary.total_steps == 1


def test_a_run_id_may_be_long_and_hold_any_script(lab: Lab) -> None:
    for run_id in ("r" * 200, "лаб @last 1/2", "~"):
        assert lab.record(lambda: None, run_id=run_id).record.run_id == run_id


def test_a_plan_may_be_any_iterable_of_mappings(lab: Lab) -> None:
    taken = lab.record(lambda: None, plan=({"step": number} for number in range(2)))
    assert taken.record.plan == [{"step": 0}, {"step": 1}]


def test_a_run_can_be_entered_once(lab: Lab) -> None:
    opened = run(store=lab.store)
    with opened:
        pass
    with pytest.raises(RecordingError), opened:
        pass


def test_a_run_that_is_not_open_has_no_time() -> None:
    with pytest.raises(RecordingError):
        run().now()


def test_there_is_no_current_run_outside_of_runs(lab: Lab) -> None:
    assert current_run() is None
    lab.record(lambda: None)
    assert current_run() is None


# --- time, randomness, ids ------------------------------------------------------------------------


def test_time_stands_still_between_steps(lab: Lab) -> None:
    clock = ManualClock(START_US, tick_us=1000)
    times: list[datetime] = []

    def body() -> None:
        me = current_run()
        assert me is not None
        times.extend([me.now(), me.now()])
        note(1)
        times.extend([me.now(), me.now()])

    taken = lab.record(body, clock=clock)
    assert times[0] == times[1] == datetime.fromtimestamp(START_US / 1e6, UTC)
    assert times[2] == times[3] == datetime.fromtimestamp((START_US + 2000) / 1e6, UTC)
    assert [event.time_us - START_US for event in taken.events] == [0, 1000, 2000, 3000]


def test_time_is_frozen_where_it_was_asked_to_be(lab: Lab) -> None:
    def body() -> datetime:
        note(1)
        me = current_run()
        assert me is not None
        return me.now()

    taken, result = lab.again(body, frozen_timestamp="2026-01-31T13:00:00+01:00")
    assert taken.value == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert result.value == taken.value


def test_now_random_and_uuid4_are_the_same_in_a_replay_in_each_branch(lab: Lab) -> None:
    seen: list[Any] = []

    async def part(name: str) -> None:
        me = current_run()
        assert me is not None
        await anote([name, me.now().isoformat(), me.random.random(), str(me.uuid4())])
        seen.append([name, me.now(), me.random.randrange(1000), me.uuid4()])
        try:
            async with asyncio.timeout(0.001 if name == "late" else 5):
                await anote(name)
                if name == "late":
                    await asyncio.Event().wait()
        except TimeoutError:
            pass
        # After a timer that fired, and after one that was cancelled.
        await anote([me.now().isoformat()])

    async def body() -> None:
        await asyncio.gather(part("a"), part("late"), part("c"))
        with branch("k"):
            await part("keyed")

    taken = lab.record(body)
    live, seen[:] = list(seen), []
    result = lab.replay(taken, body)
    assert result.verdict == "MATCH", result.divergences
    assert seen == live
    assert len({entry[3] for entry in live}) == 4, "each branch has a stream of its own"


def test_random_ids_are_version_4() -> None:
    with run(store=MemoryStore()) as opened:
        assert opened.uuid4().version == 4
        assert isinstance(opened.random, Random)
        assert opened.uuid4() != opened.uuid4()


def test_a_body_s_randomness_does_not_move_the_agent_s(lab: Lab) -> None:
    @skill
    def draws() -> float:
        me = current_run()
        assert me is not None
        return me.random.random() + me.uuid4().int * 0

    def body() -> list[float]:
        me = current_run()
        assert me is not None
        return [me.random.random(), draws(), me.random.random()]

    taken, result = lab.again(body)
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(lab: Lab) -> None:
    def body() -> list[Any]:
        me = current_run()
        assert me is not None
        return [me.random.random(), me.uuid4()]

    assert lab.record(body, seed=3).value == lab.record(body, seed=3).value
    assert lab.record(body, seed=3).value != lab.record(body, seed=4).value


def test_values_from_outside_are_read_once_and_served_again(lab: Lab) -> None:
    world = iter(["live", "never"])

    async def body() -> list[Any]:
        me = current_run()
        assert me is not None

        async def part() -> str:
            return me.read("env:HOME", lambda: next(world))

        one = me.read("clock", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        return [one, await asyncio.create_task(part())]

    taken, result = lab.again(body)
    assert taken.value == [datetime(2026, 1, 1, tzinfo=UTC), "live"]
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    assert [event.facts for event in taken.events if event.type == "value_read"] == [
        {"lineage": [], "index": 0, "source": "clock"},
        {"lineage": [0], "index": 0, "source": "env:HOME"},
    ]


def test_a_value_that_a_body_reads_is_the_body_s_business(lab: Lab) -> None:
    @skill
    def body_reads() -> str:
        me = current_run()
        assert me is not None
        return me.read("a", lambda: "in the body")

    def body() -> list[str]:
        me = current_run()
        assert me is not None
        return [body_reads(), me.read("b", lambda: "outside")]

    taken, result = lab.again(body)
    assert taken.value == ["in the body", "outside"]
    assert (result.verdict, result.value) == ("MATCH", taken.value)


# --- branches by key ------------------------------------------------------------------------------


def test_a_keyed_branch_does_not_move_the_counter(lab: Lab) -> None:
    def body() -> None:
        note(0)
        with branch("eu"):
            note("eu 1")
            with branch("inner"):
                note("inner")
            note("eu 2")
        with branch("us"):
            note("us 1")
        note(1)

    assert [(lineage, params["what"]) for lineage, _, params, _ in lab.record(body).steps] == [
        ((0,), 0),
        ((1,), 1),
        ((1, "eu", 0), "eu 1"),
        ((1, "eu", 1), "eu 2"),
        ((1, "eu", 1, "inner", 0), "inner"),
        ((1, "us", 0), "us 1"),
    ]


def test_keyed_branches_are_matched_among_themselves(lab: Lab) -> None:
    keys = ["eu", "us"]

    def body() -> list[Any]:
        got = {}
        for key in keys:
            with branch(key):
                got[key] = [note(f"{key} 1"), note(f"{key} 2")]
        return [got["eu"], got["us"]]

    taken = lab.record(body)
    keys.reverse()
    result = lab.replay(taken, body)
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_the_same_key_again_goes_on_where_it_was_left(lab: Lab) -> None:
    def body() -> None:
        for _ in range(2):
            with branch("eu"):
                note("x")

    taken, result = lab.again(body)
    assert [lineage for lineage, *_ in taken.steps] == [(0, "eu", 0), (0, "eu", 1)]
    assert result.verdict == "MATCH"


def test_a_keyed_branch_outside_of_runs_does_nothing() -> None:
    with branch("eu"):
        assert note(1) == 1


@pytest.mark.parametrize("key", [5, None, "", "\ud800"])
def test_a_key_is_a_text(key: Any) -> None:
    with pytest.raises(UsageError), branch(key):
        pass


# --- runs in runs ---------------------------------------------------------------------------------


@agent("child")
def child(task: str) -> str:
    return f"{note(task)}!"


@agent
async def achild(task: str) -> str:
    return f"{await anote(task)}!"


def runs_of(store: MemoryStore) -> dict[str, Any]:
    assert flush(60)
    return {kept.run.run_id: kept.run.ledger.record() for kept in store._kept.values()}


def test_a_nested_agent_is_a_run_of_its_own_and_a_step_of_its_parent(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))

    async def body() -> list[str]:
        return [child("a"), await achild("b")]

    taken = lab.record(body, tenant_id="acme", correlation_id="request-1")
    assert taken.value == ["a!", "b!"]
    assert [(lineage, name, params, out) for lineage, name, params, out in taken.steps] == [
        ((0,), "child", {"task": "a"}, {"value": "a!"}),
        ((1,), "achild", {"task": "b"}, {"value": "b!"}),
    ]
    from isotrace.stores.sqlite import SqliteStore

    store = SqliteStore(str(tmp_path / "traces.db"))
    for index, step in enumerate(taken.record.steps):
        assert step.context
        assert step.context.kind == "agent"
        assert step.context.child_run_id
        inner = store.ledger(step.context.child_run_id, tenant_id="acme").record()
        assert (inner.correlation_id, inner.tenant_id, inner.agent_id) == (
            "request-1",
            "acme",
            step.skill_name,
        )
        assert inner.context
        assert inner.context.parent == {"run_id": taken.record.run_id, "lineage": [index]}
        assert inner.context.result == taken.value[index]
        assert [s.params for s in inner.steps] == [{"what": "ab"[index]}]
    store.close()


def test_a_nested_agent_is_served_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    called: list[str] = []

    @agent
    async def inner(task: str) -> str:
        called.append(task)
        return await anote(task)

    async def body() -> list[str]:
        return list(await asyncio.gather(inner("a"), inner("b")))

    _, result = lab.again(body)
    assert (result.verdict, result.value) == ("MATCH", ["a", "b"])
    assert called == ["a", "b"], "only while recording"


def test_runs_inside_a_run_and_inside_a_skill_share_the_correlation(lab: Lab) -> None:
    @skill
    def delegating() -> None:
        with run("inside the skill", store=lab.store):
            note("deep")

    def body() -> None:
        with run("inside the run", store=lab.store):
            note("nested")
        delegating()

    taken = lab.record(body, run_id="outer")
    records = {record.agent_id: record for record in runs_of(lab.store).values()}
    assert {record.correlation_id for record in records.values()} == {"outer"}
    assert records["inside the run"].context.parent == {"run_id": "outer", "lineage": []}
    assert records["inside the skill"].context.parent == {"run_id": "outer", "lineage": [0]}
    assert [step.params for step in records["inside the run"].steps] == [{"what": "nested"}]
    assert [name for _, name, _, _ in taken.steps] == ["delegating"]
    assert taken.record.steps[0].context
    assert taken.record.steps[0].context.child_run_id == records["inside the skill"].run_id


def test_an_agent_records_its_entry_point_input_and_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    assert child("solo") == "solo!"
    from isotrace.operations import open_store

    store = open_store()
    record = store.ledger(store.resolve("@last", tenant_id="default"), tenant_id="default").record()
    store.close()
    assert record.context
    assert record.context.entry_point == {
        "kind": "function",
        "module": __name__,
        "qualname": "child",
        "file": __file__,
    }
    assert (record.agent_id, record.context.input, record.context.result) == (
        "child",
        {"task": "solo"},
        "solo!",
    )


def test_an_agent_of_a_class_or_a_function_has_no_entry_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))

    @agent
    def local() -> None: ...

    class Holder:
        @agent
        def method(self, task: str) -> str:
            return task

    local()
    assert Holder().method("x") == "x"
    from isotrace.contracts import RunQuery
    from isotrace.operations import open_store

    store = open_store()
    records = [
        store.ledger(item.summary.run_id, tenant_id="default").record()
        for item in store.query(RunQuery()).runs
    ]
    store.close()
    by_agent: dict[str | None, Any] = {record.agent_id: record.context for record in records}
    assert by_agent["local"].entry_point is None
    assert by_agent["method"].entry_point is None
    assert by_agent["method"].input == {"task": "x"}


def test_a_generator_can_t_be_an_agent() -> None:
    with pytest.raises(UsageError, match="generator"):

        @agent
        def stream():
            yield 1


def test_an_agent_that_is_called_wrongly_raises_its_own_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    with pytest.raises(TypeError, match=r"child\(\) got an unexpected keyword argument 'tsk'"):
        child(tsk="x")  # type: ignore[call-arg]
    assert flush(60)


# --- contexts -------------------------------------------------------------------------------------


def test_a_run_may_be_left_in_another_context_than_it_was_entered_in(lab: Lab) -> None:
    opened = run("lab", store=lab.store)
    contextvars.copy_context().run(opened.__enter__)
    opened.__exit__(None, None, None)
    assert flush(60)
    assert lab.ledger(opened.run_id).record().status == "completed"


def test_a_task_that_outlives_its_run_gets_its_values_and_leaves_the_record_whole(lab: Lab) -> None:
    @skill
    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    async def background() -> list[str]:
        return [await slow(0.02), await slow(0.001)]

    async def main() -> tuple[str, list[str]]:
        async with run("lab", store=lab.store) as opened:
            task = asyncio.create_task(background())
            await anote(1)
        return opened.run_id, await task

    run_id, got = asyncio.run(main())
    assert got == ["done", "done"]
    assert flush(60)
    ledger = lab.ledger(run_id)
    record = ledger.record()
    assert (record.status, ledger.events[-1].type) == ("completed", "run_finished")
    assert [(step.skill_name, step.outcome_category) for step in record.steps] == [
        ("slow", "INDETERMINATE"),
        ("anote", "SUCCESS"),
    ]


def test_a_forked_child_leaves_its_parent_s_run_alone(tmp_path: Path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(
        """
import os, sys
from isotrace.record import run, skill, flush
@skill
def note(what): return what
with run("forking", run_id="parent") as opened:
    note("before")
    pid = os.fork()
    if pid == 0:
        assert note("in the child") == "in the child"
    else:
        os.waitpid(pid, 0)
        note("after")
if pid == 0:
    with run("forked", run_id="child"):
        note("own")
    flush()
    os._exit(0)
flush()
"""
    )
    store = tmp_path / "traces.db"
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            # From 3.12 on Python warns of any fork beside threads, and the sealer is one.
            "-W",
            "ignore:This process:DeprecationWarning",
            str(script),
        ],
        env=os.environ | {"ISOTRACE_STORE": str(store)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    from isotrace.stores.sqlite import SqliteStore

    kept = SqliteStore(str(store))
    steps = {
        name: [step.params["what"] for step in kept.ledger(name, tenant_id="default").record().steps]
        for name in ("parent", "child")
    }
    kept.close()
    assert steps == {"parent": ["before", "after"], "child": ["own"]}


# --- across processes -----------------------------------------------------------------------------


def test_headers_carry_the_correlation_across(lab: Lab) -> None:
    headers: dict[str, str] = {"baggage": "other=1"}

    def body() -> str:
        inject_headers(headers)
        me = current_run()
        assert me is not None
        return me.run_id

    sender = lab.record(body, correlation_id="request 1/ü").value
    assert headers["baggage"].startswith("other=1,")
    with extract_headers({name.upper(): value for name, value in headers.items()}) as parent:
        assert parent is not None
        receiver = lab.record(lambda: None).record
    assert receiver.correlation_id == "request 1/ü"
    assert receiver.context
    assert receiver.context.parent == {"run_id": sender, "lineage": []}
    assert lab.record(lambda: None).record.correlation_id != "request 1/ü"


def test_a_step_s_body_sends_the_headers_of_its_run(lab: Lab) -> None:
    @skill
    def sends() -> dict[str, str]:
        headers: dict[str, str] = {}
        inject_headers(headers)
        return headers

    headers = lab.record(sends, correlation_id="c").value
    parent = read_headers(headers)
    assert parent is not None
    assert parent.correlation_id == "c"


def test_outside_of_a_run_no_headers_are_added() -> None:
    headers: dict[str, str] = {}
    inject_headers(headers)
    assert headers == {}


def test_a_trace_id_alone_makes_a_correlation(lab: Lab) -> None:
    trace = uuid.uuid4().hex
    with extract_headers({"traceparent": f"00-{trace}-{'1' * 16}-01"}):
        record = lab.record(lambda: None).record
    assert record.correlation_id == trace
    assert record.context
    assert record.context.parent is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": "nonsense"},
        {"traceparent": "00-xyz-1-01", "baggage": "=,;;=,,"},
        {"baggage": "isotrace.correlation_id="},
        {"traceparent": None, "baggage": None},
    ],
)
def test_malformed_headers_name_nobody(headers: dict[str, Any]) -> None:
    assert read_headers(headers) is None


def test_a_correlation_id_that_no_run_could_have_is_not_taken_over(lab: Lab) -> None:
    with extract_headers({"baggage": "isotrace.correlation_id=%ED%A0%80,isotrace.parent_run_id=%00"}):
        assert lab.record(lambda: None).record.status == "completed"


def test_a_child_process_belongs_to_the_run_by_its_environment(lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        """
import os
from isotrace.record import extract_headers, run
with extract_headers(os.environ), run("child process", run_id="child"):
    pass
"""
    )
    store = tmp_path / "traces.db"

    @skill
    def spawn() -> int:
        environment = os.environ | {"ISOTRACE_STORE": str(store)}
        headers: dict[str, str] = {}
        inject_headers(headers)
        environment |= {name.upper(): value for name, value in headers.items()}
        return subprocess.run([sys.executable, str(script)], env=environment, check=False).returncode

    taken = lab.record(spawn, run_id="parent", correlation_id="request")
    assert taken.value == 0
    from isotrace.stores.sqlite import SqliteStore

    kept = SqliteStore(str(store))
    record = kept.ledger("child", tenant_id="default").record()
    kept.close()
    assert record.correlation_id == "request"
    assert record.context
    assert record.context.parent == {"run_id": "parent", "lineage": []}
