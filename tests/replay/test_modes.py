"""What is really executed in each mode, what is served, and what comes of it."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import isotrace
from isotrace.errors import UsageError
from isotrace.models import TraceRecord
from isotrace.operations import find_run, open_store
from isotrace.replay import Plan, Replay

world: dict[str, Any] = {}
executed: list[str] = []


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    world.clear()
    world.update(price=10, model="small", prompt="be brief", extra=False)
    executed.clear()


@isotrace.skill(kind="llm", effect="read", name="chat")
def chat(model: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    executed.append("chat")
    wants = "rome" if model == "large" else "oslo"
    return {"model": model, "tool": wants, "heard": messages[0]["content"]}


@isotrace.skill(effect="read")
def price(city: str) -> int:
    executed.append("price")
    return int(world["price"])


@isotrace.skill(effect="write")
def book(city: str, cents: int) -> str:
    executed.append("book")
    return f"{city} for {cents}"


@isotrace.agent("traveller")
def travel(task: str) -> str:
    messages = [{"role": "system", "content": world["prompt"]}, {"role": "user", "content": task}]
    city = chat(world["model"], messages)["tool"]
    cents = price(city)
    if cents > 20:
        return "too dear"
    return book(city, cents)


def last() -> TraceRecord:
    isotrace.flush()
    with closing(open_store()) as opened:
        return opened.ledger(find_run(opened, "@last", tenant_id="default"), tenant_id="default").record()


def stored(run_id: str) -> TraceRecord:
    isotrace.flush()
    with closing(open_store()) as opened:
        return opened.ledger(run_id, tenant_id="default").record()


def recorded() -> str:
    assert travel("go") == "oslo for 10"
    executed.clear()
    return "@last"


# --- tools-live ------------------------------------------------------------------------------


def test_tools_live_executes_what_only_reads() -> None:
    result = isotrace.replay(recorded(), mode="tools-live")
    assert (str(result.verdict), executed) == ("MATCH", ["price"])
    assert (result.receipt.served, result.receipt.executed, result.receipt.missed) == (2, 1, 0)
    assert result.value == "oslo for 10"


def test_tools_live_names_the_tool_that_answers_otherwise_now() -> None:
    recorded()
    world["price"] = 15
    result = isotrace.replay("@last", mode="tools-live")
    assert executed == ["price"]
    assert result.first is not None
    assert (result.first.code, result.first.index) == ("PARAMS_CHANGED", 2)
    assert result.cause is not None
    assert (result.cause.why, result.cause.step_index) == ("TOOL", 1)
    assert "step 1 (price) answered otherwise than on record" in result.notes


def test_tools_live_takes_another_turn_for_what_it_is() -> None:
    recorded()
    world["price"] = 99
    result = isotrace.replay("@last", mode="tools-live")
    assert [one.code for one in result.divergences if one.severity == "error"] == ["EARLY_END"]
    assert result.cause is not None
    assert result.cause.why == "TOOL"
    assert result.receipt.missed == 1


# --- model-live ------------------------------------------------------------------------------


def test_model_live_calls_the_model_and_serves_the_tools_to_the_same_requests() -> None:
    result = isotrace.replay(recorded(), mode="model-live", prompt="be kind")
    assert (str(result.verdict), executed) == ("MATCH", ["chat"])
    assert (result.receipt.served, result.receipt.executed) == (2, 1)
    assert result.new_run is not None
    assert result.new_run.steps[0].params["messages"][0] == {"role": "system", "content": "be kind"}
    assert result.new_run.steps[0].outcome_data is not None
    assert result.new_run.steps[0].outcome_data["heard"] == "be kind"


def test_model_live_stops_at_the_first_request_that_is_not_on_record() -> None:
    result = isotrace.replay(recorded(), mode="model-live", model="large")
    assert executed == ["chat"]
    assert result.first is not None
    assert (result.first.code, result.first.index) == ("EXTRA_STEP", 1)
    assert result.first.nearest is not None
    assert result.first.nearest["pointers"] == ["/city"]
    assert result.cause is not None
    assert result.cause.why == "MODEL"
    assert result.value is None


def test_model_live_keeps_the_new_run_only_when_asked() -> None:
    run_id = stored_id(recorded())
    isotrace.replay(run_id, mode="model-live")
    assert stored_id("@last") == run_id
    result = isotrace.replay(run_id, mode="model-live", keep=True)
    assert result.new_run is not None
    kept = stored(result.new_run.run_id)
    assert kept == result.new_run
    assert kept.metadata["replay_of"] == run_id
    assert kept.context is not None
    assert kept.context.origin_run_id == run_id
    assert str(isotrace.replay(kept.run_id).verdict) == "MATCH"


def stored_id(run: str) -> str:
    assert run == "@last"
    return last().run_id


# --- live -------------------------------------------------------------------------------------


def test_live_executes_what_the_list_allows_and_nothing_else() -> None:
    result = isotrace.replay(recorded(), mode="live", allow=["chat", "pr*"])
    assert executed == ["chat", "price"]
    assert result.first is not None
    assert (result.first.code, result.first.index) == ("EFFECT_BLOCKED", 2)
    executed.clear()
    result = isotrace.replay("@last", mode="live", allow=["*"])
    assert (str(result.verdict), executed) == ("MATCH", ["chat", "price", "book"])
    assert (result.receipt.served, result.receipt.executed) == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "live"},
        {"mode": "tools-live", "allow": ["*"]},
        {"mode": "strict", "model": "large"},
        {"mode": "tools-live", "prompt": "x"},
    ],
)
def test_options_that_do_not_go_together_are_refused(wrong: dict[str, Any]) -> None:
    recorded()
    with pytest.raises(UsageError):
        isotrace.replay("@last", **wrong)
    assert executed == []


# --- fork -------------------------------------------------------------------------------------


def test_fork_serves_what_came_before_and_executes_the_rest() -> None:
    run_id = stored_id(recorded())
    world["price"] = 12
    result = isotrace.fork(run_id, 1, allow=["*"])
    assert executed == ["price", "book"]
    assert result.value == "oslo for 12"
    assert (result.receipt.served, result.receipt.executed) == (1, 2)
    assert result.new_run is not None
    forked = stored(result.new_run.run_id)
    assert (forked.metadata["fork_of"], forked.metadata["fork_at"]) == (run_id, 1)
    assert forked.context is not None
    assert forked.context.parent == {"run_id": run_id, "lineage": [1]}
    assert result.first is not None
    assert (result.first.code, result.first.index) == ("PARAMS_CHANGED", 2)
    executed.clear()
    again = isotrace.replay(forked.run_id)
    assert (str(again.verdict), again.value, executed) == ("MATCH", "oslo for 12", [])


def test_fork_with_another_answer_shows_what_the_agent_makes_of_it() -> None:
    result = isotrace.fork(recorded(), 1, changes={"/outcome_data/value": 99}, allow=["*"])
    assert (result.value, executed) == ("too dear", [])
    assert result.new_run is not None
    assert [step.skill_name for step in result.new_run.steps] == ["chat", "price"]
    assert result.new_run.steps[1].outcome_data == {"value": 99}
    assert result.cause is not None
    assert (result.cause.why, result.cause.step_index) == ("TOOL", 1)


def test_fork_with_other_params_executes_the_step_with_them() -> None:
    result = isotrace.fork(recorded(), 2, changes={"/params/cents": 7}, allow=["book"])
    assert (result.value, executed) == ("oslo for 7", ["book"])
    assert result.new_run is not None
    assert result.new_run.steps[2].params == {"city": "oslo", "cents": 7}


def test_fork_in_mode_strict_tells_whether_the_agent_asks_the_same_after_another_answer() -> None:
    result = isotrace.fork(recorded(), 1, changes={"/outcome_data/value": 11}, mode="strict")
    assert (executed, result.stopped) == ([], True)
    assert result.first is not None
    assert (result.first.code, result.first.pointers) == ("PARAMS_CHANGED", ["/cents"])


def test_fork_stops_where_the_code_parts_before_it() -> None:
    recorded()
    world["prompt"] = "be long"
    result = isotrace.fork("@last", 2, allow=["*"])
    assert (result.stopped, executed) == (True, [])
    assert result.first is not None
    assert (result.first.code, result.first.index) == ("PARAMS_CHANGED", 0)


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        (3, {}),
        (1, {"/price": 1}),
        (1, {"/params/city/name": 1}),
        (1, {"/params/country": "no"}),
        (1, {"price": 1}),
    ],
)
def test_fork_that_leads_nowhere_is_refused(at: int, changes: dict[str, Any]) -> None:
    recorded()
    with pytest.raises((UsageError, isotrace.errors.FieldError)):
        isotrace.fork("@last", at, changes=changes, allow=["*"])
    assert executed == []


# --- what the code sees ------------------------------------------------------------------------


def test_prefix_has_the_recorded_times_ids_and_random_numbers() -> None:
    seen: list[Any] = []

    @isotrace.skill(effect="pure")
    def note(text: str) -> str:
        executed.append("note")
        return text

    def body() -> None:
        with isotrace.run("noter", seed=5) as run:
            for _ in range(4):
                note(f"{run.run_id} {run.now()} {run.random.random()} {run.read('roll', random.random)}")
            seen.append(run.uuid4())

    body()
    original = last()
    executed.clear()
    result = isotrace.fork(original.run_id, 2, body, allow=["*"])
    assert result.new_run is not None
    assert executed == ["note", "note"]
    before, after = (
        [step.params["text"].split() for step in run.steps] for run in (original, result.new_run)
    )
    assert before[:2] == after[:2]
    assert [text[:1] + text[3:4] for text in before] == [text[:1] + text[3:4] for text in after]
    assert before[3][1:3] != after[3][1:3]
    assert before[3][4] != after[3][4]
    assert seen[0] == seen[1]
    assert str(isotrace.replay(result.new_run.run_id, body).verdict) == "MATCH"


def test_failures_retries_and_streams_before_a_fork_are_as_recorded() -> None:
    class Odd(Exception):
        pass

    tries: list[int] = []

    @isotrace.skill(retries=2)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise TimeoutError("slow")
        return 5

    @isotrace.skill
    def odd() -> None:
        raise Odd("so it is")

    @isotrace.skill
    def letters() -> Iterator[str]:
        yield from "abc"

    @isotrace.skill(effect="read")
    def end() -> str:
        executed.append("end")
        return "end"

    def body() -> list[Any]:
        with isotrace.run("mixed"):
            got: list[Any] = [flaky()]
            try:
                odd()
            except Exception as error:  # that of the skill, or the recorded one
                got.append(str(error))
            stream: Any = letters()
            got.append([next(stream), next(stream)])
            stream.close()
            got.append(list(letters()))
            end()
            return got

    want = body()
    original = last()
    executed.clear()
    result = isotrace.fork(original.run_id, 4, body, allow=["*"])
    assert (result.value, executed, len(tries)) == (want, ["end"], 3)
    assert str(result.verdict) == "MATCH"
    assert result.new_run is not None
    assert isotrace.diff_traces(original, result.new_run, level="exact").divergences == []


# --- concurrency -------------------------------------------------------------------------------


def test_concurrent_steps_before_a_fork_come_in_their_recorded_order() -> None:
    @isotrace.skill(effect="read")
    async def wait(name: str, seconds: float) -> str:
        executed.append(name)
        await asyncio.sleep(seconds)
        return name

    @isotrace.skill
    async def letters(name: str) -> AsyncIterator[str]:
        for letter in name:
            await asyncio.sleep(0)
            yield letter

    async def body() -> list[str]:
        async with isotrace.run("crowd"):
            order: list[str] = []

            async def one(name: str, seconds: float) -> None:
                order.append(await wait(name, seconds))
                order.extend([letter async for letter in letters(name)])
                await wait(f"{name} after {','.join(order)}", 0.001)

            await asyncio.gather(one("slow", 0.05), one("quick", 0.01), one("mid", 0.03))
            lost = asyncio.create_task(wait("lost", 10))
            await asyncio.sleep(0.01)
            lost.cancel()
            await asyncio.wait([lost])
            await asyncio.wait_for(wait("late", 0.02), 5)
            return order

    want = asyncio.run(body())
    assert want[0] == "quick"
    original = last()
    executed.clear()
    late = next(step.step_index for step in original.steps if step.params.get("name") == "late")
    result = isotrace.fork(original.run_id, late, body, allow=["*"])
    assert (result.value, executed, str(result.verdict)) == (want, ["late"], "MATCH")
    live = isotrace.replay(original.run_id, body, mode="tools-live")
    assert (live.value, str(live.verdict)) == (want, "MATCH")
    assert "lost" not in executed[1:]
    assert live.receipt.executed == sum(
        step.skill_name == "wait" and step.params["name"] != "lost" for step in original.steps
    )


# --- never silently live ------------------------------------------------------------------------


def test_only_executed_steps_reach_outside() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    answered: list[int] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            answered.append(1)
            client.sendall(b"hello")
            client.close()

    threading.Thread(target=serve, daemon=True).start()
    leak = False

    def call() -> str:
        with socket.create_connection(("127.0.0.1", port), 2) as client:
            return client.recv(10).decode()

    fetch = isotrace.skill(effect="read")(call)

    def body() -> str:
        with isotrace.run("caller"):
            return fetch() + (call() if leak else "")

    try:
        assert body() == "hello"
        result = isotrace.replay("@last", body, mode="tools-live")
        assert result.divergences == []
        assert (str(result.verdict), result.receipt.blocked, len(answered)) == ("MATCH", 0, 2)
        leak = True
        result = isotrace.replay("@last", body, mode="tools-live")
        assert result.first is not None
        assert (result.first.code, result.receipt.blocked, len(answered)) == ("UNCONTROLLED_SOURCE", 1, 3)
    finally:
        listener.close()


def test_strict_replay_says_why_the_code_parted() -> None:
    recorded()
    world["prompt"] = "be long"
    result = isotrace.replay("@last")
    assert result.cause is not None
    assert (result.cause.why, result.cause.step_index) == ("PROMPT", 0)
    world["prompt"] = "be brief"
    world["model"] = "large"
    result = isotrace.replay("@last")
    assert result.cause is not None
    assert result.cause.why == "MODEL"


# --- what a record, or a plan, may not do ---------------------------------------------------------


def test_fork_that_follows_the_record_reads_what_the_record_has() -> None:
    @isotrace.skill(effect="read")
    def look(text: str) -> str:
        return text

    def body() -> None:
        with isotrace.run("reader") as run:
            for _ in range(3):
                look(run.read("dice", lambda: str(random.random())))

    body()
    for mode in ("strict", "tools-live"):
        result = isotrace.fork("@last", 1, body, mode=mode)
        assert (str(result.verdict), result.stopped) == ("MATCH", False)


def test_fork_replaces_an_outcome_that_is_no_object_by_either_name() -> None:
    for pointer in ("/outcome_data", "/outcome_data/value"):
        recorded()
        result = isotrace.fork("@last", 1, changes={pointer: 99}, allow=["*"])
        assert (result.value, result.error) == ("too dear", None)


def test_an_agent_that_is_executed_is_held_to_the_list_too() -> None:
    @isotrace.agent("inner")
    def inner() -> str:
        return book("oslo", price("oslo"))

    def body() -> str:
        with isotrace.run("outer"):
            return inner()

    body()
    run_id = stored_id("@last")
    executed.clear()
    result = isotrace.replay(run_id, body, mode="live", allow=["inner", "price"])
    assert executed == ["price"]
    assert result.first is not None
    assert result.first.code == "EFFECT_BLOCKED"
    assert isotrace.replay(run_id, body, mode="live", allow=["*"]).stopped is False


def test_fork_that_parts_before_it_began_leaves_no_run() -> None:
    run_id = stored_id(recorded())
    world["prompt"] = "be long"
    result = isotrace.fork(run_id, 2, allow=["*"])
    assert (result.stopped, result.kept) == (True, False)
    assert stored_id("@last") == run_id


def test_model_that_can_not_be_reached_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = stored_id(recorded())
    spec: Any = chat.__isotrace_skill__  # type: ignore[attr-defined]  # set by the decorator

    def down(model: str, messages: list[dict[str, str]]) -> dict[str, Any]:
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(spec, "function", down)
    result = isotrace.replay(run_id, mode="model-live")
    assert (str(result.verdict), result.cause) == ("INCONCLUSIVE", None)
    assert "step 0 (chat) could not be made: ConnectionRefusedError" in result.notes[0]


def test_record_of_http_calls_alone_is_replayed_strictly_only() -> None:
    recorded()
    isotrace.flush()
    with closing(open_store()) as opened:
        ledger = opened.ledger(find_run(opened, "@last", tenant_id="default"), tenant_id="default")
    ledger.events[0].facts["edges"] = ["http"]
    for plan in (Plan(mode="tools-live"), Plan(fork_at=1)):
        with pytest.raises(UsageError, match="strictly"):
            Replay(ledger, plan)
