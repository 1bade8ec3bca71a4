"""Where a replay stops and what it says: each code that a replay can show, at its place."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.compare.divergence import Divergence
from isotrace.errors import ReplayError
from isotrace.events import Event
from isotrace.ledger import Ledger, erase
from isotrace.record import ThreadPool, branch, current_run, flush, run, skill
from isotrace.replay import Replay, ReplayResult

if TYPE_CHECKING:
    from tests.record.lab import Lab, Taken

executed: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_executed() -> None:
    executed.clear()


@skill(effect="read")
def search(query: str, limit: int = 10) -> dict[str, Any]:
    executed.append(("search", query))
    return {"hits": [query.upper()]}


@skill(effect="write")
def refund(order: str, cents: int) -> str:
    executed.append(("refund", order))
    return "refunded"


@skill(kind="llm")
def chat(messages: list[Any]) -> str:
    executed.append(("chat", messages))
    return "hello"


@skill(name="search", kind="llm", effect="read")
def searching_model(query: str) -> dict[str, Any]:
    executed.append(("model", query))
    return {"hits": []}


@skill(effect="read")
async def fetch(what: Any, ms: float = 1) -> Any:
    executed.append(what)
    await asyncio.sleep(ms / 1000)
    return what


def three() -> None:
    chat([{"role": "user", "content": "hi"}])
    search("shoes")
    refund("W-1", 500)


def only(result: ReplayResult) -> Divergence:
    """The one divergence of a replay."""
    assert result.verdict == "DIVERGED"
    [divergence] = result.divergences
    assert result.first is divergence
    if result.parity.original_signature == result.parity.replay_signature:
        assert result.parity.is_parity, "what differs is no part of the path"
        return divergence
    assert not result.parity.is_parity
    assert (result.parity.divergence_step, result.parity.divergence_reason) == (
        divergence.index,
        divergence.reason,
    )
    return divergence


def parted(lab: Lab, taken: Taken, function: Callable[..., Any], **options: Any) -> Divergence:
    before = len(executed)
    found = only(lab.replay(taken, function, **options))
    assert len(executed) == before, "a replay executes nothing"
    return found


def place(one: Divergence) -> tuple[Any, ...]:
    return (str(one.code), one.index, one.lineage, one.pointers)


# --- control flow ---------------------------------------------------------------------------------


def test_other_params_are_named_by_pointer(lab: Lab) -> None:
    taken = lab.record(three)

    def changed() -> None:
        chat([{"role": "user", "content": "hello"}])
        search("boots")

    one = parted(lab, taken, changed)
    assert place(one) == ("PARAMS_CHANGED", 0, (0,), ["/messages/0/content"])
    assert (one.expected, one.actual) == (
        {"/messages/0/content": "hi"},
        {"/messages/0/content": "hello"},
    )
    assert one.message == 'params differ at /messages/0/content ("hi" → "hello")'


def test_an_argument_more_or_less_is_a_params_change(lab: Lab) -> None:
    taken = lab.record(lambda: search("shoes", 5))
    one = parted(lab, taken, lambda: search("shoes"))
    assert (place(one), one.expected, one.actual) == (
        ("PARAMS_CHANGED", 0, (0,), ["/limit"]),
        {"/limit": 5},
        {},
    )


def test_an_argument_equal_to_its_default_is_no_change(lab: Lab) -> None:
    taken = lab.record(lambda: search("shoes"))
    assert lab.replay(taken, lambda: search("shoes", limit=10)).verdict == "MATCH"


def test_numbers_that_are_equal_after_rounding_are_no_change(lab: Lab) -> None:
    taken = lab.record(lambda: search("x", 1))
    assert lab.replay(taken, lambda: search("x", 1.0)).verdict == "MATCH"  # type: ignore[arg-type]
    assert lab.replay(taken, lambda: search("x", 1.0000001)).verdict == "MATCH"  # type: ignore[arg-type]
    assert parted(lab, taken, lambda: search("x", 1.1)).code == "PARAMS_CHANGED"  # type: ignore[arg-type]


def test_another_skill_at_the_place(lab: Lab) -> None:
    taken = lab.record(three)

    def changed() -> None:
        chat([{"role": "user", "content": "hi"}])
        refund("W-9", 1)

    one = parted(lab, taken, changed)
    assert place(one) == ("SKILL_CHANGED", 1, (1,), [])
    assert (one.expected, one.actual) == ("search", "refund")
    assert one.nearest == {
        "step_index": 2,
        "skill_name": "refund",
        "lineage": [2],
        "params": {"order": "W-1", "cents": 500},
        "pointers": ["/order", "/cents"],
    }


def test_a_step_that_comes_too_early_is_reordered(lab: Lab) -> None:
    taken = lab.record(three)

    def changed() -> None:
        chat([{"role": "user", "content": "hi"}])
        refund("W-1", 500)
        search("shoes")

    one = parted(lab, taken, changed)
    assert place(one) == ("REORDERED", 1, (1,), [])
    assert (one.expected, one.actual, one.original_index, one.replay_index) == ("search", "refund", 2, 1)


def test_calls_of_one_skill_in_another_order_are_reordered(lab: Lab) -> None:
    order = ["a", "b", "c", "d"]

    def agent() -> None:
        for name in order:
            search(name)

    taken = lab.record(agent)
    order = ["a", "c", "b", "d"]
    one = parted(lab, taken, agent)
    assert place(one) == ("REORDERED", 1, (1,), [])
    assert (one.original_index, one.replay_index) == (2, 1)
    order = ["b", "c", "d", "a"]
    one = parted(lab, taken, agent)
    assert place(one) == ("REORDERED", 0, (0,), []), "several came before it"
    assert one.message == "search comes here; on record it is step 1, here is search"


def test_a_step_that_is_left_out_is_missing_whatever_follows_it(lab: Lab) -> None:
    names = ["a", "b", "c", "d"]

    async def agent() -> None:
        for name in names:
            await fetch(name)
        search("last")

    taken = lab.record(agent)
    for left, index, served in (
        (["b", "c", "d"], 0, 4),
        (["a", "d"], 1, 3),
        (["a", "b", "c"], 3, 4),
        (["a", "c", "x"], 1, 2),
    ):
        names = left
        result = lab.replay(taken, agent)
        one = only(result)
        assert place(one) == ("MISSING_STEP", index, (index,), [])
        assert one.expected == {"skill_name": "fetch", "params": {"what": "abcd"[index]}}
        assert (result.receipt.served, result.receipt.executed) == (served, 0)


def test_a_call_that_asks_what_a_later_one_asks_is_another_where_the_rest_stays_in_place(lab: Lab) -> None:
    names = ["a", "b", "c", "d"]

    async def agent() -> None:
        for name in names:
            await fetch(name)

    taken = lab.record(agent)
    for asked, index in ((["b", "b", "c", "d"], 0), (["a", "c", "c", "d"], 1)):
        names = asked
        one = only(lab.replay(taken, agent))
        assert place(one) == ("PARAMS_CHANGED", index, (index,), ["/what"])
        assert asked[index] in str(one.actual)


def test_more_or_fewer_tasks_before_a_step_do_not_hide_what_changed_in_it(lab: Lab) -> None:
    tasks, asked = 3, "shoes"

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def agent() -> None:
        await asyncio.gather(*(nothing() for _ in range(tasks)))
        search(asked)
        search("last")

    taken = lab.record(agent)
    for tasks in (1, 5):
        asked = "boots"
        assert place(parted(lab, taken, agent)) == ("PARAMS_CHANGED", 0, (3,), ["/query"])
        asked = "shoes"
        one = parted(lab, taken, agent)
        assert (one.code, one.index) == ("EXTRA_STEP", 0)
        assert one.message == (
            f"search comes as {tasks}, on record it is 3: other tasks or branches are opened before it"
        )


def test_threads_that_start_in_another_order_do_not_hide_what_changed_behind_them(lab: Lab) -> None:
    slow, asked = "a", "last"

    def job(name: str) -> None:
        time.sleep(0.05 if name == slow else 0)
        search(name)

    def agent() -> None:
        search("first")
        with ThreadPoolExecutor(2) as pool:
            for one in [pool.submit(copy_context().run, job, name) for name in "ab"]:
                one.result()
        search(asked)

    taken = lab.record(agent)
    slow, asked = "b", "other"
    assert place(parted(lab, taken, agent)) == ("PARAMS_CHANGED", 3, (1,), ["/query"])


def test_a_step_of_another_kind(lab: Lab) -> None:
    taken = lab.record(lambda: search("shoes"))
    one = parted(lab, taken, lambda: searching_model("shoes"))
    assert place(one) == ("KIND_CHANGED", 0, (0,), [])
    assert (one.expected, one.actual) == ("tool", "llm")


def test_a_run_that_goes_on_where_the_record_ended(lab: Lab) -> None:
    taken = lab.record(three)

    def more() -> None:
        three()
        search("more")

    one = parted(lab, taken, more)
    assert place(one) == ("LATE_END", 3, (3,), [])
    assert (one.expected, one.actual, one.original_index, one.replay_index) == (3, 4, None, 3)


def test_a_run_that_ends_before_the_record_does(lab: Lab) -> None:
    taken = lab.record(three)
    one = parted(lab, taken, lambda: chat([{"role": "user", "content": "hi"}]))
    assert place(one) == ("EARLY_END", 1, (1,), [])
    assert (one.expected, one.actual, one.replay_index) == (3, 1, None)
    assert "search" in one.message
    assert "refund" in one.message


def test_a_step_that_is_not_on_record_while_others_are_left(lab: Lab) -> None:
    longer = False

    async def part(name: str) -> None:
        await fetch(f"{name}1")
        if longer and name == "a":
            await fetch(f"{name}2")

    async def agent() -> None:
        await asyncio.gather(part("a"), part("b"))
        await fetch("last")

    taken = lab.record(agent)
    longer = True
    one = parted(lab, taken, agent)
    assert place(one) == ("EXTRA_STEP", 1, (0, 1), [])
    assert one.actual == {"skill_name": "fetch", "params": {"what": "a2"}}
    assert one.nearest is not None
    assert one.nearest["params"] in ({"what": "b1"}, {"what": "last"})


def test_a_step_that_a_branch_never_asks_for(lab: Lab) -> None:
    steps = 2

    async def part(name: str) -> None:
        for number in range(steps if name == "a" else 2):
            await fetch(f"{name}{number}")

    async def agent() -> None:
        await asyncio.gather(part("a"), part("b"))

    taken = lab.record(agent)
    steps = 1
    one = parted(lab, taken, agent)
    assert one.code in ("MISSING_STEP", "REPLAY_STALLED")

    def apart() -> None:
        with ThreadPool(1) as pool:
            pool.submit(lambda: [search(f"a{number}") for number in range(steps)]).result()
        search("last")

    steps = 2
    taken = lab.record(apart)
    steps = 1
    one = parted(lab, taken, apart, stall_after_s=0.2)
    assert (one.index, one.lineage) == (1, (0, 1))
    assert one.code in ("MISSING_STEP", "REPLAY_STALLED")


def test_a_missing_step_inside_a_branch_is_seen_at_the_end(lab: Lab) -> None:
    steps = 2

    def agent() -> None:
        with branch("a"):
            for number in range(steps):
                search(f"a{number}")
        with branch("b"):
            search("b")

    taken = lab.record(agent)
    steps = 1
    one = parted(lab, taken, agent)
    assert place(one) == ("MISSING_STEP", 1, (0, "a", 1), [])
    assert one.expected == {"skill_name": "search", "params": {"query": "a1"}}
    assert (one.original_index, one.replay_index) == (1, None)


def test_what_only_another_interleaving_explains_is_the_schedule(lab: Lab) -> None:
    shared: list[str] = []
    order = ["a", "b"]

    def part(name: str) -> None:
        shared.append(name)
        search(f"{name} sees {shared}")

    def keyed() -> None:
        shared.clear()
        for name in order:
            with branch(name):
                part(name)

    taken = lab.record(keyed)
    order.reverse()
    one = parted(lab, taken, keyed)
    assert place(one) == ("SCHEDULE_CHANGED", 1, (0, "b", 0), [])
    assert one.severity == "error"


def test_a_turn_that_never_comes_names_what_waits(lab: Lab) -> None:
    asks = True

    async def first() -> None:
        if asks:
            await fetch("a", 1)
        await asyncio.Event().wait() if not asks else None

    async def agent() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(first())
            group.create_task(second())

    async def second() -> None:
        await fetch("b", 10)
        await fetch("c", 1)

    taken = lab.record(agent)
    asks = False
    one = parted(lab, taken, agent)
    assert place(one) == ("REPLAY_STALLED", 0, (0, 0), [])
    assert (one.expected, one.actual) == ("fetch", ["1.0"])
    assert "waiting: 1.0" in one.message


# --- outcomes -------------------------------------------------------------------------------------


def results(lab: Lab, before: Any, after: Any) -> ReplayResult:
    said = before

    def agent() -> None:
        search("x")
        me = current_run()
        assert me is not None
        if said is not None:
            me.set_result(said)

    taken = lab.record(agent)
    said = after
    return lab.replay(taken, agent)


def test_another_result_of_the_run(lab: Lab) -> None:
    result = results(lab, {"total": 5, "of": ["a"]}, {"total": 6, "of": ["a"]})
    assert result.verdict == "DIVERGED"
    [one] = result.divergences
    assert place(one) == ("FINAL_RESULT_CHANGED", 1, (), ["/result/total"])
    assert (one.expected, one.actual) == ({"/result/total": 5}, {"/result/total": 6})
    assert result.parity.is_parity, "the path is the same"


def test_a_result_that_is_missing_or_new(lab: Lab) -> None:
    [missing] = results(lab, "x", None).divergences
    [new] = results(lab, None, "x").divergences
    assert (missing.code, missing.expected, missing.actual) == ("FINAL_RESULT_CHANGED", {"/result": "x"}, {})
    assert (new.code, new.expected, new.actual) == ("FINAL_RESULT_CHANGED", {}, {"/result": "x"})


def test_a_run_that_fails_where_it_succeeded_and_the_other_way_round(lab: Lab) -> None:
    fails = False

    def agent() -> None:
        search("x")
        if fails:
            raise ValueError("at the end")

    taken = lab.record(agent)
    fails = True
    result = lab.replay(taken, agent)
    [one] = result.divergences
    assert place(one) == ("STATUS_CHANGED", 1, (), [])
    assert (one.expected, one.actual) == ("completed", "failed")
    assert "ValueError: at the end" in one.message
    assert isinstance(result.error, ValueError)

    taken = lab.record(agent)
    fails = False
    [one] = lab.replay(taken, agent).divergences
    assert (one.code, one.expected, one.actual) == ("STATUS_CHANGED", "failed", "completed")


def test_a_run_that_fails_otherwise(lab: Lab) -> None:
    error: Exception = ValueError("x")

    def agent() -> None:
        search("x")
        raise error

    taken = lab.record(agent)
    error = ValueError("another text is no divergence")
    assert lab.replay(taken, agent).verdict == "MATCH"
    error = KeyError("x")
    [one] = lab.replay(taken, agent).divergences
    assert place(one) == ("ERROR_CHANGED", 1, (), ["/error/type"])
    assert (one.expected, one.actual) == ({"/error/type": "ValueError"}, {"/error/type": "KeyError"})


# --- the record and the environment ---------------------------------------------------------------


def killed(tmp_path: Path, body: str) -> Ledger:
    """The ledger of a run whose process killed itself inside a step."""
    script = tmp_path / "killed.py"
    script.write_text(
        f"""
import asyncio, os, signal, sys
from isotrace.record import run, skill
@skill(effect="read")
def search(query): return {{"hits": [query.upper()]}}
@skill
def refund(order, cents): os.kill(os.getpid(), signal.SIGKILL)
@skill(effect="read")
async def fetch(what, ms=1):
    if what == "dies":
        await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    return what
async def agent():
    {body}
async def main():
    async with run("lab", run_id="killed"):
        await agent()
asyncio.run(main())
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"ISOTRACE_STORE": str(tmp_path / "traces.db")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    from isotrace.operations import open_store

    store = open_store(str(tmp_path / "traces.db"))
    try:
        return store.ledger("killed", tenant_id="default")
    finally:
        store.close()


def test_a_step_that_never_completed_is_not_executed_again(lab: Lab, tmp_path: Path) -> None:
    ledger = killed(tmp_path, 'search("x"); refund("W-1", 500); search("y")')

    def agent() -> None:
        search("x")
        refund("W-1", 500)
        search("y")

    result = lab.replay(ledger, agent)
    assert result.verdict == "INCONCLUSIVE"
    [one] = result.divergences
    assert place(one) == ("INDETERMINATE_STEP", 1, (1,), [])
    assert executed == []
    assert (result.receipt.served, result.receipt.executed) == (2, 0)


def test_what_else_completed_is_served_before_an_unfinished_step_is_reported(
    lab: Lab, tmp_path: Path
) -> None:
    ledger = killed(tmp_path, 'await asyncio.gather(fetch("dies"), fetch("b"))')

    async def agent() -> None:
        await asyncio.gather(fetch("dies"), fetch("b"))

    result = lab.replay(ledger, agent)
    assert result.verdict == "INCONCLUSIVE"
    [one] = result.divergences
    assert place(one) == ("INDETERMINATE_STEP", 0, (0, 0), [])
    assert result.receipt.served == 2


def test_a_record_that_was_cut_off_is_no_divergence_of_the_code(lab: Lab, tmp_path: Path) -> None:
    ledger = killed(tmp_path, 'search("x"); os.kill(os.getpid(), signal.SIGKILL)')

    def shorter() -> None:
        search("x")

    def longer() -> None:
        search("x")
        search("y")

    for function in (shorter, longer):
        result = lab.replay(ledger, function)
        assert result.verdict == "INCONCLUSIVE"
        assert [str(one.code) for one in result.divergences] == ["RECORD_GAP"]
        assert "cut off" in result.divergences[0].message


def erased(taken: Taken, *names: str) -> Ledger:
    targets = {
        (event.seq, name)
        for event in taken.events
        for name in event.values
        if f"{event.type}.{name}" in names
    }
    assert targets
    return erase(taken.ledger, targets)


@pytest.mark.parametrize(
    ("name", "index", "pointers"),
    [
        ("step_started.params", 0, []),
        ("step_finished.outcome_data", 0, ["/outcome_data"]),
        ("run_finished.result", 1, ["/result"]),
        ("run_started.input", None, ["/input"]),
    ],
)
def test_erased_content_is_a_gap(lab: Lab, name: str, index: int | None, pointers: list[str]) -> None:
    def agent() -> None:
        search("x")
        me = current_run()
        assert me is not None
        me.set_result("r")

    taken = lab.record(agent, input="secret")
    result = lab.replay(erased(taken, name), agent, input="secret")
    assert result.verdict == "INCONCLUSIVE"
    [one] = result.divergences
    assert (one.code, one.index, one.pointers) == ("RECORD_GAP", index, pointers)
    assert executed == [("search", "x")]


def test_erased_chunks_reads_and_errors(lab: Lab) -> None:
    @skill
    def stream():
        yield "a"

    @skill
    def fails() -> None:
        raise ValueError("secret")

    def streams() -> None:
        list(stream())

    def reads() -> None:
        me = current_run()
        assert me is not None
        me.read("env", lambda: "secret")

    for agent, name in ((streams, "step_chunk.chunk"), (reads, "value_read.value")):
        taken = lab.record(agent)
        result = lab.replay(erased(taken, name), agent)
        assert [str(one.code) for one in result.divergences] == ["RECORD_GAP"]
    taken = lab.record(fails)
    result = lab.replay(erased(taken, "step_finished.error", "run_finished.error"), fails)
    assert type(result.error) is ValueError
    assert str(result.error) == ""


def test_an_outcome_that_was_kept_by_its_type_s_name_is_a_gap(lab: Lab) -> None:
    @skill
    def connect() -> Any:
        return object()

    taken = lab.record(connect)
    assert taken.grade == ["outcome of connect: object at the top: builtins.object"]
    result = lab.replay(taken, connect)
    assert result.verdict == "INCONCLUSIVE"
    assert [(str(one.code), one.index) for one in result.divergences] == [("RECORD_GAP", 0)]
    assert "recorded: outcome of connect: object at the top: builtins.object" in result.notes


def test_params_that_can_t_be_compared_are_inconclusive(lab: Lab) -> None:
    @skill
    def use(what: Any) -> str:
        return "used"

    taken = lab.record(lambda: use(object()))
    result = lab.replay(taken, lambda: use(object()))
    assert (result.verdict, result.divergences) == ("INCONCLUSIVE", [])
    assert result.notes[0] == "use (step 0) was given an object that can't be compared"


def test_another_input_is_seen_before_all_else(lab: Lab) -> None:
    taken = lab.record(three, input={"task": "a", "n": 1}, plan=[{"do": "x"}])
    result = lab.replay(taken, three, input={"task": "b", "n": 1}, plan=[{"do": "y"}])
    assert result.verdict == "DIVERGED"
    [one] = result.divergences
    assert place(one) == ("INPUT_CHANGED", None, (), ["/input/task", "/plan/0/do"])
    assert result.receipt.served == 3


def test_an_environment_that_differs_is_a_warning(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    taken = lab.record(three)
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    result = lab.replay(taken, three)
    assert result.verdict == "MATCH"
    [one] = result.divergences
    assert place(one) == ("RUNTIME_MISMATCH", None, (), ["/hash_seed"])
    assert (one.severity, result.parity.is_parity) == ("warning", True)


def test_reading_another_source_than_recorded(lab: Lab) -> None:
    source = "env:A"

    def agent() -> None:
        me = current_run()
        assert me is not None
        me.read(source, lambda: "x")

    taken = lab.record(agent)
    source = "env:B"
    one = parted(lab, taken, agent)
    assert place(one) == ("UNCONTROLLED_SOURCE", None, (), [])
    assert "'env:B'" in one.message
    assert "'env:A'" in one.message


# --- a replay can't be survived -------------------------------------------------------------------


def test_an_agent_that_survives_every_error_does_not_survive_a_divergence_unnoticed(lab: Lab) -> None:
    query = "a"
    survived: list[str] = []

    def careful() -> str:
        for _ in range(3):
            try:
                search(query)
            except Exception:
                survived.append("an exception")
        return "fine"

    def reckless() -> str:
        for _ in range(3):
            try:
                search(query)
            except:  # noqa: E722
                survived.append("anything")
        return "fine"

    for agent in (careful, reckless):
        query = "a"
        taken = lab.record(agent)
        query = "b"
        one = parted(lab, taken, agent)
        assert place(one) == ("PARAMS_CHANGED", 0, (0,), ["/query"])
    assert survived == ["anything"] * 3


def test_an_async_agent_that_collects_errors_does_not_survive_a_divergence_unnoticed(lab: Lab) -> None:
    suffix = ""

    async def agent() -> Any:
        got = await asyncio.gather(*(fetch(f"{name}{suffix}") for name in "abc"), return_exceptions=True)
        return len(got)

    taken = lab.record(agent)
    suffix = "!"
    one = parted(lab, taken, agent)
    assert place(one) == ("PARAMS_CHANGED", 0, (0, 0), ["/what"])


def test_a_replay_ends_although_others_wait_for_the_step_that_parted(lab: Lab) -> None:
    item = "a"

    async def agent() -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        got: asyncio.Queue[Any] = asyncio.Queue()

        async def worker() -> None:
            while True:
                await got.put(await fetch(await queue.get()))

        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()

        workers = [asyncio.create_task(worker()), asyncio.create_task(stubborn())]
        queue.put_nowait(item)
        answer = await got.get()
        for one in workers * 2:
            one.cancel()
            await asyncio.sleep(0)
        return answer

    taken = lab.record(agent)
    item = "b"
    result = lab.replay(taken, agent)
    assert place(only(result)) == ("PARAMS_CHANGED", 0, (0, 0), ["/what"])


def test_an_outer_task_goes_on_after_a_replay_that_had_to_end_its_code(lab: Lab) -> None:
    item = "a"

    async def body() -> None:
        async with run("lab", store=lab.store):
            task = asyncio.create_task(fetch(item))
            done = asyncio.Event()
            task.add_done_callback(lambda ended: done.set() if not ended.exception() else None)
            await done.wait()

    asyncio.run(body())
    assert flush(60)
    run_id = lab.store.resolve("@last", tenant_id="default")
    ledger = lab.ledger(run_id)

    async def server() -> Any:
        result = await Replay(ledger, stall_after_s=0.3).arun(body)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        return result

    item = "b"
    assert place(only(asyncio.run(server()))) == ("PARAMS_CHANGED", 0, (0, 0), ["/what"])


def test_a_second_run_inside_a_replay_is_refused_whatever_the_agent_catches(lab: Lab) -> None:
    nested = False

    def agent() -> str:
        search("x")
        if nested:
            try:
                with run("another", store=lab.store):
                    refund("W-1", 1)
            except Exception:
                return "survived"
        return "ok"

    taken = lab.record(agent)
    nested = True
    with pytest.raises(ReplayError, match="second run"):
        lab.replay(taken, agent)
    assert executed == [("search", "x")]


def test_a_second_run_after_the_replayed_one_is_refused(lab: Lab) -> None:
    taken = lab.record(lambda: search("x"))

    def twice() -> None:
        for _ in range(2):
            with run("lab", store=lab.store):
                search("x")

    with pytest.raises(ReplayError, match="second run"):
        Replay(taken.ledger).run(twice)
    assert executed == [("search", "x")]


def test_a_write_outside_of_the_run_is_not_executed_in_a_replay(lab: Lab) -> None:
    def program(store: Any) -> None:
        with run("lab", store=store):
            search("x")
        refund("W-1", 500)

    taken = lab.record(lambda: search("x"))
    result = Replay(taken.ledger).run(lambda: program(lab.store))
    assert [str(one.code) for one in result.divergences] == ["EFFECT_BLOCKED"]
    assert result.verdict == "DIVERGED"
    assert executed == [("search", "x")]


def test_a_read_outside_of_the_run_is_a_plain_call_in_a_replay_too(lab: Lab) -> None:
    taken = lab.record(lambda: search("x"))

    def program() -> None:
        search("before")
        with run("lab", store=lab.store):
            search("x")

    assert Replay(taken.ledger).run(program).verdict == "MATCH"
    assert executed == [("search", "x"), ("search", "before")]


def test_a_function_that_opens_no_run_replays_nothing(lab: Lab) -> None:
    taken = lab.record(three)
    with pytest.raises(ReplayError, match="opened no run"):
        Replay(taken.ledger).run(lambda: None)


def test_an_error_before_the_run_is_the_caller_s(lab: Lab) -> None:
    taken = lab.record(three)

    def broken() -> None:
        raise LookupError("no agent here")

    with pytest.raises(LookupError):
        Replay(taken.ledger).run(broken)


def test_the_receipt_counts(lab: Lab) -> None:
    taken = lab.record(three)
    matched = lab.replay(taken, three).receipt
    assert matched.to_dict() == {"served": 3, "executed": 0, "missed": 0, "blocked": 0, "guard": "patched"}
    early = lab.replay(taken, lambda: chat([{"role": "user", "content": "hi"}])).receipt
    assert (early.served, early.missed) == (1, 2)


def test_signatures_of_both_sides_stand_in_the_parity(lab: Lab) -> None:
    taken = lab.record(three)
    signature = taken.record.determinism_signature()
    assert lab.replay(taken, three).parity.to_dict() == {
        "is_parity": True,
        "original_signature": signature,
        "replay_signature": signature,
        "divergence_step": None,
        "divergence_reason": None,
    }

    def changed() -> None:
        chat([{"role": "user", "content": "hi"}])
        search("boots")

    parity = lab.replay(taken, changed).parity
    assert parity.original_signature == signature
    assert parity.replay_signature == lab.record(changed).record.determinism_signature()


# --- records that contradict themselves -----------------------------------------------------------


def broken(taken: Taken, change: Callable[[list[Event]], None]) -> Ledger:
    events = [Event(e.seq, e.type, e.time_us, dict(e.facts), dict(e.values)) for e in taken.events]
    change(events)
    return Ledger(events, "")


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events.pop(1),
        lambda events: events.insert(2, events[1]),
        lambda events: events.insert(3, events[2]),
        lambda events: events[2].facts.update(lineage=[7]),
        lambda events: setattr(events[1], "type", "step_imagined"),
        lambda events: events.pop(0),
    ],
)
def test_events_that_make_no_run_are_refused(lab: Lab, change: Any) -> None:
    from isotrace.errors import RecordError

    taken = lab.record(lambda: search("x"))
    with pytest.raises(RecordError):
        Replay(broken(taken, change))


def test_a_success_without_an_outcome_is_a_gap(lab: Lab) -> None:
    taken = lab.record(lambda: search("x"))
    result = lab.replay(broken(taken, lambda events: events[2].values.clear()), lambda: search("x"))
    assert [(str(one.code), one.index) for one in result.divergences] == [("RECORD_GAP", 0)]
