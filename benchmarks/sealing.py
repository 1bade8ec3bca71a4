"""What it costs to turn a finished run's journal into rows, and who pays for it."""

# ruff: noqa: ARG001  # what is called takes arguments and answers at once

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import orjson

import isotrace
from benchmarks.measuring import Figure, cpu_s
from benchmarks.workload import OUTCOME, PARAMS
from isotrace.ledger import Ledger
from isotrace.record.journal import Journal
from isotrace.record.sealing import seal_journal
from isotrace.stores.sqlite import SqliteStore

STEPS = 1000
LONG = 10_000
ROUNDS = 9


@isotrace.skill(effect="read")
def search(number: int, query: object, filters: object, page: object, fields: object) -> object:
    return {**OUTCOME, "took_ms": number / 7}


def _record(store: SqliteStore, steps: int) -> tuple[str, float, float]:
    """Records a run; its id, this thread's CPU seconds for ending it, and those of sealing it elsewhere."""
    with isotrace.run(agent_id="benchmark", store=store) as run:
        for number in range(steps):
            search(number, **PARAMS)
        mine, all_threads = time.thread_time(), time.process_time()
    ended = time.thread_time() - mine
    isotrace.flush()
    return run.run_id, ended, time.process_time() - all_threads - (time.thread_time() - mine)


def _journals(ledger: Ledger, folder: Path) -> Iterator[Journal]:
    """Journals of new runs with the same events."""
    for number in range(ROUNDS):
        run_id = f"benchmark-{number}"
        journal = Journal.create(folder / "journals", run_id, "default", bytes(32))
        for event in ledger.events:
            facts = event.facts | ({"run_id": run_id} if event.seq == 0 else {})
            values = {name: data for name, data in event.values.items() if isinstance(data, bytes)}
            journal.append(event.type, event.time_us, orjson.dumps(facts)[1:-1], values, "search")
        yield journal


def measure(folder: Path) -> list[Figure]:
    """CPU time per step, and the share of it that the agent's thread bears."""
    store = SqliteStore(folder / "sealing.db")
    source, _, _ = _record(store, STEPS)
    ledger = store.ledger(source, tenant_id="default")
    sealing: list[float] = []
    for journal in _journals(ledger, folder):
        sealing.append(cpu_s(lambda journal=journal: store.put(seal_journal(journal.content()))))
        journal.remove()
    _, ended, sealed = _record(store, LONG)
    store.close()
    return [
        Figure(
            "sealing",
            "reading, sealing and storing a step of about 1 KB",
            median(sealing) / STEPS * 1e6,
            100.0,
            "µs",
            beside={"fastest µs": min(sealing) / STEPS * 1e6},
        ),
        Figure(
            "sealing, on the agent's thread",
            "ending a run of 10,000 steps / sealing it on a thread of its own",
            ended / sealed,
            0.01,
            beside={"ending ms": ended * 1e3, "sealing ms": sealed * 1e3},
        ),
    ]
