"""Concurrent agents: each way that asyncio has to run and to wait is recorded, and replays."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from asyncio import as_completed, sleep, timeout, wait_for  # by name: they are replaced all the same
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from isotrace.record import flush, run, skill

if TYPE_CHECKING:
    from tests.record.lab import Lab

calls: list[Any] = []


@skill(effect="read")
async def fetch(what: Any, ms: float = 1) -> Any:
    calls.append(what)
    await asyncio.sleep(ms / 1000)
    return what


@skill(effect="read")
async def fail(what: Any, ms: float = 1) -> None:
    await asyncio.sleep(ms / 1000)
    raise ValueError(what)


@skill(effect="read")
async def endless(what: Any) -> None:
    await asyncio.Event().wait()


@skill(effect="read")
async def stubborn(what: Any) -> str:
    """Survives being cancelled once."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        await asyncio.sleep(0.002)
    return f"{what} all the same"


@skill(effect="read")
def look(what: Any) -> Any:
    return what


Agent = Callable[[], Coroutine[Any, Any, Any]]


async def gathers() -> Any:
    log: list[Any] = []

    async def part(name: str, ms: float) -> str:
        log.append(await fetch([name, len(log)], ms))
        log.append(await fetch([name, len(log)], ms))
        return name

    return [await asyncio.gather(part("a", 3), part("b", 1), part("c", 2)), log]


async def gathers_with_failures() -> Any:
    got = await asyncio.gather(fetch("a"), fail("b"), fetch("c"), return_exceptions=True)
    return [str(one) for one in got]


async def group_that_fails() -> Any:
    log: list[Any] = []

    async def part(name: str) -> None:
        try:
            await endless(name)
        except asyncio.CancelledError:
            log.append(f"{name} cancelled")
            await fetch(f"{name} cleans up")
            raise

    try:
        async with asyncio.TaskGroup() as group:
            for name in "abcdefgh":
                group.create_task(part(name))
            group.create_task(fail("stop", 2))
    except* ValueError as errors:
        log.append([str(one) for one in errors.exceptions])
    return log


async def group_in_group() -> Any:
    log: list[Any] = []

    async def part(name: str, depth: int) -> None:
        log.append(await fetch([name, len(log)]))
        if depth:
            async with asyncio.TaskGroup() as group:
                for child in "xy":
                    group.create_task(part(name + child, depth - 1))

    async with asyncio.TaskGroup() as group:
        for name in "ab":
            group.create_task(part(name, 2))
    return log


async def completes_in_any_order() -> Any:
    log: list[Any] = []
    for done in as_completed([fetch(number, 5 - number) for number in range(5)]):
        log.append(await fetch([await done, len(log)]))
    return log


async def completes_in_time_or_not() -> Any:
    log: list[Any] = []
    try:
        for done in asyncio.as_completed([fetch("a"), endless("b"), fetch("c")], timeout=0.03):
            log.append(await done)  # noqa: PERF401  # until one is late
    except TimeoutError:
        log.append("late")
    return log


async def waits_for_the_first() -> Any:
    log: list[Any] = []
    added = False
    pending = {asyncio.create_task(fetch(number, number)) for number in range(5)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            log.append(await fetch(["then", task.result(), len(log)]))
        if len(log) >= 2 and not added:
            added = True
            pending |= {asyncio.create_task(fetch("late", 1))}
    return log


async def waits_for_an_exception() -> Any:
    tasks = [asyncio.create_task(one) for one in (fetch("a", 1), fail("b", 3), endless("c"))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    return [tasks.index(task) for task in done], [tasks.index(task) for task in pending]


async def waits_with_a_timeout() -> Any:
    tasks = {asyncio.create_task(endless(number)) for number in range(4)} | {asyncio.create_task(fetch("x"))}
    done, pending = await asyncio.wait(tasks, timeout=0.02)
    log = [task.result() for task in done]
    for task in pending:
        task.cancel()
        log.append(await fetch(["cancelled", len(log)]))
    return log


async def waits_for_one() -> Any:
    log: list[Any] = [await wait_for(fetch("in time"), 5)]
    try:
        await wait_for(endless("late"), 0.01)
    except TimeoutError:
        log.append("late")
    task = asyncio.create_task(fetch("a task"))
    log.append(await asyncio.wait_for(task, timeout=5))
    log.append(await asyncio.wait_for(fetch("for ever"), None))
    try:
        await wait_for(fetch("at once"), 0)
    except TimeoutError:
        log.append("at once")
    return log


async def has_time_outs() -> Any:
    log: list[Any] = []
    async with timeout(5):
        log.append(await fetch("in time"))
    try:
        async with asyncio.timeout(0.01) as scope:
            await endless("late")
    except TimeoutError:
        log.append(["late", scope.expired()])
    async with asyncio.timeout(None) as scope:
        scope.reschedule(asyncio.get_running_loop().time() + 5)
        log.append(await fetch("rescheduled"))
        scope.reschedule(None)
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 0.01):
            await endless("by a moment")
    except TimeoutError:
        log.append("by a moment")
    try:
        async with asyncio.timeout(5), asyncio.timeout(0.005):
            await endless("two at once")
    except TimeoutError:
        log.append("the inner one")
    return log


async def cancels() -> Any:
    log: list[Any] = []
    task = asyncio.create_task(endless("a"))
    await fetch("meanwhile")
    task.cancel("enough")
    try:
        await task
    except asyncio.CancelledError as error:
        log.append(["cancelled", *error.args])
    log.append(await fetch("after"))
    return log


async def cancels_what_survives_it() -> Any:
    task = asyncio.create_task(stubborn("a"))
    await fetch("meanwhile")
    task.cancel()
    log = [await fetch("after"), await task, task.cancelling()]
    try:
        async with asyncio.timeout(0.01):
            log.append(await stubborn("b"))
    except TimeoutError:
        log.append("late")
    return log


async def shields() -> Any:
    log: list[Any] = []
    inner = asyncio.ensure_future(fetch("shielded", 5))
    try:
        async with asyncio.timeout(0.001):
            await asyncio.shield(inner)
    except TimeoutError:
        log.append("outer gave up")
    log.append(await inner)
    return log


async def produces_and_consumes() -> Any:
    queue: asyncio.Queue[Any] = asyncio.Queue(2)
    log: list[Any] = []

    async def producer() -> None:
        for number in range(4):
            await queue.put(await fetch(["make", number]))
        for _ in range(2):
            await queue.put(None)

    async def consumer(name: int) -> None:
        while (item := await queue.get()) is not None:
            log.append(await fetch([name, item, len(log)]))

    await asyncio.gather(producer(), consumer(1), consumer(2))
    return log


async def locks_and_conditions() -> Any:
    log: list[Any] = []
    few, ready, changed = asyncio.Semaphore(2), asyncio.Event(), asyncio.Condition()

    async def part(number: int) -> None:
        async with few:
            log.append(await fetch([number, len(log)], 3 - number % 3))
        await ready.wait()
        async with changed:
            log.append(await fetch(["under the lock", number, len(log)]))
            changed.notify_all()

    async def opener() -> None:
        await fetch("open", 4)
        ready.set()
        async with changed:
            await changed.wait_for(lambda: len(log) > 7)
            log.append(await fetch(["all seen", len(log)]))

    await asyncio.gather(opener(), *(part(number) for number in range(5)))
    return log


async def sleeps() -> Any:
    log: list[Any] = []

    async def part(name: str, seconds: float) -> None:
        log.append(await sleep(seconds, name))
        log.append(await fetch([name, len(log)]))

    await asyncio.gather(part("slow", 0.01), part("fast", 0.001), part("at once", 0))
    await asyncio.sleep(0)
    await asyncio.sleep(-1)
    return log


async def mixes_plain_steps_in() -> Any:
    log: list[Any] = []

    async def part(name: str) -> None:
        for number in range(3):
            log.append(look([name, number, len(log)]))
            log.append(await fetch([name, number, len(log)]))

    await asyncio.gather(*(part(name) for name in "abc"))
    return log


async def leaves_tasks_behind() -> Any:
    log: list[Any] = []

    async def background(name: str) -> None:
        try:
            await endless(name)
        finally:
            log.append(name)

    for name in "abcd":
        asyncio.create_task(background(name))  # noqa: RUF006  # left behind on purpose
    return await fetch("done")


async def uses_callbacks() -> Any:
    log: list[Any] = []
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(fetch("a"))
    task.add_done_callback(lambda done: log.append(["callback", done.result()]))
    future: asyncio.Future[str] = loop.create_future()
    loop.call_soon(future.set_result, "soon")
    return [await task, await future, log, await fetch(list(log))]


AGENTS: list[Agent] = [
    gathers,
    gathers_with_failures,
    group_that_fails,
    group_in_group,
    completes_in_any_order,
    completes_in_time_or_not,
    waits_for_the_first,
    waits_for_an_exception,
    waits_with_a_timeout,
    waits_for_one,
    has_time_outs,
    cancels,
    cancels_what_survives_it,
    shields,
    produces_and_consumes,
    locks_and_conditions,
    sleeps,
    mixes_plain_steps_in,
    leaves_tasks_behind,
    uses_callbacks,
]


def eagerly(coroutine: Any) -> Any:
    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return await coroutine

    return asyncio.run(main())


RUNNERS = [asyncio.run, uvloop.run] + ([eagerly] if sys.version_info >= (3, 12) else [])


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda one: f"{one.__module__.split('.')[0]}.{one.__name__}")
@pytest.mark.parametrize("agent", AGENTS, ids=lambda one: one.__name__)
def test_what_an_agent_does_at_once_replays(lab: Lab, agent: Agent, runner: Any) -> None:
    lab.runner = runner
    lab.assert_replays(agent, calls)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda one: one.__name__)
def test_an_agent_gets_what_it_gets_without_recording(lab: Lab, agent: Agent) -> None:
    # Which of several orders it is, is up to the machine; what there is to get is not.
    assert flat(asyncio.run(agent())) == flat(lab.record(agent).value)


def flat(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return sorted(text for one in value for text in flat(one))
    return [] if isinstance(value, int) else [str(value)]


def test_each_task_is_a_branch_numbered_where_it_was_opened(lab: Lab) -> None:
    async def part(name: str) -> None:
        await fetch(f"{name}1")
        await fetch(f"{name}2")

    async def agent() -> None:
        await fetch("first")
        await asyncio.gather(part("a"), part("b"))
        await fetch("last")

    assert [(lineage, params["what"]) for lineage, _, params, _ in lab.record(agent).steps] == [
        ((0,), "first"),
        ((1, 0), "a1"),
        ((1, 1), "a2"),
        ((2, 0), "b1"),
        ((2, 1), "b2"),
        ((3,), "last"),
    ]


def test_timers_of_the_agent_are_steps_and_those_of_a_body_are_not(lab: Lab) -> None:
    async def agent() -> None:
        await asyncio.sleep(0.001)
        await fetch("a", 5)
        async with asyncio.timeout(10):
            pass

    taken = lab.record(agent)
    steps = [(step.skill_name, step.params, step.context.kind) for step in taken.record.steps if step.context]
    assert steps == [
        ("asyncio.sleep", {"delay": 0.001}, "timer"),
        ("fetch", {"what": "a", "ms": 5}, "tool"),
        ("asyncio.timeout", {"delay": 10}, "timer"),
    ]
    assert [(s.status.value, s.outcome_category) for s in taken.record.steps] == [
        ("success", "SUCCESS"),
        ("success", "SUCCESS"),
        ("failure", "CANCELLED"),
    ]


def test_a_replay_does_not_sleep(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def agent() -> str:
        await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "late"
        return ""

    taken = lab.record(agent)
    timers: list[asyncio.TimerHandle] = []
    plain = asyncio.BaseEventLoop.call_at

    def call_at(self: Any, *args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(plain(self, *args, **options))
        return timers[-1]

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_at", call_at)
    result = lab.replay(taken, agent)
    assert (result.verdict, result.value) == ("MATCH", "late")
    assert all(timer.cancelled() for timer in timers)


def test_a_cancelled_step_ends_there_and_was_not_delivered(lab: Lab) -> None:
    taken = lab.record(cancels)
    step = next(step for step in taken.record.steps if step.skill_name == "endless")
    finished = next(e for e in taken.events if e.type == "step_finished" and e.lineage == (0, 0))
    assert (step.outcome_category, step.outcome_code) == ("CANCELLED", "CancelledError")
    assert finished.facts["delivered"] is False


def test_an_agent_that_is_cancelled_from_outside_replays_to_the_same_end(lab: Lab) -> None:
    cancel_it = True

    async def agent() -> None:
        await fetch("a")
        await endless("b")

    async def nap() -> None:
        await fetch("a")
        await asyncio.sleep(60)

    async def server(body: Agent) -> None:
        task = asyncio.ensure_future(body())
        if cancel_it:
            await asyncio.sleep(0.02)
            task.cancel()
        await task

    for body in (agent, nap):

        async def main(body: Agent = body) -> Any:
            async def in_run() -> None:
                async with run("lab", store=lab.store, run_id=body.__name__):
                    await body()

            await server(in_run)

        cancel_it = True
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
        assert flush(60)
        ledger = lab.ledger(body.__name__)
        assert ledger.record().status == "failed"
        result = lab.replay(ledger, body)
        assert (result.verdict, result.divergences) == ("MATCH", [])
        assert isinstance(result.error, asyncio.CancelledError)


def test_a_spinning_loop_is_bounded_and_the_run_is_marked(lab: Lab) -> None:
    async def agent() -> Any:
        task = asyncio.create_task(fetch("a"))
        while not task.done():
            await asyncio.sleep(0)
        return await task

    taken, result = lab.again(agent)
    assert taken.value == "a"
    assert taken.grade == ["event loop: never idle, so a delivery was forced"]
    assert result.value == "a"
    assert "event loop: never idle, so a delivery was forced" in result.notes


def test_others_on_the_same_loop_do_not_hold_up_a_run(lab: Lab) -> None:
    async def busy(stop: asyncio.Event) -> int:
        turns = 0
        while not stop.is_set():
            turns += 1
            await asyncio.sleep(0)
        return turns

    async def main() -> str:
        stop = asyncio.Event()
        server = asyncio.create_task(busy(stop))
        async with run("lab", store=lab.store) as opened:
            for number in range(20):
                await fetch(number, 0)
        stop.set()
        assert await server < 2000
        return opened.run_id

    run_id = asyncio.run(main())
    assert flush(60)
    assert lab.ledger(run_id).record().metadata["replayability"] == "replayable"


def test_two_loops_one_after_the_other_are_two_branches(lab: Lab) -> None:
    def agent() -> list[Any]:
        async def part(name: str) -> Any:
            return await asyncio.gather(fetch(f"{name}1"), fetch(f"{name}2"))

        with asyncio.Runner() as runner:
            return [
                asyncio.run(part("a")),
                asyncio.run(part("b")),
                runner.run(part("c")),
                runner.run(part("d")),
                uvloop.run(part("e")),
            ]

    taken, result = lab.again(agent)
    assert taken.value == [[f"{name}1", f"{name}2"] for name in "abcde"]
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    assert [lineage[0] for lineage, *_ in taken.steps][::2] == [0, 1, 2, 2, 3]


def test_a_loop_that_was_there_before_the_run_belongs_to_it_meanwhile(lab: Lab) -> None:
    async def part() -> list[Any]:
        return list(await asyncio.gather(fetch("a"), fetch("b")))

    loop = asyncio.new_event_loop()
    runner = asyncio.Runner()
    runner.get_loop()

    def agent() -> list[Any]:
        return loop.run_until_complete(part()) + runner.run(part())

    try:
        taken, result = lab.again(agent)
    finally:
        loop.close()
        runner.close()
    assert len(taken.steps) == 4
    assert (result.verdict, result.value) == ("MATCH", ["a", "b", "a", "b"])


def test_tasks_left_in_a_loop_are_cancelled_in_order(lab: Lab) -> None:
    log: list[str] = []

    async def background(name: str) -> None:
        try:
            await endless(name)
        finally:
            log.append(name)
            look(name)

    async def main() -> None:
        tasks = [asyncio.create_task(background(f"{number}")) for number in range(30)]
        await fetch(len(tasks))

    def agent() -> list[str]:
        log.clear()
        asyncio.run(main())
        return list(log)

    taken, result = lab.again(agent)
    assert taken.value == [f"{number}" for number in range(30)]
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_runs_at_once_in_one_loop_are_told_apart(lab: Lab) -> None:
    async def agent(name: str) -> tuple[str, Any]:
        async with run("lab", store=lab.store) as opened:
            return opened.run_id, await asyncio.gather(*(fetch([name, part]) for part in range(3)))

    async def main() -> list[Any]:
        return await asyncio.gather(*(agent(name) for name in "abcdef"))

    got = asyncio.run(main())
    assert flush(60)
    for (run_id, values), name in zip(got, "abcdef", strict=True):
        assert values == [[name, part] for part in range(3)]
        record = lab.ledger(run_id).record()
        assert [step.params["what"] for step in record.steps] == values
        assert record.metadata["replayability"] == "replayable"


def test_code_after_the_run_may_wait_for_what_the_run_left(lab: Lab) -> None:
    async def main() -> str:
        async with run("lab", store=lab.store, run_id="left"):
            task = asyncio.create_task(fetch("slow", 20))
            await fetch("quick", 1)
        return str(await task)

    assert asyncio.run(main()) == "slow"
    assert flush(60)
    from isotrace.replay import Replay

    result = Replay(lab.ledger("left"), stall_after_s=0.3).run(main)
    assert (result.verdict, result.error) == ("MATCH", None)


def test_a_task_that_a_finalizer_makes_takes_no_number(lab: Lab) -> None:
    class Client:
        """Closes itself when it is collected, as some clients do."""

        def __init__(self) -> None:
            self.itself = self

        async def aclose(self) -> None:
            await asyncio.sleep(0)

        def __del__(self) -> None:
            asyncio.get_running_loop().create_task(self.aclose())

    collected = [True]

    async def agent() -> None:
        Client()
        if collected.pop():
            gc.collect()
        await fetch("a")
        gc.collect()

    taken = lab.record(agent)
    collected.append(False)
    result = lab.replay(taken, agent)
    assert [lineage for lineage, *_ in taken.steps] == [(0,)]
    assert (str(result.verdict), result.divergences) == ("MATCH", [])


def test_a_loop_that_a_finalizer_runs_takes_no_number(lab: Lab) -> None:
    class Client:
        """Has its connections closed when it is collected, by a loop that is run for that."""

        def __init__(self) -> None:
            self.itself = self
            weakref.finalize(self, _close_by_a_loop)

    collected = [True]

    def agent() -> None:
        Client()
        if collected.pop():
            gc.collect()
        plain_fetch("a")
        gc.collect()

    taken = lab.record(agent)
    collected.append(False)
    result = lab.replay(taken, agent)
    assert [lineage for lineage, *_ in taken.steps] == [(0,)]
    assert (str(result.verdict), result.divergences) == ("MATCH", [])


def _close_by_a_loop() -> None:
    async def close() -> None:
        await asyncio.sleep(0)

    asyncio.run(close())


@skill
def plain_fetch(name: str) -> str:
    return name


def test_what_a_loop_puts_away_at_its_end_is_no_step(lab: Lab) -> None:
    @skill
    async def look_up() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, int, "7")

    def agent() -> int:
        # While it is recorded, the loop has threads to end, and gives them some time.
        return asyncio.run(look_up())

    taken, result = lab.again(agent)
    assert [(lineage, name) for lineage, name, *_ in taken.steps] == [((0, 0), "look_up")]
    assert (str(result.verdict), result.divergences, result.value) == ("MATCH", [], 7)
