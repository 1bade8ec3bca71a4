"""How fast recorded steps are served again, loading the run included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import isotrace
from benchmarks.measuring import Figure, typical_cpu_s
from isotrace.stores.sqlite import SqliteStore

STEPS = 5000
BRANCHES = 10
ROUNDS = 9


@isotrace.skill(effect="pure")
def add(a: int, b: int) -> int:
    return a + b


@isotrace.skill(effect="pure")
async def add_async(a: int, b: int) -> int:
    return a + b


def _sync(store: SqliteStore) -> str:
    with isotrace.run(agent_id="sums", store=store) as run:
        total = 0
        for number in range(STEPS):
            total = add(total, number)
    return run.run_id


async def _awaited(store: SqliteStore) -> str:
    async with isotrace.run(agent_id="sums", store=store) as run:
        total = 0
        for number in range(STEPS):
            total = await add_async(total, number)
    return run.run_id


async def _gathered(store: SqliteStore) -> str:
    async def branch(total: int) -> None:
        for number in range(STEPS // BRANCHES):
            total = await add_async(total, number)

    async with isotrace.run(agent_id="sums", store=store) as run:
        await asyncio.gather(*(branch(start) for start in range(BRANCHES)))
    return run.run_id


def measure(folder: Path) -> list[Figure]:
    """Steps per second of CPU time: strict replay, from the run's id to the verdict."""
    with SqliteStore(folder / "replaying.db") as store:
        return [
            _figure("replay, sync", "a loop of plain calls", lambda: _sync(store), store),
            _figure("replay, awaited", "a loop of awaited calls", lambda: _awaited(store), store),
            _figure("replay, gather", "10 tasks under one gather", lambda: _gathered(store), store),
        ]


def _figure(name: str, what: str, agent: Callable[[], Any], store: SqliteStore) -> Figure:
    begun = agent()
    run_id = begun if isinstance(begun, str) else asyncio.run(begun)
    isotrace.flush()

    def replayed() -> None:
        result = isotrace.replay(run_id, agent, store=store)
        assert (str(result.verdict), result.receipt.served) == ("MATCH", STEPS), result.divergences

    return Figure(
        name,
        f"{what}: {STEPS:,} trivial steps",
        STEPS / typical_cpu_s(replayed, rounds=ROUNDS),
        15_000,
        "steps/s",
        at_least=True,
    )
