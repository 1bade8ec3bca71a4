"""Pools of urllib3, and requests on top of them: recorded against a real server, and replayed when it is
gone."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

from isotrace.models.steps import stream_chunks
from isotrace.record import skill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

    Replays = Callable[..., Taken]

pytestmark = pytest.mark.usefixtures("captured")

STREAM = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def test_every_kind_of_answer_comes_back_as_it_was(server: Server, replays_offline: Replays) -> None:
    def agent() -> list[Any]:
        with requests.Session() as session:
            moved = session.get(f"{server.url}/moved")
            packed = session.get(f"{server.url}/packed")
            missing = session.get(f"{server.url}/missing?api_key=sk-secret&page=2")
            return [
                (moved.text, moved.encoding, moved.url, [one.status_code for one in moved.history]),
                (packed.json(), packed.text),
                (missing.status_code, missing.reason, missing.json(), missing.headers["x-request-id"]),
                session.get(f"{server.url}/bytes").content,
                session.get(f"{server.url}/chunks").content,
                session.post(f"{server.url}/upload", data=b"\x01\x02").json(),
                session.head(f"{server.url}/nothing").ok,
                urllib3.request("GET", f"{server.url}/page").data,
            ]

    taken = replays_offline(agent)
    assert taken.value[0] == ("grüß dich", "utf-8", f"{server.url}/page", [302])
    assert taken.value[1] == ({"a": 1.5}, '{"a": 1.50}')
    assert taken.value[2][:2] == (404, "Not Found")
    assert [step.skill_name for step in taken.record.steps][:2] == ["GET 127.0.0.1"] * 2, (
        "a redirect is a step"
    )
    assert "sk-secret" not in json.dumps(taken.record.to_dict(), default=repr)


def test_a_model_is_asked_whole_and_in_events(server: Server, replays_offline: Replays) -> None:
    def agent() -> list[Any]:
        headers = {"authorization": "Bearer sk-secret"}
        whole = requests.post(
            f"{server.url}/chat/completions", json={**STREAM, "stream": False}, headers=headers
        )
        with requests.post(
            f"{server.url}/chat/completions", json=STREAM, headers=headers, stream=True
        ) as answer:
            lines = [line.removeprefix(b"data: ") for line in answer.iter_lines() if line]
        return [whole.json()["choices"], [json.loads(line) for line in lines[:-1]], lines[-1]]

    taken = replays_offline(agent)
    assert [step.skill_name for step in taken.record.steps] == ["chat", "chat"]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in taken.value[1]] == ["Hel", "lo", " you"]
    assert len(stream_chunks(taken.record.steps[1]) or ()) == 5
    assert "sk-secret" not in json.dumps(taken.record.to_dict(), default=repr)


def test_a_stream_is_given_as_it_comes(lab: Lab, server: Server) -> None:
    server.words = ["a", "b", "c"]

    def agent() -> list[Any]:
        with requests.post(f"{server.url}/chat/completions", json=STREAM, stream=True) as answer:
            return [next(answer.iter_content(None)), len(server.asked)]

    taken = lab.record(agent)
    assert taken.value[0].count(b"data: ") == 1
    server.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences) == ("MATCH", [])
    assert len(stream_chunks(taken.record.steps[0]) or ()) == 2, (
        "the status and one event: what was not read is not recorded"
    )


def test_retries_of_a_pool_are_steps(server: Server, replays_offline: Replays) -> None:
    def agent() -> list[Any]:
        retries = urllib3.Retry(2, status_forcelist=[429], allowed_methods=None, backoff_factor=0)
        pool = urllib3.PoolManager(retries=retries)
        answer = pool.request("POST", f"{server.url}/chat/completions", json={**STREAM, "stream": False})
        return [answer.status, answer.json(), answer.retries.total if answer.retries else None]

    server.fail_next = 2
    taken = replays_offline(agent)
    assert taken.value[2] == 0
    assert [step.outcome_code for step in taken.record.steps] == ["429", "429", None]


def test_errors_are_raised_again_by_their_own_class(server: Server, replays_offline: Replays) -> None:
    def agent() -> list[Any]:
        seen: list[Any] = []
        for url in (
            "http://127.0.0.1:1/",
            f"{server.url}/slow",
            f"{server.url}/torn",
            f"{server.url}/chunks?broken",
        ):
            try:
                requests.get(url, timeout=0.1)
            except requests.RequestException as error:
                cause = error.args[0]
                seen.append(
                    (
                        type(error).__name__,
                        type(cause).__name__,
                        type(getattr(cause, "reason", None)).__name__,
                    )
                )
            with pytest.raises(urllib3.exceptions.HTTPError) as caught:
                urllib3.request("GET", url, timeout=0.1, retries=False)
            seen.append((type(caught.value).__name__, bool({"pool", "conn"} & set(vars(caught.value)))))
        return seen

    taken = replays_offline(agent)
    assert taken.value == [
        ("ConnectionError", "MaxRetryError", "NewConnectionError"),
        ("NewConnectionError", True),
        ("ReadTimeout", "ReadTimeoutError", "NoneType"),
        ("ReadTimeoutError", True),
        ("ConnectionError", "ReadTimeoutError", "NoneType"),
        ("ReadTimeoutError", True),
        ("ChunkedEncodingError", "ProtocolError", "NoneType"),
        ("ProtocolError", False),
    ]
    assert {step.status.value for step in taken.record.steps} == {"failure"}


def test_an_answer_that_breaks_off_gives_what_had_come(server: Server, replays_offline: Replays) -> None:
    def agent() -> list[Any]:
        answer = requests.get(f"{server.url}/torn", timeout=0.1, stream=True)
        seen: list[Any] = [answer.status_code]
        try:
            seen.extend(answer.iter_content(2))
        except requests.RequestException as error:
            seen.append(type(error).__name__)
        return seen

    plain = agent()
    assert replays_offline(agent).value == plain == [200, b"be", b"gu", "ConnectionError"]


def test_while_it_is_recorded_an_answer_is_the_very_same(lab: Lab, server: Server) -> None:
    def agent() -> list[Any]:
        pool = urllib3.PoolManager(1, maxsize=1, block=True)
        seen: list[Any] = []
        for page in ("chunks", "packed", "page", "bytes", "missing"):
            answer = pool.request("GET", f"{server.url}/{page}", preload_content=False, decode_content=False)
            headers = sorted({*answer.headers} - {"Date", "x-request-id"})
            seen += [headers, list(answer.stream(3)), answer.version, answer.reason, type(answer).__name__]
            answer.release_conn()
        body = json.dumps(STREAM)
        answer = pool.request(
            "POST", f"{server.url}/odd-events/chat/completions", body=body, preload_content=False
        )
        return [
            *seen,
            answer.read(),
            answer.headers["x-mine"],
            len(pool.pools),
        ]

    plain = agent()
    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, plain)
    assert plain[1] == [b"one", b"and", b" tw", b"o", b"thr", b"ee"]


# --- bodies ---------------------------------------------------------------------------------


def test_bodies_are_sent_once_and_recorded(server: Server, replays_offline: Replays) -> None:
    read: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    def agent() -> list[Any]:
        def parts() -> Iterator[bytes]:
            made.append("begun")
            yield b"one"
            yield b"two"

        made: list[str] = []
        file = Counted(b"x" * 20_000)
        file.seek(4_000)
        upload = f"{server.url}/upload"
        odd: Any = bytearray(b"abc")
        return [
            requests.post(upload, data=parts()).json(),
            requests.post(upload, data=file).json(),
            file.tell(),
            urllib3.request("POST", upload, body=io.StringIO("grüß")).json(),
            urllib3.request("POST", upload, body=odd).json(),
            urllib3.request("POST", upload, body=[b"a", b"bc"]).json(),
            made,
        ]

    taken = replays_offline(agent)
    assert taken.value == [{"got": 6}, {"got": 16_000}, 20_000, {"got": 6}, {"got": 3}, {"got": 3}, ["begun"]]
    assert read == [16_000, 0] * 2, "once while recording, once in the replay"
    bodies = [step.params["body"] for step in taken.record.steps]
    assert bodies[0] == {"$iso:bytes": "b25ldHdv"}


def test_a_body_that_was_not_sent_can_be_sent_again(server: Server, replays_offline: Replays) -> None:
    def agent() -> list[Any]:
        def parts() -> Iterator[bytes]:
            yield b"one"
            yield b"two"

        file, generator = io.BytesIO(b"content"), parts()
        for body in (file, generator):
            with pytest.raises(urllib3.exceptions.NewConnectionError):
                urllib3.request("POST", "http://127.0.0.1:1/", body=body, retries=False)
        answers = [urllib3.request("POST", f"{server.url}/upload", body=body) for body in (file, generator)]
        return [answer.json() for answer in answers]

    assert replays_offline(agent).value == [{"got": 7}, {"got": 6}]


def test_the_boundary_of_a_multipart_body_is_no_part_of_it(server: Server, replays_offline: Replays) -> None:
    def agent() -> bool:
        files = {
            "file": ("a.bin", b"\x00\xff", "application/octet-stream"),
            "data": ("b.json", b'{"a": 1}', "application/json"),
        }
        return requests.post(
            f"{server.url}/upload", files=files, data={"name": "ada", "api_key": "sk-secret"}
        ).ok

    taken = replays_offline(agent)
    parts = taken.record.steps[0].params["body"]["parts"]
    assert [part["body"] for part in parts] == ["ada", "***", {"$iso:bytes": "AP8="}, {"a": 1}]
    assert parts[2]["headers"] == {
        "content-disposition": 'form-data; name="file"; filename="a.bin"',
        "content-type": "application/octet-stream",
    }


# --- where it is no step of its own, or no connection ------------------------------------------


def test_a_call_inside_a_skill_belongs_to_that_skill(server: Server, replays_offline: Replays) -> None:
    @skill(effect="read")
    def page() -> str:
        return requests.get(f"{server.url}/page").text

    taken = replays_offline(page)
    assert [(name, outcome) for _, name, _, outcome in taken.steps] == [("page", {"value": "grüß dich"})]


def test_a_tunnel_through_a_proxy_is_dug_by_no_replay(lab: Lab, server: Server) -> None:
    def agent() -> list[str]:
        seen = []
        with pytest.raises(requests.exceptions.ProxyError) as caught:
            requests.get(
                "https://nowhere.example/", proxies={"https": f"http://127.0.0.1:{server.server_port}"}
            )
        seen.append(type(caught.value.args[0].reason).__name__)
        proxies = {"http": f"http://127.0.0.1:{server.server_port}"}
        seen.append(requests.get("http://elsewhere.example/v1/page", proxies=proxies).text)
        return seen

    taken = lab.record(agent)
    assert taken.error is None
    server.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences, result.value) == ("MATCH", [], taken.value)
    assert result.receipt.blocked == 0
    assert [step.params["url"] for step in taken.record.steps] == [
        "https://nowhere.example/",
        "http://elsewhere.example/v1/page",
    ]


def test_what_is_asked_otherwise_is_found_at_its_step(lab: Lab, server: Server) -> None:
    pages = ["page", "bytes"]

    def agent() -> None:
        for page in pages:
            requests.get(f"{server.url}/{page}")

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
