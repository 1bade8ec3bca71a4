"""The examples: recorded by `isotrace run` against a model on loopback, and replayed when it is gone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"

PARIS = ("call_00000001", "get_weather", {"city": "Paris"})
ROME = ("call_00000002", "get_weather", {"city": "Rome"})
BOOK = ("call_00000003", "book", {"city": "Rome"})
END = "Rome is warmer."


def openai_chat(model: Any, turn: int, asked: Any) -> Any:
    return model.chat(asked, *[(None, PARIS, ROME), (END,)][turn])


def anthropic_messages(model: Any, turn: int, asked: Any) -> Any:
    return model.messages(asked, *[("Let me look.", PARIS, ROME), (END,)][turn])


def langgraph_agent(model: Any, turn: int, asked: Any) -> Any:
    return model.chat(
        asked,
        *[(None, PARIS, ROME, ("call_00000009", "get_weather", {"city": "Bonn"})), (None, BOOK), (END,)][
            turn
        ],
    )


def openai_agents(model: Any, turn: int, asked: Any) -> Any:
    over: tuple[str, str, dict[str, Any]] = ("call_00000004", "transfer_to_clerk", {})
    return model.responses(asked, *[(None, PARIS, ROME), (None, over), (None, BOOK), (END,)][turn])


def pydantic_ai_agent(model: Any, turn: int, asked: Any) -> Any:
    booked = [(f"call_0000001{nights}", "book", {"city": "Rome", "nights": nights}) for nights in (7, 3)]
    trip = ("call_00000020", "final_result", {"city": "Rome", "cents": 30_000})
    return model.chat(asked, *[(None, PARIS, ROME), (None, booked[0]), (None, booked[1]), (None, trip)][turn])


WEATHER = ["get_weather", "get_weather"]
CASES: dict[str, tuple[str, Callable[..., Any], list[str], str]] = {
    # The library, the model's part, the steps, the last line.
    "openai_chat": ("openai", openai_chat, ["chat", "chat"], END),
    "anthropic_messages": ("anthropic", anthropic_messages, ["chat", "chat"], END),
    "langgraph_agent": (
        "langgraph",
        langgraph_agent,
        ["chat", *WEATHER, "get_weather", "chat", "book", "chat"],
        f"ai: {END}",
    ),
    "openai_agents": ("agents", openai_agents, ["chat", *WEATHER, "chat", "chat", "book", "chat"], END),
    "pydantic_ai_agent": (
        "pydantic_ai",
        pydantic_ai_agent,
        ["chat", *WEATHER, "chat", "book", "chat", "book", "chat"],
        "Trip(city='Rome', cents=30000)",
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_the_example_replays_without_its_provider(
    name: str, server: Server, model: Any, tmp_path: Path
) -> None:
    library, script, steps, last = CASES[name]
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")
    turns = iter(range(9))
    server.script = lambda _, asked: script(model, next(turns), asked)
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": server.url,
        "OPENAI_API_KEY": "sk-secret",
        "ANTHROPIC_BASE_URL": server.url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": "sk-secret",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LANGSMITH_TRACING": "false",
        "ISOTRACE_STORE": f"sqlite:///{tmp_path}/traces.db",
    }

    def isotrace(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "isotrace.cli", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    ran = isotrace("run", "--agent", name, str(EXAMPLES / name / "agent.py"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == last
    asked = len(server.asked)
    server.stop()

    shown = json.loads(isotrace("show", "@last", "--json").stdout)
    kept = [step["skill_name"] for step in shown["steps"]]
    assert [one for one in kept if one != "uname"] == steps
    again = isotrace("replay", "@last", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    result = json.loads(again.stdout)
    assert (result["verdict"], result["divergences"]) == ("MATCH", [])
    receipt = result["receipt"]
    assert (receipt["served"], receipt["executed"], receipt["blocked"]) == (len(kept), 0, 0)
    assert len(server.asked) == asked


def test_every_example_is_tested_and_short() -> None:
    lengths = {path.parent.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*/agent.py")}
    assert lengths.keys() >= CASES.keys()
    assert {name: length for name, length in lengths.items() if name in CASES and length > 60} == {}


def test_the_table_names_every_example() -> None:
    table = (EXAMPLES / "README.md").read_text("utf-8")
    named = set(re.findall(r"\]\((\w+)/(?:agent\.py|README\.md)\)", table))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] not in "._"}
