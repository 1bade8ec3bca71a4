"""`examples/coding_agent`, as it is: recorded with real commands and a scripted model, replayed without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai  # noqa: F401  # left out where it is missing
import pytest

AGENT = Path(__file__).parents[2] / "examples" / "coding_agent" / "agent.py"
TASK = "mean() is wrong for an even number of values. Mend it."
CALC = "def total(values):\n    return sum(values)\n\n\n"
CALC += "def mean(values):\n    return total(values) // len(values)\n"
CHECK = "import unittest\n\nimport calc\n\n\nclass Mean(unittest.TestCase):\n    def test_even(self):\n"
CHECK += "        self.assertEqual(calc.mean([1, 2]), 1.5)\n"
PATCH = """--- a/calc.py
+++ b/calc.py
@@ -5,2 +5,2 @@
 def mean(values):
-    return total(values) // len(values)
+    return total(values) / len(values)
"""
TESTS = {"command": f"{sys.executable} -m unittest -q test_calc 2>&1 | tail -n 3"}
STORY: list[list[tuple[str, dict[str, str]]]] = [
    [("run", TESTS), ("search", {"pattern": "def "})],
    [("read_file", {"path": "calc.py"})],
    [("apply_patch", {"patch": "no patch"})],
    [("apply_patch", {"patch": PATCH}), ("write_file", {"path": "NOTES.md", "text": "mean: / for //\n"})],
    [("run", TESTS), ("run", {"command": "git diff --no-index --stat /dev/null NOTES.md"})],
    [],
]


class Model(ThreadingHTTPServer):
    """Answers chat completions by `STORY`, and in the end with the last output that it was told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        calls = STORY[sum(message["role"] == "assistant" for message in messages)]
        if not calls:
            told = [message["content"] for message in messages if message["role"] == "tool"]
            return {"role": "assistant", "content": f"Mended: {told[-2].split()[-1]}"}
        made = [
            {
                "id": f"call_{self.asked}_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(calls)
        ]
        return {"role": "assistant", "content": None, "tool_calls": made}

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


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


class Workplace:
    """A folder with a bug in it, an agent beside it, and the command line."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.folder = tmp_path / "code"
        self.agent = tmp_path / "agent.py"
        self.empty = tmp_path / "empty"
        self.empty.mkdir()
        self.put_back()
        self.environment = {
            **os.environ,
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "sk-nobody-sees-this",
            "ISOTRACE_STORE": str(tmp_path / "traces.db"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def put_back(self) -> None:
        """The folder as it was before the agent came, and the agent as it is."""
        shutil.copy(AGENT, self.agent)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        (self.folder / "calc.py").write_text(CALC)
        (self.folder / "test_calc.py").write_text(CHECK)

    def isotrace(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "isotrace.cli", *command],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def replay(self) -> dict[str, Any]:
        """What a replay says, in a world without programs."""
        done = self.isotrace("replay", "@last", "--json", PATH=str(self.empty))
        said: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return said


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The agent has mended the bug, and the model is gone."""
    model = Model()
    place = Workplace(tmp_path_factory.mktemp("coding"), f"http://127.0.0.1:{model.server_port}/v1")
    done = place.isotrace("run", "--agent", "coder", str(place.agent), TASK)
    model.stop()
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Mended: OK"), done.stderr
    assert (place.folder / "calc.py").read_text() == CALC.replace("//", "/")
    return place


@pytest.fixture
def place(recorded: Workplace) -> Workplace:
    """The folder is as it was before."""
    recorded.put_back()
    return recorded


def test_the_record_shows_what_it_did(place: Workplace) -> None:
    record = json.loads(place.isotrace("show", "@last", "--json").stdout)
    steps = record["steps"]
    assert [(step["context"]["kind"], step["skill_name"], step["outcome_code"]) for step in steps] == [
        ("llm", "chat", None),
        ("process", Path(sys.executable).name, None),
        ("process", "grep", None),
        ("process", "grep", None),
        ("process", "grep", None),
        ("llm", "chat", None),
        ("llm", "chat", None),
        ("process", "git", "128"),
        ("llm", "chat", None),
        ("process", "git", None),
        ("llm", "chat", None),
        ("process", Path(sys.executable).name, None),
        ("process", "git", "1"),
        ("llm", "chat", None),
    ]  # fmt: skip
    assert [step["params"].get("do") for step in steps[2:5]] == ["start", "read", "wait"]
    grade = record["metadata"]["replayability"]
    assert not [reason for reason in grade if "process" in reason or "git" in reason]
    assert "sk-nobody-sees-this" not in json.dumps(record)


def test_it_replays_with_no_process_and_no_connection(place: Workplace) -> None:
    said = place.replay()
    assert (said["verdict"], said["divergences"], said["receipt"]["blocked"]) == ("MATCH", [], 0)
    assert (said["receipt"]["served"], said["receipt"]["executed"]) == (14, 0)
    assert (place.folder / "NOTES.md").read_text() == "mean: / for //\n", "its own code runs again"
    assert (place.folder / "calc.py").read_text() == CALC, "git does not"


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("before", "after", "code", "index", "pointers"),
    [
        ("You mend bugs", "You mend all bugs", "PARAMS_CHANGED", 0, ["/messages/0/content"]),
        ('["grep", "-rn",', '["grep", "-rnw",', "PARAMS_CHANGED", 2, ["/argv/1"]),
        ('["git", "apply", "-"]', '["patch", "-p1"]', "SKILL_CHANGED", 7, []),
        slow("timeout=60", "timeout=30", "PARAMS_CHANGED", 1, ["/timeout"]),
        slow('"exit code {done', '"code {done', "PARAMS_CHANGED", 5, ["/messages/3/content"]),
        slow("MAX_TURNS = 20", "MAX_TURNS = 5", "EARLY_END", 13, []),
    ],
)
def test_a_changed_agent_is_found_at_its_step(
    place: Workplace, before: str, after: str, code: str, index: int, pointers: list[str]
) -> None:
    text = place.agent.read_text()
    assert before in text
    place.agent.write_text(text.replace(before, after))
    said = place.replay()
    first = said["divergences"][0]
    assert (said["verdict"], first["code"], first["index"], first["pointers"]) == (
        "DIVERGED",
        code,
        index,
        pointers,
    )
    assert said["receipt"]["blocked"] == 0


def test_a_changed_file_is_found_where_the_agent_tells_the_model_of_it(place: Workplace) -> None:
    (place.folder / "calc.py").write_text(CALC.replace("total(values) //", "sum(values) //"))
    first = place.replay()["divergences"][0]
    assert (first["code"], first["index"], first["pointers"]) == (
        "PARAMS_CHANGED",
        6,
        ["/messages/6/content"],
    )
