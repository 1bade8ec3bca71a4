"""Finding runs among 100,000, and fetching one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import apsw

from benchmarks.measuring import Figure, typical_cpu_s
from isotrace.contracts import RunQuery
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.runs import make_run, make_steps

RUNS = 100_000
DISTINCT = 1000
ROUNDS = 21

NOTHING = {
    "agent": RunQuery(agent_id="nobody"),
    "skill": RunQuery(skill="nothing"),
    "metadata": RunQuery(metadata={"task": 100_000}),
    "cost": RunQuery(min_cost_cents=1e9),
    "time": RunQuery(since=datetime(2100, 1, 1, tzinfo=UTC)),
    "all of an agent's, and cost": RunQuery(agent_id="agent-1", skill="search", min_cost_cents=1e9),
    "agents that never fail": RunQuery(agent_id="agent-1", status="failed"),
}
"""Queries that no run fits, by what stands in the way."""


def _fill(file: Path) -> None:
    """A store with 100,000 runs: a thousand different ones, put as ever, and copies of their rows.

    A hundred thousand commits would only show how fast the disk is. The copies have ids and roots
    of their own, so that every index is as large as it would be; they have no ledgers.
    """
    with SqliteStore(file) as store:
        for number in range(DISTINCT):
            store.put(
                make_run(
                    f"run-{number}",
                    agent_id=f"agent-{number % 7}",
                    steps=make_steps(3, 20),
                    metadata={"task": number % 50, "trial": number % 4, "model": f"model-{number % 3}"},
                    started_us=1_700_000_000_000_000 + number * 60_000_000,
                )
            )
    con = apsw.Connection(str(file))
    columns = [row[1] for row in con.execute("PRAGMA table_info(runs)")]
    fresh = {
        "pk": "pk + :copy * :distinct",
        "run_id": "run_id || '-' || :copy",
        "root_hash": "randomblob(32)",
        "started_us": "started_us + :copy * 60000000 * :distinct",
    }
    runs = f"""INSERT INTO runs ({", ".join(columns)})
SELECT {", ".join(fresh.get(name, name) for name in columns)} FROM runs WHERE pk <= :distinct"""
    terms = """INSERT INTO terms SELECT tenant, field, value, run + :copy * :distinct
FROM terms WHERE run <= :distinct"""
    with con:
        for copy in range(1, RUNS // DISTINCT):
            con.execute(runs, {"copy": copy, "distinct": DISTINCT})
            con.execute(terms, {"copy": copy, "distinct": DISTINCT})
    con.close()


def measure(folder: Path) -> list[Figure]:
    """CPU time of one call."""
    file = folder / "listing.db"
    _fill(file)
    with SqliteStore(file) as store:
        newest = store.query(RunQuery(limit=100))
        assert (len(newest.runs), store.count(RunQuery())) == (100, RUNS)
        assert all(not store.query(query).runs for query in NOTHING.values())
        store.put(make_run("fifty", steps=make_steps(50, 400)))

        def ms(call: object, calls: int = 20) -> float:
            return typical_cpu_s(call, rounds=ROUNDS, calls=calls) * 1e3  # type: ignore[arg-type]  # a lambda

        listed = ms(lambda: store.query(RunQuery(limit=100)))
        empty = {name: ms(lambda query=query: store.query(query)) for name, query in NOTHING.items()}
        fetched = ms(lambda: store.ledger("fifty", tenant_id="default").record())
    return [
        Figure("listing", "the newest 100 of 100,000 runs", listed, 1.0, "ms"),
        Figure(
            "listing, nothing found",
            f"the slowest of {len(NOTHING)} queries that no run fits",
            max(empty.values()),
            5.0,
            "ms",
            beside={f"{name} ms": taken for name, taken in empty.items()},
        ),
        Figure("fetching", "the record of a run of 50 steps of about 1 KB", fetched, 1.5, "ms"),
    ]
