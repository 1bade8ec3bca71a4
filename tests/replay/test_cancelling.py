"""Steps that the agent cancels while others wait for their turn: a replay ends them where they ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.record import skill

if TYPE_CHECKING:
    from tests.record.lab import Lab


@skill(effect="read")
async def quick(number: int, seen: list[Any]) -> int:
    await asyncio.sleep(0)
    return number


@skill(effect="read")
async def endless() -> None:
    await asyncio.Event().wait()


@skill(effect="read")
async def of_tasks() -> None:
    await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())


@skill(effect="read")
async def tidy() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(5):
            await asyncio.sleep(0)


@skill(effect="read")
async def stubborn() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "all the same"
    return ""


@skill(effect="read")
async def pieces() -> Any:
    yield 1
    await asyncio.Event().wait()


async def read() -> None:
    async for _ in pieces():
        pass


async def crowd(call: Any, cancels: int) -> list[Any]:
    """One task makes the call and is cancelled; meanwhile the answers of others wait."""
    seen: list[Any] = []

    async def cancelled() -> None:
        try:
            seen.append(await call())
        except asyncio.CancelledError:
            seen.append("cancelled")

    async def one(number: int) -> None:
        for _ in range(2):
            seen.append(await quick(number, list(seen)))

    async def canceller() -> None:
        await quick(0, list(seen))
        task.cancel()
        for _ in range(cancels - 1):
            await quick(-1, list(seen))
            task.cancel()
        await asyncio.wait([task])
        seen.append("ended")
        await quick(-2, list(seen))

    task = asyncio.create_task(cancelled())
    await asyncio.gather(canceller(), *(one(number) for number in range(1, 6)))
    return seen


@pytest.mark.parametrize("cancels", [1, 2])
@pytest.mark.parametrize("call", [endless, of_tasks, tidy, stubborn, read])
def test_a_cancelled_step_ends_in_a_replay_where_it_ended(lab: Lab, call: Any, cancels: int) -> None:
    async def program() -> list[Any]:
        return await crowd(call, cancels)

    taken, result = lab.again(program)
    assert (str(result.verdict), result.divergences, result.value) == ("MATCH", [], taken.value)


def test_a_cancellation_reaches_the_agent_before_the_next_answer(lab: Lab) -> None:
    async def program() -> list[Any]:
        return await crowd(endless, 1)

    value = lab.record(program).value
    assert value.index("ended") < value.index(1)


def test_a_step_that_cancels_itself_was_not_ended_by_the_agent(lab: Lab) -> None:
    @skill
    async def gives_up() -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async def fails() -> None:
        raise LookupError

    async def program() -> str:
        # Up to Python 3.12 the task counts as cancelled from here on.
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
        try:
            await gives_up()
        except asyncio.CancelledError:
            return "gave up"
        return ""

    taken, result = lab.again(program)
    ends = [event.facts.get("delivered", True) for event in taken.events if event.type == "step_finished"]
    assert (ends, taken.value, result.value, str(result.verdict)) == ([True], "gave up", "gave up", "MATCH")


def test_a_step_that_outlives_its_cancellation_and_the_run_does_not_end_in_a_replay(lab: Lab) -> None:
    @skill
    async def keeps_on() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async def program() -> tuple[int, bool]:
        task = asyncio.create_task(keeps_on())
        await quick(1, [])
        task.cancel()
        return await quick(2, []), task.done()

    taken, result = lab.again(program)
    assert (str(result.verdict), taken.value, result.value) == ("MATCH", (2, False), (2, False))
