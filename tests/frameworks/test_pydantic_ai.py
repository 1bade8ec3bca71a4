"""Function tools of PydanticAI: recorded against a model on loopback, and replayed without."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, FunctionToolset, ModelRetry, RunContext, ToolReturn
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from isotrace.compare import diff_traces

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.frameworks.conftest import Offline
    from tests.record.lab import Lab

pytestmark = [
    pytest.mark.usefixtures("captured"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

really_called: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    really_called.clear()


class Order(BaseModel):
    number: int
    at: datetime


@dataclass
class Till:
    taken: list[int] = field(default_factory=list)


class TillShut(Exception):
    pass


def weather(city: str) -> dict[str, Any]:
    really_called.append(f"weather {city}")
    return {"city": city, "degrees": 20}


async def order(number: int) -> Order:
    really_called.append(f"order {number}")
    await asyncio.sleep(0.01)
    return Order(number=number, at=datetime(2026, 1, 2, tzinfo=UTC))


def picture(name: str) -> Any:
    really_called.append(f"picture {name}")
    return ToolReturn(
        return_value=f"see {name}",
        content=[BinaryContent(b"\x89PNG", media_type="image/png")],
        metadata=(1, 2),
    )


async def refund(ctx: RunContext[Till], cents: int) -> str:
    really_called.append(f"refund {cents}")
    if cents > 100:
        raise ModelRetry("at most 100")
    return f"refunded {cents}"


def agent_of(server: Server, *tools: Any, **options: Any) -> Agent[Any, str]:
    provider = OpenAIProvider(base_url=server.url, api_key="sk-secret")
    toolset: FunctionToolset[Any] = FunctionToolset(list(tools), max_retries=2)
    return Agent(OpenAIChatModel("gpt-x", provider=provider), toolsets=[toolset], **options)


def answers_of(asked: dict[str, Any]) -> list[str]:
    return [str(message["content"]) for message in asked["messages"] if message["role"] == "tool"]


def asking(model: Any, *turns: list[Any]) -> Callable[[str, Any], Any]:
    """A model that calls the tools of one turn after the other, then says what they answered."""

    def script(_: str, asked: dict[str, Any]) -> Any:
        spoken = sum(message["role"] == "assistant" for message in asked["messages"])
        if spoken < len(turns):
            return model.chat(asked, None, *turns[spoken])
        return model.chat(asked, "; ".join(answers_of(asked)))

    return script


TWO = [("call_00000001", "weather", {"city": "Paris"}), ("call_00000002", "order", {"number": 7})]


def test_tools_in_parallel_come_back_in_their_types(offline: Offline, server: Server, model: Any) -> None:
    server.script = asking(model, [*TWO, ("call_00000003", "picture", {"name": "cat"})])

    async def agent() -> Any:
        done = await agent_of(server, weather, order, picture).run("hi")
        parts = [part for message in done.all_messages() for part in message.parts]
        returned = [part for part in parts if isinstance(part, ToolReturnPart)]
        return done.run_id, [(part.tool_name, part.content, part.metadata) for part in returned]

    taken = offline(agent)
    assert taken.grade == "replayable"
    returned = {name: (content, metadata) for name, content, metadata in taken.value[1]}
    assert returned["order"] == (Order(number=7, at=datetime(2026, 1, 2, tzinfo=UTC)), None)
    assert returned["picture"] == ("see cat", (1, 2))
    assert sorted(really_called) == ["order 7", "picture cat", "weather Paris"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_model_that_is_told_to_try_again(
    offline: Offline, server: Server, model: Any, streaming: bool
) -> None:
    server.script = asking(
        model, [("call_00000001", "refund", {"cents": 500})], [("call_00000002", "refund", {"cents": 50})]
    )

    async def agent() -> Any:
        asked = agent_of(server, refund, deps_type=Till)
        if not streaming:
            return (await asked.run("hi", deps=Till())).output
        async with asked.run_stream("hi", deps=Till()) as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    taken = offline(agent)
    assert taken.grade == "replayable"
    refunds = [step for step in taken.record.steps if step.skill_name == "refund"]
    assert [(step.params, step.status.value, step.outcome_code) for step in refunds] == [
        ({"cents": 500}, "failure", "ModelRetry"),
        ({"cents": 50}, "success", None),
    ]
    assert really_called == ["refund 500", "refund 50"]


def test_an_error_of_the_tool_ends_the_run_in_the_same_way(lab: Lab, server: Server, model: Any) -> None:
    server.script = asking(model, [("call_00000001", "shut", {})])

    def shut() -> str:
        raise TillShut("until noon", 12)

    def agent() -> Any:
        try:
            return agent_of(server, shut).run_sync("hi").output
        except TillShut as error:
            return error.args

    taken = lab.record(agent)
    server.stop()
    result = lab.replay(taken, agent, stall_after_s=2)
    assert (str(result.verdict), result.value) == ("MATCH", ("until noon", 12))
    assert (taken.value, taken.grade) == (("until noon", 12), "replayable")


def test_a_busy_model_and_a_synchronous_agent(offline: Offline, server: Server, model: Any) -> None:
    asked_before: list[int] = []

    def script(path: str, asked: Any) -> Any:
        asked_before.append(1)
        if len(asked_before) == 1:
            return 429, {"error": {"message": "slow down", "type": "rate_limit"}}
        return asking(model, [TWO[0]])(path, asked)

    server.script = script
    taken = offline(lambda: agent_of(server, weather).run_sync("hi").output)
    # The SDK's pause before it asks again is a timer; how long it is, chance decides.
    assert [(step.skill_name, step.status.value, step.params) for step in taken.record.steps[1:2]] == [
        ("asyncio.sleep", "success", {})
    ]
    assert [step.status.value for step in taken.record.steps if step.skill_name == "chat"] == [
        "failure",
        "success",
        "success",
    ]


def test_a_tool_that_changes_its_dependencies_is_named_in_the_grade(
    lab: Lab, server: Server, model: Any
) -> None:
    server.script = asking(model, [("call_00000001", "take", {"cents": 5})])

    def take(ctx: RunContext[Till], cents: int) -> int:
        ctx.deps.taken.append(cents)
        return cents

    def agent() -> Any:
        return agent_of(server, take, deps_type=Till).run_sync("hi", deps=Till()).output

    taken = lab.record(agent)
    assert taken.grade == [
        "take: the tool changed what the framework lent it, which a replay does not repeat"
    ]


def test_a_tool_that_asks_an_agent_is_the_step(offline: Offline, server: Server, model: Any) -> None:
    def script(path: str, asked: Any) -> Any:
        if asked["messages"][-1]["content"] == "inner":
            return model.chat(asked, "from inside")
        return asking(model, [("call_00000001", "delegate", {})])(path, asked)

    server.script = script

    async def delegate() -> str:
        return (await agent_of(server).run("inner")).output

    async def agent() -> Any:
        return (await agent_of(server, delegate).run("hi")).output

    taken = offline(agent)
    assert taken.value == "from inside"
    assert [name for _, name, _, _ in taken.steps] == ["chat", "delegate", "chat"]


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
    server.script = asking(model, [TWO[0]])
    asked = ["a", "b"]

    async def agent() -> None:
        for question in asked:
            await agent_of(server, weather).run(question)

    taken = lab.record(agent)
    assert [name for _, name, _, _ in taken.steps] == ["chat", "weather", "chat"] * 2
    server.stop()
    asked[:] = questions
    first = lab.replay(taken, agent, stall_after_s=2).divergences[0]
    assert (first.code, first.index) == (code, index)


def test_a_tool_that_is_gone_is_missing_at_its_step(lab: Lab, server: Server, model: Any) -> None:
    server.script = asking(model, [TWO[0]])
    tools: list[Any] = [weather, order]

    def agent() -> None:
        agent_of(server, *tools).run_sync("hi")

    taken = lab.record(agent)
    server.stop()
    del tools[0]
    first = lab.replay(taken, agent, stall_after_s=2).divergences[0]
    # The request that lists the tools comes before the call that would be missing.
    assert (first.code, first.index) == ("PARAMS_CHANGED", 0)


def test_a_flipped_result_is_an_output_and_then_a_request_that_changed(
    lab: Lab, server: Server, model: Any
) -> None:
    server.script = asking(model, [("call_00000001", "temperature", {})])
    degrees = [20]

    def temperature() -> int:
        return degrees[0]

    def agent() -> None:
        agent_of(server, temperature).run_sync("hi")

    first = lab.record(agent)
    degrees[0] = 21
    second = lab.record(agent)
    found = diff_traces(first.record, second.record, level="exact").divergences
    assert [(one.code, one.index) for one in found][:2] == [("OUTPUT_CHANGED", 1), ("PARAMS_CHANGED", 2)]
