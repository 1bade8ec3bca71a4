"""The agents in `examples/`: each recorded once against a stand-in for its provider, which is then gone, and
exported as a golden run; and what a check says of a copy whose source was changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from isotrace.operations.goldens import read_golden
from isotrace.operations.surroundings import environment_of

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "examples"
ENTRY = "../agent/agent.py"
"""The program, from the folder in which it runs."""
WARM = Path(__file__).with_name("warm.py")

LIBRARIES = {
    "openai_chat": ["openai"],
    "anthropic_messages": ["anthropic"],
    "langgraph_agent": ["langchain_openai", "langgraph.graph", "langgraph.prebuilt"],
    "openai_agents": ["agents"],
    "pydantic_ai_agent": ["pydantic_ai", "pydantic_ai.models.openai"],
    "coding_agent": ["openai"],
    "mcp_agent": ["mcp.client.stdio", "openai"],
}
"""What the program of each example imports."""


def load(name: str, path: Path) -> Any:
    """A module by its file: test folders are no packages."""
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


# --- what an example is given, and who answers it -----------------------------------------


@dataclass(frozen=True)
class World:
    """Where an example runs: its arguments, the files of its folder, what it prints last, and its provider,
    which answers inside the block and is known by the variables that the block gives."""

    provider: AbstractContextManager[dict[str, str]]
    last: str
    arguments: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()


def world(name: str) -> World:
    if name == "coding_agent":
        coding = load("isotrace_oracle_coding", TESTS / "examples" / "test_coding_agent.py")
        code = (("calc.py", coding.CALC), ("test_calc.py", coding.CHECK))
        return World(_own_model(coding), "Mended: OK", (coding.TASK,), code)
    if name == "mcp_agent":
        notes = load("isotrace_oracle_notes", TESTS / "examples" / "test_mcp_agent.py")
        shopping = (("notes/shopping.txt", "bread\n"),)
        return World(_own_model(notes), "It said: bread", (notes.TASK, "notes"), shopping)
    return World(_scripted(name), _frameworks().CASES[name][3])


def _frameworks() -> Any:
    return load("isotrace_oracle_frameworks", TESTS / "frameworks" / "test_examples.py")


@contextmanager
def _own_model(module: Any) -> Iterator[dict[str, str]]:
    model = module.Model()
    try:
        yield {"OPENAI_BASE_URL": f"http://127.0.0.1:{model.server_port}/v1", "OPENAI_API_KEY": "sk-nobody"}
    finally:
        model.shutdown()
        model.server_close()


@contextmanager
def _scripted(name: str) -> Iterator[dict[str, str]]:
    """A server that follows the script of the example. The first request of `openai_chat` is refused."""
    server = load("isotrace_oracle_server", TESTS / "capture" / "server.py").Server()
    model = load("isotrace_oracle_model", TESTS / "frameworks" / "model.py")
    script, turns = _frameworks().CASES[name][1], iter(range(9))
    refusals = [REFUSED] if name == "openai_chat" else []
    server.script = lambda _, asked: refusals.pop() if refusals else script(model, next(turns), asked)
    try:
        yield {
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "sk-nobody",
            "ANTHROPIC_BASE_URL": server.url.removesuffix("/v1"),
            "ANTHROPIC_API_KEY": "sk-nobody",
        }
    finally:
        server.stop()


REFUSED = (429, {"error": {"message": "slow down", "type": "rate_limit"}})


# --- recording and checking ------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a check came to: the verdict, the first divergence's code, index and sentence."""

    verdict: str
    code: str | None
    index: int | None
    sentence: str


class Bench:
    """One recorded example, and a process that has its libraries and checks it again and again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.world = world(name)
        self._source, self._agent, self._work = EXAMPLES / name, folder / "agent", folder / "work"
        self.golden = folder / f"{name}.golden"
        self._environment = {
            **os.environ,
            "ISOTRACE_STORE": str(folder / "traces.db"),
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "LANGSMITH_TRACING": "false",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._record(name)
        self._warm = self._warmed(LIBRARIES[name])

    def put_back(self) -> None:
        """The agent as it is, in a folder as it was when the run began."""
        shutil.rmtree(self._agent, ignore_errors=True)
        shutil.copytree(self._source, self._agent, ignore=shutil.ignore_patterns("__pycache__"))
        self._work.mkdir(exist_ok=True)
        for left in self._work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for name, text in self.world.files:
            path = self._work / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def _record(self, name: str) -> None:
        self.put_back()
        command = ["run", "--agent", name, ENTRY, *self.world.arguments]
        with self.world.provider as variables:
            # A file does not bring them back: a check needs the same address, too.
            self._environment |= variables
            ran = self.isotrace(*command)
        assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, self.world.last), ran.stderr
        exported = self.isotrace("export", "@last", "--format", "golden", "-o", str(self.golden))
        assert exported.returncode == 0, exported.stderr

    def isotrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, in the folder in which the agent runs."""
        command = [sys.executable, "-m", "isotrace.cli", *arguments]
        return subprocess.run(
            command, cwd=self._work, env=self._environment, capture_output=True, text=True, timeout=120
        )

    def _warmed(self, libraries: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, str(WARM), str(self.golden), ENTRY, *libraries]
        return subprocess.Popen(
            command,
            cwd=self._work,
            env={**self._environment, **environment_of(read_golden(self.golden), placeholders=True)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self._warm.stdin
        assert self._warm.stdout
        self._warm.stdin.close()
        self._warm.wait(60)
        self._warm.stdout.close()

    def check(self, source: str, file: str = "agent.py") -> Seen:
        """What is said of the agent with this source in its place."""
        self.put_back()
        (self._agent / file).write_text(source)
        assert self._warm.stdin
        assert self._warm.stdout
        self._warm.stdin.write("again\n")
        self._warm.stdin.flush()
        return seen(json.loads(self._warm.stdout.readline()))

    def command(self, source: str, file: str = "agent.py") -> Seen:
        """The same, by `isotrace check`."""
        self.put_back()
        (self._agent / file).write_text(source)
        done = self.isotrace("check", str(self.golden), "--entry", ENTRY, "--json")
        [checked] = json.loads(done.stdout)["goldens"]
        assert checked["error"] is None, checked["error"]
        assert done.returncode == checked["exit_code"] == (checked["verdict"] != "MATCH")
        return seen(checked["replay"])


def seen(answer: dict[str, Any]) -> Seen:
    """The result of a replay, as the tables have it."""
    assert "error" not in answer, answer["error"]
    assert (answer["receipt"]["executed"], answer["receipt"]["blocked"]) == (0, 0)
    first = next((one for one in answer["divergences"] if one["severity"] == "error"), None)
    if first is None:
        return Seen(answer["verdict"], None, None, "; ".join(answer["notes"]))
    return Seen(answer["verdict"], first["code"], first["index"], first["message"])
