"""What a replay gives the agent is what the live run gave it: values, types, errors, ids."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pydantic
import pytest

from isotrace.errors import RecordedError, RestoreError
from isotrace.models import TraceRecord
from isotrace.record import current_run, skill

if TYPE_CHECKING:
    from tests.record.lab import Lab

executed: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_executed() -> None:
    executed.clear()


@skill(kind="llm")
def chat(prompt: str) -> str:
    executed.append(prompt)
    return f"answer to {len(prompt)} characters"


@dataclass
class Item:
    name: str
    cents: int


@dataclass
class Receipt:
    id: UUID
    items: list[Item]
    at: datetime
    total: Decimal


class Point(NamedTuple):
    x: int
    y: float


class Colour(Enum):
    RED = "red"


class Answer(pydantic.BaseModel):
    text: str
    score: float
    parts: list[str] = []


# --- form and order -------------------------------------------------------------------------------


def test_key_order_and_the_form_of_numbers_survive_into_the_next_prompt(lab: Lab) -> None:
    @skill(effect="read")
    def lookup() -> dict[str, Any]:
        executed.append("lookup")
        return {"zeta": 20.0, "alpha": 1, "Ünïcode": "„quoted“", "nested": {"b": 1e-7, "a": [1.5, 2.0, -0.0]}}

    def agent() -> str:
        return chat(f"What does {lookup()} say? As JSON: {json.dumps(lookup())}")

    taken, result = lab.again(agent)
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    assert len(executed) == 3
    assert "{'zeta': 20.0, 'alpha': 1," in taken.steps[2][2]["prompt"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**53,
        2**100,
        0.1,
        -0.0,
        1e300,
        "",
        "text\n\x00\u2028",
        [],
        {},
        [[], {}, None],
        {"": {"": ""}},
        {"$iso:int": "5"},
        {"value": 1},
        {"chunks": ["a"]},
        {1: "one", (2, 3): "two"},
        b"\x00\xff",
        {1, 2, 3},
        Decimal("1.10"),
        datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        datetime(2026, 1, 2),  # noqa: DTZ001  # a naive one stays naive
        "\ud800 surrogate",
    ],
    ids=repr,
)
def test_a_value_of_the_standard_kinds_comes_back_the_same(lab: Lab, value: Any) -> None:
    @skill(effect="read")
    def give():  # without an annotation
        executed.append(1)
        return value

    taken, result = lab.again(give)
    assert taken.grade == "replayable"
    assert result.verdict == "MATCH"
    assert result.value == value
    assert type(result.value) is type(value)
    assert repr(result.value) == repr(value) or isinstance(value, set)
    assert executed == [1]


def test_typed_outcomes_come_back_by_their_annotation(lab: Lab) -> None:
    receipt = Receipt(UUID(int=5), [Item("tea", 300)], datetime(2026, 1, 1, tzinfo=UTC), Decimal("3.00"))

    @skill
    def buy() -> Receipt:
        return receipt

    @skill
    async def ask() -> Answer | None:
        return Answer(text="hi", score=1.0, parts=["a"])

    @skill
    def where() -> tuple[Point, Colour, Path, OrderedDict[str, int]]:
        return Point(1, 2.0), Colour.RED, Path("a/b"), OrderedDict(b=1, a=2)

    @skill
    def many() -> list[Item]:
        return [Item("a", 1), Item("b", 2)]

    async def agent() -> list[Any]:
        return [buy(), await ask(), where(), many()]

    taken, result = lab.again(agent)
    assert taken.grade == "replayable"
    assert result.verdict == "MATCH"
    assert result.value == taken.value
    assert [type(one) for one in result.value] == [Receipt, Answer, tuple, list]
    assert [type(one) for one in result.value[2]] == [Point, Colour, type(Path("a")), OrderedDict]


def test_a_plain_value_stays_plain_whatever_the_annotation_says(lab: Lab) -> None:
    @skill
    def wrong_dataclass() -> Item:
        return {"name": "tea", "cents": 3}  # type: ignore[return-value]

    @skill
    def wrong_tuple() -> tuple[int, ...]:
        return [1, 2]  # type: ignore[return-value]

    @skill
    def wrong_set() -> set[str]:
        return ["b", "a"]  # type: ignore[return-value]

    @skill
    def stream():
        yield {"name": "tea", "cents": 3}

    def agent() -> list[Any]:
        return [wrong_dataclass(), wrong_tuple(), wrong_set(), list(stream())]

    taken, result = lab.again(agent)
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    assert [type(one) for one in result.value] == [dict, list, list, list]


def test_chunks_come_back_by_the_annotation_of_the_stream(lab: Lab) -> None:
    @skill
    def points() -> Iterator[Point]:
        yield Point(1, 2.0)
        yield Point(3, 4.0)

    @skill
    async def items() -> AsyncIterator[Item]:
        yield Item("a", 1)

    async def agent() -> list[Any]:
        return [*points(), *[item async for item in items()]]

    taken, result = lab.again(agent)
    assert taken.grade == "replayable"
    assert (result.verdict, result.value) == ("MATCH", [Point(1, 2.0), Point(3, 4.0), Item("a", 1)])


def test_an_outcome_whose_type_no_annotation_names_is_a_reason_in_the_grade(lab: Lab) -> None:
    @skill
    def pair():  # a tuple, and nothing says so
        return 1, 2

    @skill
    def item() -> Any:
        return Item("a", 1)

    taken = lab.record(lambda: (pair(), item()))
    assert taken.grade == [
        "outcome of pair: tuple comes back as list: annotate what the function returns",
        f"outcome of item: {__name__}.Item comes back as dict: annotate what the function returns",
    ]


def test_the_grade_of_a_run_does_not_depend_on_the_runs_before_it(lab: Lab) -> None:
    @skill
    def pair():
        return 1, 2

    grades = {str(lab.record(lambda: [pair() for _ in range(20)]).grade) for _ in range(3)}
    assert len(grades) == 1
    assert "replayable" not in grades


def test_a_recorded_value_that_does_not_fit_the_code_any_more_is_a_named_error(lab: Lab) -> None:
    @dataclass
    class Old:
        name: str

    @dataclass
    class New:
        name: str
        added: int

    kind: Any = Old

    def make() -> Any:
        def give() -> Any:
            return Old("a")

        give.__annotations__["return"] = kind
        return skill(give)

    def agent() -> Any:
        try:
            return make()()
        except Exception:
            return "survived"

    taken = lab.record(agent)
    kind = New
    with pytest.raises(RestoreError) as raised:
        lab.replay(taken, agent)
    assert (raised.value.step, raised.value.where) == (0, "the outcome of give")


# --- errors ---------------------------------------------------------------------------------------


class Listed(Exception):
    def __init__(self, code: int, *, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code


class Unlisted(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "served"),
    [
        (ValueError("a", 1), ValueError("a", 1)),
        (KeyError("k"), KeyError("k")),
        (FileNotFoundError(2, "gone", "x"), FileNotFoundError(2, "gone")),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ),
        (StopIteration(3), StopIteration(3)),
        (KeyboardInterrupt("x"), KeyboardInterrupt("x")),
        (SystemExit(3), SystemExit(3)),
        (asyncio.CancelledError("x"), asyncio.CancelledError("x")),
        (Listed(404, detail="no"), Listed(404, detail="no")),
        (ExceptionGroup("several", [ValueError("a")]), ExceptionGroup("several", [ValueError("a")])),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_recorded_error_is_raised_again_by_its_class(
    lab: Lab, raised: BaseException, served: BaseException
) -> None:
    @skill(raises=(Listed,))
    def fail() -> None:
        executed.append(1)
        raise raised

    caught: list[BaseException] = []

    def agent() -> None:
        try:
            fail()
        except BaseException as error:
            caught.append(error)

    assert lab.again(agent)[1].verdict == "MATCH"
    assert executed == [1]
    assert caught[0] is raised
    assert type(caught[1]) is type(served)
    assert str(caught[1]) == str(served)
    if isinstance(served, Listed):
        assert caught[1].args == served.args


def test_an_error_of_another_class_is_a_recorded_error_with_its_code(lab: Lab) -> None:
    @skill
    def fail() -> None:
        raise Unlisted("not today")

    caught: list[Any] = []

    def agent() -> None:
        try:
            fail()
        except (Unlisted, RecordedError) as error:
            caught.append(error)

    assert lab.again(agent)[1].verdict == "MATCH"
    assert (type(caught[1]), str(caught[1]), caught[1].code) == (RecordedError, "not today", "Unlisted")


def test_a_run_that_failed_on_record_matches_when_it_fails_again(lab: Lab) -> None:
    @skill
    def fail() -> None:
        raise Unlisted("not today")

    taken, result = lab.again(fail)
    assert isinstance(taken.error, Unlisted)
    assert result.verdict == "MATCH"
    assert isinstance(result.error, RecordedError)


def test_retries_are_served_as_they_ended_without_pausing(lab: Lab) -> None:
    left = [2]

    @skill(retries=3, backoff_s=0.001)
    def flaky() -> str:
        executed.append(1)
        if left[0]:
            left[0] -= 1
            raise ConnectionError
        return "done"

    taken, result = lab.again(flaky)
    assert (result.verdict, result.value, len(executed)) == ("MATCH", "done", 3)
    assert taken.record.steps[0].retry_count == 2


# --- minted ids -----------------------------------------------------------------------------------


def test_ids_that_a_provider_mints_are_matched_by_where_they_came_from(lab: Lab) -> None:
    @skill(kind="llm")
    def model(messages: list[Any]) -> dict[str, Any]:
        executed.append(messages)
        number = f"call_{len(executed)}abcdefghijkl"
        call = {"id": number, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    def agent() -> Any:
        messages: list[Any] = [{"role": "user", "content": "hi"}]
        for _ in range(2):
            said = model(messages)
            messages += [said, {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "ok"}]
        return messages

    taken, result = lab.again(agent)
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    # Another live run mints other ids, and takes the same path.
    assert lab.record(agent).record.determinism_signature() == taken.record.determinism_signature()


# --- who the run is -------------------------------------------------------------------------------


def test_the_code_is_told_that_it_is_the_original_run(lab: Lab) -> None:
    seen: list[Any] = []

    def agent() -> None:
        me = current_run()
        assert me is not None
        seen.append((me.run_id, me.correlation_id, me.tenant_id, me.agent_id, me.seed, me.input, me.now()))

    taken = lab.record(agent, input={"a": 1}, tenant_id="acme")
    result = lab.replay(taken, agent, input={"a": 1})
    assert result.verdict == "MATCH"
    assert result.run_id == taken.record.run_id
    assert seen[1] == seen[0]


# --- a record without its ledger ------------------------------------------------------------------


def test_a_record_that_was_read_from_json_replays(lab: Lab) -> None:
    @skill
    def fail() -> None:
        raise ValueError("no")

    @skill
    def words():
        yield "a"
        yield "b"

    @skill
    async def fetch(what: Any) -> Any:
        executed.append(what)
        await asyncio.sleep(0.001)
        return {"got": what}

    @skill
    async def endless() -> None:
        await asyncio.Event().wait()

    async def agent() -> Any:
        log: list[Any] = list(await asyncio.gather(fetch("a"), fetch("b")))
        log += list(words())
        for word in words():
            log.append(word)
            break
        try:
            fail()
        except ValueError as error:
            log.append(str(error))
        try:
            async with asyncio.timeout(0.01):
                await endless()
        except TimeoutError:
            log.append("late")
        await asyncio.sleep(0.001)
        me = current_run()
        assert me is not None
        me.set_result(log)
        return log

    taken = lab.record(agent, input="x")
    record = TraceRecord.from_dict(json.loads(json.dumps(taken.record.to_dict())))
    result = lab.replay(record, agent, input="x")
    assert (result.verdict, result.divergences, result.value) == ("MATCH", [], taken.value)
    assert executed == ["a", "b"]


def test_a_function_that_returns_chunks_is_no_stream(lab: Lab) -> None:
    @skill
    def give() -> dict[str, Any]:
        return {"chunks": [1, 2]}

    @skill
    async def agive() -> dict[str, Any]:
        return {"chunks": [3]}

    async def agent() -> Any:
        return [give(), await agive(), give()]

    taken = lab.record(agent)
    for source in (taken, taken.record):
        result = lab.replay(source, agent)
        assert (result.verdict, result.value) == ("MATCH", taken.value)
