"""Function tools of the OpenAI Agents SDK: recorded against a model on loopback, and replayed without."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunContextWrapper,
    Runner,
    ToolOutputText,
    function_tool,
)
from openai import AsyncOpenAI

from isotrace.compare import diff_traces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


@dataclass
class Till:
    taken: list[int] = field(default_factory=list)


class OrderGone(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"order {number} is gone")
        self.number = number


@function_tool
def weather(city: str) -> dict[str, Any]:
    """The weather of a city."""
    really_called.append(f"weather {city}")
    return {"city": city, "degrees": 20}


@function_tool
async def price(city: str) -> list[ToolOutputText]:
    """The price of a ticket."""
    really_called.append(f"price {city}")
    await asyncio.sleep(0.01)
    return [ToolOutputText(text=f"{len(city) * 100} cents")]


def _told(_: RunContextWrapper[Any], error: Exception) -> str:
    return f"{type(error).__name__} {error} {getattr(error, 'number', '')}"


@function_tool(failure_error_function=_told)
async def cancel(number: int) -> str:
    """Cancels an order."""
    really_called.append(f"cancel {number}")
    raise OrderGone(number)


async def _by_hand(_: Any, arguments: str) -> str:
    really_called.append("by hand")
    return f"got {arguments}"


by_hand = FunctionTool(
    name="by_hand",
    description="Made without the decorator.",
    params_json_schema={
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
    on_invoke_tool=_by_hand,
)


def agent_of(server: Server, *tools: Any, chat: bool = False, **options: Any) -> Agent[Any]:
    client = AsyncOpenAI(base_url=server.url, api_key="sk-secret")
    kind: Any = OpenAIChatCompletionsModel if chat else OpenAIResponsesModel
    return Agent(
        name="helper", instructions="Be brief.", tools=list(tools), model=kind("gpt-x", client), **options
    )


def asking(model: Any, *calls: Any) -> Callable[[str, Any], Any]:
    """A model that calls these tools at once, then says what they answered; in either protocol."""

    def script(path: str, asked: dict[str, Any]) -> Any:
        if path.endswith("/chat/completions"):
            told = [message["content"] for message in asked["messages"] if message["role"] == "tool"]
            return model.chat(asked, "; ".join(map(str, told))) if told else model.chat(asked, None, *calls)
        told = [item["output"] for item in asked["input"] if item.get("type") == "function_call_output"]
        return (
            model.responses(asked, "; ".join(map(str, told)))
            if told
            else model.responses(asked, None, *calls)
        )

    return script


FOUR = [
    ("call_00000001", "weather", {"city": "Paris"}),
    ("call_00000002", "price", {"city": "Rome"}),
    ("call_00000003", "cancel", {"number": 7}),
    ("call_00000004", "by_hand", {"n": 1}),
]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
def test_tools_in_parallel_with_an_error(
    offline: Offline, server: Server, model: Any, streaming: bool, chat: bool
) -> None:
    server.script = asking(model, *FOUR)

    async def agent() -> Any:
        helper = agent_of(server, weather, price, cancel, by_hand, chat=chat)
        if not streaming:
            return (await Runner.run(helper, "hi")).final_output
        result = Runner.run_streamed(helper, "hi")
        kinds = [event.type async for event in result.stream_events()]
        return kinds, result.final_output

    taken = offline(agent)
    assert taken.grade == "replayable"
    tools = [step for step in taken.record.steps if step.skill_name != "chat"]
    assert [(step.skill_name, step.status.value, step.params, step.outcome_code) for step in tools] == [
        ("weather", "success", {"city": "Paris"}, None),
        ("price", "success", {"city": "Rome"}, None),
        ("cancel", "failure", {"number": 7}, "OrderGone"),
        ("by_hand", "success", {"n": 1}, None),
    ]
    assert "OrderGone order 7 is gone 7" in str(taken.value)
    assert sorted(really_called) == ["by hand", "cancel 7", "price Rome", "weather Paris"]


def test_a_busy_model_and_a_synchronous_runner(offline: Offline, server: Server, model: Any) -> None:
    asked_before: list[int] = []

    def script(path: str, asked: Any) -> Any:
        asked_before.append(1)
        if len(asked_before) == 1:
            return 429, {"error": {"message": "slow down", "type": "rate_limit"}}
        return asking(model, FOUR[0])(path, asked)

    server.script = script
    taken = offline(lambda: Runner.run_sync(agent_of(server, weather), "hi").final_output)
    assert [name for _, name, _, _ in taken.steps] == ["chat", "asyncio.sleep", "chat", "weather", "chat"]


def test_an_agent_that_is_a_tool_is_the_step(offline: Offline, server: Server, model: Any) -> None:
    def script(path: str, asked: Any) -> Any:
        if asked["instructions"] == "Translate.":
            return model.responses(asked, "bonjour")
        return asking(model, ("call_00000001", "translate", {"input": "hello"}))(path, asked)

    server.script = script

    async def agent() -> Any:
        translator = agent_of(server)
        translator.instructions = "Translate."
        tool = translator.as_tool("translate", "Translates.")
        return (await Runner.run(agent_of(server, tool), "hi")).final_output

    taken = offline(agent)
    assert taken.value == "bonjour"
    assert [name for _, name, _, _ in taken.steps] == ["chat", "translate", "chat"]


def test_a_tool_that_changes_the_context_is_named_in_the_grade(lab: Lab, server: Server, model: Any) -> None:
    server.script = asking(model, ("call_00000001", "take", {"cents": 5}))

    @function_tool
    def take(ctx: RunContextWrapper[Till], cents: int) -> str:
        """Takes money."""
        ctx.context.taken.append(cents)
        return "thanks"

    taken = lab.record(lambda: Runner.run_sync(agent_of(server, take), "hi", context=Till()).final_output)
    assert (taken.error, taken.value) == (None, "thanks")
    assert taken.grade == [
        "take: the tool changed what the framework lent it, which a replay does not repeat"
    ]


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
    server.script = asking(model, FOUR[0])
    asked = ["a", "b"]

    async def agent() -> None:
        for question in asked:
            await Runner.run(agent_of(server, weather), question)

    taken = lab.record(agent)
    assert [name for _, name, _, _ in taken.steps] == ["chat", "weather", "chat"] * 2
    server.stop()
    asked[:] = questions
    first = lab.replay(taken, agent, stall_after_s=2).divergences[0]
    assert (first.code, first.index) == (code, index)


def test_a_flipped_result_is_an_output_and_then_a_request_that_changed(
    lab: Lab, server: Server, model: Any
) -> None:
    server.script = asking(model, ("call_00000001", "temperature", {}))
    degrees = [20]

    @function_tool
    def temperature() -> int:
        """Degrees."""
        return degrees[0]

    def agent() -> None:
        Runner.run_sync(agent_of(server, temperature), "hi")

    first = lab.record(agent)
    degrees[0] = 21
    second = lab.record(agent)
    found = diff_traces(first.record, second.record, level="exact").divergences
    assert [(one.code, one.index) for one in found][:2] == [("OUTPUT_CHANGED", 1), ("PARAMS_CHANGED", 2)]


# --- the export of traces -----------------------------------------------------------------------


def test_the_export_of_traces_stays_outside_of_the_run(offline: Offline, server: Server, model: Any) -> None:
    from agents.tracing import set_trace_processors
    from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor, default_processor

    server.script = asking(model, FOUR[0])
    exporter = BackendSpanExporter(api_key="sk-export", endpoint=f"{server.url}/traces/ingest")
    processor = BatchTraceProcessor(exporter, schedule_delay=0.01)
    set_trace_processors([processor])
    try:
        waits = [0, 1000]  # while it is replayed, while it is recorded

        async def agent() -> Any:
            done = await Runner.run(agent_of(server, weather), "hi")
            processor.force_flush()
            for _ in range(waits.pop()):  # the exporter's own thread may have been first
                if "/v1/traces/ingest" in server.asked:
                    break
                time.sleep(0.01)
            return done.final_output

        taken = offline(agent)
    finally:
        processor.shutdown()
        set_trace_processors([default_processor()])
    assert "/v1/traces/ingest" in server.asked, "it was exported while recording"
    assert [name for _, name, _, _ in taken.steps] == ["chat", "weather", "chat"]


# --- a package of the same name -------------------------------------------------------------------


def test_a_package_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "agents"
    package.mkdir()
    (package / "__init__.py").write_text("from agents import tool\n")
    (package / "tool.py").write_text("class FunctionTool:\n    pass\n")
    program = """
        import sys; sys.path.insert(0, sys.argv[1])
        import isotrace
        restore = isotrace.instrument()
        import agents
        assert vars(agents.tool.FunctionTool).keys() <= {"__module__", "__dict__", "__weakref__", "__doc__"}
        restore()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
