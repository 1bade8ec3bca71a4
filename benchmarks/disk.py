"""How much disk runs take: in the store, and in the journal while they are live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import orjson

from benchmarks.measuring import Figure
from isotrace.clock import SYSTEM
from isotrace.contracts import RunQuery, TraceStore
from isotrace.ledger import Ledger
from isotrace.operations import import_files
from isotrace.record.journal import Journal
from isotrace.stores.sqlite import SqliteStore

RUNS = Path(__file__).parents[1] / "../shared/data/mini_swe_agent"
LONG = 207


def measure(folder: Path) -> list[Figure]:
    """Bytes per step in the store's file, and the size of one long journal."""
    if not RUNS.is_dir():
        missing = "the recorded runs of mini-swe-agent are not on this machine"
        return [
            Figure("disk", "mini-swe-agent runs as imported", None, 450, "bytes/step", missing=missing),
            Figure("journal", f"{LONG} steps of growing history", None, 1.0, "MB", missing=missing),
        ]
    file = folder / "disk.db"
    store = SqliteStore(file)
    report = import_files(store, "mini-swe-agent", [RUNS], tenant_id="default")
    raw = sum(_raw_size(ledger) for ledger in _ledgers(store))
    journal = _journal_size(store, folder)
    store.close()
    con = apsw.Connection(str(file))
    con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    con.close()
    return [
        Figure(
            "disk",
            f"{report.runs} mini-swe-agent runs as imported, database file / steps",
            file.stat().st_size / report.steps,
            450,
            "bytes/step",
            beside={
                "steps": report.steps,
                "file bytes": file.stat().st_size,
                "raw bytes/step": raw / report.steps,
                "not read": len(report.errors),
            },
        ),
        journal,
    ]


def _ledgers(store: TraceStore) -> Iterator[Ledger]:
    for item in store.query(RunQuery(limit=10_000)).runs:
        yield store.ledger(item.summary.run_id, tenant_id="default")


def _raw_size(ledger: Ledger) -> int:
    """All values of a run, each written out."""
    return sum(
        len(data) for event in ledger.events for data in event.values.values() if isinstance(data, bytes)
    )


def _journal_size(store: TraceStore, folder: Path) -> Figure:
    """The journal of the first 207 steps of the longest run, written as if it were recorded now."""
    longest = max(_ledgers(store), key=lambda ledger: len(ledger.events))
    journal = Journal.create(folder / "journals", "longest", "default", SYSTEM.random_bytes(32))
    steps = raw = 0
    skills: dict[str, str] = {}
    for event in longest.events:
        values = {name: data for name, data in event.values.items() if isinstance(data, bytes)}
        skill = skills.setdefault(str(event.facts.get("lineage")), event.facts.get("skill_name", ""))
        journal.append(event.type, event.time_us, orjson.dumps(event.facts)[1:-1], values, skill)
        raw += sum(map(len, values.values()))
        steps += event.type == "step_finished"
        if steps == LONG:
            break
    assert journal.path is not None
    size = journal.path.stat().st_size
    journal.remove()
    return Figure(
        "journal",
        f"the first {steps} steps of the longest of these runs",
        size / 1e6,
        1.0,
        "MB",
        beside={"steps": steps, "raw MB": raw / 1e6},
    )
