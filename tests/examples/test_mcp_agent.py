"""`examples/mcp_agent`, as it is: recorded with a real MCP server and a scripted model, replayed without."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp  # noqa: F401  # left out where it is missing
import openai  # noqa: F401  # left out where it is missing
import pytest

from isotrace.models import TraceRecord
from isotrace.record import instrument

if TYPE_CHECKING:
    from tests.record.lab import Lab

EXAMPLE = Path(__file__).parents[2] / "examples" / "mcp_agent"
TASK = "What is on my list? Put milk on it."
STORY: list[list[tuple[str, dict[str, str]]]] = [
    [("list_notes", {})],
    [("read_note", {"name": "shopping"}), ("append_to_note", {"name": "shopping", "text": "milk"})],
    [],
]


class Model(ThreadingHTTPServer):
    """Answers chat completions by `STORY`; its last answer is what it was told last but one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server_port}/v1"
        return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-nobody-sees-this"}

    def answer(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        calls = STORY[sum(message["role"] == "assistant" for message in messages)]
        if not calls:
            return {"role": "assistant", "content": f"It said: {messages[-2]['content'].strip()}"}
        made = [
            {
                "id": f"call_{self.asked}_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(calls)
        ]
        return {"role": "assistant", "content": None, "tool_calls": made}


class _Answers(BaseHTTPRequestHandler):
    server: Model

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Silent."""

    def do_POST(self) -> None:
        self.server.asked += 1
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        choice = {"index": 0, "finish_reason": "stop", "message": self.server.answer(asked["messages"])}
        answer = {"id": f"chatcmpl-{self.server.asked}", "object": "chat.completion", "created": 1}
        body = json.dumps({**answer, "model": asked["model"], "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.shutdown()
    model.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example, with notes beside it."""
    shutil.copytree(EXAMPLE, tmp_path / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "shopping.txt").write_text("bread\n")
    return tmp_path


def isotrace(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment, "ISOTRACE_STORE": str(folder / "traces.db")}
    command = [sys.executable, "-m", "isotrace.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def recorded(folder: Path, model: Model) -> None:
    said = isotrace(folder, model.environment, "run", "--agent", "notes", "agent/agent.py", TASK, "notes")
    assert (said.returncode, said.stdout) == (0, "It said: bread\n"), said.stderr
    assert (folder / "notes" / "shopping.txt").read_text() == "bread\nmilk\n"


def replayed(folder: Path, model: Model) -> dict[str, Any]:
    said = isotrace(folder, model.environment, "replay", "@last", "--json")
    answer: dict[str, Any] = json.loads(said.stdout)
    assert answer["receipt"]["blocked"] == 0, said.stdout
    return answer


def test_it_replays_without_model_server_and_notes(folder: Path, model: Model) -> None:
    recorded(folder, model)
    model.shutdown()
    model.server_close()
    (folder / "agent" / "server.py").unlink()
    shutil.rmtree(folder / "notes")
    answer = replayed(folder, model)
    assert (answer["verdict"], answer["divergences"]) == ("MATCH", [])
    shown = json.loads(isotrace(folder, {}, "show", "@last", "--json").stdout)
    steps = [
        (step["context"]["kind"], step["context"]["effect"], step["skill_name"]) for step in shown["steps"]
    ]
    assert steps == [
        ("mcp", "read", "connect"),
        ("mcp", "read", "initialize"),
        ("mcp", "read", "tools/list"),
        ("llm", "read", "chat"),
        ("tool", "read", "list_notes"),
        ("llm", "read", "chat"),
        ("tool", "read", "read_note"),
        ("tool", "write", "append_to_note"),
        ("llm", "read", "chat"),
    ]
    assert answer["receipt"]["served"] == len(steps)
    assert "sk-nobody" not in json.dumps(shown)


def test_another_argument_is_found_at_its_call(folder: Path, model: Model) -> None:
    recorded(folder, model)
    agent = folder / "agent" / "agent.py"
    changed = 'json.loads(call.function.arguments.replace("milk", "Milk"))'
    agent.write_text(agent.read_text().replace("json.loads(call.function.arguments)", changed))
    answer = replayed(folder, model)
    first = answer["divergences"][0]
    assert (answer["verdict"], first["code"], first["index"]) == ("DIVERGED", "PARAMS_CHANGED", 7)
    assert first["pointers"] == ["/text"]


def test_another_result_of_a_tool_is_found_at_the_next_call_of_the_model(
    lab: Lab, folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name, value in model.environment.items():
        monkeypatch.setenv(name, value)
    program = runpy.run_path(str(folder / "agent" / "agent.py"))

    async def agent() -> Any:
        return await program["answer"](TASK, "notes")

    restore = instrument()
    try:
        record = lab.record(agent).record.to_dict()
        result = record["steps"][6]["outcome_data"]
        assert result["content"] == [{"type": "text", "text": "bread\n"}]
        result["content"][0]["text"] = "butter\n"
        replay = lab.replay(TraceRecord.from_dict(record), agent)
    finally:
        restore()
    first = replay.divergences[0]
    assert (str(replay.verdict), first.code, first.index) == ("DIVERGED", "PARAMS_CHANGED", 8)
    assert first.actual == {"/messages/5/content": "butter\n"}
    assert replay.receipt.blocked == 0
