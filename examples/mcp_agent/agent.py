"""A model with the tools of an MCP server: `python agent.py TASK FOLDER`.

Nothing in here knows of isotrace. The model is that of the `openai` SDK, where OPENAI_BASE_URL says.
"""

import asyncio
import json
import sys
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from openai import AsyncOpenAI

MODEL = "gpt-5-mini"
SYSTEM = "You keep a folder of notes. Use the tools, then answer in one sentence."


async def answer(task: str, folder: str) -> str:
    server = Path(__file__).with_name("server.py")
    connection = StdioServerParameters(command=sys.executable, args=[str(server), folder])
    async with stdio_client(connection) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = [described(tool.model_dump(by_alias=True)) for tool in (await session.list_tools()).tools]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]
        return await converse(AsyncOpenAI(), session, tools, messages)


async def converse(model: AsyncOpenAI, session: ClientSession, tools: list, messages: list) -> str:
    while True:
        said = await model.chat.completions.create(model=MODEL, messages=messages, tools=tools)
        message = said.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            done = await session.call_tool(call.function.name, json.loads(call.function.arguments))
            text = "\n".join(part.text for part in done.content if part.type == "text")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


def described(tool: dict) -> dict:
    """A tool of the server, in the model's words."""
    function = {"name": tool["name"], "description": tool["description"], "parameters": tool["inputSchema"]}
    return {"type": "function", "function": function}


if __name__ == "__main__":
    print(asyncio.run(answer(sys.argv[1], sys.argv[2])))
