"""Each call of a skill in a run is a step, recorded as it was made and as it ended; the agent notices
nothing of it."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import itertools
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.errors import RecordingWarning, UsageError
from isotrace.models import TraceStatus
from isotrace.record import cost, run, skill
from isotrace.record.spec import OPTIONS, SkillSpec
from isotrace.stores.memory import MemoryStore

if TYPE_CHECKING:
    from tests.record.lab import Lab


@skill(effect="read")
def add(a: int, b: int = 2) -> int:
    return a + b


@skill(effect="read")
async def aadd(a: int, b: int = 2) -> int:
    await asyncio.sleep(0)
    return a + b


class Shop:
    """Skills of every kind that a class can have."""

    def __init__(self, name: str) -> None:
        self.name = name

    @skill(effect="read")
    def price(self, item: str) -> str:
        return f"{self.name}:{item}"

    @skill
    async def order(self, item: str) -> str:
        return f"ordered {item}"

    @skill
    def watch(self, item: str):
        yield f"{self.name}:{item}"

    @skill
    @classmethod
    def open_inside(cls, name: str) -> str:
        return f"{cls.__name__} {name}"

    @classmethod
    @skill
    def open_outside(cls, name: str) -> str:
        return f"{cls.__name__} {name}"

    @skill
    @staticmethod
    def rate_inside(country: str) -> float:
        return 0.19

    @staticmethod
    @skill
    def rate_outside(country: str) -> float:
        return 0.19


def test_a_call_is_a_step_with_params_and_outcome(lab: Lab) -> None:
    taken = lab.record(lambda: add(1))
    assert taken.value == 3
    assert taken.steps == [((0,), "add", {"a": 1}, {"value": 3})]


def test_an_awaited_call_is_a_step_too(lab: Lab) -> None:
    async def agent() -> int:
        return await aadd(1, b=5)

    taken = lab.record(agent)
    assert taken.value == 6
    assert taken.steps == [((0,), "aadd", {"a": 1, "b": 5}, {"value": 6})]


def test_methods_of_every_kind_leave_self_and_cls_out(lab: Lab) -> None:
    shop = Shop("north")

    async def agent() -> list[Any]:
        return [
            shop.price("tea"),
            await shop.order("tea"),
            list(shop.watch("tea")),
            Shop.open_inside("x"),
            shop.open_outside("x"),
            Shop.rate_inside("DE"),
            shop.rate_outside(country="DE"),
            Shop.price(shop, "milk"),
        ]

    taken = lab.record(agent)
    assert taken.value == [
        "north:tea",
        "ordered tea",
        ["north:tea"],
        "Shop x",
        "Shop x",
        0.19,
        0.19,
        "north:milk",
    ]
    assert [(name, params) for _, name, params, _ in taken.steps] == [
        ("price", {"item": "tea"}),
        ("order", {"item": "tea"}),
        ("watch", {"item": "tea"}),
        ("open_inside", {"name": "x"}),
        ("open_outside", {"name": "x"}),
        ("rate_inside", {"country": "DE"}),
        ("rate_outside", {"country": "DE"}),
        ("price", {"item": "milk"}),
    ]


def test_a_method_of_a_class_made_in_a_function_leaves_self_out(lab: Lab) -> None:
    class Local:
        @skill
        def ask(self, what: str) -> str:
            return what

    assert lab.record(lambda: Local().ask("a")).steps == [((0,), "ask", {"what": "a"}, {"value": "a"})]


def test_arguments_equal_to_their_defaults_are_left_out(lab: Lab) -> None:
    taken = lab.record(lambda: [add(1, 2), add(1, b=2), add(a=1)])
    assert [params for _, _, params, _ in taken.steps] == [{"a": 1}, {"a": 1}, {"a": 1}]


def test_params_are_what_they_were_when_the_call_was_made(lab: Lab) -> None:
    @skill
    def extend(items: list[int], sink: dict[str, Any]) -> list[int]:
        items.append(99)
        sink["seen"] = True
        return items

    items: list[int] = [1]
    taken = lab.record(lambda: [extend(items, {}), items.__iadd__([100])])
    assert taken.steps == [((0,), "extend", {"items": [1], "sink": {}}, {"value": [1, 99]})]


@pytest.mark.parametrize("count", [1, 200])
def test_keys_that_are_no_text_are_given_and_come_back(lab: Lab, count: int) -> None:
    @skill
    def rows(given: list[dict[int, int]]) -> list[dict[int, int]]:
        return given

    @skill
    async def later(given: list[dict[int, int]]) -> list[dict[int, int]]:
        return given

    async def agent() -> Any:
        return rows([{1: 2}] * count) + await later([{3: 4}] * count)

    taken, result = lab.again(agent)
    expected = [{1: 2}] * count + [{3: 4}] * count
    assert (taken.value, result.value, str(result.verdict)) == (expected, expected, "MATCH")


def test_an_outcome_is_what_it_was_when_it_came_back(lab: Lab) -> None:
    @skill
    def fetch() -> dict[str, Any]:
        return {"rows": [1]}

    def agent() -> None:
        fetch()["rows"].append(2)

    assert lab.record(agent).steps[0][3] == {"rows": [1]}


@dataclass
class Receipt:
    cents: int


@pytest.mark.parametrize(
    ("returned", "kept"),
    [
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        ({"value": 1}, {"value": 1}),
        (None, {"value": None}),
        (0, {"value": 0}),
        ("", {"value": ""}),
        ([1, {"b": 2}], {"value": [1, {"b": 2}]}),
        (Receipt(5), {"cents": 5}),
        (2**70, {"value": {"$iso:int": str(2**70)}}),
        (b"\xff", {"value": {"$iso:bytes": "/w=="}}),
        ({1: 2}, {"$iso:dict": [[1, 2]]}),
    ],
)
def test_a_dictionary_is_kept_as_it_is_and_anything_else_under_value(
    lab: Lab, returned: Any, kept: Any
) -> None:
    @skill
    def give() -> Any:
        return returned

    taken = lab.record(give)
    assert taken.value is returned
    assert taken.record.steps[0].outcome_data == kept


def test_a_skill_inside_a_skill_is_no_step(lab: Lab) -> None:
    @skill
    def outer() -> int:
        return add(1) + add(2)

    @skill
    async def aouter() -> int:
        return await aadd(1) + sum(await asyncio.gather(aadd(2), aadd(3)))

    async def agent() -> int:
        return outer() + await aouter()

    taken = lab.record(agent)
    assert taken.value == 7 + 12
    assert [name for _, name, _, _ in taken.steps] == ["outer", "aouter"]


def test_a_skill_outside_of_a_run_is_a_plain_call() -> None:
    assert add(1) == 3
    assert asyncio.run(aadd(1)) == 3


def test_a_skill_after_its_run_is_a_plain_call(lab: Lab) -> None:
    taken = lab.record(lambda: add(1))
    assert add(5) == 7
    assert len(taken.steps) == 1


def test_name_kind_and_effect_are_recorded(lab: Lab) -> None:
    @skill(name="order.refund", kind="llm", effect="idempotent_write")
    def whatever() -> None: ...

    @skill
    def undeclared() -> None: ...

    taken = lab.record(lambda: (whatever(), undeclared()))
    contexts = [step.context for step in taken.record.steps]
    assert [
        (s.skill_name, c.kind, c.effect) for s, c in zip(taken.record.steps, contexts, strict=True) if c
    ] == [
        ("order.refund", "llm", "idempotent_write"),
        ("undeclared", "tool", "write"),
    ]


def test_a_skill_keeps_the_look_of_its_function() -> None:
    def documented(a: int, *, b: str = "x") -> list[int]:
        """Says what it does."""
        return [a]

    wrapped = skill(documented)
    assert wrapped.__name__ == "documented"
    assert wrapped.__doc__ == "Says what it does."
    assert inspect.signature(wrapped) == inspect.signature(documented)
    assert inspect.iscoroutinefunction(skill(aadd))
    assert inspect.isgeneratorfunction(Shop.watch)

    @skill
    async def stream():
        yield 1

    assert inspect.isasyncgenfunction(stream)


@pytest.mark.parametrize(
    "options",
    [
        {"effect": "harmless"},
        {"retries": -1},
        {"retries": 1.5},
        {"backoff_s": -0.1},
        {"backoff_s": float("nan")},
        {"name": "\ud800"},
        {"name": 5},
        {"kind": ""},
        {"kind": 3},
        {"retires": 3},
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_the_function(options: dict[str, Any]) -> None:
    def look() -> None: ...

    for decorated in (look, staticmethod(look), functools.partial(look)):
        with pytest.raises(UsageError) as caught:
            skill(**options)(decorated)
        assert caught.value.where == f"{__name__}.{look.__qualname__}"


def test_an_option_that_there_is_not_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="a skill has no such option") as caught:
        skill(retires=3)(lambda: None)  # type: ignore[call-overload]  # there is no such option
    assert (caught.value.got, caught.value.nearest) == ("retires", "retries")
    with pytest.raises(UsageError, match="unknown effect of a skill") as caught:
        skill(effect="wirte")(lambda: None)  # type: ignore[call-overload]  # there is no such effect
    assert (caught.value.got, caught.value.nearest) == ("wirte", "write")


def test_the_options_that_errors_list_are_those_that_a_skill_takes() -> None:
    taken = inspect.signature(SkillSpec).parameters.keys() - {"function", "method"}
    assert set(OPTIONS) == taken


def test_what_can_be_called_can_be_a_skill(lab: Lab) -> None:
    class Tool:
        def __call__(self, q: str) -> str:
            return q.upper()

    class AsyncTool:
        async def __call__(self, q: str) -> str:
            return q.lower()

    by_object, partly = skill(Tool()), skill(functools.partial(add, 1))
    by_async_object, builtin = skill(AsyncTool()), skill(len)

    async def agent() -> list[Any]:
        return [by_object("a"), partly(b=4), await by_async_object("B"), builtin([1, 2])]

    taken = lab.record(agent)
    assert taken.value == ["A", 5, "b", 2]
    assert [(name, outcome) for _, name, _, outcome in taken.steps] == [
        ("Tool", {"value": "A"}),
        ("add", {"value": 5}),
        ("AsyncTool", {"value": "b"}),
        ("len", {"value": 2}),
    ]


# --- failures -------------------------------------------------------------------------------


class Custom(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (ValueError("no"), "PERMANENT"),
        (TimeoutError("slow"), "TRANSIENT"),
        (ConnectionResetError("gone"), "TRANSIENT"),
        (PermissionError("no"), "PERMISSION"),
        (KeyboardInterrupt(), "CANCELLED"),
        (SystemExit(3), "PERMANENT"),
        (asyncio.CancelledError(), "CANCELLED"),
        (GeneratorExit(), "CANCELLED"),
        (Custom("x"), "PERMANENT"),
        (StopIteration(3), "PERMANENT"),
    ],
)
def test_an_error_reaches_the_agent_itself_and_is_recorded(
    lab: Lab, error: BaseException, category: str
) -> None:
    @skill
    def fail() -> None:
        raise error

    caught: list[BaseException] = []

    def agent() -> None:
        try:
            fail()
        except BaseException as raised:
            caught.append(raised)

    step = lab.record(agent).record.steps[0]
    assert caught == [error]
    assert (step.status, step.outcome_category, step.outcome_code, step.outcome_data) == (
        TraceStatus.FAILURE,
        category,
        type(error).__qualname__,
        None,
    )


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("^C"), SystemExit(3)])
def test_an_error_of_a_coroutine_reaches_the_agent_itself(lab: Lab, error: BaseException) -> None:
    @skill
    async def fail() -> None:
        raise error

    caught: list[BaseException] = []

    async def agent() -> None:
        try:
            await fail()
        except BaseException as raised:
            caught.append(raised)

    taken = lab.record(agent)
    assert caught == [error]
    assert taken.record.steps[0].outcome_code == type(error).__qualname__
    assert taken.record.status == "completed"


def test_an_http_status_is_the_code(lab: Lab) -> None:
    class ApiError(Exception):
        status_code = 429

    class Response:
        status_code = 503

    class Wrapped(Exception):
        response = Response()

    @skill
    def fail(error: str) -> None:
        raise ApiError if error == "direct" else Wrapped

    def agent() -> None:
        for error in ("direct", "wrapped"):
            with pytest.raises((ApiError, Wrapped)):
                fail(error)

    assert [(s.outcome_category, s.outcome_code) for s in lab.record(agent).record.steps] == [
        ("TRANSIENT", "429"),
        ("TRANSIENT", "503"),
    ]


def test_an_error_with_hostile_attributes_is_raised_as_it_is(lab: Lab) -> None:
    class Hostile(Exception):
        @property
        def response(self) -> None:
            raise RuntimeError("no response yet")

        @property
        def status_code(self) -> None:
            raise RuntimeError("no status yet")

        def __str__(self) -> str:
            raise RuntimeError("no text either")

    @skill
    def fail() -> None:
        raise Hostile

    taken = lab.record(fail)
    assert type(taken.error) is Hostile
    assert taken.record.steps[0].outcome_category == "PERMANENT"


def test_a_call_that_the_function_refuses_raises_the_function_s_own_error(lab: Lab) -> None:
    def plain(a: int, *, b: int) -> int:
        return a + b

    wrapped: Any = skill(plain)
    with pytest.raises(TypeError) as expected:
        plain(1, 2, c=3)  # type: ignore[call-arg]
    taken = lab.record(lambda: wrapped(1, 2, c=3))
    assert type(taken.error) is TypeError
    assert str(taken.error) == str(expected.value)
    assert taken.record.steps[0].params == {"args": [1, 2], "kwargs": {"c": 3}}
    assert taken.record.steps[0].outcome_code == "TypeError"


def test_a_decorator_that_takes_other_arguments_than_its_function_shows_is_called_all_the_same(
    lab: Lab,
) -> None:
    def connected(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function("connection", *args)

        return call

    @skill
    @connected
    def query(connection: str, sql: str) -> str:
        return f"{connection}: {sql}"

    taken = lab.record(lambda: query("select"))
    assert taken.value == "connection: select"
    assert taken.record.steps[0].params == {"args": ["select"], "kwargs": {}}


def test_a_failed_run_says_so(lab: Lab) -> None:
    def agent() -> None:
        add(1)
        raise Custom("at the end")

    record = lab.record(agent).record
    assert record.status == "failed"
    assert record.context
    assert record.context.error == {"type": "Custom", "message": "at the end", "args": ["at the end"]}


@pytest.mark.parametrize(
    ("code", "status"), [(None, "completed"), (0, "completed"), (1, "failed"), ("x", "failed")]
)
def test_leaving_by_sys_exit_is_a_failure_only_with_a_code(lab: Lab, code: Any, status: str) -> None:
    def agent() -> None:
        raise SystemExit(code)

    assert lab.record(agent).record.status == status


# --- retries --------------------------------------------------------------------------------


def flaky(failures: int) -> Any:
    left = [failures]

    def attempt() -> str:
        if left[0]:
            left[0] -= 1
            raise ConnectionError(f"{left[0]} to go")
        return "done"

    return attempt


def test_retries_are_attempts_of_one_step(lab: Lab) -> None:
    attempt = flaky(2)

    @skill(retries=3)
    def call(x: int) -> str:
        return attempt()

    step = lab.record(lambda: call(1)).record.steps[0]
    assert (step.status, step.retry_count, step.outcome_data) == (TraceStatus.SUCCESS, 2, {"value": "done"})
    assert step.context
    assert step.context.attempts == [
        {
            "attempt": number,
            "outcome_category": "TRANSIENT",
            "outcome_code": "ConnectionError",
            "error": {"type": "ConnectionError", "message": text, "args": [text]},
        }
        for number, text in enumerate(["1 to go", "0 to go"])
    ]


def test_retries_that_run_out_are_a_failure_with_the_last_error(lab: Lab) -> None:
    attempt = flaky(9)

    @skill(retries=2)
    async def call() -> str:
        return attempt()

    async def agent() -> str:
        return await call()

    taken = lab.record(agent)
    step = taken.record.steps[0]
    assert str(taken.error) == "6 to go"
    assert (step.status, step.retry_count, step.outcome_code) == (TraceStatus.FAILURE, 2, "ConnectionError")


def test_only_the_named_errors_are_tried_again(lab: Lab) -> None:
    calls = []

    @skill(retries=5, retry_on=(ConnectionError,))
    def call() -> None:
        calls.append(1)
        raise ValueError("not that one")

    assert lab.record(call).record.steps[0].retry_count == 0
    assert calls == [1]


# --- cost -----------------------------------------------------------------------------------


def test_cost_is_added_up_by_the_body(lab: Lab) -> None:
    @skill
    def pay() -> None:
        cost(1.5)
        cost(2)

    @skill
    async def apay() -> None:
        cost(0.25)
        await asyncio.to_thread(cost, 0.5)

    async def agent() -> None:
        pay()
        await apay()

    record = lab.record(agent).record
    assert [step.cost_cents for step in record.steps] == [3.5, 0.75]
    assert record.total_cost_cents == 4.25


def test_cost_is_read_out_of_a_model_s_answer(lab: Lab) -> None:
    @skill(kind="llm")
    def chat() -> dict[str, Any]:
        return {"usage": {"cost": 0.0123}}

    @skill(kind="llm")
    def priced() -> dict[str, Any]:
        return {"cost_cents": 0.5}

    @skill(kind="llm")
    def stated() -> dict[str, Any]:
        cost(7)
        return {"usage": {"cost": 0.01}}

    record = lab.record(lambda: (chat(), priced(), stated())).record
    assert [step.cost_cents for step in record.steps] == [1.23, 0.5, 7.0]


class _NoNumber:
    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "cents", [float("nan"), float("inf"), "a lot", None, -1, 1e300, 10**400, _NoNumber()]
)
def test_a_cost_that_is_none_is_left_out_and_said(lab: Lab, cents: Any) -> None:
    """The agent goes on, the cost so far is kept, and warning, step and grade say that some is missing."""

    @skill(effect="read")
    def pay() -> int:
        cost(2)
        cost(cents)
        cost(cents)
        cost(0.5)
        return 1

    with pytest.warns(RecordingWarning, match="the cost of .*pay") as caught:
        taken, result = lab.again(pay)
    assert len(caught) == 1
    (step,) = taken.record.steps
    reason = "cost: what was given is no number of cents from 0 to 10^12"
    assert step.context is not None
    assert (step.cost_cents, step.context.marks) == (2.5, [reason])
    assert taken.grade == [f"{step.skill_name}: {reason}"]
    assert (taken.value, result.value) == (1, 1)


@pytest.mark.parametrize("cents", [float("nan"), None, -1])
def test_a_cost_that_is_none_outside_of_a_step_does_nothing(lab: Lab, cents: Any) -> None:
    assert lab.record(lambda: cost(cents)).error is None


def test_cost_outside_of_a_step_does_nothing(lab: Lab) -> None:
    assert lab.record(lambda: cost(5)).record.total_cost_cents == 0.0


# --- threads, contexts, what agents do ----------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


def test_a_skill_that_a_skill_s_thread_calls_is_no_step(lab: Lab) -> None:
    @skill
    async def outer() -> int:
        return await asyncio.to_thread(add, 1)

    async def agent() -> int:
        return await outer()

    taken = lab.record(agent)
    assert taken.value == 3
    assert [name for _, name, _, _ in taken.steps] == ["outer"]


def test_a_recursive_agent_near_the_limit_gets_what_it_would_get(lab: Lab) -> None:
    def deep(left: int) -> int:
        return add(left) if left == 0 else deep(left - 1)

    assert lab.record(lambda: deep(500)).value == 2


def test_skills_are_shared_by_runs_that_are_open_at_once() -> None:
    store = MemoryStore()

    async def agent(number: int) -> int:
        async with run(f"agent-{number}", store=store):
            return sum([await aadd(number), await aadd(number + 1)])

    async def main() -> list[int]:
        return await asyncio.gather(*(agent(number) for number in range(20)))

    assert asyncio.run(main()) == [2 * number + 5 for number in range(20)]


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy_threads")
def test_a_value_that_another_thread_changes_meanwhile_does_not_hurt_the_agent(lab: Lab) -> None:
    shared = {str(number): number for number in range(500)}
    done = threading.Event()

    def change() -> None:
        for number in itertools.cycle(range(500, 1000)):
            if done.is_set():
                return
            shared[str(number)] = number
            del shared[str(number)]

    @skill
    def look(value: dict[str, int]) -> dict[str, int]:
        return value

    def agent() -> int:
        thread = threading.Thread(target=change)
        thread.start()
        try:
            return sum(look(shared) is shared for _ in range(300))
        finally:
            done.set()
            thread.join()

    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, 300)
    assert {len(params["value"]) for _, _, params, _ in taken.steps} <= {500, 501}
