"""Coroutines that asyncio does not drive: their steps are recorded and replayed, in no order of ours."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any

import trio

from isotrace.record import skill

if TYPE_CHECKING:
    from tests.record.lab import Lab

MARK = "event loop: a step was awaited outside of asyncio, where isotrace does not order"


@skill
async def fetch(name: str) -> str:
    await trio.sleep(0.001)
    return name.upper()


@skill
async def cached(name: str) -> str:
    return name


@skill
async def broken(name: str) -> None:
    await trio.sleep(0)
    raise ValueError(name)


@skill
async def letters(name: str) -> AsyncIterator[str]:
    for letter in name:
        await trio.sleep(0)
        yield letter


@skill
async def endless() -> None:
    await trio.sleep_forever()


def test_an_agent_on_trio_is_recorded_and_replayed(lab: Lab) -> None:
    async def agent() -> list[Any]:
        seen: list[Any] = [await fetch("a"), await cached("b")]
        try:
            await broken("c")
        except ValueError as error:
            seen.append(str(error))
        return [*seen, *[letter async for letter in letters("de")]]

    taken, result = lab.again(lambda: trio.run(agent))
    assert (taken.error, taken.value) == (None, ["A", "b", "c", "d", "e"])
    assert [step.status for step in taken.record.steps] == ["success", "success", "failure", "success"]
    assert taken.grade == [MARK]
    assert (str(result.verdict), result.value, result.divergences) == ("MATCH", taken.value, [])


def test_what_trio_cancels_is_cancelled_and_recorded(lab: Lab) -> None:
    async def agent() -> bool:
        with trio.move_on_after(0.01) as scope:
            await endless()
        return scope.cancelled_caught

    taken = lab.record(lambda: trio.run(agent))
    assert (taken.error, taken.value) == (None, True)
    assert [(step.status, step.outcome_category) for step in taken.record.steps] == [("failure", "CANCELLED")]


def test_tasks_of_a_nursery_share_the_run(lab: Lab) -> None:
    async def agent() -> list[str]:
        seen = []

        async def one(name: str) -> None:
            seen.append(await fetch(name))

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(one, name)
        return sorted(seen)

    taken = lab.record(lambda: trio.run(agent))
    assert (taken.error, taken.value) == (None, ["A", "B", "C"])
    assert sorted(params["name"] for _, _, params, _ in taken.steps) == ["a", "b", "c"]


def test_a_generator_that_is_a_coroutine_is_awaited(lab: Lab) -> None:
    @skill
    @types.coroutine
    def asked(more: int) -> Generator[str, int, int]:
        return (yield "wanted") + more

    async def program() -> tuple[int, int]:
        return await asked(1), await asked(2)

    def agent() -> Any:
        call = program()
        try:
            call.send(None)
            while True:
                call.send(7)
        except StopIteration as stop:
            return stop.value

    taken, result = lab.again(agent)
    assert (taken.value, result.value, str(result.verdict)) == ((8, 9), (8, 9), "MATCH")
    assert [step[1] for step in taken.steps] == ["asked", "asked"]
