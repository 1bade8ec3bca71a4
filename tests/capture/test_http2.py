"""httpx over HTTP/2, through a proxy and to a socket file: what is below its transports is not ours."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import httpx
import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

    Replays = Callable[..., Taken]

pytestmark = pytest.mark.usefixtures("captured")

STREAM = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
EVENTS = [b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n', b"data: [DONE]\n\n"]


class Speaks2(socketserver.BaseRequestHandler):
    """Answers each request in HTTP/2, without TLS."""

    def handle(self) -> None:
        speaker = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        speaker.initiate_connection()
        self.request.sendall(speaker.data_to_send())
        while data := self.request.recv(65536):
            for event in speaker.receive_data(data):
                if isinstance(event, h2.events.StreamEnded) and event.stream_id is not None:
                    self.answer(speaker, event.stream_id)
            self.request.sendall(speaker.data_to_send())

    def answer(self, speaker: h2.connection.H2Connection, stream: int) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]  # counted by the fixture
        kind = "text/event-stream"
        speaker.send_headers(
            stream, [(":status", "200"), ("content-type", kind), ("set-cookie", "sid=secret")]
        )
        for event in EVENTS:
            speaker.send_data(stream, event)
            self.request.sendall(speaker.data_to_send())
        speaker.end_stream(stream)


class Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    asked = 0


@pytest.fixture
def server2() -> Iterator[Threads]:
    with Threads(("127.0.0.1", 0), Speaks2) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_http_2_comes_back_as_http_2(lab: Lab, server2: Threads, library: ModuleType) -> None:
    def agent() -> list[Any]:
        url = f"http://127.0.0.1:{server2.server_address[1]}/v1/chat/completions"
        with library.Client(http2=True, http1=False) as client:
            whole = client.post(url, json={**STREAM, "stream": False})
            with client.stream("POST", url, json=STREAM) as answer:
                lines = [json.loads(line[6:]) for line in answer.iter_lines() if "{" in line]
        return [whole.http_version, whole.text, answer.http_version, answer.reason_phrase, lines]

    plain = agent()
    taken = lab.record(agent)
    assert (taken.error, taken.value) == (None, plain)
    assert plain[0] == "HTTP/2"
    asked = server2.asked
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value, result.receipt.blocked) == ("MATCH", plain, 0)
    assert server2.asked == asked
    assert "sid=secret" not in json.dumps(taken.record.to_dict(), default=repr)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_multipart_body_is_its_parts(server: Server, replays_offline: Replays, library: ModuleType) -> None:
    def agent() -> int:
        files = {"file": ("a.bin", b"\x00\xff", "application/octet-stream")}
        return int(library.post(f"{server.url}/upload", files=files, data={"name": "ada"}).json()["got"])

    taken = replays_offline(agent)
    parts = taken.record.steps[0].params["body"]["parts"]
    assert [part["body"] for part in parts] == ["ada", {"$iso:bytes": "AP8="}]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_proxy_and_a_socket_file_are_asked(
    lab: Lab, server: Server, tmp_path: Path, library: ModuleType
) -> None:
    class Local(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, _ = super().get_request()
            return connection, ("local", 0)

    class Page(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            """Silent."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"local")

    def agent() -> list[str]:
        with library.Client(proxy=f"http://127.0.0.1:{server.server_port}") as client:
            seen = [client.get("http://elsewhere.example/v1/page").text]
        with library.Client(transport=library.HTTPTransport(uds=str(tmp_path / "socket"))) as client:
            return [*seen, client.get("http://local/page").text]

    with Local(str(tmp_path / "socket"), Page) as local:
        threading.Thread(target=local.serve_forever, daemon=True).start()
        taken = lab.record(agent)
        local.shutdown()
    assert (taken.error, taken.value[1]) == (None, "local")
    server.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value, result.receipt.blocked) == ("MATCH", taken.value, 0)
