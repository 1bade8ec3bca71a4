"""Cassettes that vcrpy recorded, as runs: the same program with the plain SDK is replayed against them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
import requests
import yaml
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from isotrace import skill
from isotrace.contracts import ImportedRun
from isotrace.formats.vcr import VcrImporter
from isotrace.formats.vcr_export import VcrExporter
from isotrace.ledger import Ledger, seal
from isotrace.record import instrument
from isotrace.replay import Replay, ReplayResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Lab

vcr = pytest.importorskip("vcr", reason="vcrpy is not installed here")

WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def imported(path: Path) -> Ledger:
    with path.open("rb") as file:
        (run,) = VcrImporter().read(file, where=str(path), tenant_id="default")
    assert isinstance(run, ImportedRun)
    return seal(run.events, run.seed or b"").ledger


def replayed(ledger: Ledger, agent: Callable[[], Any]) -> ReplayResult:
    return Replay(ledger).run(agent, body=True)


def assistant(url: str, question: str = "Rome?") -> Callable[[], Any]:
    """A program as people write it: a chat, a tool, a stream, and a call that the server refuses at first."""

    def program() -> list[Any]:
        client = openai.OpenAI(base_url=url, api_key="sk-secret")
        asked: Any = [{"role": "user", "content": question}]
        first = client.chat.completions.create(model="gpt-x", messages=asked, tools=[WEATHER])
        call = (first.choices[0].message.tool_calls or [])[0]
        asked += [first.choices[0].message.model_dump(exclude_none=True)]
        asked += [{"role": "tool", "tool_call_id": call.id, "content": "21"}]
        stream = client.chat.completions.create(model="gpt-x", messages=asked, stream=True)
        return [first, list(stream), client.chat.completions.create(model="gpt-y", messages=asked)]

    return program


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def answer(server: Server) -> Callable[[str, Any], Any]:
    def said(_path: str, body: Any) -> Any:
        if body.get("stream"):
            pieces: list[Any] = [
                {
                    "id": "s",
                    "object": "chat.completion.chunk",
                    "created": 7,
                    "model": "gpt-x",
                    "choices": [one],
                }
                for one in (
                    {"index": 0, "delta": {"role": "assistant", "content": "21 \u2028"}},
                    {"index": 0, "delta": {"content": "degrees"}, "finish_reason": "stop"},
                )
            ]
            return [*((None, piece) for piece in pieces), (None, "[DONE]")]
        if body["model"] == "gpt-y" and len(server.asked) == 3:
            return 429, {"error": {"message": "slow down", "type": "rate_limit"}}
        message: Any = {"role": "assistant", "content": "Warm."}
        if body.get("tools"):
            message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 7,
            "model": body["model"],
            "choices": [choice],
        }

    return said


def test_a_program_replays_against_the_cassette_that_vcrpy_recorded(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "assistant.yaml"
    server.script = answer(server)
    with vcr.use_cassette(str(path)):
        recorded = assistant(server.url)()
    server.stop()
    with vcr.use_cassette(str(path), record_mode="none"):
        served = assistant(server.url)()
    result = replayed(imported(path), assistant(server.url))
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert result.value == served == recorded
    assert (result.receipt.served, result.receipt.blocked) == (4, 0)


def test_a_changed_prompt_is_found_at_its_step(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "assistant.yaml"
    server.script = answer(server)
    with vcr.use_cassette(str(path)):
        assistant(server.url)()
    ledger = imported(path)

    def other_question() -> Any:
        return assistant(server.url, "Oslo?")()

    def other_result() -> Any:
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret")
        asked: Any = [{"role": "user", "content": "Rome?"}]
        first = client.chat.completions.create(model="gpt-x", messages=asked, tools=[WEATHER])
        asked += [first.choices[0].message.model_dump(exclude_none=True)]
        asked += [{"role": "tool", "tool_call_id": "call_1", "content": "22"}]
        return list(client.chat.completions.create(model="gpt-x", messages=asked, stream=True))

    for agent, index, pointer in (
        (other_question, 0, "/messages/0/content"),
        (other_result, 1, "/messages/2/content"),
    ):
        (found,) = replayed(ledger, agent).divergences
        assert (found.code, found.index, found.pointers) == ("PARAMS_CHANGED", index, [pointer])
    (found,) = replayed(ledger, lambda: None).divergences
    assert (found.code, found.index) == ("EARLY_END", 0)


def test_tasks_timers_and_streams_left_early_are_no_differences(server: Server, tmp_path: Path) -> None:
    """A cassette knows nothing of them."""
    path = tmp_path / "tasks.yaml"
    server.script = answer(server)

    async def program() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="sk-secret") as client:
            create = client.chat.completions.create

            async def ask(model: str, after: float) -> Any:
                await asyncio.sleep(after)
                return await create(model=model, messages=[{"role": "user", "content": model}])

            both: list[Any] = [*await asyncio.gather(ask("a", 0.05), ask("b", 0.15))]
            both.append(await asyncio.wait_for(ask("gpt-y", 0), 60))
            stream = await create(model="gpt-x", messages=[], stream=True)
            async for piece in stream:
                await stream.close()
                return [*both, piece]
            return both

    with vcr.use_cassette(str(path)):
        recorded = asyncio.run(program())
    server.stop()
    result = replayed(imported(path), program)
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert result.value == recorded
    assert (result.receipt.served, result.receipt.blocked) == (5, 0)


def test_parallel_requests_are_answered_in_the_order_of_the_cassette(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "parallel.yaml"
    server.script = answer(server)

    def program(models: str) -> Callable[[], Any]:
        async def both() -> list[str]:
            async with openai.AsyncOpenAI(base_url=server.url, api_key="sk-secret") as client:
                came: list[str] = []

                async def ask(model: str) -> None:
                    said = await client.chat.completions.create(model=model, messages=[])
                    came.append(said.model)

                await asyncio.gather(*map(ask, models))
                return came

        return both

    with vcr.use_cassette(str(path)):
        for model in "ba":
            openai.OpenAI(base_url=server.url, api_key="sk").chat.completions.create(model=model, messages=[])
    result = replayed(imported(path), program("ab"))
    assert (str(result.verdict), result.value) == ("MATCH", ["b", "a"])
    (found,) = replayed(imported(path), program("ac")).divergences
    assert (found.code, found.pointers) == ("PARAMS_CHANGED", ["/model"])


# --- bodies of all kinds ----------------------------------------------------------------------

PAGES = ("packed", "bytes", "moved", "none", "page?api_key=sk-secret")


def by_httpx(url: str) -> list[Any]:
    with httpx.Client(follow_redirects=True) as client:
        told = [client.get(f"{url}/{page}") for page in PAGES]
        told.append(client.post(f"{url}/form", data={"a": "ü", "password": "sk-secret"}))
        told.append(client.post(f"{url}/files", files={"one": ("b.bin", b"\0\xff")}))
        told.append(client.post(f"{url}/bytes", content=b"\0\xff"))
        events = {"accept": "text/event-stream"}
        for path in ("packed-events/x", "odd-events/x"):
            with client.stream("POST", f"{url}/{path}", json={}, headers=events) as answer:
                answer.read()
            told.append(answer)
        return [(one.status_code, one.reason_phrase, meant(one.content)) for one in told]


def by_requests(url: str) -> list[Any]:
    with requests.Session() as client:
        told = [client.get(f"{url}/{page}") for page in PAGES]
        told.append(client.post(f"{url}/form", data={"a": "ü", "password": "sk-secret"}))
        told.append(client.post(f"{url}/bytes", data=b"\0\xff"))
        return [(one.status_code, one.reason, meant(one.content)) for one in told]


def meant(data: bytes) -> list[bytes] | bytes:
    """Events come back in the same meaning, everything else to the letter."""
    return (
        sorted(re.findall(rb'(?:data|id|retry): *([^"{\r\n ]+)', data.decode(errors="replace").encode()))
        or data
    )


@pytest.mark.parametrize("program", [by_httpx, by_requests])
def test_bodies_come_back_as_vcrpy_serves_them(
    server: Server, tmp_path: Path, program: Callable[[str], Any]
) -> None:
    path = tmp_path / "bodies.yaml"
    with vcr.use_cassette(str(path)):
        program(server.url)
    server.stop()
    with vcr.use_cassette(str(path), record_mode="none", allow_playback_repeats=True):
        served = program(server.url)
    ledger = imported(path)
    result = replayed(ledger, lambda: program(server.url))
    assert [str(one) for one in result.divergences] == []
    assert (str(result.verdict), result.error) == ("MATCH", None)
    assert result.value == served
    assert result.receipt.blocked == 0
    assert "sk-secret" not in repr(ledger.events)
    assert reimported(ledger) == told(ledger)


def told(ledger: Ledger) -> list[Any]:
    return [
        (
            step.skill_name,
            step.params,
            step.outcome_data,
            step.outcome_code,
            step.context and step.context.transport,
        )
        for step in ledger.record().steps
    ]


def reimported(ledger: Ledger) -> list[Any]:
    """What an export says when it is imported."""
    stream = io.BytesIO()
    VcrExporter().write([ledger], stream)
    stream.seek(0)
    (run,) = VcrImporter().read(stream, where="again.yaml", tenant_id="default")
    assert isinstance(run, ImportedRun)
    return told(seal(run.events, run.seed or b"").ledger)


def exchange(response: dict[str, Any], **request: Any) -> dict[str, Any]:
    request = {"method": "GET", "uri": "https://h.example/p", "headers": {}, "body": None, **request}
    return {
        "request": request,
        "response": {"status": {"code": 200, "message": "OK"}, "headers": {}, **response},
    }


def asked_again(*interactions: dict[str, Any]) -> list[Any]:
    """What a client gets that makes these requests against their cassette."""
    data = yaml.safe_dump({"interactions": list(interactions), "version": 1}).encode()
    (run,) = VcrImporter().read(io.BytesIO(data), where="c.yaml", tenant_id="default")
    assert isinstance(run, ImportedRun)

    def program() -> list[Any]:
        with httpx.Client() as client:
            return [
                client.request(one["method"], one["uri"], content=one["body"], headers=one["headers"])
                for one in (interaction["request"] for interaction in interactions)
            ]

    result = Replay(seal(run.events, run.seed or b"").ledger).run(program, body=True)
    assert [str(one) for one in result.divergences] == []
    if result.error is not None:
        raise result.error
    return result.value


def test_packed_binary_and_empty_bodies_of_a_cassette_are_served() -> None:
    packed = base64.b64encode(gzip.compress(b'{"a": 1.50}')).decode()
    json_kind = {"Content-Type": ["application/json"]}
    got = asked_again(
        exchange(
            {
                "headers": {**json_kind, "Content-Encoding": ["gzip"], "Retry-After": ["3"]},
                "body": {"base64_string": packed},
            }
        ),
        exchange({"headers": {"content-type": ["image/png"]}, "body": {"string": b"\x89PNG\0\xff"}}),
        exchange({"status": {"code": 204, "message": "No Content"}, "body": {"string": ""}}),
        exchange(
            {"status": {"code": 503, "message": "Busy"}, "headers": json_kind, "parsed_body": {"a": 2**70}}
        ),
        exchange({"body": {"string": "no kind"}}, method="POST", body=b"\0\xff"),
    )
    assert [(one.status_code, one.reason_phrase, one.content) for one in got] == [
        (200, "OK", b'{"a": 1.50}'),
        (200, "OK", b"\x89PNG\0\xff"),
        (204, "No Content", b""),
        (503, "Busy", b'{"a":%d}' % 2**70),
        (200, "OK", b"no kind"),
    ]
    assert got[0].headers["retry-after"] == "3"


def test_what_can_not_be_unpacked_here_is_the_business_of_the_programs_client() -> None:
    damaged = base64.b64encode(gzip.compress(b"{}" * 99)[:-9] + b"\xff" * 9).decode()
    response = {"headers": {"content-encoding": ["gzip"]}, "body": {"base64_string": damaged}}
    with pytest.raises(httpx.DecodingError):
        asked_again(exchange(response))


# --- what a cassette has not --------------------------------------------------------------------


def test_a_frameworks_tools_run_again_between_the_calls(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "tools.yaml"
    server.script = answer(server)
    called: list[str] = []

    async def program() -> str:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="sk-secret") as client:
            agent = Agent(OpenAIChatModel("gpt-x", provider=OpenAIProvider(openai_client=client)))

            @agent.tool_plain
            async def weather() -> str:
                called.append("weather")
                return str(len(called))

            return (await agent.run("Rome?")).output

    talk = iter([[CALL], None])

    def said(_path: str, body: Any) -> Any:
        message: Any = {"role": "assistant", "content": "Warm.", "tool_calls": next(talk)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "c", "object": "chat.completion", "created": 7, "model": "gpt-x", "choices": [choice]}

    server.script = said
    with vcr.use_cassette(str(path)):
        assert asyncio.run(program()) == "Warm."
    server.stop()
    called.clear()
    result = replayed(imported(path), program)
    assert ([str(one) for one in result.divergences], result.error) == ([], None)
    assert (str(result.verdict), result.value, called) == ("MATCH", "Warm.", ["weather"])


def test_a_declared_skill_and_a_reach_outside_end_the_replay(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"

    def page() -> str:
        return httpx.get(f"{server.url}/page").text

    done: list[str] = []

    @skill(effect="write")
    def pay() -> None:
        done.append("paid")

    def pays() -> None:
        page()
        pay()

    def starts() -> None:
        page()
        subprocess.run(["true"], check=True)

    with vcr.use_cassette(str(path)):
        page()
    codes = [str(one.code) for agent in (pays, starts) for one in replayed(imported(path), agent).divergences]
    assert (codes, done) == (["LATE_END", "UNCONTROLLED_SOURCE"], [])


def test_a_stream_is_not_served_to_who_asks_for_a_whole_answer(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    kinds: list[dict[str, str]] = [{}, {"accept": "text/event-stream"}]

    def program(headers: dict[str, str]) -> None:
        httpx.get(f"{server.url}/page", headers=headers)

    for recorded, other in (kinds, kinds[::-1]):
        with vcr.use_cassette(str(path), record_mode="all"):
            program(recorded)
        result = replayed(imported(path), partial(program, recorded))
        assert (str(result.verdict), result.divergences) == ("MATCH", [])
        (found,) = replayed(imported(path), partial(program, other)).divergences
        assert found.code == "STREAM_CHANGED"
        path.unlink()


def test_how_the_program_ends_is_not_compared(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"

    def program() -> None:
        raise ValueError(httpx.get(f"{server.url}/none").text)

    with vcr.use_cassette(str(path)), pytest.raises(ValueError, match="no such page"):
        program()
    result = replayed(imported(path), program)
    assert (str(result.verdict), type(result.error)) == ("MATCH", ValueError)


def test_a_captured_run_is_served_by_vcrpy_and_replays_as_a_cassette(
    server: Server, lab: Lab, tmp_path: Path
) -> None:
    server.script = answer(server)
    restore = instrument()
    try:
        taken = lab.record(assistant(server.url))
    finally:
        restore()
    server.stop()
    path = tmp_path / "captured.yaml"
    with path.open("wb") as file:
        VcrExporter().write([taken.ledger], file)
    with vcr.use_cassette(str(path), record_mode="none"):
        assert assistant(server.url)() == taken.value
    assert told(imported(path)) == told(taken.ledger)
    result = replayed(imported(path), assistant(server.url))
    assert (str(result.verdict), result.value) == ("MATCH", taken.value)
