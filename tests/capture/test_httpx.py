"""Clients of httpx and httpx2, and the SDKs on top of them: recorded against a real server, and replayed
when it is gone."""

from __future__ import annotations

import asyncio
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from isotrace.ledger import Ledger
from isotrace.models import TraceRecord
from isotrace.record import skill

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")


def assert_replays_offline(lab: Lab, server: Server, agent: Callable[..., Any]) -> Taken:
    """Records an agent, stops the server, and replays it: the same value and not one request."""
    taken = lab.record(agent)
    assert taken.error is None
    asked = len(server.asked)
    assert asked, "the server was asked while recording"
    server.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert result.value == taken.value
    assert (len(server.asked), result.receipt.blocked, result.receipt.served) == (asked, 0, len(taken.steps))
    return taken


def shown(taken: Taken) -> list[tuple[str, str, str, str | None]]:
    """Kind, name, status and code of each step."""
    return [
        (step.context.kind if step.context else "", step.skill_name, step.status.value, step.outcome_code)
        for step in taken.record.steps
    ]


# --- SDKs ---------------------------------------------------------------------------------


def test_an_openai_agent_with_a_retry_and_a_stream(lab: Lab, server: Server) -> None:
    def agent() -> list[Any]:
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret")
        ask = client.chat.completions.create
        whole = ask(model="gpt-x", messages=[{"role": "user", "content": "hello"}])
        pieces = ask(model="gpt-x", messages=[{"role": "user", "content": "again"}], stream=True)
        words = [piece.choices[0].delta.content for piece in pieces]
        return [whole.model_dump(), whole._request_id, words]

    server.fail_next = 1
    taken = assert_replays_offline(lab, server, agent)
    assert shown(taken) == [
        ("llm", "chat", "failure", "429"),
        ("llm", "chat", "success", None),
        ("llm", "chat", "success", None),
    ]
    first, second, _ = taken.record.steps
    assert first.outcome_data == {"error": {"message": "slow down", "type": "rate_limit"}}
    assert second.params == {"messages": [{"role": "user", "content": "hello"}], "model": "gpt-x"}
    assert taken.value[0]["choices"][0]["message"]["content"] == "hello: Hello you"
    assert taken.value[2] == ["Hel", "lo", " you"]


def test_an_anthropic_agent(lab: Lab, server: Server) -> None:
    def agent() -> list[str]:
        client = anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="sk-secret")
        asked: Any = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        message = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            return [message.content[0].text, *stream.text_stream]

    taken = assert_replays_offline(lab, server, agent)
    assert taken.value == ["Hello you", "Hel", "lo", " you"]
    assert shown(taken) == [("llm", "chat", "success", None)] * 2


def test_twenty_streams_at_once_cancelled_half_way(lab: Lab, server: Server) -> None:
    server.words = [f"word{number} " for number in range(6)]

    async def agent() -> list[Any]:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="sk-secret")
        seen: list[tuple[int, str]] = []

        async def one(number: int) -> str:
            messages: Any = [{"role": "user", "content": f"q{number}"}]
            stream = await client.chat.completions.create(model="gpt-x", messages=messages, stream=True)
            async for piece in stream:
                seen.append((number, piece.choices[0].delta.content or ""))
                if len(seen) == 60:
                    for task in tasks:
                        task.cancel()
            return "done"

        tasks = [asyncio.create_task(one(number)) for number in range(20)]
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        return [seen, [str(end) or type(end).__name__ for end in ends]]

    taken = assert_replays_offline(lab, server, agent)
    assert len(taken.steps) == 20
    assert "CancelledError" in taken.value[1]


def test_a_record_without_its_ledger_replays_too(lab: Lab, server: Server) -> None:
    def agent() -> Any:
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret")
        answer = client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "hi"}])
        return answer.model_dump(), answer._request_id

    taken = lab.record(agent)
    server.stop()
    sources: list[Ledger | TraceRecord] = [taken.record, TraceRecord.from_dict(taken.record.to_dict())]
    for source in sources:
        result = lab.replay(source, agent)
        assert (str(result.verdict), result.value) == ("MATCH", taken.value)


# --- what the code does otherwise -----------------------------------------------------------


@pytest.mark.parametrize(
    ("questions", "code", "index"),
    [
        (["a", "x", "c"], "PARAMS_CHANGED", 1),
        (["a", "c", "b"], "REORDERED", 1),
        (["a", "b"], "EARLY_END", 2),
        (["a", "b", "c", "d"], "LATE_END", 3),
    ],
)
def test_what_is_asked_otherwise_is_found_at_its_step(
    lab: Lab, server: Server, questions: list[str], code: str, index: int
) -> None:
    asked = ["a", "b", "c"]

    def agent() -> None:
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret", max_retries=0)
        for question in asked:
            client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": question}])

    taken = lab.record(agent)
    server.stop()
    asked[:] = questions
    result = lab.replay(taken, agent)
    first = result.divergences[0]
    assert (str(result.verdict), first.code, first.index) == ("DIVERGED", code, index)


# --- clients as they are --------------------------------------------------------------------


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_every_kind_of_answer_comes_back_as_it_was(lab: Lab, server: Server, library: ModuleType) -> None:
    def agent() -> list[Any]:
        with library.Client(base_url=server.url, follow_redirects=True) as client:
            moved = client.get("/moved")
            packed = client.get("/packed")
            missing = client.get("/missing?api_key=sk-secret&page=2")
            files = {"file": ("a.bin", b"\x00\xff", "application/octet-stream")}
            return [
                (moved.text, moved.encoding, [str(one.url) for one in moved.history]),
                (packed.json(), packed.text),
                (missing.status_code, missing.json(), missing.headers["x-request-id"]),
                client.get("/bytes").content,
                client.post("/upload", content=b"\x01\x02").json(),
                client.post("/upload", files=files).is_success,
                client.head("/nothing").is_error,
            ]

    if library is httpx2:
        agent()  # nothing outside of a run is a step
    taken = lab.record(agent)
    assert taken.error is None
    assert taken.value[0][0] == "grüß dich"
    assert taken.value[1] == ({"a": 1.5}, '{"a": 1.50}')
    names = [step.skill_name for step in taken.record.steps]
    assert names[:3] == ["GET 127.0.0.1"] * 3, "a redirect is a request of its own"
    assert "sk-secret" not in json.dumps(taken.record.to_dict(), default=repr)


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_asynchronous_clients_do_the_same(lab: Lab, server: Server, library: ModuleType) -> None:
    async def agent() -> list[Any]:
        async with library.AsyncClient(base_url=server.url, follow_redirects=True) as client:
            pages = await asyncio.gather(*(client.get("/page") for _ in range(5)))
            async with client.stream("GET", "/bytes") as response:
                raw = b"".join([part async for part in response.aiter_raw()])
            return [[page.text for page in pages], raw, (await client.get("/moved")).url.path]

    taken = await asyncio.to_thread(assert_replays_offline, lab, server, agent)
    assert taken.value[2] == "/v1/page"


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_errors_are_raised_again_by_their_own_class(lab: Lab, server: Server, library: ModuleType) -> None:
    def agent() -> list[tuple[str, str]]:
        seen = []
        for url in ("http://127.0.0.1:1/", f"{server.url}/slow"):
            try:
                library.get(url, timeout=library.Timeout(5, read=0.1))
            except library.TransportError as error:
                seen.append((type(error).__name__, str(error.request.url)))
        return seen

    taken = assert_replays_offline(lab, server, agent)
    assert [name for name, _ in taken.value] == ["ConnectError", "ReadTimeout"]
    assert [step.outcome_category for step in taken.record.steps] == ["TRANSIENT", "TRANSIENT"]


def test_a_call_inside_a_skill_belongs_to_that_skill(lab: Lab, server: Server) -> None:
    @skill(effect="read")
    def page() -> str:
        return str(httpx.get(f"{server.url}/page").text)

    taken = assert_replays_offline(lab, server, page)
    assert [(name, outcome) for _, name, _, outcome in taken.steps] == [("page", {"value": "grüß dich"})]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_answers_that_are_left_give_their_connection_back(
    lab: Lab, server: Server, library: ModuleType
) -> None:
    def agent() -> list[str]:
        seen = []
        limits = library.Limits(max_connections=1)
        with library.Client(base_url=server.url, limits=limits, timeout=library.Timeout(5, pool=1)) as client:
            asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            with client.stream("POST", "/chat/completions", json=asked) as response:
                seen.append(response.status_code)
            with pytest.raises(library.ReadTimeout):
                client.get("/torn", timeout=library.Timeout(5, read=0.1, pool=1))
            seen.append(client.get("/page").text)
        return seen

    taken = assert_replays_offline(lab, server, agent)
    assert taken.value == [200, "grüß dich"]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_while_it_is_recorded_an_answer_is_the_very_same(
    lab: Lab, server: Server, library: ModuleType
) -> None:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    def agent() -> list[Any]:
        with library.Client(base_url=server.url) as client:
            seen: list[Any] = []
            with client.stream("POST", "/odd-events/chat/completions", json=asked) as response:
                seen.append((b"".join(response.iter_raw()), response.headers.get("x-mine")))
            with client.stream("POST", "/packed-events/chat/completions", json=asked) as response:
                seen.append(list(response.iter_lines()))
            seen.append(response.elapsed.total_seconds() >= 0)
            server.fail_next = 1
            refused = client.post("/chat/completions", json=asked)
            return [*seen, refused.status_code, refused.json(), refused.elapsed.total_seconds() >= 0]

    plain = agent()
    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, plain)
    server.stop()
    served = lab.replay(taken, lambda: agent()[1:])
    assert (served.error, served.divergences, served.value) == (None, [], plain[1:])
