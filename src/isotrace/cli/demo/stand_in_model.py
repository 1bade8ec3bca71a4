"""A scripted stand-in for a language model: no model at all, a fixed script behind the
chat-completions protocol, over real HTTP on loopback.

Like a model at temperature 1 it does not always take the same way: which calls it makes, and
what it says at the end, is drawn anew for each conversation. Started as a process of its own; it
prints its URL and serves until it is ended.
"""

from __future__ import annotations

import json
import random
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EMAIL = "ada@example.com"
ORDER = "W-1042"
CENTS = 4990

_CLOSINGS = (
    "Done: your order W-1042 was paid back, 49.90 in all.",
    "I have refunded 49.90 for order W-1042.",
    "Your 49.90 for W-1042 are on their way back to you.",
)


def next_message(messages: list[dict[str, Any]], draw: random.Random) -> dict[str, Any]:
    """What the stand-in says next: a call, or its closing words."""
    done = [call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()]
    if not done:
        return _calling("find_customer", {"email": EMAIL}, draw)
    if done[-1] == "find_customer":
        # Here the conversations part: some look through all orders, some go straight to the one.
        if draw.random() < 0.5:
            return _calling("list_orders", {"customer_id": 1}, draw)
        return _calling("get_order", {"order_id": ORDER}, draw)
    if "refund" not in done:
        return _calling("refund", {"order_id": ORDER, "cents": CENTS}, draw)
    return {"role": "assistant", "content": draw.choice(_CLOSINGS)}


def _calling(name: str, arguments: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    # A fresh id for each call, as providers mint them.
    call = {
        "id": f"call_{draw.getrandbits(96):024x}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class StandIn(BaseHTTPRequestHandler):
    """Answers POST /v1/chat/completions."""

    protocol_version = "HTTP/1.1"
    draw = random.Random()

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(self.draw.uniform(0.02, 0.08))
        message = next_message(request["messages"], self.draw)
        self._answer(
            {
                "id": f"chatcmpl-{self.draw.getrandbits(96):024x}",
                "object": "chat.completion",
                "created": int(time.time()),  # as providers do; a replay serves the recorded one
                "model": "scripted-stand-in",
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
                    }
                ],
                "usage": {"prompt_tokens": 40 * len(request["messages"]), "completion_tokens": 20},
            }
        )

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the demo's own output is to be read."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
