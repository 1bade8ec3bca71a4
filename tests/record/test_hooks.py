"""What is changed in the standard library while a run is open is changed back, and does not disturb what
others have put there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import subprocess
import sys
import threading
import types
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from isotrace.record import ThreadPool, run, skill
from isotrace.record.patches import patch
from isotrace.replay import Replay
from isotrace.stores.memory import MemoryStore

if TYPE_CHECKING:
    from tests.record.lab import Lab

OWNERS: tuple[Any, ...] = (
    asyncio,
    asyncio.tasks,
    asyncio.threads,
    asyncio.timeouts,
    asyncio.Timeout,
    asyncio.TaskGroup,
    asyncio.Runner,
    asyncio.BaseEventLoop,
    uvloop.Loop,
    concurrent.futures,
    concurrent.futures._base,
    ThreadPoolExecutor,
    Future,
    threading.Thread,
)


@skill(effect="read")
async def fetch(what: Any) -> Any:
    await asyncio.sleep(0)
    return what


def picture() -> dict[str, Any]:
    """Every attribute that could have been changed, and the code behind every function."""
    seen: dict[str, Any] = {}
    for owner in OWNERS:
        for name, value in vars(owner).items():
            if name.startswith("__"):
                continue
            seen[f"{owner.__name__}.{name}"] = value
            if isinstance(value, types.FunctionType):
                seen[f"{owner.__name__}.{name}()"] = (
                    value.__code__,
                    value.__defaults__,
                    value.__kwdefaults__,
                )
    return seen


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [
        name for name in {**before, **after} if before.get(name) is not after.get(name) != before.get(name)
    ]


def test_everything_is_put_back_after_the_last_run(lab: Lab) -> None:
    before = picture()

    async def agent() -> Any:
        assert changed(before, picture()), "or this test looks at the wrong places"
        return await asyncio.gather(fetch(1), asyncio.to_thread(int))

    taken = lab.record(agent)
    assert changed(before, picture()) == []
    lab.runner = uvloop.run
    lab.record(agent)
    assert changed(before, picture()) == []
    lab.replay(taken, agent)
    assert changed(before, picture()) == []


def test_everything_is_put_back_when_runs_and_replays_overlap_in_any_order() -> None:
    before = picture()
    store = MemoryStore()
    first, second = run("a", store=store), run("b", store=store)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert changed(before, picture())
    second.__exit__(None, None, None)
    assert changed(before, picture()) == []


def test_a_loop_gets_its_task_factory_back() -> None:
    made: list[str] = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        async with run("a", store=MemoryStore()):
            assert loop.get_task_factory() is factory, "as the agent sees it"
            await asyncio.gather(fetch(1))
        assert loop.get_task_factory() is factory
        await asyncio.gather(fetch(2))

    asyncio.run(main())
    assert made[:2] == ["fetch", "fetch"]


def test_a_factory_from_before_contexts_still_makes_branches(lab: Lab) -> None:
    def factory(loop: Any, coro: Any) -> Any:
        return asyncio.Task(coro, loop=loop)

    async def agent() -> Any:
        asyncio.get_running_loop().set_task_factory(factory)
        return await asyncio.gather(fetch(1), fetch(2))

    taken, result = lab.again(agent)
    assert [lineage for lineage, *_ in taken.steps] == [(0, 0), (1, 0)]
    assert (result.verdict, result.value) == ("MATCH", [1, 2])


def test_an_agent_may_set_and_unset_a_task_factory(lab: Lab) -> None:
    made: list[Any] = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def agent() -> Any:
        loop = asyncio.get_running_loop()
        assert loop.get_task_factory() is None
        loop.set_task_factory(factory)
        got = await asyncio.gather(fetch(1))
        loop.set_task_factory(None)
        return got + await asyncio.gather(fetch(2))

    taken, result = lab.again(agent)
    assert len(made) == 2, "one in the live run, one in the replay"
    assert [lineage for lineage, *_ in taken.steps] == [(0, 0), (1, 0)]
    assert result.verdict == "MATCH"
    assert isinstance(lab.record(lambda: asyncio.run(sets_nonsense())).error, TypeError)


async def sets_nonsense() -> None:
    asyncio.get_running_loop().set_task_factory(5)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("inside", [True, False])
def test_eager_tasks_are_branches_too(lab: Lab, inside: bool) -> None:
    eager: Any = asyncio.eager_task_factory  # type: ignore[attr-defined]
    order: list[Any] = []

    async def part(name: str) -> Any:
        order.append(f"{name} starts")
        got = await fetch(name)
        order.append(f"{name} ends")
        return got

    async def agent() -> Any:
        if inside:
            asyncio.get_running_loop().set_task_factory(eager)
        task = asyncio.create_task(part("a"))
        order.append("main goes on")
        return [await task, await asyncio.gather(part("b"), part("c"))]

    def eagerly(main: Any) -> Any:
        with asyncio.Runner() as runner:
            runner.get_loop().set_task_factory(eager)
            return runner.run(main)

    lab.runner = asyncio.run if inside else eagerly
    taken = lab.record(agent)
    live, order[:] = list(order), []
    assert live[:2] == ["a starts", "main goes on"]
    result = lab.replay(taken, agent)
    assert (result.verdict, result.value, order) == ("MATCH", taken.value, live)


def test_asyncio_is_as_ever_for_code_outside_of_runs(lab: Lab) -> None:
    seen: list[Any] = []

    async def other() -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)
        seen.append(await asyncio.wait_for(asyncio.sleep(0.001, "waited"), 5))
        done, _ = await asyncio.wait({asyncio.ensure_future(asyncio.sleep(0, "x"))}, timeout=5)
        seen.append(type(done))
        seen.append([await one for one in asyncio.as_completed([asyncio.sleep(0, "y")], timeout=5)])
        seen.append(await asyncio.to_thread(threading.current_thread))
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            seen.append(type(group._tasks))

    async def main() -> None:
        task = asyncio.create_task(other())
        async with run("a", store=lab.store):
            await fetch(1)
            await task

    asyncio.run(main())
    assert seen[:3] == ["waited", set, ["y"]]
    assert seen[3].name.startswith("asyncio_")
    assert seen[4] is set


@pytest.mark.parametrize(
    "call",
    [
        lambda: asyncio.sleep("soon"),  # type: ignore[call-overload]  # a wrong call, on purpose
        lambda: asyncio.wait([]),
        lambda: asyncio.wait(asyncio.get_running_loop().create_future()),
        lambda: asyncio.wait([], return_when="some day"),
        lambda: asyncio.wait_for(5, 1),  # type: ignore[arg-type]
    ],
)
async def test_wrong_calls_get_the_same_error_in_a_run(lab: Lab, call: Any) -> None:
    errors = []
    for _ in range(2):
        awaitable = call()
        try:
            await awaitable
        except Exception as error:
            errors.append(type(error))
        if len(errors) == 1:
            opened = run("a", store=lab.store)
            opened.__enter__()
    opened.__exit__(None, None, None)
    assert errors[0] is errors[1]


async def test_as_completed_of_one_awaitable_is_refused_in_a_run_as_outside(lab: Lab) -> None:
    async with run("a", store=lab.store):
        coroutine = fetch(1)
        with pytest.raises(TypeError, match="iterable"):
            next(iter(asyncio.as_completed(coroutine)))  # type: ignore[arg-type]
        coroutine.close()


def test_hooks_that_another_library_wrapped_pass_calls_through(lab: Lab) -> None:
    counted: list[str] = []
    plain = ThreadPoolExecutor.submit

    def counting(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        counted.append("submit")
        return before(self, function, *args, **kwargs)

    opened = run("a", store=lab.store)
    opened.__enter__()
    before = ThreadPoolExecutor.submit
    ThreadPoolExecutor.submit = counting  # type: ignore[method-assign]
    try:
        opened.__exit__(None, None, None)
        assert ThreadPoolExecutor.submit is counting, "somebody else's wrapper stays"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(int).result() == 0
        lab.record(lambda: None)
        assert ThreadPoolExecutor.submit is counting
    finally:
        ThreadPoolExecutor.submit = plain  # type: ignore[method-assign]
    assert counted == ["submit"]


def test_something_that_is_no_function_is_left_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        async def __call__(self, delay: float, result: Any = None) -> str:
            return "fake"

    monkeypatch.setattr(asyncio.tasks, "sleep", Fake())

    async def agent() -> Any:
        return await asyncio.tasks.sleep(1)

    assert lab.record(agent).value == "fake"


def test_code_that_calls_asyncio_while_hooks_come_and_go_never_fails() -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def elsewhere() -> None:
        async def main() -> None:
            while not stop.is_set():
                await asyncio.sleep(0)
                await asyncio.wait_for(asyncio.sleep(0), 5)

        try:
            asyncio.run(main())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=elsewhere) for _ in range(2)]
    for thread in threads:
        thread.start()
    store = MemoryStore()
    for _ in range(300):
        with run("a", store=store):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_two_threads_may_record_in_loops_of_their_own_at_once() -> None:
    store = MemoryStore()
    got: list[Any] = []

    def server(name: str) -> None:
        async def agent(number: int) -> Any:
            async with run(name, store=store):
                return await asyncio.gather(*(fetch([name, number, part]) for part in range(5)))

        async def main() -> Any:
            return await asyncio.gather(*(agent(number) for number in range(10)))

        got.append(asyncio.run(main()))

    threads = [threading.Thread(target=server, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 4


# --- layers ---------------------------------------------------------------------------------------


class Owner:
    def name(self) -> str:
        return "owner"


class Heir(Owner):
    pass


def said(by: str) -> Any:
    def wrap(before: Any) -> Any:
        return lambda self: f"{by}({before(self)})"

    return wrap


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("owner", [Owner, Heir])
def test_layers_come_off_in_any_order(owner: Any, first: int) -> None:
    before = dict(vars(owner))
    off = [patch(owner, "name", said(name)) for name in "abc"]
    assert owner().name() == "c(b(a(owner)))"
    off.pop(first)()
    assert owner().name() == ["c(b(owner))", "c(a(owner))", "b(a(owner))"][first]
    off.pop()()
    off.pop()()
    assert owner().name() == "owner"
    assert dict(vars(owner)) == before


def test_taking_a_layer_off_twice_is_fine() -> None:
    one, other = patch(Owner, "name", said("a")), patch(Owner, "name", said("b"))
    one()
    one()
    assert Owner().name() == "b(owner)"
    other()
    assert Owner().name() == "owner"


def test_isotrace_can_be_imported_and_used_without_uvloop(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text(
        """
import asyncio, sys
sys.modules["uvloop"] = None
from isotrace.record import run, skill, flush
from isotrace.stores.memory import MemoryStore
@skill
async def step(n): return n
async def main():
    async with run("a", store=MemoryStore()):
        return await asyncio.gather(step(1), step(2))
assert asyncio.run(main()) == [1, 2]
flush()
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_replay_in_one_task_leaves_runs_in_others_alone(lab: Lab) -> None:
    before = picture()

    async def agent() -> Any:
        return await asyncio.gather(fetch(1), fetch(2))

    taken = lab.record(agent)

    async def live() -> Any:
        async with run("live", store=lab.store):
            await fetch("a")
            await asyncio.sleep(0.01)
            return await fetch("b")

    async def replayed() -> Any:
        async def body() -> Any:
            async with run("lab", store=lab.store):
                return await agent()

        return (await Replay(taken.ledger).arun(body)).verdict

    async def main() -> Any:
        return await asyncio.gather(live(), replayed(), live())

    assert asyncio.run(main()) == ["b", "MATCH", "b"]
    assert changed(before, picture()) == []


def test_a_pool_outlives_runs(lab: Lab) -> None:
    pool = ThreadPool(2)
    try:
        for _ in range(3):
            assert lab.record(lambda: list(pool.map(str, range(3)))).value == ["0", "1", "2"]
            assert list(pool.map(str, range(3))) == ["0", "1", "2"]
    finally:
        pool.shutdown()
