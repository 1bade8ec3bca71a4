"""Thirty changes of the agents' sources that change nothing of what they do: each replays with `MATCH`.

One row is one change: `old` stands exactly once in the file of the example, `new` takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refactoring:
    example: str
    what: str
    old: str
    new: str
    file: str = "agent.py"


REFACTORINGS = [
    # --- openai_chat -------------------------------------------------------------------
    Refactoring(
        "openai_chat",
        "a local is renamed",
        """\
            found = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)})
""",
        """\
            weather = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(weather)})
""",
    ),
    Refactoring(
        "openai_chat",
        "a loop becomes a helper and a comprehension",
        """\
        for call in message.tool_calls:
            found = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)})


""",
        """\
        messages += [told(call) for call in message.tool_calls]


def told(call) -> dict:
    found = get_weather(**json.loads(call.function.arguments))
    return {"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)}


""",
    ),
    Refactoring(
        "openai_chat",
        "the keys of dicts stand in another order",
        """\
        "name": "get_weather",
        "description": "The temperature in a city, in degrees Celsius.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
""",
        """\
        "parameters": {
            "required": ["city"],
            "properties": {"city": {"type": "string"}},
            "type": "object",
        },
        "description": "The temperature in a city, in degrees Celsius.",
        "name": "get_weather",
""",
    ),
    Refactoring(
        "openai_chat",
        "messages are dataclasses inside",
        """\
    messages = [
        {"role": "system", "content": "You help travellers. Look up temperatures; answer in one sentence."},
        {"role": "user", "content": question},
    ]
""",
        """\
    from dataclasses import asdict, dataclass

    @dataclass
    class Message:
        role: str
        content: str

    system = Message("system", "You help travellers. Look up temperatures; answer in one sentence.")
    messages = [asdict(one) for one in (system, Message("user", question))]
""",
    ),
    Refactoring(
        "openai_chat",
        "for becomes while",
        """\
    for _ in range(8):
        answer""",
        """\
    turns = 8
    while turns > 0:
        turns -= 1
        answer""",
    ),
    # --- anthropic_messages ------------------------------------------------------------
    Refactoring(
        "anthropic_messages",
        "a comprehension becomes a loop",
        """\
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps(get_weather(**call.input))}
            for call in calls
        ]
""",
        """\
        results = []
        for call in calls:
            said = json.dumps(get_weather(**call.input))
            results.append({"type": "tool_result", "tool_use_id": call.id, "content": said})
""",
    ),
    Refactoring(
        "anthropic_messages",
        "a walrus, and no early return",
        """\
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return
""",
        """\
        if not (calls := [block for block in answer.content if block.type == "tool_use"]):
            break
""",
    ),
    Refactoring(
        "anthropic_messages",
        "keywords come in another order, from a dict",
        """\
        with client.messages.stream(
            model=os.environ.get("MODEL", "claude-haiku-4-5"),
            max_tokens=500,
            system="You help travellers. Look up temperatures; answer in one sentence.",
            messages=messages,
            tools=[TOOL],
        ) as stream:
""",
        """\
        settings = {
            "max_tokens": 500,
            "system": "You help travellers. Look up temperatures; answer in one sentence.",
            "model": os.environ.get("MODEL", "claude-haiku-4-5"),
        }
        with client.messages.stream(tools=[TOOL], messages=messages, **settings) as stream:
""",
    ),
    Refactoring(
        "anthropic_messages",
        "a log line for each turn",
        """\
        with client.messages.stream(
""",
        """\
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
        logging.getLogger("travel").info("asking, with %d messages", len(messages))
        with client.messages.stream(
""",
    ),
    # --- langgraph_agent ---------------------------------------------------------------
    Refactoring(
        "langgraph_agent",
        "a function becomes a lambda",
        """\
def think(state: MessagesState) -> dict:
    return {"messages": [MODEL.invoke(state["messages"])]}
""",
        """\
think = lambda state: {"messages": [MODEL.invoke(state["messages"])]}  # noqa: E731
""",
    ),
    Refactoring(
        "langgraph_agent",
        "functions stand in another order",
        """\
@tool
def get_weather(city: str) -> dict:
    \"""The temperature in a city, in degrees Celsius.\"""
    return {"city": city, "degrees": TEMPERATURES[city]}


@tool
def book(city: str) -> str:
    \"""Books a trip to a city.\"""
    return f"booked: {city}"
""",
        """\
@tool
def book(city: str) -> str:
    \"""Books a trip to a city.\"""
    return f"booked: {city}"


@tool
def get_weather(city: str) -> dict:
    \"""The temperature in a city, in degrees Celsius.\"""
    return {"city": city, "degrees": TEMPERATURES[city]}
""",
    ),
    Refactoring(
        "langgraph_agent",
        "the graph is built in a function, by chained calls",
        """\
graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode(TOOLS, handle_tool_errors=True))
graph.add_edge(START, "think")
graph.add_conditional_edges("think", tools_condition)
graph.add_edge("tools", "think")
""",
        """\
def built() -> StateGraph:
    tools = ToolNode(TOOLS, handle_tool_errors=True)
    nodes = StateGraph(MessagesState).add_node("tools", tools).add_node("think", think)
    edges = nodes.add_edge("tools", "think").add_edge(START, "think")
    return edges.add_conditional_edges("think", tools_condition)


graph = built()
""",
    ),
    Refactoring(
        "langgraph_agent",
        "what is printed is a helper's",
        """\
    print(f"{last.type}: {last.content or [call['name'] for call in getattr(last, 'tool_calls', [])]}")
""",
        """\
    names = [call["name"] for call in getattr(last, "tool_calls", [])]
    print("{}: {}".format(last.type, last.content or names))
""",
    ),
    # --- openai_agents -----------------------------------------------------------------
    Refactoring(
        "openai_agents",
        "arguments come in another order",
        """\
clerk = Agent(name="clerk", instructions="You book what you are told.", tools=[book], model=MODEL)
""",
        """\
clerk = Agent(model=MODEL, tools=[book], instructions="You book what you are told.", name="clerk")
""",
    ),
    Refactoring(
        "openai_agents",
        "a coroutine is split in two",
        """\
    result = Runner.run_streamed(helper, question)
    async for event in result.stream_events():
        if event.type == "run_item_stream_event":
            print(event.name)
    print(result.final_output)
""",
        """\
    print(await followed(Runner.run_streamed(helper, question)))


async def followed(result) -> str:
    async for event in result.stream_events():
        if event.type == "run_item_stream_event":
            print(event.name)
    return result.final_output
""",
    ),
    Refactoring(
        "openai_agents",
        "match for if",
        """\
        if event.type == "run_item_stream_event":
            print(event.name)
""",
        """\
        match event.type:
            case "run_item_stream_event":
                print(event.name)
            case _:
                pass
""",
    ),
    Refactoring(
        "openai_agents",
        "a runner for asyncio.run",
        """\
asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Book the warmer one of Paris and Rome."))
""",
        """\
question = sys.argv[1] if len(sys.argv) > 1 else "Book the warmer one of Paris and Rome."
with asyncio.Runner() as runner:
    runner.run(main(question))
""",
    ),
    # --- pydantic_ai_agent -------------------------------------------------------------
    Refactoring(
        "pydantic_ai_agent",
        "a frozen dataclass with slots",
        """\
@dataclass
class Traveller:
""",
        """\
@dataclass(frozen=True, slots=True)
class Traveller:
""",
    ),
    Refactoring(
        "pydantic_ai_agent",
        "constants are extracted",
        """\
    cents = nights * 10_000
    if cents > ctx.deps.budget_cents:
        raise ModelRetry(f"{nights} nights are too many: the budget is {ctx.deps.budget_cents} cents")
    return f"booked: {city}, {cents} cents"
""",
        """\
    cents, budget = nights * CENTS_A_NIGHT, ctx.deps.budget_cents
    if cents <= budget:
        return f"booked: {city}, {cents} cents"
    raise ModelRetry("%d nights are too many: the budget is %d cents" % (nights, budget))


CENTS_A_NIGHT = 10_000
""",
    ),
    Refactoring(
        "pydantic_ai_agent",
        "the last lines become a function",
        """\
question = sys.argv[1] if len(sys.argv) > 1 else "Book the warmer one of Paris and Rome, for a week at most."
print(repr(helper.run_sync(question, deps=Traveller(budget_cents=30_000)).output))
""",
        """\
def main(question: str = "Book the warmer one of Paris and Rome, for a week at most.") -> None:
    traveller = Traveller(budget_cents=30_000)
    print(f"{helper.run_sync(question, deps=traveller).output!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
""",
    ),
    # --- coding_agent ------------------------------------------------------------------
    Refactoring(
        "coding_agent",
        "a helper that two functions share",
        """\
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    return f"exit code {done.returncode}\\n{done.stdout}{done.stderr}"
""",
        """\
    return _output(subprocess.run(command, timeout=60, text=True, capture_output=True, shell=True))


def _output(done: subprocess.CompletedProcess) -> str:
    return "\\n".join((f"exit code {done.returncode}", done.stdout + done.stderr))
""",
    ),
    Refactoring(
        "coding_agent",
        "a file is read by open",
        """\
    return Path(path).read_text()
""",
        """\
    with open(path) as file:
        return file.read()
""",
    ),
    Refactoring(
        "coding_agent",
        "all lines, then a slice",
        """\
        return "".join(line for number, line in enumerate(grep.stdout) if number < 100)
""",
        """\
        lines = grep.stdout.readlines()
        return "".join(lines[:100])
""",
    ),
    Refactoring(
        "coding_agent",
        "an error is handled in a helper",
        """\
        for call in answer.tool_calls:
            try:
                result = TOOLS[call.function.name](**json.loads(call.function.arguments))
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return "I gave up."
""",
        """\
        for call in answer.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result_of(call)})
    return "I gave up."


def result_of(call) -> str:
    try:
        return TOOLS[call.function.name](**json.loads(call.function.arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
""",
    ),
    Refactoring(
        "coding_agent",
        "a signature instead of the code's variables",
        """\
    names = tool.__code__.co_varnames[: tool.__code__.co_argcount]
    properties = {name: {"type": "string"} for name in names}
    parameters = {"type": "object", "properties": properties, "required": list(names)}
""",
        """\
    import inspect

    names = list(inspect.signature(tool).parameters)
    properties = dict.fromkeys(names, {"type": "string"})
    parameters = {"type": "object", "properties": properties, "required": names}
""",
    ),
    # --- mcp_agent ---------------------------------------------------------------------
    Refactoring(
        "mcp_agent",
        "a coroutine for the call of a tool",
        """\
            done = await session.call_tool(call.function.name, json.loads(call.function.arguments))
            text = "\\n".join(part.text for part in done.content if part.type == "text")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
""",
        """\
            messages.append({"role": "tool", "tool_call_id": call.id, "content": await called(session, call)})


async def called(session: ClientSession, call) -> str:
    done = await session.call_tool(call.function.name, json.loads(call.function.arguments))
    return "\\n".join(part.text for part in done.content if part.type == "text")
""",
    ),
    Refactoring(
        "mcp_agent",
        "nested blocks for one with two",
        """\
    async with stdio_client(connection) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = [described(tool.model_dump(by_alias=True)) for tool in (await session.list_tools()).tools]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]
        return await converse(AsyncOpenAI(), session, tools, messages)
""",
        """\
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]
    async with stdio_client(connection) as streams:
        async with ClientSession(*streams) as session:
            await session.initialize()
            listed = await session.list_tools()
            tools = [described(tool.model_dump(by_alias=True)) for tool in listed.tools]
            return await converse(AsyncOpenAI(), session, tools, messages)
""",
    ),
    Refactoring(
        "mcp_agent",
        "recursion for a loop",
        """\
    while True:
        said = await model.chat.completions.create(model=MODEL, messages=messages, tools=tools)
        message = said.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            done = await session.call_tool(call.function.name, json.loads(call.function.arguments))
            text = "\\n".join(part.text for part in done.content if part.type == "text")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
""",
        """\
    said = await model.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    message = said.choices[0].message
    if not message.tool_calls:
        return message.content or ""
    told = [message.model_dump(exclude_none=True)]
    for call in message.tool_calls:
        done = await session.call_tool(call.function.name, json.loads(call.function.arguments))
        text = "\\n".join(part.text for part in done.content if part.type == "text")
        told.append({"role": "tool", "tool_call_id": call.id, "content": text})
    return await converse(model, session, tools, [*messages, *told])
""",
    ),
    Refactoring(
        "mcp_agent",
        "a table and type hints",
        """\
def described(tool: dict) -> dict:
    \"""A tool of the server, in the model's words.\"""
    function = {"name": tool["name"], "description": tool["description"], "parameters": tool["inputSchema"]}
    return {"type": "function", "function": function}
""",
        """\
FIELDS: dict[str, str] = {"parameters": "inputSchema", "name": "name", "description": "description"}


def described(tool: dict[str, object]) -> dict[str, object]:
    \"""A tool of the server, in the model's words.\"""
    return {"type": "function", "function": {ours: tool[theirs] for ours, theirs in FIELDS.items()}}
""",
    ),
    Refactoring(
        "mcp_agent",
        "imports by other names",
        """\
import asyncio
import json
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from openai import AsyncOpenAI
""",
        """\
import asyncio
import json
import sys
from pathlib import Path

import mcp
import openai
from mcp.client import stdio

AsyncOpenAI = openai.AsyncOpenAI
ClientSession, StdioServerParameters = mcp.ClientSession, mcp.StdioServerParameters
stdio_client = stdio.stdio_client
""",
    ),
]
