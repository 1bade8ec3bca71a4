"""`examples/sample_repository`: what its workflow runs, run here; and what it says of a changed agent."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai  # noqa: F401  # left out where it is missing
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "sample_repository"
WORKFLOW = SAMPLE / ".github" / "workflows" / "agent.yml"
AGENT = "refunds/agent.py"
STORIES: dict[str, list[tuple[str, dict[str, Any]] | str]] = {
    "W-1042": [
        ("find_order", {"order_id": "W-1042"}),
        ("refund", {"order_id": "W-1042", "cents": 4990}),
        "I am sorry about the kettle: 49.90 euros are on their way back to you.",
    ],
    "W-0007": [
        ("find_order", {"order_id": "W-0007"}),
        "I am sorry: the toaster was bought more than 30 days ago, so I can't refund it.",
    ],
}
"""What the model of the stand-in asks for and says, by the order that the customer names."""


class _Model(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Silent."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        messages = asked["messages"]
        turn = sum(one["role"] == "assistant" for one in messages)
        [order] = [name for name in STORIES if name in messages[1]["content"]]
        move = STORIES[order][turn]
        message: dict[str, Any] = {"role": "assistant", "content": move}
        if isinstance(move, tuple):
            function = {"name": move[0], "arguments": json.dumps(move[1])}
            calls = [{"id": f"call_{order}_{turn}", "type": "function", "function": function}]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 90 + turn, "completion_tokens": 20, "total_tokens": 110 + turn}
        answer = {"id": f"chatcmpl-{order}-{turn}", "object": "chat.completion", "created": 1_700_000_000}
        body = json.dumps({**answer, "model": asked["model"], "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def stand_in() -> Iterator[str]:
    """A provider on loopback, while the block lasts: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


class Checkout:
    """A copy of the sample repository, as a workflow's runner has it: no key, no provider."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "refunds"
        shutil.copytree(SAMPLE, self.folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
        self.summary = folder / "summary.md"
        left_out = ("ISOTRACE_", "GITHUB_", "OPENAI_", "PYTEST_")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "100",
        }

    def change(self, change: tuple[str, str], file: str = AGENT) -> None:
        path, (old, new) = self.folder / file, change
        text = path.read_text("utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), "utf-8")

    def shell(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A script as GitHub runs the `run:` of a step."""
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def workflow(self) -> dict[str, subprocess.CompletedProcess[str]]:
        """What the workflow's steps came to, by name. What is installed here stands for its installation."""
        done: dict[str, subprocess.CompletedProcess[str]] = {}
        for step in steps():
            failed = any(one.returncode for one in done.values())
            if "run" not in step or step["name"] == "Install" or (failed and "if" not in step):
                continue
            done[step["name"]] = self.shell(
                step["run"],
                CI="true",
                GITHUB_ACTIONS="true",
                GITHUB_WORKSPACE=str(self.folder),
                GITHUB_STEP_SUMMARY=str(self.summary),
            )
        return done

    def annotations(self, done: dict[str, subprocess.CompletedProcess[str]]) -> list[str]:
        return [line for line in done["Golden runs"].stdout.splitlines() if line.startswith("::")]


def steps() -> list[dict[str, Any]]:
    """Those of the workflow's one job."""
    [job] = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def codes(done: dict[str, subprocess.CompletedProcess[str]]) -> dict[str, int]:
    return {name: one.returncode for name, one in done.items()}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


CALL = "            result = TOOLS[call.function.name](**json.loads(call.function.arguments))\n"
ROUNDED = """\
            arguments = json.loads(call.function.arguments)
            if "cents" in arguments:  # nobody likes small change
                arguments["cents"] = round(arguments["cents"], -2)
            result = TOOLS[call.function.name](**arguments)
"""


SENTENCE = "PARAMS_CHANGED at step 3: params differ at /cents (4990 → 5000)"


@pytest.mark.slow
def test_the_workflow_passes_as_it_is(checkout: Checkout) -> None:
    done = checkout.workflow()
    assert codes(done) == {"Tests": 0, "Golden runs": 0, "Rules": 0}, done
    assert checkout.annotations(done) == []
    assert "2 golden runs: 2 match" in done["Golden runs"].stdout
    assert "none of 2 runs would have been stopped" in done["Rules"].stdout
    assert not (checkout.folder / "reports" / "differences").exists()


def test_a_changed_behaviour_fails_it_at_its_step_and_the_readme_tells_so(checkout: Checkout) -> None:
    checkout.change((CALL, ROUNDED))
    done = checkout.workflow()
    assert codes(done) == {"Tests": 1, "Golden runs": 1, "Rules": 0}, done
    golden = "tests/goldens/test_agent/test_a_kettle_is_refunded_in_full.golden"
    lines = (checkout.folder / golden).read_text("utf-8").splitlines()
    line = [text.startswith("step_started lineage=[3] ") for text in lines].index(True) + 1
    assert checkout.annotations(done) == [
        f"::error file={golden},line={line},title=golden run%3A PARAMS_CHANGED::{SENTENCE}"
    ]
    assert "1 failed, 1 passed" in done["Tests"].stdout
    pages = sorted((checkout.folder / "reports" / "differences").rglob("*.html"))
    assert [page.relative_to(checkout.folder / "reports" / "differences") for page in pages] == [
        Path(f"{golden}.html")
    ]
    assert "5000" in pages[0].read_text("utf-8")
    assert "**diverged**" in checkout.summary.read_text("utf-8")
    readme = (SAMPLE / "README.md").read_text("utf-8")
    shown = _timeless(done["Golden runs"].stdout)
    command = "$ COLUMNS=100 isotrace check tests/goldens --github\n"
    told = readme.partition(command)[2].partition("```")[0]
    assert _timeless(told) == shown
    assert "".join(f"+{added}\n" for added in ROUNDED.splitlines()) in readme


def _timeless(text: str) -> str:
    """Without what a clock said."""
    return re.sub(r"\d+(\.\d+)? (ms|s|µs)\b", "N s", text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code", "index"),
    [
        (("never more, and only within 30 days", "never more"), "PARAMS_CHANGED", 0),
        (("MAX_TURNS = 6", "MAX_TURNS = 2"), "EARLY_END", 4),
        (
            ('"refund": refund}', '"refund": lambda order_id, cents: find_order(order_id)}'),
            "SKILL_CHANGED",
            3,
        ),
    ],
)
def test_other_changes_fail_it_likewise(
    checkout: Checkout, change: tuple[str, str], code: str, index: int
) -> None:
    checkout.change(change)
    done = checkout.workflow()
    assert (done["Tests"].returncode, done["Golden runs"].returncode) == (1, 1)
    first = checkout.annotations(done)[0]
    assert f"::{code} at step {index}: " in first, first


@pytest.mark.slow
def test_a_golden_run_against_the_rules_fails_it(checkout: Checkout) -> None:
    checkout.change(("params.cents > 10000", "params.cents > 4000"), "rules.yaml")
    done = checkout.workflow()
    assert codes(done) == {"Tests": 0, "Golden runs": 0, "Rules": 1}, done
    assert "small-refunds" in done["Rules"].stdout


@pytest.mark.slow
def test_its_golden_runs_are_what_the_agent_does_live(checkout: Checkout) -> None:
    before = {path: path.read_bytes() for path in checkout.folder.rglob("*.golden")}
    assert len(before) == 2
    with stand_in() as url:
        script = "python -m pytest --isotrace=record"
        done = checkout.shell(script, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-nobody")
    assert done.returncode == 0, done.stdout
    assert {path: path.read_bytes() for path in checkout.folder.rglob("*.golden*")} == before


def test_its_golden_runs_say_nothing_of_a_machine() -> None:
    for path in SAMPLE.rglob("*.golden"):
        text = path.read_text("utf-8")
        assert '"file": "refunds/agent.py"' in text
        hosts = set(re.findall(r"https?://([^/:\"]+)", text))
        assert hosts == {"127.0.0.1"}
        assert not re.search(r"/(tmp|home|root|Users|var|usr|work)/", text)
        assert "sk-" not in text


def test_the_workflow_needs_no_key_and_keeps_the_reports() -> None:
    text = WORKFLOW.read_text("utf-8")
    assert "secrets" not in text
    uses = [step["uses"].partition("@")[0] for step in steps() if "uses" in step]
    assert uses == ["actions/checkout", "actions/setup-python", "actions/upload-artifact"]
    last = steps()[-1]
    assert (last["if"], last["with"]["path"]) == ("${{ failure() }}", "reports")
