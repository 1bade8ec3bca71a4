"""Threads: ours are branches with a turn, so that they replay; those that isotrace does not order are
recorded and marked. None of them ever blocks another for good."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from isotrace.record import ThreadPool, branch, current_run, skill
from isotrace.record.scheduler import ArrivalOrder, Scheduler
from isotrace.record.threads import Worker

if TYPE_CHECKING:
    from tests.record.lab import Lab

calls: list[Any] = []

UNORDERED = "thread: fetch was called from a thread that isotrace does not order"
FORCED = "threads: a delivery was forced while other code of the agent was running"


@skill(effect="read")
def fetch(what: Any, ms: float = 1) -> Any:
    calls.append(what)
    time.sleep(ms / 1000)
    return what


@skill(effect="read")
async def afetch(what: Any, ms: float = 1) -> Any:
    calls.append(what)
    await asyncio.sleep(ms / 1000)
    return what


@skill(effect="read")
def fail(what: Any) -> None:
    raise ValueError(what)


class Shared:
    """State that flows into params: whoever runs out of turn is seen."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def work(self, name: Any, steps: int = 3, ms: float = 1) -> str:
        for _ in range(steps):
            self.log.append(fetch([name, len(self.log)], ms))
            for _ in range(50):
                self.log.append(name)
        return f"{name} done"


# --- our pool -------------------------------------------------------------------------------------


def pool_maps() -> Any:
    shared = Shared()
    with ThreadPool(4) as pool:
        got = list(pool.map(shared.work, "abcdefgh", [1, 2, 3, 1, 2, 3, 1, 2]))
    return got, shared.log


def pool_submits() -> Any:
    shared = Shared()
    with ThreadPool(3) as pool:
        futures = [pool.submit(shared.work, name) for name in "abcd"]
        shared.log.append("main goes on")
        got = [future.result() for future in futures]
        shared.work("main")
        return got, shared.log, [future.exception() for future in futures]


def pool_completes() -> Any:
    shared = Shared()
    with ThreadPool(3) as pool:
        futures = [pool.submit(shared.work, name, ms=9 - number) for number, name in enumerate("abcdef")]
        for future in pool.as_completed(futures):
            shared.log.append(["completed", future.result()])
            shared.work("main", 1)
    return shared.log


def pool_of_one() -> Any:
    shared = Shared()
    with ThreadPool(1) as pool:
        list(pool.map(shared.work, "abc"))
    return shared.log


def pools_in_pools() -> Any:
    shared = Shared()

    def outer(name: str) -> list[str]:
        shared.work(name, 1)
        with ThreadPool(2) as inner:
            got = list(inner.map(shared.work, [name + "x", name + "y", name + "z"]))
        shared.work(name, 1)
        return got

    with ThreadPool(2) as pool:
        return list(pool.map(outer, "abc")), shared.log


def pool_fails() -> Any:
    log = []
    with ThreadPool(2) as pool:
        futures = [pool.submit(fail, "a"), pool.submit(fetch, "b"), pool.submit(fail, "c")]
        for future in futures:
            try:
                log.append(future.result())
            except ValueError as error:
                log.append(str(error))
    return log


def pool_is_left_without_waiting() -> Any:
    shared = Shared()
    pool = ThreadPool(2)
    futures = [pool.submit(shared.work, name) for name in "ab"]
    pool.shutdown(wait=False)
    return [future.result() for future in futures], shared.log


def pool_cancels() -> Any:
    shared = Shared()
    with ThreadPool(1) as pool:
        futures = [pool.submit(shared.work, name) for name in "abc"]
        cancelled = [future.cancel() for future in futures[1:]]
    return cancelled, [future.cancelled() for future in futures], shared.log


def pool_with_the_standard_waits() -> Any:
    shared = Shared()
    with ThreadPool(3) as pool:
        futures = [pool.submit(shared.work, name) for name in "abcd"]
        done, left = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
        shared.log.append([len(done) > 0, len(done) + len(left)])
        for future in concurrent.futures.as_completed(futures):
            shared.log.append(future.result())
        concurrent.futures.wait(futures)
        failing: list[concurrent.futures.Future[object]] = [
            pool.submit(shared.work, "e"),
            pool.submit(fail, "f"),
        ]
        concurrent.futures.wait(failing, return_when=concurrent.futures.FIRST_EXCEPTION)
        shared.log.append(str(failing[1].exception()))
    return shared.log


def pool_in_keyed_branches() -> Any:
    shared = Shared()
    with branch("one"), ThreadPool(2) as pool:
        futures = [pool.submit(shared.work, name) for name in "ab"]
        with branch("two"):
            shared.work("main", 1)
        list(pool.as_completed(futures))
    shared.work("main", 1)
    return shared.log


def pool_then_loop() -> Any:
    shared = Shared()

    async def part() -> list[Any]:
        return list(await asyncio.gather(*(afetch(number) for number in range(3))))

    with ThreadPool(2) as pool:
        list(pool.map(shared.work, "ab"))
        got = asyncio.run(part())
        list(pool.map(shared.work, "cd"))
    return got, asyncio.run(part()), shared.log


def loops_in_pool() -> Any:
    log: list[Any] = []

    async def part(name: str) -> None:
        async def one(number: int) -> None:
            log.append(await afetch([name, number, len(log)], 3 - number))

        await asyncio.gather(*(one(number) for number in range(3)))

    with ThreadPool(3) as pool:
        list(pool.map(lambda name: asyncio.run(part(name)), "abc"))
    return log


SYNC_AGENTS = [
    pool_maps,
    pool_submits,
    pool_completes,
    pool_of_one,
    pools_in_pools,
    pool_fails,
    pool_is_left_without_waiting,
    pool_cancels,
    pool_with_the_standard_waits,
    pool_in_keyed_branches,
    pool_then_loop,
    loops_in_pool,
]


# --- asyncio.to_thread ------------------------------------------------------------------------


async def threads_at_once() -> Any:
    shared = Shared()
    got = await asyncio.gather(*(asyncio.to_thread(shared.work, name) for name in "abcdef"))
    return got, shared.log


async def threads_and_tasks() -> Any:
    log: list[Any] = []

    async def task(name: str) -> None:
        for _ in range(3):
            log.append(await afetch([name, len(log)]))

    def thread(name: str) -> None:
        for _ in range(3):
            log.append(fetch([name, len(log)]))

    await asyncio.gather(task("a"), asyncio.to_thread(thread, "b"), task("c"), asyncio.to_thread(thread, "d"))
    return log


async def more_threads_than_there_is_room() -> Any:
    shared = Shared()
    await asyncio.gather(*(asyncio.to_thread(shared.work, number, 1) for number in range(80)))
    return shared.log


async def loops_in_threads_in_loops() -> Any:
    log: list[Any] = []

    async def inner(name: str) -> str:
        log.append(await afetch([name, len(log)]))
        return await asyncio.to_thread(deepest, name)

    def deepest(name: str) -> str:
        log.append(fetch([name, "deepest", len(log)]))
        return name

    def middle(name: str) -> str:
        log.append(fetch([name, "middle", len(log)]))
        return asyncio.run(inner(name))

    got = await asyncio.gather(*(asyncio.to_thread(middle, name) for name in "abcd"), afetch("meanwhile", 5))
    return got, log


async def many_nested_threads() -> Any:
    """As many threads as there is room for, each of which needs another one to come to its end."""

    def outer(number: int) -> Any:
        async def inner() -> Any:
            return await asyncio.to_thread(fetch, number)

        return asyncio.run(inner())

    return await asyncio.gather(*(asyncio.to_thread(outer, number) for number in range(40)))


async def a_pool_that_blocks_the_loop() -> Any:
    shared = Shared()
    task = asyncio.create_task(afetch("meanwhile", 2))
    with ThreadPool(3) as pool:
        got = list(pool.map(shared.work, "abc"))
        futures = [pool.submit(shared.work, name, 1) for name in "de"]
        got += [future.result() for future in pool.as_completed(futures)]
    return got, await task, shared.log


async def a_pool_that_is_awaited() -> Any:
    shared = Shared()
    with ThreadPool(3) as pool:
        futures = [asyncio.wrap_future(pool.submit(shared.work, name)) for name in "abc"]
        return await asyncio.gather(*futures, afetch("x")), shared.log


async def threads_that_call_back() -> Any:
    log: list[Any] = []
    loop = asyncio.get_running_loop()

    async def back(name: str) -> Any:
        log.append(await afetch([name, len(log)]))
        return name

    def thread(name: str) -> Any:
        log.append(fetch([name, "thread", len(log)]))
        return asyncio.run_coroutine_threadsafe(back(name), loop).result()

    return await asyncio.gather(*(asyncio.to_thread(thread, name) for name in "abc")), log


async def threads_that_nobody_waits_for() -> Any:
    shared = Shared()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def thread() -> None:
        loop.call_soon_threadsafe(started.set)
        shared.work("a", 2, ms=5)

    task = asyncio.create_task(asyncio.to_thread(thread))
    await started.wait()
    task.cancel()
    return await afetch("b")


async def threads_that_fail() -> Any:
    log = []
    for job in (lambda: fail("a"), lambda: next(iter([]))):
        try:
            await asyncio.to_thread(job)
        except (ValueError, RuntimeError) as error:
            log.append(type(error).__name__)
    return log


async def threads_that_are_cancelled_before_they_start() -> Any:
    shared = Shared()
    tasks = [asyncio.create_task(asyncio.to_thread(shared.work, number, 1)) for number in range(40)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks[35:]:
        task.cancel()
    got = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(one).__name__ for one in got], shared.log


ASYNC_AGENTS = [
    threads_at_once,
    threads_and_tasks,
    more_threads_than_there_is_room,
    loops_in_threads_in_loops,
    many_nested_threads,
    a_pool_that_blocks_the_loop,
    a_pool_that_is_awaited,
    threads_that_call_back,
    threads_that_nobody_waits_for,
    threads_that_fail,
    threads_that_are_cancelled_before_they_start,
]


def bounded(function: Callable[[], Any], seconds: float = 60) -> Any:
    """Runs a test's body in a thread of its own, so that a deadlock is a failure and not a hang."""
    done: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def body() -> None:
        try:
            done.put((function(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=body, daemon=True).start()
    value, error = done.get(timeout=seconds)
    if error is not None:
        raise error
    return value


@pytest.mark.parametrize("agent", SYNC_AGENTS, ids=lambda one: one.__name__)
def test_what_our_threads_do_replays(lab: Lab, agent: Callable[[], Any]) -> None:
    bounded(lambda: lab.assert_replays(agent, calls))


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("agent", ASYNC_AGENTS, ids=lambda one: one.__name__)
def test_what_threads_of_a_loop_do_replays(lab: Lab, agent: Callable[[], Any], runner: Any) -> None:
    lab.runner = runner
    bounded(lambda: lab.assert_replays(agent, calls))


@pytest.mark.parametrize("agent", SYNC_AGENTS, ids=lambda one: one.__name__)
def test_outside_of_a_run_our_pool_is_a_plain_one(agent: Callable[[], Any]) -> None:
    bounded(agent)


def test_our_pool_refuses_work_when_it_is_shut(lab: Lab) -> None:
    def agent() -> None:
        pool = ThreadPool(1)
        pool.shutdown()
        pool.submit(fetch, "x")

    assert isinstance(lab.record(agent).error, RuntimeError)
    with pytest.raises(RuntimeError):
        agent()


def test_a_thread_knows_its_run(lab: Lab) -> None:
    def agent() -> Any:
        with ThreadPool(1) as pool:
            inside = pool.submit(lambda: current_run() is not None and current_run().random.random())  # type: ignore[union-attr]
            return inside.result()

    taken, result = lab.again(agent)
    assert taken.value
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_a_wait_with_a_timeout_lets_others_have_their_turn(lab: Lab) -> None:
    def agent() -> list[Any]:
        with ThreadPool(2) as pool:
            future = pool.submit(fetch, "slow", 30)
            log: list[Any] = []
            try:
                future.result(timeout=0.001)
            except TimeoutError:
                log.append("not yet")
            return [*log, future.result(timeout=60), future.exception(timeout=60)]

    assert bounded(lambda: lab.record(agent)).value == ["not yet", "slow", None]


# --- threads that isotrace does not order ---------------------------------------------------------


def test_a_step_in_a_standard_pool_is_recorded_and_marked(lab: Lab) -> None:
    def agent() -> Any:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(fetch, range(8)))

    taken, result = bounded(lambda: lab.again(agent))
    assert taken.value == list(range(8))
    assert taken.grade == [UNORDERED]
    assert [step.context.marks for step in taken.record.steps if step.context] == [["thread"]] * 8
    assert [lineage for lineage, *_ in taken.steps] == [
        (0, f"early thread {number:03}", 0) for number in range(8)
    ]
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    assert f"recorded: {UNORDERED}" in result.notes


def test_a_step_in_an_executor_of_the_loop_is_recorded_and_marked(lab: Lab) -> None:
    async def agent() -> Any:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, fetch, number) for number in range(4)))

    taken, result = bounded(lambda: lab.again(agent))
    assert taken.value == [0, 1, 2, 3]
    assert taken.grade == [UNORDERED]
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_a_step_in_a_thread_of_the_agent_s_own_is_recorded_and_marked(lab: Lab) -> None:
    class Mine(threading.Thread):
        def run(self) -> None:
            fetch("by a class")

    def agent() -> str:
        threads = [threading.Thread(target=fetch, args=("by a target",)), Mine()]
        for thread in threads:
            thread.start()
            thread.join()
        return "joined"

    taken, result = bounded(lambda: lab.again(agent))
    assert [(lineage, params["what"]) for lineage, _, params, _ in taken.steps] == [
        ((0, "early thread 000", 0), "by a target"),
        ((0, "early thread 001", 0), "by a class"),
    ]
    assert taken.grade == [UNORDERED]
    assert (result.verdict, result.value) == ("MATCH", "joined")


def test_threads_that_make_no_steps_move_nothing(lab: Lab) -> None:
    starts_one = True

    def agent() -> Any:
        if starts_one:
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
        return fetch("a")

    taken = lab.record(agent)
    starts_one = False
    assert lab.replay(taken, agent).verdict == "MATCH"


def test_a_pool_that_was_there_before_the_run_serves_it_and_others_alike(lab: Lab) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        taken = lab.record(lambda: pool.submit(fetch, "inside").result())
        assert pool.submit(fetch, "outside").result() == "outside"
    assert [params["what"] for _, _, params, _ in taken.steps] == ["inside"]


# --- what blocks where we can't see it ------------------------------------------------------------


def test_threads_that_block_one_another_are_forced_on_and_marked(lab: Lab) -> None:
    lock = threading.Lock()

    def work(name: str) -> Any:
        with lock:
            return fetch(name)

    async def agent() -> Any:
        return await asyncio.gather(*(asyncio.to_thread(work, name) for name in "ab"))

    taken = bounded(lambda: lab.record(agent))
    assert taken.value == ["a", "b"]
    assert taken.grade == [FORCED]


def test_a_loop_that_waits_for_a_thread_s_event_is_forced_on_and_marked(lab: Lab) -> None:
    async def agent() -> Any:
        ready = threading.Event()

        def work() -> Any:
            got = fetch("a")
            ready.set()
            return got

        task = asyncio.create_task(asyncio.to_thread(work))
        await afetch("lets it start", 5)
        ready.wait()
        return await task

    taken = bounded(lambda: lab.record(agent))
    assert taken.value == "a"
    assert taken.grade in ([FORCED], "replayable")


def test_threads_that_meet_at_a_barrier_are_forced_on(lab: Lab) -> None:
    def agent() -> Any:
        barrier = threading.Barrier(3)

        def work(number: int) -> Any:
            got = fetch(number)
            barrier.wait(30)
            return got

        with ThreadPool(3) as pool:
            return list(pool.map(work, range(3)))

    taken, result = bounded(lambda: lab.again(agent))
    assert taken.value == [0, 1, 2]
    assert taken.grade == [FORCED]
    assert result.value == taken.value


def test_a_future_that_is_set_by_hand_wakes_who_waits(lab: Lab) -> None:
    def agent() -> Any:
        future: Future[int] = Future()
        with ThreadPool(2) as pool:
            waiting = pool.submit(lambda: future.result() + fetch(1))
            pool.submit(lambda: future.set_result(fetch(41)))
            return waiting.result()

    taken, result = bounded(lambda: lab.again(agent))
    assert (taken.value, taken.grade) == (42, "replayable")
    assert (result.verdict, result.value) == ("MATCH", 42)


def test_a_replay_whose_thread_never_gets_its_turn_is_stalled(lab: Lab) -> None:
    order = ["a", "b"]

    def agent() -> Any:
        with ThreadPool(2) as pool:
            return list(pool.map(lambda name: fetch(name) and fetch(name + "2"), order))

    taken = lab.record(agent)
    swapped = taken.events[3], taken.events[4]
    assert {event.type for event in swapped} <= {"step_started", "step_finished"}

    def fewer() -> Any:
        with ThreadPool(2) as pool:
            # The second job takes the first one's place, and never asks for its second step.
            first = pool.submit(lambda: "nothing")
            second = pool.submit(lambda: fetch("b") and fetch("b2"))
            return [first.result(), second.result()]

    result = bounded(lambda: lab.replay(taken, fewer))
    assert result.verdict == "DIVERGED"
    assert result.first is not None
    assert result.first.code == "REPLAY_STALLED"


def test_a_thread_goes_on_when_what_hands_its_turn_over_was_interrupted() -> None:
    turns = Scheduler(ArrivalOrder(), lambda reason: None)
    went_on = threading.Event()

    def interrupted() -> None:
        raise KeyboardInterrupt

    def body() -> None:
        turns.thread_resumed()
        here = Worker(turns)
        here.pause()
        here.resume("its end", interrupted)
        went_on.set()

    main = Worker(turns)
    main.go_on()
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    while not turns._turns.waiting():
        time.sleep(0.001)
    with pytest.raises(KeyboardInterrupt):
        main.pause()
    assert went_on.wait(10)


def test_jobs_that_are_handed_the_context_are_branches_of_their_own(lab: Lab) -> None:
    """Frameworks copy the submitter's context into their pools: each job has its own numbers all the same."""
    begun = threading.Barrier(3)

    def job(name: str) -> Any:
        begun.wait(10)
        # The later a job was submitted, the earlier it asks.
        time.sleep(0.03 * (3 - int(name)))
        return [fetch(name), fetch(f"{name} again")]

    def agent() -> Any:
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(contextvars.copy_context().run, job, name) for name in "012"]
            return [future.result() for future in futures]

    taken, result = lab.again(agent)
    assert (str(result.verdict), result.value) == ("MATCH", taken.value)
    assert [(lineage, params) for lineage, _, params, _ in taken.steps] == [
        ((0, f"early thread {number:03}", index), {"what": name})
        for number in range(3)
        for index, name in enumerate([str(number), f"{number} again"])
    ]
    assert taken.grade == [UNORDERED]
