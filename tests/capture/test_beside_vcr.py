"""One agent, recorded by a cassette library and by isotrace, then changed: what each of them notices.

The table in docs/explanation/cassettes.md is what is measured here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
import vcr
from vcr.errors import CannotOverwriteExistingCassetteException

import isotrace

if TYPE_CHECKING:
    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

PAGE = Path(__file__).parents[2] / "docs/explanation/cassettes.md"
WITH_BODY = ["method", "scheme", "host", "port", "path", "query", "body"]
"""What vcrpy matches on by default, and the body."""


class Trip:
    """An agent that asks a model, which asks for the weather, for hotels, and for a booking. What a
    subclass does otherwise is the change."""

    system = "Book a hotel where the sun shines."

    def __init__(self, url: str) -> None:
        self.url = url
        self.model = openai.OpenAI(base_url=url, api_key="sk-secret", max_retries=0)
        self.messages: list[Any] = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": "Two nights in Rome, please."},
        ]

    def run(self) -> str:
        for _ in range(8):
            if not (calls := self.ask().tool_calls):
                return str(self.messages[-1]["content"])
            results = self.call_all(calls)
            for call in calls:
                self.messages.append(
                    {"role": "tool", "tool_call_id": call.id, "content": json.dumps(results[call.id])}
                )
        raise RuntimeError("the model never ends")

    def ask(self) -> Any:
        answer = self.model.chat.completions.create(model="gpt-x", messages=self.messages)
        message = answer.choices[0].message
        self.messages.append(message.model_dump(exclude_none=True))
        return message

    def call_all(self, calls: list[Any]) -> dict[str, Any]:
        """The results by the id of the call: whichever runs first, the model reads them in its own order."""
        return {call.id: self.call(call.function.name, json.loads(call.function.arguments)) for call in calls}

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        return getattr(self, name)(**arguments)

    def weather(self, city: str) -> Any:
        return httpx.get(f"{self.url}/tools/weather", params={"city": city}).json()

    def hotels(self, city: str, nights: int) -> Any:
        return httpx.post(f"{self.url}/tools/hotels", json={"city": city, "nights": nights}).json()

    def book(self, hotel: str) -> Any:
        return httpx.post(f"{self.url}/tools/book", json={"hotel": hotel}).json()


class OtherPrompt(Trip):
    system = "Book a hotel where it rains."


class OtherOrder(Trip):
    def call_all(self, calls: list[Any]) -> dict[str, Any]:
        return super().call_all(calls[::-1])


class MissingCall(Trip):
    def weather(self, city: str) -> Any:
        return {"city": city, "sun": True}  # from a cache that goes stale


class ExtraCall(Trip):
    def book(self, hotel: str) -> Any:
        super().book(hotel)
        return super().book(hotel)


class ExtraQuestion(Trip):
    def ask(self) -> Any:
        if len(self.messages) == 5:
            self.model.chat.completions.create(
                model="gpt-x", messages=[{"role": "user", "content": "Is a plan needed?"}]
            )
        return super().ask()


class FlippedResult(Trip):
    def weather(self, city: str) -> Any:
        found = super().weather(city)
        return {**found, "sun": not found["sun"]}


CHANGES: dict[str, type[Trip]] = {
    "none": Trip,
    "another prompt": OtherPrompt,
    "another order of the tools": OtherOrder,
    "a missing call: the weather from a cache": MissingCall,
    "an extra call: booked twice": ExtraCall,
    "an extra call: one more question to the model": ExtraQuestion,
    "a flipped result: no sun for sun": FlippedResult,
}

SAID: dict[str, tuple[str, str, str, str]] = {
    "none": ("passes, 6 of 6 played", "passes, 6 of 6 played", "`MATCH`", "`MATCH`"),
    "another prompt": (
        "passes, 6 of 6 played",
        "stops at call 0",
        "`PARAMS_CHANGED` at step 0, `/messages/0/content`",
        "`PARAMS_CHANGED` at step 0, `/messages/0/content`",
    ),
    "another order of the tools": (
        "passes, 6 of 6 played",
        "passes, 6 of 6 played",
        "`REORDERED` at step 1",
        "`REORDERED` at step 1",
    ),
    "a missing call: the weather from a cache": (
        "passes, 5 of 6 played",
        "passes, 5 of 6 played",
        "`MISSING_STEP` at step 1",
        "`MISSING_STEP` at step 1",
    ),
    "an extra call: booked twice": (
        "stops at call 5",
        "stops at call 5",
        "`KIND_CHANGED` at step 5",
        "`EXTRA_STEP` at step 5",
    ),
    "an extra call: one more question to the model": (
        "passes, 5 of 6 played",
        "stops at call 3",
        "`PARAMS_CHANGED` at step 3, `/messages/0/role`",
        "`EXTRA_STEP` at step 3",
    ),
    "a flipped result: no sun for sun": (
        "passes, 6 of 6 played",
        "stops at call 3",
        "`PARAMS_CHANGED` at step 3, `/messages/3/content`",
        "`PARAMS_CHANGED` at step 3, `/messages/3/content`",
    ),
}
"""Of each change: vcrpy by default, vcrpy with the body among what it matches on, a strict replay, and a
new recording compared with the old one."""


# --- the world -----------------------------------------------------------------------------


def world(path: str, body: Any) -> Any:
    """The model and the tools: each answers by what it is asked."""
    if path.endswith("/chat/completions"):
        return said(sum(message["role"] == "tool" for message in body["messages"]))
    if "/tools/weather" in path:
        return {"city": "Rome", "sun": True}
    if "/tools/hotels" in path:
        return {"hotels": ["Aurora", "Bellini"], "nights": body["nights"]}
    return {"booked": body["hotel"]}


CALLED: dict[int, list[tuple[str, Any]]] = {
    0: [("weather", {"city": "Rome"}), ("hotels", {"city": "Rome", "nights": 2})],
    2: [("book", {"hotel": "Aurora"})],
}


def said(results: int) -> dict[str, Any]:
    """What the model says once it has seen so many results of tools."""
    calls = CALLED.get(results, [])
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else "Booked: Aurora."}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{name}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for name, given in calls
        ]
    end = "tool_calls" if calls else "stop"
    return {
        "id": f"chatcmpl-{results}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-x",
        "choices": [{"index": 0, "finish_reason": end, "message": message}],
    }


# --- what each of them says -------------------------------------------------------------------


@dataclass
class Beside:
    """The agent as it was, recorded by both, with the server still there."""

    server: Server
    lab: Lab
    path: Path
    taken: Taken

    def play(self, agent: type[Trip], **options: Any) -> tuple[str, Any]:
        """What a person sees of vcrpy, and what the agent gave or how it ended. Calls count from 0."""
        with vcr.use_cassette(str(self.path), record_mode="none", **options) as cassette:
            try:
                value = agent(self.server.url).run()
            except CannotOverwriteExistingCassetteException as error:
                return f"stops at call {cassette.play_count}", error
        assert cassette.all_played == (cassette.play_count >= len(cassette))
        return f"passes, {cassette.play_count} of {len(cassette)} played", value

    def replay(self, agent: type[Trip]) -> str:
        result = self.lab.replay(self.taken, lambda: agent(self.server.url).run())
        assert result.receipt.blocked == 0
        return shown(result.verdict, result.divergences)

    def compare(self, again: Taken) -> str:
        diff = isotrace.diff_traces(self.taken.record, again.record)
        return shown(diff.verdict, diff.divergences)


def shown(verdict: Any, divergences: list[Any]) -> str:
    if not divergences:
        return f"`{verdict}`"
    first = divergences[0]
    pointers = "".join(f", `{pointer}`" for pointer in first.pointers[:1])
    return f"`{first.code}` at step {first.index}{pointers}"


@pytest.fixture
def beside(lab: Lab, server: Server, captured: None, tmp_path: Path) -> Beside:
    server.script = world
    path = tmp_path / "trip.yaml"
    with vcr.use_cassette(str(path)) as cassette:
        value = Trip(server.url).run()
    taken = lab.record(lambda: Trip(server.url).run())
    assert (taken.error, taken.value, value) == (None, "Booked: Aurora.", "Booked: Aurora.")
    assert len(cassette) == len(taken.steps) == 6
    return Beside(server, lab, path, taken)


@pytest.mark.parametrize("change", CHANGES)
def test_what_each_says_of_a_changed_agent(beside: Beside, change: str) -> None:
    agent = CHANGES[change]
    again = beside.lab.record(lambda: agent(beside.server.url).run())
    asked = len(beside.server.asked)
    beside.server.stop()
    by_default, _ = beside.play(agent)
    with_body, _ = beside.play(agent, match_on=WITH_BODY)
    said = (by_default, with_body, beside.replay(agent), beside.compare(again))
    assert said == SAID[change]
    assert len(beside.server.asked) == asked, "neither asks anyone"


def test_by_default_the_next_answer_of_the_model_is_served_whatever_was_asked(beside: Beside) -> None:
    beside.server.stop()
    said: list[Any] = []

    class Keeping(ExtraQuestion):
        def book(self, hotel: str) -> Any:
            said.append(hotel)
            return super().book(hotel)

    assert beside.play(Keeping) == ("passes, 5 of 6 played", "Booked: Aurora.")
    assert said == [], "it ends as if it had booked, and has not"


def test_repeated_playback_serves_the_same_answer_again(beside: Beside) -> None:
    beside.server.stop()
    with pytest.raises(RuntimeError, match="never ends"):
        beside.play(Trip, allow_playback_repeats=True)
    played, _ = beside.play(ExtraCall, allow_playback_repeats=True, match_on=WITH_BODY)
    assert played == "passes, 7 of 6 played"


def test_the_page_shows_what_was_measured() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert rows[1:] == [f"| {' | '.join((change, *SAID[change]))} |" for change in CHANGES]
