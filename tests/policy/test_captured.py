"""Policies at the edges of unchanged programs: a captured call that is stopped sends nothing, and what the
agent sees is the violation, whatever the library around it does with errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import anthropic
import httpx
import openai
import pytest
import requests
from tests.record.lab import Lab

import isotrace
from isotrace.errors import PolicyViolation
from isotrace.operations.backtesting import verdicts_of
from isotrace.policy import Limit, Policy, PolicyRule

ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000},
}


class Server:
    """A model server, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.asked.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if body.get("stream"):
                    piece = {**ANSWER, "object": "chat.completion.chunk"}
                    delta = [{"index": 0, "delta": {"content": "Hello."}, "finish_reason": None}]
                    data = f"data: {json.dumps({**piece, 'choices': delta})}\n\ndata: [DONE]\n\n".encode()
                    kind = "text/event-stream"
                else:
                    data, kind = json.dumps(ANSWER).encode(), "application/json"
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    undo = isotrace.instrument()
    yield server
    undo()
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def with_openai(url: str) -> Any:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=3)
    return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def with_openai_stream(url: str) -> Any:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=3)
    return list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))


async def with_async_openai(url: str) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=3) as client:
        return await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


async def with_async_openai_stream(url: str) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=3) as client:
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        return [piece async for piece in stream]


def with_anthropic(url: str) -> Any:
    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=3)
    return client.messages.create(model="claude", max_tokens=10, messages=MESSAGES)


def with_httpx(url: str) -> Any:
    return httpx.post(f"{url}/v1/chat/completions", json={"model": "m", "messages": MESSAGES}).json()


def with_requests(url: str) -> Any:
    return requests.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES}, timeout=10).json()


async def with_aiohttp(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/tool", json={"a": 1}) as answer:
        return await answer.json()


AGENTS = [
    with_openai,
    with_openai_stream,
    with_async_openai,
    with_async_openai_stream,
    with_anthropic,
    with_httpx,
    with_requests,
    with_aiohttp,
]


def bound(agent: Any, url: str) -> Any:
    if asyncio.iscoroutinefunction(agent):

        async def aagent() -> Any:
            return await agent(url)

        return aagent
    return lambda: agent(url)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.__name__)
def test_a_stopped_request_is_not_sent_and_not_retried(lab: Lab, server: Server, agent: Any) -> None:
    policy = Policy([PolicyRule(id="offline", action="stop", kinds=("llm", "http"), deny=True)])
    function = bound(agent, server.url)
    taken = lab.record(function, policy=policy)
    assert type(taken.error) is PolicyViolation
    assert server.asked == []
    assert [(step.status.value, step.outcome_code) for step in taken.record.steps] == [("skipped", "offline")]
    result = lab.replay(taken, function)
    assert (result.verdict, type(result.error)) == ("MATCH", PolicyViolation)


SERVED = [agent for agent in AGENTS if agent is not with_anthropic]  # the server speaks OpenAI's protocol


@pytest.mark.parametrize("agent", SERVED, ids=lambda agent: agent.__name__)
def test_an_allowed_request_is_as_if_there_were_no_policy(lab: Lab, server: Server, agent: Any) -> None:
    policy = Policy(
        [PolicyRule(id="offline", action="stop", before="has(params.model) && params.model == 'other'")]
    )
    taken = lab.record(bound(agent, server.url), policy=policy)
    assert (taken.error, taken.record.violations, len(server.asked)) == (None, [], 1)
    assert taken.grade == "replayable"


def test_tokens_and_cost_of_captured_answers_count(lab: Lab, server: Server) -> None:
    def agent() -> int:
        for _ in range(5):
            with_openai(server.url)
            with_openai_stream(server.url)
        return 5

    policy = Policy([PolicyRule(id="tokens", action="stop", limit=Limit(tokens=1500))])
    taken = lab.record(agent, policy=policy)
    assert isinstance(taken.error, PolicyViolation)
    assert len(server.asked) == 2
    assert verdicts_of(policy, taken.ledger) == [
        (one.step_index, one.policy_id, one.reason) for one in taken.record.violations
    ]
    dear = Policy([PolicyRule(id="dear", action="stop", after="cost_cents > 0.0 && totals.tokens == 1000")])
    taken = lab.record(lambda: [with_openai(server.url), with_openai(server.url)], policy=dear)
    assert isinstance(taken.error, PolicyViolation)
    assert [(one.step_index, one.policy_id) for one in taken.record.violations] == [(0, "dear"), (1, "dear")]


def test_a_child_process_is_not_started(lab: Lab, server: Server, tmp_path: Any) -> None:
    policy = Policy(
        [PolicyRule(id="no-rm", action="stop", kinds=("process",), before="'touch' in params.argv")]
    )
    file = tmp_path / "made"

    def agent() -> Any:
        subprocess.run(["true"], check=True)
        try:
            subprocess.run(["touch", str(file)], check=False)
        except PolicyViolation:
            return subprocess.Popen(["touch", str(file)]).wait()

    async def aagent() -> Any:
        return await asyncio.create_subprocess_exec("touch", str(file))

    for function in (agent, aagent):
        taken = lab.record(function, policy=policy)
        assert isinstance(taken.error, PolicyViolation), taken.error
        assert not file.exists()
