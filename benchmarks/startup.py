"""How long a command takes to say something."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.measuring import Figure, in_turns

ROUNDS = 15


def _child_cpu_s(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(_: Path) -> list[Figure]:
    """CPU time of a process, the interpreter's own start included."""
    taken = in_turns(
        {
            "version": lambda: _child_cpu_s("-m", "isotrace.cli", "--version"),
            "python": lambda: _child_cpu_s("-c", "pass"),
        },
        ROUNDS,
    )
    return [
        Figure(
            "start-up",
            "isotrace --version, a process of its own",
            median(taken["version"]) * 1e3,
            150.0,
            "ms",
            beside={"python alone ms": median(taken["python"]) * 1e3},
        )
    ]
