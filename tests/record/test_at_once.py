"""Awaited steps that do not wait for anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from isotrace.ledger import Ledger
from isotrace.models import TraceRecord
from isotrace.record import skill
from isotrace.record.body import first_leg, rest
from isotrace.record.context import Step

if TYPE_CHECKING:
    from tests.record.lab import Lab


@skill
async def instant(name: str, seen: list[str]) -> str:
    return name


@skill
async def slow(name: str, seen: list[str]) -> str:
    await asyncio.sleep(0)
    return name


@skill
async def broken(name: str) -> None:
    raise ValueError(name)


async def crowd(*calls: Any) -> list[str]:
    """Two tasks that make these calls; each call sees what was answered so far."""
    seen: list[str] = []

    async def branch(name: str) -> None:
        for number, call in enumerate(calls):
            seen.append(await call(f"{name}{number}", list(seen)))

    await asyncio.gather(branch("a"), branch("b"))
    return seen


def test_recording_leaves_the_order_as_asyncio_has_it(lab: Lab) -> None:
    async def program() -> list[str]:
        return await crowd(instant, instant)

    assert asyncio.run(program()) == lab.record(program).value == ["a0", "a1", "b0", "b1"]


def test_only_steps_that_do_not_wait_say_so(lab: Lab) -> None:
    async def program() -> None:
        await instant("a", [])
        await slow("b", [])
        with pytest.raises(ValueError, match="c"):
            await broken("c")

    taken = lab.record(program)
    assert [step.context.at_once for step in taken.record.steps if step.context] == [True, False, True]


@pytest.mark.parametrize("source", ["ledger", "record", "record that was written out and read"])
def test_what_they_see_is_the_same_in_a_replay(lab: Lab, source: str) -> None:
    async def program() -> list[str]:
        return await crowd(instant, slow, instant, instant)

    taken = lab.record(program)
    assert taken.value == ["a0", "b0", "a1", "a2", "a3", "b1", "b2", "b3"]
    record = taken.record
    sources: dict[str, Ledger | TraceRecord] = {
        "ledger": taken.ledger,
        "record": record,
        "record that was written out and read": TraceRecord.from_dict(record.to_dict()),
    }
    result = lab.replay(sources[source], program)
    assert (str(result.verdict), result.value, result.divergences) == ("MATCH", taken.value, [])


def test_they_are_no_point_of_cancellation(lab: Lab) -> None:
    async def program() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        answer = await instant("a", [])
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()
        return answer

    taken, result = lab.again(program)
    assert (taken.value, taken.record.steps[0].status.value, str(result.verdict)) == ("a", "success", "MATCH")


# --- awaiting -----------------------------------------------------------------------------


async def driven(call: Any) -> tuple[bool, Any]:
    """Whether the call waits, and what it returns."""
    waits, steps, value = first_leg(call)
    step = Step(cast(Any, None), cast(Any, None), (0,))
    return waits, await rest(step, steps, value) if waits else value


class Odd:
    """An awaitable whose iterator has nothing but `__next__`."""

    def __await__(self) -> Any:
        return iter([None])


async def test_errors_that_are_thrown_in_reach_the_call() -> None:
    async def stubborn() -> str:
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue
        return "survived"

    task = asyncio.create_task(driven(stubborn()))
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert await task == (True, "survived")


async def test_a_call_that_is_closed_may_clean_up() -> None:
    cleaned: list[str] = []

    async def careful() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("up")

    call = driven(careful())
    call.send(None)
    call.close()
    assert cleaned == ["up"]


async def test_a_result_comes_back_with_and_without_waiting() -> None:
    async def answer(wait: bool) -> int:
        if wait:
            await asyncio.sleep(0)
        return 7

    for wait in (False, True):
        assert await driven(answer(wait)) == (wait, 7)


async def test_anything_that_can_be_awaited_is() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    done.set_result(1)
    later = loop.create_future()
    loop.call_soon(later.set_result, 2)
    assert (await driven(done), await driven(later), await driven(Odd())) == (
        (False, 1),
        (True, 2),
        (True, None),
    )
