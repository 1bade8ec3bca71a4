"""`isotrace behaviours` over a million stored runs of twelve steps: the whole command, in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import apsw

from benchmarks.measuring import Figure
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.runs import Call, llm, make_run, tool

RUNS = 1_000_000
DISTINCT = 2000
"""Runs that are really put; all others are copies of their rows, with ids, roots and times of their own."""
TASKS = 50
STEPS = 12
VARIANTS = 20

COMMANDS = {
    "all steps": (),
    "tool steps": ("--kind", "tool"),
    "by task": ("--by", "task"),
}
"""What is asked beside `isotrace behaviours`."""


def _steps(task: int, variant: int) -> list[Call]:
    """Twelve steps, a model's and a tool's in turn. A variant leaves the common path at a step of its own."""
    parted = STEPS if variant == 0 else variant % STEPS
    steps = []
    for index in range(STEPS):
        taken = variant if index >= parted else 0
        if index % 2:
            steps.append(tool(f"tool-{index % 5}", {"task": task, "at": index, "taken": taken}, {"ok": True}))
        else:
            asked = {"messages": [{"role": "user", "content": f"task {task}, {index}, {taken}"}]}
            steps.append(llm(asked, {"text": "…"}, cost_cents=0.25, duration_ms=800.0 + index))
    return steps


def fill(file: Path, runs: int = RUNS) -> None:
    """A store of so many runs: 50 tasks, 20 paths each, some far more common than others.

    A million commits would only show how fast the disk is. Only the first and the newest 2,000 have ledgers.
    """
    with SqliteStore(file) as store:
        for number in range(DISTINCT):
            task, trial = number % TASKS, number // TASKS
            variant = 0 if trial % 2 else trial // 2 % VARIANTS
            failed = variant % 5 == 4
            store.put(
                make_run(
                    f"run-{number}",
                    agent_id=f"agent-{task % 7}",
                    steps=_steps(task, variant),
                    status="failed" if failed else "completed",
                    metadata={
                        "task": f"task-{task}",
                        "trial": trial,
                        "model": f"model-{trial % 3}",
                        "reward": 0.0 if failed or trial % 7 == 6 else 1.0,
                        "replayability": "replayable",
                        "commit": f"{trial:040x}",
                    },
                    started_us=1_700_000_000_000_000 + number * 60_000_000,
                )
            )
    _copy(file, runs)


def _copy(file: Path, runs: int) -> None:
    con = apsw.Connection(str(file))
    con.execute("PRAGMA synchronous = OFF")
    columns = [row[1] for row in con.execute("PRAGMA table_info(runs)")]
    fresh = {
        "pk": "pk + :copy * :distinct",
        "run_id": "lower(hex(randomblob(16)))",
        "root_hash": "randomblob(32)",
        "started_us": "started_us + :copy * 60000000 * :distinct",
    }
    statements = [
        f"""INSERT INTO runs ({", ".join(columns)})
SELECT {", ".join(fresh.get(name, name) for name in columns)} FROM runs WHERE pk <= :distinct""",
        """INSERT INTO steps SELECT id + ((:copy * :distinct) << 24), skill, kind, status, start_seq, end_seq,
  lineage, determinism_hash, path, tool_path, outcome_digest, cost_cents, duration_ms
FROM steps WHERE id < (:distinct + 1) << 24""",
        """INSERT INTO terms SELECT tenant, field, value, run + :copy * :distinct
FROM terms WHERE run <= :distinct""",
    ]
    with con:
        for copy in range(1, runs // DISTINCT):
            for statement in statements:
                con.execute(statement, {"copy": copy, "distinct": DISTINCT})
        con.execute(
            """INSERT INTO blocks (run, kind, first_seq, last_seq, data)
SELECT run + :shift, kind, first_seq, last_seq, data FROM blocks WHERE run <= :distinct""",
            {"shift": (runs // DISTINCT - 1) * DISTINCT, "distinct": DISTINCT},
        )
    con.close()


def measure(folder: Path) -> list[Figure]:
    """CPU time of the whole command, kernel included, and its peak memory; the store's file was read before.

    The command has one thread: on a machine of its own this is the time that a person waits.
    """
    file = folder / "behaviours.db"
    fill(file)
    figures = []
    for name, options in COMMANDS.items():
        _call(file, options)
        seconds, wall_s, gib, found = _call(file, options)
        assert sum(group["runs"] for group in found["groups"]) == RUNS
        figures += [
            Figure(
                f"behaviours, {name}: time",
                f"{RUNS:,} runs of {STEPS} steps",
                seconds,
                10,
                "s",
                beside={"wall s": wall_s},
            ),
            Figure(f"behaviours, {name}: memory", "peak, resident", gib, 1, "GiB"),
        ]
    return figures


def _call(
    file: Path, options: tuple[str, ...]
) -> tuple[float, float, float, dict[str, list[dict[str, int]]]]:
    """CPU seconds, wall seconds, GiB and the answer of one call."""
    command = [sys.executable, "-m", "isotrace.cli", "behaviours", *options, "--store", str(file), "--json"]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # our own command
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    assert process.returncode == 0
    # Kilobytes on Linux, bytes on macOS.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return used.ru_utime + used.ru_stime, seconds, peak / 2**30, json.loads(out)
