"""Many stored runs: what is read of them grows with their paths and not with their number."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

from isotrace.operations import Behaviours, Selection, stored_behaviours
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.runs import llm, make_run, tool

RUNS = 20_000
PATHS = 50


class CountingStore(SqliteStore):
    """Counts what is asked of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: Counter[str] = Counter()

    def query(self, *args: Any, **options: Any) -> Any:
        self.asked["query"] += 1
        return super().query(*args, **options)

    def steps(self, *args: Any, **options: Any) -> Any:
        self.asked["steps"] += 1
        return super().steps(*args, **options)

    def ledger(self, *args: Any, **options: Any) -> Any:
        self.asked["ledger"] += 1
        return super().ledger(*args, **options)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty runs on fifty paths, and copies of their rows that are older than they."""
    path = tmp_path_factory.mktemp("many") / "runs.db"
    with SqliteStore(path) as store:
        for number in range(PATHS):
            steps = [llm({"m": "start"}, {"t": 1}), tool("pick", {"n": number}, {}, cost_cents=0.5)]
            metadata = {"task": number % 5, "reward": number % 2}
            store.put(make_run(f"r{number}", steps=steps, metadata=metadata))
    con = apsw.Connection(str(path))
    columns = [row[1] for row in con.execute("PRAGMA table_info(runs)")]
    fresh = {"pk": "pk + :more", "run_id": "'copy-' || (pk + :more)", "root_hash": "randomblob(32)"}
    chosen = ", ".join(fresh.get(name, name) for name in columns)
    statement = f"INSERT INTO runs ({', '.join(columns)}) SELECT {chosen} FROM runs WHERE pk <= :paths"
    rest = (
        "skill, kind, status, start_seq, end_seq, lineage, determinism_hash, path, tool_path, outcome_digest"
    )
    steps_too = f"""INSERT INTO steps SELECT id + (:more << 24), {rest}, cost_cents, duration_ms
FROM steps WHERE id < (:paths + 1) << 24"""
    blocks_too = """INSERT INTO blocks (run, kind, first_seq, last_seq, data)
SELECT run + :more, kind, first_seq, last_seq, data FROM blocks WHERE run <= :paths"""
    with con:
        for copy in range(1, RUNS // PATHS):
            values = {"more": copy * PATHS, "paths": PATHS}
            con.execute(statement, values)
            if copy == RUNS // PATHS - 1:
                con.execute(steps_too, values)
                con.execute(blocks_too, values)
    con.close()
    return path


@pytest.mark.parametrize(("by", "kinds", "groups"), [(None, [], 1), (None, ["tool"], 1), ("task", [], 5)])
def test_each_path_is_read_once_however_many_runs_took_it(
    file: Path, by: str | None, kinds: list[str], groups: int
) -> None:
    with CountingStore(file) as store:
        found: Behaviours = stored_behaviours(store, Selection(limit=None), by=by, kinds=kinds)
        assert [(group.runs, group.paths) for group in found.groups] == [
            (RUNS // groups, PATHS // groups)
        ] * groups
        assert store.asked["query"] == 0
        assert store.asked["steps"] == PATHS
        # For the params in which branches differ, of at most eight branches.
        assert store.asked["ledger"] == (8 if by is None else 0)


def test_memory_grows_with_paths_and_not_with_runs(file: Path) -> None:
    with SqliteStore(file) as store:
        stored_behaviours(store, Selection(limit=PATHS), by="task")
        tracemalloc.start()
        stored_behaviours(store, Selection(limit=None), by="task")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # A list of the 20,000 runs takes 23 MB.
    assert peak < 3_000_000
