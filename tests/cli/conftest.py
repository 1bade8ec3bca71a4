"""Runs to look at, and ways to call the command line: in this process, in a pipe, on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from isotrace.cli.app import app
from isotrace.events import Event
from isotrace.ledger import SealedRun, seal
from isotrace.registry import open_store

START_US = 1_763_800_000_000_000
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class RunBuilder:
    """Writes the events of a run one by one; `sealed()` seals them."""

    def __init__(self, run_id: str, **facts: Any) -> None:
        self.run_id = run_id
        self.events: list[Event] = []
        self.clock_us = START_US
        metadata = facts.pop("metadata", {})
        self.add(
            "run_started",
            {
                "scheme": "iso1",
                "run_id": run_id,
                "origin_run_id": run_id,
                "correlation_id": facts.pop("correlation_id", run_id),
                "tenant_id": facts.pop("tenant_id", "default"),
                "agent_id": facts.pop("agent_id", "support"),
                "seed": 7,
                "frozen_timestamp": None,
                "entry_point": None,
                "parent": None,
            },
            {
                "plan": [],
                "input": {"task": "refund"},
                "metadata": {"replayability": "replayable", **metadata},
            },
        )

    def add(self, kind: str, facts: dict[str, Any], values: dict[str, Any] | None = None) -> None:
        data: dict[str, Any] = {name: orjson.dumps(value) for name, value in (values or {}).items()}
        self.events.append(Event(len(self.events), kind, self.clock_us, facts, data))

    def step(
        self,
        skill: str,
        params: dict[str, Any],
        outcome: Any = None,
        *,
        lineage: tuple[int | str, ...] | None = None,
        kind: str = "tool",
        error: tuple[str, str, str] | None = None,
        cost_cents: float = 0.0,
        duration_ms: float = 10.0,
        retries: int = 0,
    ) -> RunBuilder:
        """One step, started and finished; `error` is category, code, message."""
        done = sum(event.type == "step_started" for event in self.events)
        place = list(lineage if lineage is not None else (done,))
        self.add(
            "step_started",
            {"lineage": place, "kind": kind, "skill_name": skill, "effect": "read"},
            {"params": params},
        )
        self.clock_us += int(duration_ms * 1000)
        facts = {
            "lineage": place,
            "status": "failure" if error else "success",
            "outcome_category": error[0] if error else "SUCCESS",
            "outcome_code": error[1] if error else None,
            "cost_cents": cost_cents,
            "duration_ms": duration_ms,
            "retry_count": retries,
        }
        if error:
            self.add("step_finished", facts, {"error": {"type": error[1], "message": error[2]}})
        else:
            self.add(
                "step_finished", facts, {"outcome_data": outcome if outcome is not None else {"value": "ok"}}
            )
        return self

    def violation(self, policy_id: str, reason: str, lineage: tuple[int, ...]) -> RunBuilder:
        self.add("violation", {"lineage": list(lineage), "policy_id": policy_id}, {"reason": reason})
        return self

    def sealed(self, status: str = "completed") -> SealedRun:
        steps = sum(event.type == "step_started" for event in self.events)
        self.add("run_finished", {"status": status, "step_count": steps}, {"result": "done"})
        return seal(self.events, bytes(32))


def refund_run(run_id: str, city: str = "Paris", **facts: Any) -> SealedRun:
    """Five steps, two of them in branches of their own, one failed."""
    return (
        RunBuilder(run_id, metadata={"task": "13", "model": "gpt-4.1", "trial": 0}, **facts)
        .step(
            "chat",
            {"messages": [{"role": "user", "content": "Refund order W-1042"}]},
            {"role": "assistant", "content": "Looking it up"},
            kind="llm",
            cost_cents=0.42,
            duration_ms=312.5,
        )
        .step("get_order", {"order_id": "W-1042"}, {"status": "delivered", "total": 20.0}, duration_ms=4.2)
        .step("weather", {"city": city}, {"value": "sunny"}, lineage=(2, 0), duration_ms=120)
        .step("weather", {"city": "東京"}, {"value": 21.5}, lineage=(3, 0), duration_ms=80)
        .step(
            "refund",
            {"order_id": "W-1042", "cents": 2000},
            error=("TRANSIENT", "TimeoutError", "gateway timed out"),
            lineage=(4,),
            retries=2,
        )
        .violation("pii/no-email", "an e-mail address in params", (1,))
        .sealed()
    )


RUN_A = "a" * 32
RUN_B = "b" * 32


@pytest.fixture
def build() -> type[RunBuilder]:
    """The builder, for runs of one's own."""
    return RunBuilder


@pytest.fixture
def refund() -> Callable[..., SealedRun]:
    """`refund_run`."""
    return refund_run


@pytest.fixture
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A SQLite store with runs A and B, which part at step 2; the default of this test's commands."""
    url = str(tmp_path / "runs" / "traces.db")
    monkeypatch.setenv("ISOTRACE_STORE", url)
    monkeypatch.delenv("ISOTRACE_TENANT", raising=False)
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    store.put(refund_run(RUN_A))
    store.put(refund_run(RUN_B, city="Rome"))
    store.close()
    return url


@pytest.fixture
def put(store_url: str) -> Callable[[SealedRun], None]:
    """Adds a run to the test's store."""

    def put(run: SealedRun) -> None:
        store = open_store(store_url)
        store.put(run)
        store.close()

    return put


@dataclass(frozen=True)
class Said:
    """What a call of the command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def isotrace(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Calls the command line in this process, as into a pipe: `isotrace("ls", "--json")`."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str, columns: int | None = None, stdin: str | None = None) -> Said:
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        return Said(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def program(store_url: str, tmp_path: Path) -> Callable[..., Said]:
    """Calls the command line as a program of its own, with pipes."""

    def call(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "isotrace.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return call


@dataclass(frozen=True)
class Screen:
    """What a terminal was sent: raw, and without colours."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def terminal(store_url: str, tmp_path: Path) -> Callable[..., Screen]:
    """Calls the command line on a terminal of so many columns: `terminal(60, "ls")`."""

    def call(columns: int, *arguments: str, env: dict[str, str] | None = None) -> Screen:
        controller, terminal_side = pty.openpty()
        fcntl.ioctl(terminal_side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        clean = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "CI")}
        with subprocess.Popen(
            [sys.executable, "-m", "isotrace.cli", *arguments],
            cwd=tmp_path,
            env={**clean, "TERM": "xterm-256color", **(env or {})},
            stdin=terminal_side,
            stdout=terminal_side,
            stderr=terminal_side,
        ) as process:
            os.close(terminal_side)
            sent = b""
            while True:
                try:
                    data = os.read(controller, 65536)
                except OSError:  # Linux says so when the other side is closed
                    break
                if not data:
                    break
                sent += data
        os.close(controller)
        return Screen(process.returncode, sent.decode("utf-8", "replace"))

    return call
