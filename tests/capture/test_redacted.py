"""What goes over HTTP, without what redactors find: addresses, bodies, answers, streams that cut it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import openai
import orjson
import pytest

from isotrace.formats.golden import golden_text, read_golden_bytes
from isotrace.models import Erased
from isotrace.replay import Replay

if TYPE_CHECKING:
    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")

MAIL = "alice.canary@example.com"
CARD = "4111 1111 1111 1111"
TOKEN = "sk-proj-c4n4ryc4n4ryc4n4ry"
CANARIES = [MAIL, CARD, TOKEN, "alice.c", "1111 1", "c4n4ry", "alice.canary%40example.com"]


def ask(client: httpx.Client, server: Server) -> list[Any]:
    heard: list[Any] = []
    server.answers = [
        (200, "application/json", json.dumps({"to": MAIL, "cards": [CARD]}).encode()),
        (200, "text/plain; charset=iso-8859-1", f"grüße an {MAIL}".encode("latin-1")),
        (200, "application/octet-stream", b"\0\1" + MAIL.encode()),
        (404, "application/json", json.dumps({"error": f"no {MAIL}"}).encode()),
    ]
    heard.append(client.post("/find", params={"to": MAIL}, json={"who": MAIL, "card": CARD}).json())
    heard.append(client.post("/find", content=f"for {heard[0]['to']}".encode()).text)
    heard.append(len(client.post("/find", data={"who": MAIL, "x": "1"}).content))
    heard.append(client.post("/find", files={"a": ("a.txt", heard[1].encode())}).json())
    return heard


def stream(sdk: openai.OpenAI, server: Server) -> list[str]:
    server.words = [
        "Write to ali",
        "ce.canary@exam",
        "ple.com or ",
        "4111 1111",
        " 1111 1111",
        ", with sk-pro",
        "j-c4n4ryc4n4ryc4n4ry",
        "!",
    ]
    messages: list[Any] = [{"role": "user", "content": f"where is {MAIL}?"}]
    pieces = sdk.chat.completions.create(model="gpt-x", messages=messages, stream=True)
    said = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    more = [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": "and then?"}]
    answer = sdk.chat.completions.create(model="gpt-x", messages=more)
    return [said, answer.choices[0].message.content or ""]


def taken_of(lab: Lab, server: Server) -> tuple[Taken, Any]:
    def agent() -> Any:
        with httpx.Client(base_url=server.url) as client:
            heard = ask(client, server)
        with openai.OpenAI(base_url=server.url, api_key="x", max_retries=0) as sdk:
            return heard, stream(sdk, server)

    return lab.record(agent, redact=["email", "card", "secrets"]), agent


def test_no_canary_of_an_exchange_is_kept_and_the_replay_is_a_match(lab: Lab, server: Server) -> None:
    taken, agent = taken_of(lab, server)
    if taken.error is not None:
        raise taken.error
    assert taken.value[0][0] == {"to": MAIL, "cards": [CARD]}
    assert taken.value[1][0] == f"Write to {MAIL} or {CARD}, with {TOKEN}!"
    kept = b"\n".join(
        data for event in taken.events for data in event.values.values() if not isinstance(data, Erased)
    )
    binary = orjson.dumps(taken.steps[2][3])
    assert [one for one in CANARIES if one.encode() in kept] == []
    assert b"$iso:bytes" in binary or b"base64" in binary, "bytes that are no text stay as they are"
    said = taken.record.steps[4].outcome_data
    assert isinstance(said, dict)
    assert said["choices"][0]["message"]["content"] == "Write to [email] or [card], with [secrets]!"
    asked = len(server.asked)
    server.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert (len(server.asked), result.receipt.blocked) == (asked, 0)
    assert result.value[1][0] == "Write to [email] or [card], with [secrets]!"


def test_a_golden_file_of_a_redacted_run_has_no_canary_and_matches(lab: Lab, server: Server) -> None:
    taken, agent = taken_of(lab, server)
    text = golden_text(taken.ledger)
    assert [one for one in CANARIES if one in text] == []
    assert "[email]" in text
    server.stop()
    golden = read_golden_bytes(text.encode(), "a.golden")
    result = Replay(golden).run(lambda: lab.start(agent, store=lab.store))
    assert (str(result.verdict), result.divergences) == ("MATCH", [])
    assert result.receipt.blocked == 0
