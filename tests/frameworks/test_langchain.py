"""Tools of LangChain, called by LangGraph: recorded against a model on loopback, and replayed without."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import Command
from pydantic import BaseModel

from isotrace.compare import diff_traces
from isotrace.record import skill

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.frameworks.conftest import Offline
    from tests.record.lab import Lab, Taken

pytestmark = [
    pytest.mark.usefixtures("captured"),
    # langchain-openai keeps its asynchronous clients open for the next loop.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

really_called: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    really_called.clear()


class Order(BaseModel):
    number: int
    city: str


@dataclass(frozen=True)
class Price:
    cents: int


class OrderGone(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"order {number} is gone")
        self.number = number


@tool
def weather(city: str) -> dict[str, Any]:
    """The weather of a city."""
    really_called.append(f"weather {city}")
    return {"city": city, "degrees": 20}


@tool
async def price(city: str) -> Price:
    """The price of a ticket."""
    really_called.append(f"price {city}")
    await asyncio.sleep(0.01)
    return Price(len(city) * 100)


@tool(response_format="content_and_artifact")
def order(number: int) -> tuple[str, Order]:
    """An order."""
    really_called.append(f"order {number}")
    return f"order {number}", Order(number=number, city="Paris")


@tool
def cancel(number: int) -> str:
    """Cancels an order."""
    really_called.append(f"cancel {number}")
    if number == 1:
        raise ToolException("not before noon")
    raise OrderGone(number)


cancel.handle_tool_error = True


@tool
def note(
    text: str,
    state: Annotated[dict[str, Any], InjectedState],
    tool_call_id: Annotated[str, InjectedToolCallId],
) -> Command[Any]:
    """Takes a note."""
    really_called.append(f"note {text}")
    message = ToolMessage(f"{text} at {len(state['messages'])}", tool_call_id=tool_call_id)
    return Command(update={"messages": [message]})


def graph(server: Server, tools: list[Any], *, streaming: bool = False, handle: Any = True) -> Any:
    """A model and its tools in turns, as every tutorial builds it."""
    llm = ChatOpenAI(model="gpt-x", base_url=server.url, api_key="sk-secret", streaming=streaming)  # type: ignore[arg-type]  # a text
    bound = llm.bind_tools(tools)

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [bound.invoke(state["messages"])]}

    async def athink(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    built = StateGraph(MessagesState)
    built.add_node("model", RunnableLambda(think, athink))
    built.add_node("tools", ToolNode(tools, handle_tool_errors=handle))
    built.add_edge(START, "model")
    built.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    built.add_edge("tools", "model")
    return built.compile()


def said(state: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (type(message).__name__, message.content, getattr(message, "artifact", None))
        for message in state["messages"]
    ]


def tool_answers(asked: dict[str, Any]) -> list[str]:
    return [str(message["content"]) for message in asked["messages"] if message["role"] == "tool"]


def steps(taken: Taken) -> list[tuple[str, str, Any]]:
    """Name, status and params of each tool's step."""
    tools = [step for step in taken.record.steps if step.skill_name != "chat"]
    return [(step.skill_name, step.status.value, step.params) for step in tools]


def asking(model: Any, *calls: Any) -> Callable[[str, Any], Any]:
    """A model that calls these tools at once, then says what they answered."""

    def script(_: str, asked: dict[str, Any]) -> Any:
        answers = tool_answers(asked)
        return model.chat(asked, "; ".join(answers)) if answers else model.chat(asked, None, *calls)

    return script


TWO = [("call_00000001", "weather", {"city": "Paris"}), ("call_00000002", "weather", {"city": "Rome"})]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_graph_with_tools_in_parallel(
    offline: Offline, server: Server, model: Any, streaming: bool
) -> None:
    server.script = asking(model, *TWO)

    def agent() -> Any:
        return said(graph(server, [weather], streaming=streaming).invoke({"messages": [("user", "hi")]}))

    taken = offline(agent)
    assert sorted(really_called) == ["weather Paris", "weather Rome"]
    assert steps(taken) == [
        ("weather", "success", {"city": "Paris"}),
        ("weather", "success", {"city": "Rome"}),
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_an_asynchronous_graph_with_tools_of_both_kinds(
    offline: Offline, server: Server, model: Any, streaming: bool
) -> None:
    server.script = asking(model, *TWO, ("call_00000003", "price", {"city": "Oslo"}))

    async def agent() -> Any:
        built = graph(server, [weather, price], streaming=streaming)
        seen = [
            kind
            async for kind, _ in built.astream(
                {"messages": [("user", "hi")]}, stream_mode=["messages", "updates"]
            )
        ]
        return said(await built.ainvoke({"messages": [("user", "again")]})), seen

    taken = offline(agent)
    assert really_called.count("price Oslo") == 2
    outcomes = [step.outcome_data for step in taken.record.steps if step.skill_name == "price"]
    assert outcomes == [{"cents": 400}] * 2


@pytest.mark.parametrize("time", range(3))
def test_a_graph_that_streams_from_its_threads(
    offline: Offline, server: Server, model: Any, time: int
) -> None:
    server.script = asking(model, *TWO, ("call_00000003", "weather", {"city": "Oslo"}))

    def agent() -> Any:
        built = graph(server, [weather], streaming=True)
        pieces = built.stream({"messages": [("user", "hi")]}, stream_mode=["messages", "updates"])
        return sorted(kind for kind, _ in pieces)

    taken = offline(agent)
    assert [name for _, name, _, _ in taken.steps] == ["chat", "weather", "weather", "weather", "chat"]
    assert [params["city"] for _, _, params in steps(taken)] == ["Paris", "Rome", "Oslo"]


def test_what_a_tool_returns_comes_back_in_its_types(offline: Offline, server: Server, model: Any) -> None:
    server.script = asking(
        model, ("call_00000001", "order", {"number": 7}), ("call_00000002", "note", {"text": "so"})
    )

    async def agent() -> Any:
        built = graph(server, [order, note])
        return said(await built.ainvoke({"messages": [("user", "hi")]}))

    taken = offline(agent)
    assert ("ToolMessage", "order 7", Order(number=7, city="Paris")) in taken.value
    assert ("ToolMessage", "so at 2", None) in taken.value
    # What the framework injects is no argument of the model's.
    assert [params for _, _, params in steps(taken)] == [{"number": 7}, {"text": "so"}]


def test_the_errors_of_a_tool_take_the_same_turn(offline: Offline, server: Server, model: Any) -> None:
    server.script = asking(
        model, ("call_00000001", "cancel", {"number": 1}), ("call_00000002", "cancel", {"number": 2})
    )

    def told(error: Exception) -> str:
        return f"{type(error).__name__} {error} {getattr(error, 'number', '')}"

    def agent() -> Any:
        return said(graph(server, [cancel], handle=told).invoke({"messages": [("user", "hi")]}))

    taken = offline(agent)
    assert ("ToolMessage", "not before noon", None) in taken.value
    assert ("ToolMessage", "OrderGone order 2 is gone 2", None) in taken.value
    assert [status for _, status, _ in steps(taken)] == ["failure", "failure"]
    assert [step.outcome_code for step in taken.record.steps if step.skill_name == "cancel"] == [
        "ToolException",
        "OrderGone",
    ]


def test_a_model_that_is_busy_is_asked_again(offline: Offline, server: Server, model: Any) -> None:
    asked_before: list[int] = []

    def script(_: str, asked: dict[str, Any]) -> Any:
        asked_before.append(1)
        if len(asked_before) == 1:
            return 429, {"error": {"message": "slow down", "type": "rate_limit"}}
        return asking(model, *TWO)(_, asked)

    server.script = script

    def agent() -> Any:
        return said(graph(server, [weather]).invoke({"messages": [("user", "hi")]}))

    taken = offline(agent)
    assert [step.status.value for step in taken.record.steps if step.skill_name == "chat"] == [
        "failure",
        "success",
        "success",
    ]


# --- what is one step, and what is none -------------------------------------------------------


def test_a_skill_inside_a_tool_and_a_tool_inside_a_tool_belong_to_it(lab: Lab) -> None:
    @skill(effect="read")
    def look(city: str) -> str:
        """Looks."""
        really_called.append("look")
        return city.upper()

    @tool
    def outer(city: str) -> str:
        """Looks."""
        return look(city) + str(weather.invoke({"city": city})["degrees"])

    look_tool = tool(look)

    def agent() -> Any:
        return outer.invoke({"city": "Rome"}), look_tool.invoke({"city": "Oslo"})

    taken, result = lab.again(agent)
    assert (str(result.verdict), result.value) == ("MATCH", ("ROME20", "OSLO"))
    assert [name for _, name, _, _ in taken.steps] == ["outer", "look"]
    assert [step.context.effect for step in taken.record.steps if step.context] == ["write", "read"]
    assert taken.grade == "replayable"


def test_a_tool_of_a_class_of_its_own(lab: Lab) -> None:
    class Adder(BaseTool):
        name: str = "adder"
        description: str = "Adds."

        def _run(self, first: int, second: int = 2, run_manager: Any = None) -> int:
            really_called.append("adder")
            assert run_manager is not None
            return first + second

    def agent() -> Any:
        return Adder().invoke({"first": 1}), Adder().run({"first": 1, "second": 5})

    taken, result = lab.again(agent)
    assert (str(result.verdict), result.value, len(really_called)) == ("MATCH", (3, 6), 2)
    assert [params for _, _, params, _ in taken.steps] == [{"first": 1}, {"first": 1, "second": 5}]


def test_the_ids_of_messages_are_the_recorded_ones(offline: Offline, server: Server, model: Any) -> None:
    server.script = asking(model, *TWO)

    def agent() -> Any:
        state = graph(server, [weather]).invoke({"messages": [("user", "hi")]})
        return [message.id for message in state["messages"]]

    assert len(set(offline(agent).value)) == 5


def test_callbacks_run_in_a_replay_too(lab: Lab) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    class Heard(BaseCallbackHandler):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_tool_start(self, serialized: Any, input_str: str, **_: Any) -> None:
            self.heard.append(f"start {serialized['name']}")

        def on_tool_end(self, output: Any, **_: Any) -> None:
            self.heard.append(f"end {output}")

    def agent() -> Any:
        heard = Heard()
        weather.invoke({"city": "Rome"}, config={"callbacks": [heard]})
        return heard.heard

    _, result = lab.again(agent)
    assert result.value == ["start weather", "end {'city': 'Rome', 'degrees': 20}"]


def test_what_cannot_come_back_is_in_the_grade(lab: Lab) -> None:
    @tool
    def odd(number: int) -> Any:
        """Returns what no record can hold."""
        return object() if number else iter(())

    taken = lab.record(lambda: str(odd.invoke({"number": 1})) and None)
    assert any("odd" in reason for reason in taken.grade)


def test_outside_of_a_run_and_after_the_last_way_back_a_tool_is_a_tool(lab: Lab) -> None:
    assert weather.invoke({"city": "Rome"}) == {"city": "Rome", "degrees": 20}


# --- what the code does otherwise ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("questions", "code", "index"),
    [
        (["a", "x"], "PARAMS_CHANGED", 3),
        (["b", "a"], "PARAMS_CHANGED", 0),
        (["a"], "EARLY_END", 3),
        (["a", "b", "c"], "LATE_END", 6),
    ],
)
def test_what_is_asked_otherwise_is_found_at_its_step(
    lab: Lab, server: Server, model: Any, questions: list[str], code: str, index: int
) -> None:
    server.script = asking(model, TWO[0])
    asked = ["a", "b"]

    async def agent() -> None:
        built = graph(server, [price, weather])
        for question in asked:
            await built.ainvoke({"messages": [("user", question)]})

    taken = lab.record(agent)
    assert [name for _, name, _, _ in taken.steps] == ["chat", "weather", "chat"] * 2
    server.stop()
    asked[:] = questions
    first = lab.replay(taken, agent, stall_after_s=2).divergences[0]
    assert (first.code, first.index) == (code, index)


@pytest.mark.parametrize(
    ("cities", "code", "index"),
    [
        ("paris rome oslo", "MATCH", 0),
        ("paris oslo rome", "REORDERED", 1),
        ("paris rome", "EARLY_END", 2),
        ("paris rome oslo bonn", "LATE_END", 3),
    ],
)
def test_tools_called_otherwise_are_found_at_their_step(lab: Lab, cities: str, code: str, index: int) -> None:
    called = ["paris", "rome", "oslo"]

    def agent() -> None:
        for city in called:
            weather.invoke({"city": city})

    taken = lab.record(agent)
    called[:] = cities.split()
    result = lab.replay(taken, agent)
    first = result.divergences[0] if result.divergences else None
    assert (first.code if first else "MATCH", first.index if first else 0) == (code, index)


def test_another_tool_in_its_place_is_told_from_a_tool_that_comes_later(lab: Lab) -> None:
    called: list[Any] = [weather, order]
    arguments = {"weather": {"city": "Rome"}, "order": {"number": 1}}

    def agent() -> None:
        for one in called:
            one.invoke(arguments[one.name])

    taken = lab.record(agent)
    called.reverse()
    first = lab.replay(taken, agent).divergences[0]
    assert (first.code, first.index) == ("REORDERED", 0)


def test_a_flipped_result_is_an_output_and_then_a_request_that_changed(
    lab: Lab, server: Server, model: Any
) -> None:
    server.script = asking(model, ("call_00000001", "temperature", {"city": "Rome"}))
    degrees = [20]

    @tool
    def temperature(city: str) -> int:
        """Degrees."""
        return degrees[0]

    def agent() -> None:
        bound = ChatOpenAI(model="gpt-x", base_url=server.url, api_key="sk-secret").bind_tools([temperature])  # type: ignore[arg-type]  # a text
        answer = bound.invoke("hi")
        called = temperature.invoke(answer.tool_calls[0])
        bound.invoke([("user", "hi"), answer, called])

    first = lab.record(agent)
    degrees[0] = 21
    second = lab.record(agent)
    found = diff_traces(first.record, second.record, level="exact").divergences
    assert [(one.code, one.index) for one in found][:2] == [("OUTPUT_CHANGED", 1), ("PARAMS_CHANGED", 2)]
