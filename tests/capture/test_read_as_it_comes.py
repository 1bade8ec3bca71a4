"""Answers that a program reads as they come, though its request does not say so: recorded while they come,
and served in the same pieces."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import requests
import urllib3

from isotrace.models.steps import stream_chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.record.lab import Lab, Taken

    Agent = Callable[[], Any]

pytestmark = pytest.mark.usefixtures("captured")

KINDS = ("text/event-stream", "application/x-ndjson", "text/plain", "application/octet-stream")
BINARY = bytes(range(256)) * 1024


class Feed(ThreadingHTTPServer):
    """Sends one line of a feed for each time that it may, without an end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.may = threading.Semaphore(1)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __call__(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def go_on(self) -> None:
        """Lets the next line be sent."""
        self.may.release()

    def begin(self) -> None:
        """One line may be sent, as at first."""
        self.may = threading.Semaphore(1)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Feed

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Silent."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path[1:]
        if path.startswith("moved/"):
            self.send_response(302)
            self.send_header("location", "/" + path.removeprefix("moved/"))
            self.send_header("content-length", "0")
            self.end_headers()
        elif path in KINDS:
            self.feed(path)
        else:
            data = gzip.compress(BINARY, mtime=0) if path == "packed" else BINARY
            self.send_response(200)
            self.send_header("content-type", "application/octet-stream")
            self.send_header("content-length", str(len(data)))
            if path == "packed":
                self.send_header("content-encoding", "gzip")
            self.end_headers()
            self.wfile.write(data)

    def feed(self, kind: str) -> None:
        may = self.server.may  # that of this run of the agent
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(50):
            if not may.acquire(timeout=20):
                return
            line = b'data: {"n":%d}\n\n' % number if kind == KINDS[0] else b'{"n":%d}\n' % number
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.flush()


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    feed.stop()


def assert_replays_offline(lab: Lab, feed: Feed, agent: Agent) -> Taken:
    """What the agent sees is what it sees without a record, and again in a replay that asks nobody."""
    plain = agent()
    feed.begin()
    taken = lab.record(agent)
    if taken.error is not None:
        raise taken.error
    asked = len(feed.asked)
    feed.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert plain == taken.value == result.value
    assert (len(feed.asked), result.receipt.blocked) == (asked, 0)
    return taken


def two_lines(feed: Feed, lines: Any) -> list[Any]:
    """The first two lines; the second is sent when the first was read."""
    seen = []
    for line in lines:
        if line:
            seen.append(line)
            if len(seen) == 2:
                break
            feed.go_on()
    return seen


def of_httpx(library: ModuleType) -> Callable[[Feed, str], Agent]:
    def made(feed: Feed, path: str) -> Agent:
        def agent() -> Any:
            with library.stream("GET", feed(path), follow_redirects=True, timeout=5) as answer:
                return [answer.status_code, *two_lines(feed, answer.iter_lines())]

        return agent

    return made


def of_httpx_async(library: ModuleType) -> Callable[[Feed, str], Agent]:
    def made(feed: Feed, path: str) -> Agent:
        async def agent() -> Any:
            seen: list[Any] = []
            async with library.AsyncClient(follow_redirects=True, timeout=5) as client:
                answer = await client.send(client.build_request("GET", feed(path)), stream=True)
                async for line in answer.aiter_lines():
                    if line:
                        seen.append(line)
                        if len(seen) == 2:
                            break
                        feed.go_on()
                await answer.aclose()
            return seen

        return agent

    return made


def of_requests(feed: Feed, path: str) -> Agent:
    def agent() -> Any:
        with requests.get(feed(path), stream=True, timeout=5) as answer:
            return [answer.status_code, *two_lines(feed, answer.iter_lines(chunk_size=None))]

    return agent


def of_urllib3(feed: Feed, path: str) -> Agent:
    def agent() -> Any:
        answer = urllib3.request("GET", feed(path), preload_content=False, timeout=5)
        seen = two_lines(feed, answer.stream())
        answer.close()
        return seen

    return agent


@pytest.mark.parametrize("path", [*KINDS, "moved/text/plain"])
@pytest.mark.parametrize("made", [of_httpx(httpx), of_httpx(httpx2), of_requests, of_urllib3])
def test_a_feed_without_an_end_is_broken_off(
    lab: Lab, feed: Feed, made: Callable[[Feed, str], Agent], path: str
) -> None:
    taken = assert_replays_offline(lab, feed, made(feed, path))
    chunks = stream_chunks(taken.record.steps[-1]) or []
    assert len(chunks) == 3, "the status and two pieces: what was not read is not recorded"
    if "octet" not in path:
        assert chunks[1] in ({"data": {"n": 0}}, {"n": 0}, '{"n":0}\n')


@pytest.mark.parametrize("path", [*KINDS, "moved/text/plain"])
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_an_asynchronous_client_does_the_same(
    lab: Lab, feed: Feed, library: ModuleType, path: str
) -> None:
    agent = of_httpx_async(library)(feed, path)
    plain = await agent()
    feed.begin()

    def both() -> tuple[Any, Any]:
        taken = lab.record(agent)
        feed.stop()
        return taken, lab.replay(taken, agent)

    taken, result = await asyncio.to_thread(both)
    assert (taken.error, str(result.verdict), result.divergences) == (None, "MATCH", [])
    assert (plain, result.receipt.blocked) == (taken.value, 0)
    assert result.value == taken.value


@pytest.mark.parametrize("path", ["binary", "packed"])
def test_a_download_comes_as_it_is(lab: Lab, feed: Feed, path: str) -> None:
    def agent() -> list[Any]:
        seen: list[Any] = []
        with httpx.stream("GET", feed(path)) as answer:
            seen.append(list(answer.iter_bytes(1000)))
        with requests.get(feed(path), stream=True) as download:
            seen.append(list(download.iter_content(1000)))
        with requests.get(feed(path), stream=True) as download:
            seen.append(download.content)
        return seen

    taken = assert_replays_offline(lab, feed, agent)
    assert [b"".join(taken.value[0]), b"".join(taken.value[1]), taken.value[2]] == [BINARY] * 3
    assert all(len(stream_chunks(step) or ()) > 1 for step in taken.record.steps)


def test_while_it_is_recorded_a_packed_download_is_the_very_same(lab: Lab, feed: Feed) -> None:
    def agent() -> list[Any]:
        with httpx.stream("GET", feed("packed")) as answer:
            raw = b"".join(answer.iter_raw())
            counted = answer.num_bytes_downloaded
        pool = urllib3.request("GET", feed("packed"), preload_content=False, decode_content=False)
        return [raw, counted, list(pool.stream(999)), pool.headers["content-encoding"]]

    plain = agent()
    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, plain)


def test_what_was_recorded_whole_serves_as_a_stream(lab: Lab, feed: Feed) -> None:
    as_stream = False

    def agent() -> list[Any]:
        got = requests.get(feed("binary"), stream=as_stream).content
        if not as_stream:
            return [got, httpx.get(feed("binary")).content]
        with httpx.stream("GET", feed("binary")) as answer:
            return [got, b"".join(answer.iter_bytes())]

    taken = lab.record(agent)
    feed.stop()
    as_stream = True
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert result.value == taken.value == [BINARY, BINARY]
