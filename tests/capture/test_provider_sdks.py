"""The SDKs of model providers against a server that answers as they do, with recorded traffic where there is
some: whole answers, streams, tools called at once, an error and a retry."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import boto3
import openai
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Taken

    Replays = Callable[..., Taken]

pytestmark = pytest.mark.usefixtures("captured")

CASSETTES = Path(__file__).parents[2] / "../shared/data/vcr/pydantic_ai/models/cassettes"
ASKED: Any = [{"role": "user", "content": "hi"}]
WEATHER = {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}


def load(server: Server, name: str) -> list[dict[str, Any]]:
    """Lets the server answer as the cassette does; what was asked on it."""
    path = CASSETTES / name
    if not path.exists():
        pytest.skip("the recorded traffic of providers is not here")
    asked = []
    for interaction in yaml.safe_load(path.read_text("utf-8"))["interactions"]:
        said = interaction["response"]
        body = said.get("body") or {}
        data = body["string"] if "string" in body else json.dumps(said["parsed_body"])
        kind = {key.lower(): value for key, value in said["headers"].items()}["content-type"][0]
        server.answers.append(
            (said["status"]["code"], kind, data.encode() if isinstance(data, str) else data)
        )
        asked.append(interaction["request"].get("parsed_body") or json.loads(interaction["request"]["body"]))
    return asked


def root(server: Server) -> str:
    return server.url.removesuffix("/v1")


def names(taken: Taken) -> list[tuple[str, str | None]]:
    assert {step.context.kind for step in taken.record.steps if step.context} == {"llm"}
    assert "secret" not in json.dumps(taken.record.to_dict(), default=repr)
    assert "AWS4-HMAC" not in json.dumps(taken.record.to_dict(), default=repr)
    return [(step.skill_name, step.outcome_code) for step in taken.record.steps]


# --- recorded traffic -----------------------------------------------------------------------


def test_anthropic_calls_tools_at_once(server: Server, replays_offline: Replays) -> None:
    asked = load(server, "test_anthropic/test_multiple_parallel_tool_calls.yaml")

    def agent() -> list[Any]:
        client = anthropic.Anthropic(base_url=root(server), api_key="sk-secret")
        return [client.beta.messages.create(**body).model_dump() for body in asked]

    server.fail_next = 1
    taken = replays_offline(agent)
    assert names(taken) == [("chat", "429"), *[("chat", None)] * len(asked)]
    calls = [block for block in taken.value[0]["content"] if block["type"] == "tool_use"]
    assert len(calls) > 1


def test_an_error_of_anthropic(server: Server, replays_offline: Replays) -> None:
    name = "test_anthropic/test_anthropic_explicit_effort_xhigh_unsupported_model_errors.yaml"
    (body,) = load(server, name)

    def agent() -> tuple[int, Any, str]:
        client = anthropic.Anthropic(base_url=root(server), api_key="sk-secret")
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.beta.messages.create(**body)
        return caught.value.status_code, caught.value.body, str(caught.value)

    taken = replays_offline(agent)
    assert (taken.value[0], names(taken)) == (400, [("chat", "400")])


def test_openai_streams_a_response(server: Server, replays_offline: Replays) -> None:
    asked = load(server, "test_openai_responses/test_openai_include_raw_annotations_streaming.yaml")

    async def agent() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="sk-secret") as client:
            create = client.responses.create
            return [event.model_dump() for body in asked async for event in await create(**body)]

    taken = replays_offline(agent)
    assert names(taken) == [("chat", None)] * len(asked)
    assert taken.value[-1]["type"] == "response.completed"


# --- Mistral --------------------------------------------------------------------------------


def mistral(text: str | None, **said: Any) -> bytes:
    message = {"role": "assistant", "content": text, **said}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "created": 7,
        "choices": [choice],
        "usage": usage,
    }
    return json.dumps(whole).encode()


def test_mistral_whole_in_a_stream_with_tools_and_a_retry(server: Server, replays_offline: Replays) -> None:
    calls = [
        {"id": f"c{number}", "function": {"name": "weather", "arguments": "{}"}, "index": number}
        for number in (0, 1)
    ]
    chunk = {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
    }
    events = b"".join(b"data: %b\n\n" % data for data in (json.dumps(chunk).encode(), b"[DONE]"))
    server.answers = [
        (200, "application/json", mistral("Hello")),
        (200, "application/json", mistral(None, tool_calls=calls)),
        (200, "text/event-stream", events),
        (422, "application/json", b'{"detail": []}'),
    ]

    def agent() -> list[Any]:
        retries = RetryConfig("backoff", BackoffStrategy(1, 2, 1, 1000), retry_connection_errors=False)
        with Mistral(api_key="sk-secret", server_url=root(server), retry_config=retries) as client:
            seen: list[Any] = [client.chat.complete(model="m", messages=ASKED).model_dump()]
            tools: Any = [{"type": "function", "function": WEATHER}]
            seen.append(client.chat.complete(model="m", messages=ASKED, tools=tools).model_dump())
            with client.chat.stream(model="m", messages=ASKED) as stream:
                seen.append([event.model_dump() for event in stream])
            try:
                client.chat.complete(model="m", messages=ASKED)
            except Exception as error:  # the SDK's, whatever it calls it
                seen.append(type(error).__name__)
            return seen

    server.fail_next = 1
    taken = replays_offline(agent)
    assert names(taken) == [("chat", "429"), ("chat", None), ("chat", None), ("chat", None), ("chat", "422")]
    assert len(taken.value[1]["choices"][0]["message"]["tool_calls"]) == 2
    assert taken.value[2][0]["data"]["choices"][0]["delta"]["content"] == "Hi"
    assert "Error" in taken.value[3]


# --- Bedrock --------------------------------------------------------------------------------


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """An event in AWS's binary coding."""
    headers = b""
    for name, value in (
        (":event-type", kind),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += bytes([len(name)]) + name.encode() + b"\7" + len(value).to_bytes(2, "big") + value.encode()
    body = json.dumps(payload).encode()
    prelude = (len(headers) + len(body) + 16).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    start = prelude + zlib.crc32(prelude).to_bytes(4, "big") + headers + body
    return start + zlib.crc32(start).to_bytes(4, "big")


def test_bedrock_by_boto3(server: Server, replays_offline: Replays) -> None:
    uses = [{"toolUse": {"toolUseId": f"t{number}", "name": "weather", "input": {}}} for number in (1, 2)]
    usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
    whole = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}, *uses]}},
        "stopReason": "tool_use",
        "usage": usage,
        "metrics": {"latencyMs": 5},
    }
    events = [
        frame("messageStart", {"role": "assistant"}),
        *(
            frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}})
            for word in ("He", "llo")
        ),
        frame("messageStop", {"stopReason": "end_turn"}),
    ]
    server.answers = [
        (200, "application/json", json.dumps(whole).encode()),
        (200, "application/json", b'{"content": [{"type": "text", "text": "Hi"}]}'),
        (200, "application/vnd.amazon.eventstream", b"".join(events)),
        (400, "application/json", b'{"message": "no such model", "__type": "ValidationException"}'),
    ]

    def agent() -> list[Any]:
        client: Any = boto3.client(
            "bedrock-runtime",
            endpoint_url=root(server),
            region_name="us-east-1",
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="sk-secret",
            config=Config(retries={"mode": "standard", "max_attempts": 2}),
        )
        messages = [{"role": "user", "content": [{"text": "hi"}]}]
        answer = client.converse(modelId="anthropic.claude", messages=messages)
        body = json.dumps({"messages": ASKED, "max_tokens": 5, "anthropic_version": "bedrock-2023-05-31"})
        invoked = client.invoke_model(modelId="anthropic.claude", body=body)
        streamed = client.converse_stream(modelId="anthropic.claude", messages=messages)
        seen = [answer["output"], json.loads(invoked["body"].read()), list(streamed["stream"])]
        try:
            client.converse(modelId="none", messages=messages)
        except ClientError as error:
            seen.append(error.response["Error"])
        return seen

    server.fail_next = 1
    taken = replays_offline(agent)
    assert names(taken) == [("chat", "429"), ("chat", None), ("chat", None), ("chat", None), ("chat", "400")]
    assert "AKIAEXAMPLE" not in json.dumps(taken.record.to_dict(), default=repr)
    assert taken.record.steps[1].params["model"] == "anthropic.claude"
    assert len(taken.value[0]["message"]["content"]) == 3
    assert [list(event) for event in taken.value[2]] == [
        ["messageStart"],
        ["contentBlockDelta"],
        ["contentBlockDelta"],
        ["messageStop"],
    ]
    assert taken.value[3] == {"Message": "no such model", "Code": "ValidationException"}
