"""Sessions of aiohttp: recorded against a real server, and replayed when it is gone."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from isotrace.models.steps import stream_chunks
from isotrace.record import skill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

    Replays = Callable[..., Taken]

pytestmark = pytest.mark.usefixtures("captured")

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASKED, "stream": True}


def test_every_kind_of_answer_comes_back_as_it_was(server: Server, replays_offline: Replays) -> None:
    async def agent() -> list[Any]:
        seen: list[Any] = []
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{server.url}/moved") as answer:
                seen.append((await answer.text(), answer.charset, answer.url.path, answer.history[0].status))
            async with session.get(f"{server.url}/packed") as answer:
                seen.append((await answer.json(), await answer.text(), answer.closed))
            async with session.get(f"{server.url}/missing?api_key=sk-secret&page=2") as answer:
                seen.append(
                    (answer.status, answer.reason, await answer.json(), answer.headers["X-Request-Id"])
                )
            async with session.head(f"{server.url}/nothing") as answer:
                seen.append((answer.ok, await answer.read(), answer.content.at_eof()))
            async with session.get(f"{server.url}/bytes") as answer:
                seen.append([part async for part in answer.content.iter_chunked(100)])
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                await session.get(f"{server.url}/missing", raise_for_status=True)
            seen.append(str(caught.value))
        return seen

    taken = replays_offline(agent)
    assert taken.value[0] == ("grüß dich", "utf-8", "/v1/page", 302)
    assert taken.value[1] == ({"a": 1.5}, '{"a": 1.50}', True)
    assert taken.value[2][:2] == (404, "Not Found")
    assert [step.skill_name for step in taken.record.steps][:2] == ["GET 127.0.0.1"] * 2, (
        "a redirect is a step"
    )
    assert "sk-secret" not in json.dumps(taken.record.to_dict(), default=repr)


def test_a_model_is_asked_whole_and_in_events(server: Server, replays_offline: Replays) -> None:
    async def agent() -> list[Any]:
        headers = {"authorization": "Bearer sk-secret"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.post(f"{server.url}/chat/completions", json=ASKED) as answer:
                whole = await answer.json()
            async with session.post(f"{server.url}/chat/completions", json=STREAM) as answer:
                lines = [line async for line in answer.content if line.strip()]
            async with session.post(f"{server.url}/chat/completions", json=STREAM) as answer:
                first = await answer.content.readline()
            datas = [line.removeprefix(b"data: ") for line in [*lines, first]]
            return [whole["choices"], [json.loads(data) for data in datas if data[:1] == b"{"], len(datas)]

    taken = replays_offline(agent)
    assert [step.skill_name for step in taken.record.steps] == ["chat"] * 3
    assert [len(stream_chunks(step) or ()) for step in taken.record.steps] == [0, 5, 2]
    assert taken.value[2] == 5
    assert "sk-secret" not in json.dumps(taken.record.to_dict(), default=repr)


def test_errors_are_raised_again_by_their_own_class(server: Server, replays_offline: Replays) -> None:
    total, reading = aiohttp.ClientTimeout(total=0.1), aiohttp.ClientTimeout(sock_read=0.1)

    async def agent() -> list[Any]:
        seen: list[Any] = []
        async with aiohttp.ClientSession() as session:
            for url, timeout in (
                ("http://127.0.0.1:1/", total),
                (f"{server.url}/slow", total),
                (f"{server.url}/slow", reading),
                (f"{server.url}/torn", total),
                (f"{server.url}/torn", reading),
                (f"{server.url}/chunks?broken", total),
            ):
                came: list[bytes] = []
                try:
                    async with session.get(url, timeout=timeout) as answer:
                        async for part in answer.content.iter_chunked(3):
                            came += [part]
                except (aiohttp.ClientError, TimeoutError) as error:
                    of = (
                        (error.host, error.port, error.os_error.errno)
                        if isinstance(error, aiohttp.ClientConnectorError)
                        else ()
                    )
                    seen.append((type(error).__name__, str(error)[:40], of, b"".join(came)[:5]))
        return seen

    taken = replays_offline(agent)
    assert [name for name, *_ in taken.value] == [
        "ClientConnectorError",
        "TimeoutError",
        "SocketTimeoutError",
        "TimeoutError",
        "SocketTimeoutError",
        "ClientPayloadError",
    ]
    assert taken.value[0][1:3] == ("Cannot connect to host 127.0.0.1:1 ssl:d", ("127.0.0.1", 1, 111))
    assert [came for *_, came in taken.value] == [b"", b"", b"", b"begun", b"begun", b"onean"]


def test_while_it_is_recorded_an_answer_is_the_very_same(lab: Lab, server: Server) -> None:
    async def agent() -> list[Any]:
        seen: list[Any] = []
        async with aiohttp.ClientSession() as session:
            for page in ("chunks", "packed", "page", "bytes", "missing"):
                async with session.get(f"{server.url}/{page}") as answer:
                    parts = [b""]
                    async for part, ends in answer.content.iter_chunks():
                        parts[-1] += part
                        parts += [b""] if ends else []
                    headers = sorted({*answer.headers} - {"Date", "x-request-id"})
                    chunks = [part for part in parts if part]
                    seen.append((chunks, headers, answer.version, answer.reason, type(answer).__name__))
            async with session.post(f"{server.url}/odd-events/chat/completions", json=STREAM) as answer:
                seen.append((await answer.read(), answer.headers["x-mine"]))
        return seen

    plain = asyncio.run(agent())
    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, plain)
    assert plain[0][0] == [b"one", b"and two", b"three"]


def test_bodies_are_sent_once_and_recorded(server: Server, replays_offline: Replays) -> None:
    async def agent() -> list[Any]:
        async def parts() -> AsyncIterator[bytes]:
            made.append("begun")
            yield b"one"
            yield b"two"

        async def sent(**options: Any) -> Any:
            async with session.post(f"{server.url}/upload", **options) as answer:
                return (await answer.json())["got"]

        made: list[str] = []
        form = aiohttp.FormData({"name": "ada", "api_key": "sk-secret"})
        form.add_field("file", io.BytesIO(b"\x00\xff"), filename="a.bin")
        async with aiohttp.ClientSession() as session:
            counts = [
                await sent(data=parts()),
                await sent(data=io.BytesIO(b"content")),
                await sent(data="grüß"),
                await sent(data={"a": "1", "token": "sk-secret"}),
                await sent(data=form) > 200,
                await sent(),
            ]
        return [*counts, made]

    taken = replays_offline(agent)
    assert taken.value == [6, 7, 6, 19, True, 0, ["begun"]]
    bodies = [step.params.get("body") for step in taken.record.steps]
    assert bodies[:4] == [{"$iso:bytes": "b25ldHdv"}, {"$iso:bytes": "Y29udGVudA=="}, "grüß", "a=1&token=***"]
    assert [part["body"] for part in (bodies[4] or {})["parts"]] == ["ada", "***", {"$iso:bytes": "AP8="}]
    assert bodies[5] is None


def test_streams_at_once_cancelled_half_way(server: Server, replays_offline: Replays) -> None:
    server.words = [f"word{number} " for number in range(6)]

    async def agent() -> list[Any]:
        seen: list[tuple[int, int]] = []

        async def one(number: int) -> str:
            async with session.post(f"{server.url}/chat/completions", json=STREAM) as answer:
                async for line in answer.content:
                    seen.append((number, len(line) > 1))
                    if len(seen) == 60:
                        for task in tasks:
                            task.cancel()
            return "done"

        async with aiohttp.ClientSession() as session:
            tasks = [asyncio.create_task(one(number)) for number in range(10)]
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        return [seen, [str(end) or type(end).__name__ for end in ends]]

    taken = replays_offline(agent)
    assert len(taken.steps) == 10
    assert "CancelledError" in taken.value[1]


def test_the_hooks_of_a_session_run_as_ever(server: Server, replays_offline: Replays) -> None:
    async def agent() -> list[str]:
        seen: list[str] = []
        hooks = aiohttp.TraceConfig()

        async def note(*args: Any) -> None:
            seen.append(type(args[-1]).__name__)

        hooks.on_request_start.append(note)
        hooks.on_request_redirect.append(note)
        hooks.on_request_end.append(note)
        hooks.on_request_exception.append(note)
        async with aiohttp.ClientSession(trace_configs=[hooks]) as session:
            await (await session.get(f"{server.url}/moved")).read()
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://127.0.0.1:1/")
        return seen

    taken = replays_offline(agent)
    assert [name.removeprefix("TraceRequest") for name in taken.value] == [
        "StartParams",
        "RedirectParams",
        "EndParams",
        "StartParams",
        "ExceptionParams",
    ]


def test_a_call_inside_a_skill_belongs_to_that_skill(server: Server, replays_offline: Replays) -> None:
    @skill(effect="read")
    async def page() -> str:
        async with aiohttp.request("GET", f"{server.url}/page") as answer:
            return await answer.text()

    taken = replays_offline(page)
    assert [(name, outcome) for _, name, _, outcome in taken.steps] == [("page", {"value": "grüß dich"})]


def test_a_web_socket_is_left_alone(lab: Lab) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def agent() -> str:
        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(
                    runner.addresses[0] and f"http://127.0.0.1:{runner.addresses[0][1]}/"
                ) as socket,
            ):
                await socket.send_str("hello")
                return str((await socket.receive()).data)
        finally:
            await runner.cleanup()

    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, "hello")
    assert not [step for step in taken.record.steps if step.context and step.context.kind == "http"]


def test_what_is_asked_otherwise_is_found_at_its_step(lab: Lab, server: Server) -> None:
    pages = ["page", "bytes"]

    async def agent() -> None:
        async with aiohttp.ClientSession() as session:
            for page in pages:
                await session.get(f"{server.url}/{page}")

    taken = lab.record(agent)
    server.stop()
    pages[1] = "chunks"
    result = lab.replay(taken, agent)
    first = result.divergences[0]
    assert (str(result.verdict), first.code, first.index, first.pointers) == (
        "DIVERGED",
        "PARAMS_CHANGED",
        1,
        ["/url"],
    )
