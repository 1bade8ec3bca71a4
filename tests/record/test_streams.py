"""A generator is one step: from its first `next` until it is exhausted, closed or failed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.models import TraceStatus
from isotrace.record import cost, skill

if TYPE_CHECKING:
    from tests.record.lab import Lab

executed: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_executed() -> None:
    executed.clear()


@skill(kind="llm")
def words(text: str) -> Iterator[str]:
    for word in text.split():
        executed.append(word)
        yield word


@skill(kind="llm")
async def awords(text: str) -> AsyncIterator[str]:
    for word in text.split():
        executed.append(word)
        await asyncio.sleep(0)
        yield word


@skill
def echo(first: Any) -> Any:
    """Gives back what is sent in, and says `oops` for what is thrown in."""
    said: Any = first
    while said != "stop":
        try:
            said = yield said
        except ValueError:
            said = "oops"
        executed.append(str(said))
    return "bye"


@skill
async def aecho(first: Any) -> Any:
    said: Any = first
    while said != "stop":
        try:
            said = yield said
        except ValueError:
            said = "oops"
        executed.append(str(said))


@skill
def breaks(after: int) -> Iterator[int]:
    yield from range(after)
    raise ConnectionError("line is dead")


@skill
async def abreaks(after: int) -> AsyncIterator[int]:
    for number in range(after):
        yield number
    raise ConnectionError("line is dead")


def listed(stream: Any) -> list[Any]:
    return list(stream)


def test_a_stream_is_one_step_with_its_chunks(lab: Lab) -> None:
    taken, result = lab.again(lambda: listed(words("a b c")))
    assert taken.value == ["a", "b", "c"]
    assert taken.steps == [((0,), "words", {"text": "a b c"}, {"chunks": ["a", "b", "c"]})]
    assert [type_ for type_, _ in taken.story] == ["step_started", *["step_chunk"] * 3, "step_finished"]
    assert (result.verdict, result.value) == ("MATCH", ["a", "b", "c"])
    assert executed == ["a", "b", "c"], "the replay executes nothing"


def test_an_async_stream_is_one_step_with_its_chunks(lab: Lab) -> None:
    async def agent() -> list[str]:
        return [word async for word in awords("a b c")]

    taken, result = lab.again(agent)
    assert taken.steps == [((0,), "awords", {"text": "a b c"}, {"chunks": ["a", "b", "c"]})]
    assert (result.verdict, result.value) == ("MATCH", ["a", "b", "c"])
    assert executed == ["a", "b", "c"]


def test_an_empty_stream_has_no_chunks(lab: Lab) -> None:
    taken, result = lab.again(lambda: listed(words("")))
    assert taken.steps == [((0,), "words", {"text": ""}, {"chunks": []})]
    assert (result.verdict, result.value) == ("MATCH", [])


def test_a_stream_starts_at_its_first_next(lab: Lab) -> None:
    def agent() -> list[str]:
        first, second, _never = words("1"), words("2"), words("3")
        return [next(second), next(first)]

    taken, result = lab.again(agent)
    assert [params["text"] for _, _, params, _ in taken.steps] == ["2", "1"]
    assert result.verdict == "MATCH"


def test_an_async_stream_starts_at_its_first_next_where_that_is_made(lab: Lab) -> None:
    async def in_a_task() -> list[str]:
        stream = awords("a")

        async def first() -> str:
            return await anext(stream)

        return [await asyncio.create_task(first()), "x"]

    taken, result = lab.again(in_a_task)
    assert [lineage for lineage, *_ in taken.steps] == [(0, 0)]
    assert result.verdict == "MATCH"


def test_a_stream_of_a_run_that_nobody_starts_is_no_step(lab: Lab) -> None:
    assert lab.record(lambda: words("a")).steps == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_stream_that_is_closed_early_says_so(lab: Lab, count: int) -> None:
    def agent() -> list[str]:
        stream = words("a b c d")
        got = [next(stream) for _ in range(count)]
        stream.close()  # type: ignore[attr-defined]
        return got

    taken, result = lab.again(agent)
    step = taken.record.steps[0]
    assert step.outcome_data == {"chunks": ["a", "b"][:count]}
    assert step.status is TraceStatus.SUCCESS
    assert step.context
    assert step.context.marks == ["closed_early"]
    assert (result.verdict, result.value) == ("MATCH", ["a", "b"][:count])


def test_a_stream_that_is_left_by_break_is_closed_early(lab: Lab) -> None:
    def agent() -> str:
        for word in words("a b c"):
            return word
        return ""

    taken, result = lab.again(agent)
    assert taken.record.steps[0].outcome_data == {"chunks": ["a"]}
    assert result.verdict == "MATCH"


def test_an_async_stream_that_is_left_by_break_is_closed_early(lab: Lab) -> None:
    async def agent() -> str:
        async for word in awords("a b c"):
            return word
        return ""

    taken, result = lab.again(agent)
    step = taken.record.steps[0]
    assert (step.status, step.outcome_data) == (TraceStatus.SUCCESS, {"chunks": ["a"]})
    assert step.context
    assert step.context.marks == ["closed_early"]
    assert result.verdict == "MATCH"


def test_an_async_stream_that_is_left_and_collected_takes_no_number(lab: Lab) -> None:
    async def agent() -> str:
        async for _ in awords("a b c"):
            break
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        async for word in awords("x"):
            return word
        return ""

    taken, result = lab.again(agent)
    assert [lineage for lineage, *_ in taken.steps] == [(0,), (1,)]
    assert result.verdict == "MATCH"


def test_a_stream_that_is_still_held_at_the_run_s_end_is_closed_early(lab: Lab) -> None:
    held: list[Any] = []

    def agent() -> str:
        held.append(words("a b c"))
        return next(held[-1])

    taken, result = lab.again(agent)
    assert taken.record.steps[0].context
    assert taken.record.steps[0].context.marks == ["closed_early"]
    assert result.verdict == "MATCH"
    assert list(held[0]) == ["b", "c"], "the agent's own stream goes on"


def test_what_a_stream_does_when_it_is_closed_is_part_of_it(lab: Lab) -> None:
    @skill
    def inner() -> None: ...

    @skill
    def stream() -> Iterator[int]:
        try:
            yield 1
        finally:
            inner()
            cost(3)

    @skill
    async def astream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            inner()
            cost(4)

    async def agent() -> None:
        one, other = stream(), astream()
        next(one)
        one.close()  # type: ignore[attr-defined]
        await anext(other)
        await other.aclose()  # type: ignore[attr-defined]

    taken, result = lab.again(agent)
    assert [(step.skill_name, step.cost_cents) for step in taken.record.steps] == [
        ("stream", 3.0),
        ("astream", 4.0),
    ]
    assert result.verdict == "MATCH"


def test_a_stream_that_fails_gives_its_chunks_and_then_the_error(lab: Lab) -> None:
    def agent() -> list[Any]:
        got: list[Any] = []
        try:
            got.extend(breaks(2))
        except ConnectionError as error:
            got.append(str(error))
        return got

    taken, result = lab.again(agent)
    step = taken.record.steps[0]
    assert (step.status, step.outcome_code, step.outcome_data) == (
        TraceStatus.FAILURE,
        "ConnectionError",
        {"chunks": [0, 1]},
    )
    # What `extend` got before the error is lost in the agent, live as in a replay.
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_an_async_stream_that_fails_gives_its_chunks_and_then_the_error(lab: Lab) -> None:
    async def agent() -> list[Any]:
        got: list[Any] = []
        try:
            async for number in abreaks(2):
                got.append(number)  # noqa: PERF401  # one by one
        except ConnectionError as error:
            got.append(str(error))
        return got

    taken, result = lab.again(agent)
    assert taken.value == [0, 1, "line is dead"]
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_what_is_sent_and_thrown_into_a_stream_has_the_recorded_effect(lab: Lab) -> None:
    def agent() -> list[Any]:
        stream: Any = echo("hi")
        got = [next(stream), stream.send("one"), stream.throw(ValueError("two")), next(stream)]
        try:
            stream.send("stop")
        except StopIteration as stop:
            got.append(stop.value)
        return got

    taken, result = lab.again(agent)
    assert taken.value == ["hi", "one", "oops", None, "bye"]
    assert taken.record.steps[0].outcome_data == {"chunks": ["hi", "one", "oops", None], "return": "bye"}
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_what_is_sent_and_thrown_into_an_async_stream_has_the_recorded_effect(lab: Lab) -> None:
    async def agent() -> list[Any]:
        stream: Any = aecho("hi")
        got = [await anext(stream), await stream.asend("one"), await stream.athrow(ValueError("two"))]
        try:
            await stream.asend("stop")
        except StopAsyncIteration:
            got.append("end")
        return got

    taken, result = lab.again(agent)
    assert taken.value == ["hi", "one", "oops", "end"]
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_something_else_sent_into_a_stream_is_a_divergence(lab: Lab) -> None:
    said = "one"

    def agent() -> None:
        stream: Any = echo("hi")
        next(stream)
        stream.send(said)

    taken = lab.record(agent)
    said = "two"
    result = lab.replay(taken, agent)
    assert result.verdict == "DIVERGED"
    [divergence] = result.divergences
    assert (divergence.code, divergence.index, divergence.pointers) == ("STREAM_CHANGED", 0, ["/sent/1"])
    assert (divergence.expected, divergence.actual) == ({"/sent/1": "one"}, {"/sent/1": "two"})


def test_an_error_that_passes_through_a_stream_is_the_one_that_was_thrown_in(lab: Lab) -> None:
    class Mine(Exception):
        pass

    caught: list[bool] = []

    def agent() -> None:
        stream: Any = words("a b")
        next(stream)
        mine = Mine("x")
        try:
            stream.throw(mine)
        except Mine as error:
            caught.append(error is mine)

    assert lab.again(agent)[1].verdict == "MATCH"
    assert caught == [True, True]


def test_the_value_of_yield_from_comes_back(lab: Lab) -> None:
    def agent() -> Any:
        def outer() -> Any:
            return (yield from echo("stop"))

        stream = outer()
        try:
            while True:
                next(stream)
        except StopIteration as stop:
            return stop.value

    taken, result = lab.again(agent)
    assert taken.value == "bye"
    assert (result.verdict, result.value) == ("MATCH", "bye")


def test_a_chunk_is_on_record_before_the_agent_has_it(lab: Lab) -> None:
    @skill
    def growing() -> Iterator[list[int]]:
        numbers: list[int] = []
        for number in range(3):
            numbers.append(number)
            yield numbers

    taken = lab.record(lambda: [list(chunk) for chunk in growing()])
    assert taken.record.steps[0].outcome_data == {"chunks": [[0], [0, 1], [0, 1, 2]]}


def test_streams_that_are_read_in_turns_replay(lab: Lab) -> None:
    async def agent() -> list[str]:
        async def reader(text: str) -> list[str]:
            return [word async for word in awords(text)]

        one, two = await asyncio.gather(reader("a b c"), reader("d e f"))
        return one + two

    taken, result = lab.again(agent)
    assert taken.value == list("abcdef")
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_an_async_stream_that_is_cancelled_ends_there(lab: Lab) -> None:
    @skill
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(30)
        yield 2

    async def agent() -> list[Any]:
        got: list[Any] = []
        try:
            async with asyncio.timeout(0.02):
                async for number in slow():
                    got.append(number)  # noqa: PERF401  # one by one
        except TimeoutError:
            got.append("late")
        return got

    taken, result = lab.again(agent)
    assert taken.value == [1, "late"]
    step = taken.record.steps[1]
    assert (step.outcome_category, step.outcome_data) == ("CANCELLED", {"chunks": [1]})
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_a_stream_outside_of_a_run_is_a_plain_generator() -> None:
    assert list(words("a b")) == ["a", "b"]
    stream: Any = echo("hi")
    assert [next(stream), stream.send("x"), stream.throw(ValueError)] == ["hi", "x", "oops"]

    async def main() -> list[Any]:
        one: Any = aecho("hi")
        got = [await anext(one), await one.asend("x"), await one.athrow(ValueError)]
        await one.aclose()
        return got + [word async for word in awords("a b")]

    assert asyncio.run(main()) == ["hi", "x", "oops", "a", "b"]


# --- a replay that reads otherwise ------------------------------------------------------------


def reading(count: int) -> Any:
    def agent() -> list[str]:
        stream: Any = words("a b c")
        got = []
        for _ in range(count):
            try:
                got.append(next(stream))
            except StopIteration:
                break
        stream.close()
        return got

    return agent


def test_reading_less_of_a_stream_than_recorded_is_reported(lab: Lab) -> None:
    taken = lab.record(reading(3))
    result = lab.replay(taken, reading(2))
    assert [(one.code, one.index, one.severity) for one in result.divergences] == [
        ("STREAM_CHANGED", 0, "info"),
    ]
    assert "after 2 of 3" in result.divergences[0].message


def test_reading_on_where_the_record_stopped_is_a_divergence(lab: Lab) -> None:
    taken = lab.record(reading(2))
    result = lab.replay(taken, reading(3))
    assert result.verdict == "DIVERGED"
    assert [(one.code, one.index, one.severity) for one in result.divergences] == [
        ("STREAM_CHANGED", 0, "error"),
    ]


def test_streams_are_served_without_delay(lab: Lab) -> None:
    @skill
    async def slow() -> AsyncIterator[int]:
        for number in range(3):
            executed.append("waits")
            await asyncio.sleep(0.01)
            yield number

    async def agent() -> list[int]:
        return [number async for number in slow()]

    taken = lab.record(agent)
    executed.clear()
    result = lab.replay(taken, agent)
    assert (result.verdict, result.value, executed) == ("MATCH", [0, 1, 2], [])
