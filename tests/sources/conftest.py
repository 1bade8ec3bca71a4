"""Programs that ask a server on loopback what they have read, recorded and replayed as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ASK = """
import httpx

_URL = "http://127.0.0.1:%d/v1/chat/completions"


def ask(what):
    body = {"model": "m", "messages": [{"role": "user", "content": str(what)}]}
    return httpx.post(_URL, json=body).json()["choices"][0]["message"]["content"]
"""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Silent."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][-1]["content"]
        self.server.asked.append(asked)  # type: ignore[attr-defined]  # a list, as set below
        answer = {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}}]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Replayed:
    """What `isotrace replay --json` said."""

    data: dict[str, Any]
    out: str

    @property
    def verdict(self) -> str:
        return str(self.data["verdict"])

    @property
    def codes(self) -> list[str]:
        return [one["code"] for one in self.data["divergences"]]


class Programs:
    """Records a program while its server answers, and replays it when that is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.server.asked = self.asked  # type: ignore[attr-defined]  # read by the handler
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        (folder / "asking.py").write_text(ASK % self.server.server_port)

    def call(self, *arguments: str, env: dict[str, str | None] | None = None) -> Any:
        changed = {"PYTHONHASHSEED": None, **(env or {})}
        left = {name: value for name, value in os.environ.items() if name not in changed}
        return subprocess.run(
            [sys.executable, "-m", "isotrace.cli", *arguments],
            cwd=self.folder,
            env=left | {name: value for name, value in changed.items() if value is not None},
            input="hello",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def record(self, code: str, *arguments: str, env: dict[str, str | None] | None = None) -> list[str]:
        """Runs a program under `isotrace run`; gives what it asked."""
        (self.folder / "program.py").write_text("from asking import ask\n" + code)
        before = len(self.asked)
        said = self.call("run", "program.py", *arguments, env=env)
        assert said.returncode == 0, said.stderr
        assert "recorded run" in said.stderr
        self.out = said.stdout
        return self.asked[before:]

    def replay(self, run: str = "@last", *, env: dict[str, str | None] | None = None) -> Replayed:
        """Replays a run, with nobody to answer."""
        self.stop()
        said = self.call("replay", run, "--json", env=env)
        assert said.stdout, said.stderr
        return Replayed(json.loads(said.stdout), said.stderr)

    def assert_match(self, code: str, *, env: dict[str, str | None] | None = None) -> list[str]:
        """Records and replays a program: a match, with no connection attempted. Gives what it asked."""
        asked = self.record(code, env=env)
        result = self.replay()
        assert (result.verdict, result.data["divergences"]) == ("MATCH", []), result.data
        receipt = result.data["receipt"]
        assert (receipt["served"], receipt["executed"], receipt["blocked"]) == (len(asked), 0, 0)
        return asked

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of the last run."""
        self.call("export", "@last", "-o", "run.jsonl")
        lines = (self.folder / "run.jsonl").read_text().splitlines()
        (self.folder / "run.jsonl").unlink()
        return [json.loads(line) for line in lines]

    @property
    def grade(self) -> Any:
        return json.loads(self.call("show", "@last", "--json").stdout)["metadata"]["replayability"]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    monkeypatch.delenv("ISOTRACE_TENANT", raising=False)
    programs = Programs(tmp_path)
    yield programs
    programs.server.server_close()
    threading.Thread(target=programs.server.shutdown, daemon=True).start()
