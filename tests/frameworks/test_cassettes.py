"""Frameworks with the answers of real models, from recorded traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

if TYPE_CHECKING:
    from tests.capture.server import Server
    from tests.frameworks.conftest import Offline

CASSETTES = Path(__file__).parents[2] / "../shared/data/vcr/pydantic_ai/models/cassettes"

pytestmark = [
    pytest.mark.usefixtures("captured"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def answers(path: str, part: str) -> Any:
    """The recorded answers to requests for this part of the API, in their order."""
    file = CASSETTES / path
    if not file.exists():
        pytest.skip(f"needs the recorded traffic {file.name}")
    recorded = yaml.safe_load(file.read_text("utf-8"))["interactions"]
    asked = [one for one in recorded if f"/v1/{part}" in one["request"]["uri"]]
    return iter([one["response"]["parsed_body"] for one in asked])


def test_claude_asks_for_four_tools_at_once(offline: Offline, server: Server, model: Any) -> None:
    recorded = answers("test_anthropic/test_multiple_parallel_tool_calls.yaml", "messages")

    def script(_: str, asked: Any) -> Any:
        answer = next(recorded)
        if not asked.get("stream"):
            return answer
        text = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
        calls = [block for block in answer["content"] if block["type"] == "tool_use"]
        return model.messages(asked, text, *((call["id"], call["name"], call["input"]) for call in calls))

    server.script = script
    known = {"alice": "Bob's wife", "bob": "Alice's husband", "charlie": "Alice's son"}

    async def agent() -> Any:
        provider = AnthropicProvider(base_url=server.url.removesuffix("/v1"), api_key="sk-secret")
        family = Agent(AnthropicModel("claude-haiku-4-5", provider=provider))

        @family.tool_plain
        async def retrieve_entity_info(name: str) -> str:
            return known.get(name.lower(), "Charlie's younger sister")

        return (await family.run("Alice, Bob, Charlie and Daisy are a family. Who is the youngest?")).output

    taken = offline(agent)
    assert "Daisy is the youngest" in taken.value
    assert [params["name"] for _, name, params, _ in taken.steps if name == "retrieve_entity_info"] == [
        "Alice",
        "Bob",
        "Charlie",
        "Daisy",
    ]


def test_gpt_asks_for_a_tool_through_responses(offline: Offline, server: Server) -> None:
    recorded = answers(
        "test_openai_responses/test_openai_conversation_id_tool_call_continuation.yaml", "responses"
    )
    server.script = lambda *_: next(recorded)

    def agent() -> Any:
        provider = OpenAIProvider(base_url=server.url, api_key="sk-secret")
        helper = Agent(OpenAIResponsesModel("gpt-4.1", provider=provider))

        @helper.tool_plain
        def get_conversation_code() -> str:
            return "TOOL-PAI-5222"

        return helper.run_sync("Call get_conversation_code and reply with only the returned code.").output

    taken = offline(agent)
    assert taken.value == "TOOL-PAI-5222"
    assert [name for _, name, _, _ in taken.steps] == ["chat", "get_conversation_code", "chat"]
