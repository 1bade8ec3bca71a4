"""A framework's own client of MCP servers: what it asks goes through the `mcp` SDK."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp  # noqa: F401  # left out where it is missing
import pytest
from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI

if TYPE_CHECKING:
    from tests.record.lab import Lab

pytestmark = pytest.mark.usefixtures("captured")

SERVER = Path(__file__).parent / "mcp_server.py"
CALLS = [("price", {"item": "ham"}), ("order", {"item": "ham", "count": 2})]


class _Model(BaseHTTPRequestHandler):
    """Calls both tools at once, and repeats what they said."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Silent."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = [message["content"] for message in asked["messages"] if message["role"] == "tool"]
        message: dict[str, Any] = {"role": "assistant", "content": json.dumps(said)}
        if not said:
            message["tool_calls"] = [
                {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
                for name, given in CALLS
            ]
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def model() -> Iterator[ThreadingHTTPServer]:
    model = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    yield model
    model.shutdown()
    model.server_close()
    set_tracing_disabled(False)


def test_an_agent_of_the_openai_sdk_with_an_mcp_server(
    lab: Lab, model: ThreadingHTTPServer, tmp_path: Path
) -> None:
    set_tracing_disabled(True)
    script, log = tmp_path / "server.py", tmp_path / "shop.log"
    script.write_text(SERVER.read_text())

    async def agent() -> str:
        given: Any = {"command": sys.executable, "args": [str(script), "stdio", "shop", str(log)]}
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{model.server_port}/v1", api_key="sk-x")
        async with MCPServerStdio(params=given, cache_tools_list=True) as server:
            buyer = Agent(name="buyer", mcp_servers=[server], model=OpenAIChatCompletionsModel("m", client))
            return str((await Runner.run(buyer, "Buy ham.")).final_output)

    taken = lab.record(agent)
    assert taken.error is None
    assert "2 ham" in taken.value
    script.unlink()
    model.shutdown()
    asked = log.read_text()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value, result.receipt.blocked) == ("MATCH", taken.value, 0)
    assert log.read_text() == asked
    names = [step.skill_name for step in taken.record.steps]
    assert sorted(names) == sorted(["connect", names[1], "tools/list", "chat", "price", "order", "chat"])
