"""A small HTTP server on loopback, in the protocol of a model provider and with a few pages beside it."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PACKED = gzip.compress(b'{"a": 1.50}', mtime=0)


class Server(ThreadingHTTPServer):
    """Counts what it is asked. `fail_next` answers are status 429; `words` are what the model says, unless
    `scripted` holds the events of the next streams.

    With `script` it answers as that says for a path and a body: JSON, a list of events (name and data), or
    either with a status before it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.fail_next = 0
        self.answers: list[tuple[int, str, bytes]] = []
        self.words = ["Hel", "lo", " you"]
        self.scripted: list[list[Any]] = []
        self.script: Callable[[str, Any], Any] | None = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Silent."""

    def answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", f"req-{len(self.server.asked)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.script is not None and "/tools/" in self.path:
            self.scripted(self.server.script(self.path, None))
            return
        pages = {
            "/v1/moved": lambda: self.answer(302, b"", location="/v1/page"),
            "/v1/page": lambda: self.answer(200, "grüß dich".encode(), "text/plain; charset=utf-8"),
            "/v1/packed": lambda: self.answer(200, PACKED, content_encoding="gzip"),
            "/v1/bytes": lambda: self.answer(200, bytes(range(256)), "application/octet-stream"),
            "/v1/slow": lambda: time.sleep(0.5),
            "/v1/torn": self.torn,
            "/v1/chunks": self.chunks,
        }
        pages.get(self.path.partition("?")[0], lambda: self.answer(404, b'{"error": "no such page"}'))()

    def chunks(self) -> None:
        """An answer in three chunks, the last of which is none where it is asked to be broken."""
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        broken = "broken" in self.path
        for part in (b"one", b"and two", b"" if broken else b"three"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part) or 99, part))
            self.wfile.flush()
            time.sleep(0.002)
        if broken:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def sent(self) -> bytes:
        """The body of the request."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def torn(self) -> None:
        """Begins an answer and does not go on."""
        self.send_response(200)
        self.send_header("content-length", "100")
        self.end_headers()
        self.wfile.write(b"begun")
        self.wfile.flush()
        time.sleep(0.5)
        self.close_connection = True

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        body = self.sent()
        if self.server.script is not None:
            self.scripted(self.server.script(self.path, json.loads(body)))
        elif self.server.fail_next:
            self.server.fail_next -= 1
            self.answer(429, b'{"error": {"message": "slow down", "type": "rate_limit"}}', retry_after="0")
        elif self.server.answers:
            status, kind, answer = self.server.answers.pop(0)
            self.answer(status, answer, kind)
        elif self.server.scripted:
            self.events([(None, data) for data in self.server.scripted.pop(0)])
        elif "/odd-events/" in self.path:
            odd = b': hello\n\n\n\ndata: {"a":  1.50}\nid: 7\n: why\n\ndata: \xff\n\nretry: 3\r\n\r\n'
            self.answer(200, odd, "text/event-stream", x_mine="yes")
        elif "/packed-events/" in self.path:
            packed = gzip.compress(b"data: 1\n\ndata: 2\n\n", mtime=0)
            self.answer(200, packed, "text/event-stream", content_encoding="gzip")
        elif self.path.endswith("/chat/completions"):
            self.chat(json.loads(body))
        elif self.path.endswith("/messages"):
            self.messages(json.loads(body))
        else:
            self.answer(200, json.dumps({"got": len(body)}).encode())

    def scripted(self, answer: Any) -> None:
        status, answer = answer if isinstance(answer, tuple) else (200, answer)
        if isinstance(answer, list):
            self.events(answer)
        else:
            self.answer(status, json.dumps(answer).encode())

    def chat(self, asked: dict[str, Any]) -> None:
        said = f"{asked['messages'][-1]['content']}: {''.join(self.server.words)}"
        if asked.get("stream"):
            self.events([(None, _chunk(word)) for word in self.server.words] + [(None, "[DONE]")])
            return
        answer = {
            "id": f"chatcmpl-{len(self.server.asked)}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": asked["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        self.answer(200, json.dumps(answer, indent=2).encode())

    def messages(self, asked: dict[str, Any]) -> None:
        text = "".join(self.server.words)
        usage = {"input_tokens": 3, "output_tokens": 2}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"]}
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        if not asked.get("stream"):
            whole = {**message, "content": [{"type": "text", "text": text}], **end, "usage": usage}
            self.answer(200, json.dumps(whole).encode())
            return
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in self.server.words]
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**message, "content": [], "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ]
        self.events([(event["type"], event) for event in events])

    def events(self, events: list[tuple[str | None, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for name, data in events:
            text = data if isinstance(data, str) else json.dumps(data)
            self.wfile.write(
                f"event: {name}\ndata: {text}\n\n".encode() if name else f"data: {text}\n\n".encode()
            )
            self.wfile.flush()
            time.sleep(0.002)


def _chunk(word: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-s",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-x",
        "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
    }
