"""A replay that calls the model asks it with another model and prompt, whichever library sends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import requests
from anthropic import Anthropic
from openai import AsyncOpenAI, OpenAI

from isotrace.replay import Plan, Replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Lab

pytestmark = pytest.mark.usefixtures("captured")

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}]
CHAT: Any = {"model": "small", "messages": MESSAGES}
KIND = {"role": "system", "content": "Be kind."}


def _openai(url: str) -> None:
    OpenAI(base_url=url, api_key="k").chat.completions.create(**CHAT)


def _openai_stream(url: str) -> None:
    list(OpenAI(base_url=url, api_key="k").chat.completions.create(**CHAT, stream=True))


def _openai_async(url: str) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(base_url=url, api_key="k") as client:
            await client.chat.completions.create(**CHAT)

    asyncio.run(ask())


def _anthropic(url: str) -> None:
    client = Anthropic(base_url=url.removesuffix("/v1"), api_key="k")
    client.messages.create(model="small", max_tokens=9, system="Be brief.", messages=MESSAGES[1:])


def _requests(url: str) -> None:
    requests.post(f"{url}/chat/completions", json=CHAT, timeout=5).json()


def _requests_stream(url: str) -> None:
    with requests.post(
        f"{url}/chat/completions", json={**CHAT, "stream": True}, stream=True, timeout=5
    ) as got:
        list(got.iter_lines())


def _aiohttp(url: str) -> None:
    async def ask() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/chat/completions", json=CHAT) as answer,
        ):
            await answer.json()

    asyncio.run(ask())


def _google(url: str) -> None:
    body = {"contents": [{"parts": [{"text": "How are you?"}]}]}
    httpx.post(f"{url}/models/small:generateContent", json=body)


CASES: list[Any] = [
    (_openai, "/v1/chat/completions", {"model": "large", "messages": [KIND, MESSAGES[1]]}),
    (_openai_stream, "/v1/chat/completions", {"model": "large", "messages": [KIND, MESSAGES[1]]}),
    (_openai_async, "/v1/chat/completions", {"model": "large", "messages": [KIND, MESSAGES[1]]}),
    (_anthropic, "/v1/messages", {"model": "large", "system": "Be kind.", "messages": MESSAGES[1:]}),
    (_requests, "/v1/chat/completions", {"model": "large", "messages": [KIND, MESSAGES[1]]}),
    (_requests_stream, "/v1/chat/completions", {"model": "large", "messages": [KIND, MESSAGES[1]]}),
    (_aiohttp, "/v1/chat/completions", {"model": "large", "messages": [KIND, MESSAGES[1]]}),
    (
        _google,
        "/v1/models/large:generateContent",
        {
            "contents": [{"parts": [{"text": "How are you?"}]}],
            "systemInstruction": {"parts": [{"text": "Be kind."}]},
        },
    ),
]


@pytest.mark.parametrize(("ask", "path", "body"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_model_is_asked_with_another_model_and_prompt(
    ask: Callable[[str], None], path: str, body: dict[str, Any], server: Server, lab: Lab
) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def answer(path: str, given: dict[str, Any]) -> Any:
        seen.append((path, given))
        if "messages" in path:
            return {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
        if "Content" in path:
            return {"candidates": []}
        if given.get("stream"):
            return [(None, {"id": "1", "choices": [{"index": 0, "delta": {"content": "hi"}}]})]
        return {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}

    server.script = answer
    taken = lab.record(lambda: ask(server.url))
    assert taken.error is None
    plan = Plan(mode="model-live", model="large", prompt="Be kind.")
    result = Replay(taken.ledger, plan).run(lambda: lab.start(lambda: ask(server.url), store=lab.store))
    assert result.error is None
    assert result.receipt.executed == 1
    assert len(seen) == 2
    assert seen[1][0] == path
    assert {name: seen[1][1][name] for name in body} == body
    assert result.new_run is not None
    assert result.new_run.steps[0].params["model"] == "large"
