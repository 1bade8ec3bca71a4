"""Concurrent programs replay exactly, in their own process and in another; and only because completions
are delivered one at a time."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from isotrace.formats.golden import golden_text, read_golden_bytes
from isotrace.record import scheduler
from isotrace.record.scheduler import Scheduler, Waiter
from isotrace.replay import Plan

SCRIPT = Path(__file__).parent / "random_programs.py"
DELAYS_MS = [0.0, 0.5, 3.0, 30.0]

LOOPS = [
    "asyncio",
    pytest.param(
        "uvloop", marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")
    ),
]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("random_programs", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "random_programs", module)
    spec.loader.exec_module(module)
    return module


def complaints(programs: Any, seeds: range, delay_ms: float, loop: str) -> list[str]:
    programs.delay_s = delay_ms / 1000
    found = []
    for seed in seeds:
        ledger, live = programs.recorded(seed, loop)
        found.append(programs.complaint(ledger, seed, loop, live))
    return [one for one in found if one is not None]


def test_a_few_random_programs_replay_exactly_from_their_golden_files(programs: Any) -> None:
    programs.delay_s = 0.0005
    found = []
    for seed in range(200, 208):
        ledger, live = programs.recorded(seed, "asyncio")
        text = golden_text(ledger)
        golden = read_golden_bytes(text.encode(), "x.golden")
        assert golden_text(golden) == text
        found.append(programs.complaint(golden, seed, "asyncio", live))
    assert [one for one in found if one is not None] == []


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("delay_ms", DELAYS_MS)
def test_a_few_random_programs_replay_exactly(programs: Any, delay_ms: float, loop: str) -> None:
    assert complaints(programs, range(100, 105), delay_ms, loop) == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_fork_of_a_random_program_that_serves_the_rest_as_well_is_the_same_run(
    programs: Any, loop: str
) -> None:
    programs.delay_s = 0.002
    found = []
    for seed in range(300, 308):
        ledger, live = programs.recorded(seed, loop)
        count = len(ledger.record().steps)
        places = sorted({0, count // 2, count - 1} - {-1})
        found += [programs.complaint(ledger, seed, loop, live, Plan(fork_at=at)) for at in places]
    assert [one for one in found if one is not None] == []


def in_a_process(what: str, seeds: range, delay_ms: float, loop: str, folder: Path, hash_seed: int) -> Any:
    arguments = [what, str(seeds.start), str(len(seeds)), str(delay_ms), loop, str(folder)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("loop", LOOPS)
def test_random_programs_replay_exactly_in_another_process(tmp_path: Path, loop: str) -> None:
    in_a_process("record", range(200, 206), 3.0, loop, tmp_path, hash_seed=1)
    assert in_a_process("replay", range(200, 206), 3.0, loop, tmp_path, hash_seed=2) == []


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("delay_ms", DELAYS_MS)
def test_120_random_programs_replay_exactly_in_another_process(
    tmp_path: Path, delay_ms: float, loop: str
) -> None:
    seeds = range(DELAYS_MS.index(delay_ms) * 30, DELAYS_MS.index(delay_ms) * 30 + 30)
    in_a_process("record", seeds, delay_ms, loop, tmp_path, hash_seed=1)
    assert in_a_process("replay", seeds, delay_ms, loop, tmp_path, hash_seed=2) == []


# --- the proof that these tests can fail ------------------------------------------------------


class DeliversAtOnce(Scheduler):
    """Hands over each completion as soon as it is there, as every recorder does that does not know of
    turns; a replay hands it over as soon as the recorded order allows."""

    def offer(self, waiter: Waiter) -> None:
        with self._lock:
            self._turns.add(waiter)
        asyncio.get_running_loop().call_soon(self._hand_over)

    def withdraw(self, waiter: Waiter) -> None:
        with self._lock:
            self._turns.remove(waiter)

    def _hand_over(self) -> None:
        while (waiter := self._turns.next()) is not None:
            self._turns.taken(waiter)
            waiter.fire()


def test_programs_stop_replaying_when_completions_are_delivered_at_once(
    programs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isotrace.record.recorder.Scheduler", DeliversAtOnce)
    failed = complaints(programs, range(100, 110), 0.0, "asyncio")
    assert len(failed) > 5, "one delivery at a time is what makes programs replay"
    assert scheduler.Scheduler is not DeliversAtOnce
