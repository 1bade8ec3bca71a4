"""A project with an agent and golden tests, in which pytest is run."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import isotrace

for room in ("record", "redact", "replay", "pytest_plugin", "report.terminal"):
    # A run of pytest inside this process forgets what it has imported, and would import it a second time.
    package = importlib.import_module(f"isotrace.{room}")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
for name in isotrace.__all__:
    getattr(isotrace, name)

AGENT = """
import isotrace

PROMPT = "Answer in one short sentence."


@isotrace.skill(kind="llm", effect="read")
def chat(messages: list[dict]) -> dict:
    if messages[-1]["role"] == "user":
        return {"role": "assistant", "tool": "get_order"}
    return {"role": "assistant", "content": "Your kettle is on its way."}


@isotrace.skill(effect="read")
def get_order(customer: str) -> dict:
    return {"item": "kettle", "cents": 4990}


def answered(task: str) -> str:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": task}]
    while "content" not in (answer := chat(messages)):
        messages += [answer, {"role": "tool", "content": str(get_order("ada"))}]
    return answer["content"]


@isotrace.agent("support")
def support(task: str) -> str:
    return answered(task)


@isotrace.agent("asupport")
async def asupport(task: str) -> str:
    return answered(task)
"""

INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
addopts = -p no:langsmith_plugin -p no:hypothesispytest
"""


class Project:
    """A folder with tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path: Path = pytester.path
        self.agent(AGENT)
        (self.path / "pytest.ini").write_text(INI)

    def agent(self, text: str) -> None:
        """Writes the agent."""
        (self.path / "agent.py").write_text(text)

    def change(self, before: str, after: str, file: str = "agent.py") -> None:
        """Changes a file, in which `before` stands once or more."""
        path = self.path / file
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def tests(self, text: str, file: str = "test_it.py") -> None:
        """Writes a test file."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import pytest\nfrom agent import *\n\n{text}")

    def run(self, *args: str, apart: bool = False, **outcomes: int) -> pytest.RunResult:
        """Runs pytest, in a process of its own if `apart`, and checks how the tests came out."""
        # The same second may have seen another version of the file.
        for folder in self.path.rglob("__pycache__"):
            for file in folder.iterdir():
                file.unlink()
        runner = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        result = runner(*args)
        if outcomes:
            result.assert_outcomes(**outcomes)
        return result

    def goldens(self) -> list[str]:
        """The files among goldens."""
        return sorted(
            str(path.relative_to(self.path))
            for path in self.path.rglob("*")
            if path.is_file() and "goldens" in path.parts
        )

    def failure(self, result: pytest.RunResult) -> list[str]:
        """The lines of the one failure, without what follows in the report."""
        text = result.stdout.str()
        start = text.index("= FAILURES =")
        body = text[text.index("\n", text.index("\n", start) + 1) + 1 : text.index("= short test summary")]
        return [re.sub(r"─+", "─", line.rstrip()) for line in body.splitlines()[:-1]]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.syspath_prepend(pytester.path)
    return Project(pytester)
