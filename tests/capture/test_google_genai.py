"""The SDK of Google, whose client is httpx's, or aiohttp's in asynchronous code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

genai: Any = pytest.importorskip("google.genai", reason="google-genai is not installed")

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Taken

    Replays = Callable[..., Taken]

pytestmark = [
    pytest.mark.usefixtures("captured"),
    # The SDK's own, with newer versions of what it uses.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def answer(*parts: dict[str, Any]) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}
    return {
        "candidates": [{"content": content, "finishReason": "STOP"}],
        "usageMetadata": usage,
        "modelVersion": "g",
    }


def prepare(server: Server) -> dict[str, Any]:
    """Fills the server; the options of a client of it."""
    calls = [{"functionCall": {"name": "weather", "args": {"city": city}}} for city in ("Rome", "Oslo")]
    events = b"".join(
        b"data: %b\r\n\r\n" % json.dumps(answer({"text": word})).encode() for word in ("Hel", "lo")
    )
    server.answers = [
        (200, "application/json", json.dumps(answer({"text": "Hi"})).encode()),
        (200, "application/json", json.dumps(answer(*calls)).encode()),
        (200, "text/event-stream", events),
        (400, "application/json", b'{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}'),
    ]
    server.fail_next = 1
    retries = genai.types.HttpRetryOptions(attempts=2, initial_delay=0.01, max_delay=0.01)
    options = genai.types.HttpOptions(base_url=server.url.removesuffix("/v1"), retry_options=retries)
    return {"api_key": "sk-secret", "http_options": options}


def check(taken: Taken) -> None:
    asked = [step for step in taken.record.steps if step.context and step.context.kind == "llm"]
    steps = [(step.skill_name, step.outcome_code) for step in asked]
    name = "generate_content"
    assert steps == [(name, "429"), (name, None), (name, None), (name, None), (name, "400")]
    assert taken.value[0]["candidates"][0]["content"]["parts"][0]["text"] == "Hi"
    assert len(taken.value[1]["candidates"][0]["content"]["parts"]) == 2
    assert [piece["candidates"][0]["content"]["parts"][0]["text"] for piece in taken.value[2]] == [
        "Hel",
        "lo",
    ]
    assert taken.value[3] == (400, "INVALID_ARGUMENT")
    assert taken.record.steps[0].params["model"] == "gemini-9"
    assert "sk-secret" not in json.dumps(taken.record.to_dict(), default=repr)


def shown(answered: Any) -> Any:
    return answered.model_dump(exclude={"sdk_http_response"})


def test_whole_in_a_stream_with_tools_an_error_and_a_retry(server: Server, replays_offline: Replays) -> None:
    options = prepare(server)

    def agent() -> list[Any]:
        ask = {"model": "gemini-9", "contents": "hi"}
        client = genai.Client(**options)
        models = client.models
        seen = [shown(models.generate_content(**ask)), shown(models.generate_content(**ask))]
        seen.append([shown(piece) for piece in models.generate_content_stream(**ask)])
        with pytest.raises(genai.errors.ClientError) as caught:
            models.generate_content(**ask)
        client.close()
        return [*seen, (caught.value.code, caught.value.status)]

    check(replays_offline(agent))


def test_the_same_asynchronously(server: Server, replays_offline: Replays) -> None:
    options = prepare(server)

    async def agent() -> list[Any]:
        ask = {"model": "gemini-9", "contents": "hi"}
        async with genai.Client(**options).aio as client:
            models = client.models
            seen = [shown(await models.generate_content(**ask)), shown(await models.generate_content(**ask))]
            stream = await models.generate_content_stream(**ask)
            seen.append([shown(piece) async for piece in stream])
            with pytest.raises(genai.errors.ClientError) as caught:
                await models.generate_content(**ask)
            return [*seen, (caught.value.code, caught.value.status)]

    check(replays_offline(agent))
