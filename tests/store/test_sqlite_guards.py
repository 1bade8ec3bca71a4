"""Append-only is the database's own rule: tried with SQL, from outside of the store's code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from isotrace import ledger as ledgers
from isotrace.errors import RecordCorruptError, StoreCorruptError
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.contract_keeping import T, assert_kept, rich_run
from isotrace.testing.runs import make_run, make_steps

TARGET = (1, "params")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a run of which something was erased, one that is whole, closed."""
    with SqliteStore(tmp_path / "traces.db") as store:
        store.put(rich_run("erased"))
        store.erase("erased", [TARGET], tenant_id=T, reason="asked for")
        store.put(make_run("whole", steps=make_steps(4)))
    return tmp_path / "traces.db"


@pytest.fixture
def con(path: Path) -> Iterator[apsw.Connection]:
    """A connection as anybody might open one."""
    con = apsw.Connection(str(path))
    yield con
    con.close()


def refused(con: apsw.Connection, statement: str) -> str:
    """What the database says to a statement that it must not carry out."""
    with pytest.raises(apsw.ConstraintError) as caught:
        con.execute(statement)
    if con.in_transaction:
        con.execute("ROLLBACK")
    return str(caught.value)


LEDGER_TABLES = ("store", "names", "runs", "blocks", "tombstones", "closings", "erased_values")


def test_no_row_of_a_ledger_table_can_be_deleted(con: apsw.Connection) -> None:
    for table in LEDGER_TABLES:
        assert "append-only" in refused(con, f"DELETE FROM {table}")


def test_no_column_of_a_ledger_table_can_be_changed(con: apsw.Connection) -> None:
    for table in LEDGER_TABLES:
        columns: list[Any] = con.execute(f"PRAGMA table_info({table})").fetchall()
        for _, column, kind, *_ in columns:
            if table == "runs" and column not in IDENTITY:
                continue
            other = {"TEXT": "'x'", "BLOB": "randomblob(32)", "INTEGER": f"{column} + 77", "ANY": "'x'"}[kind]
            assert "append-only" in refused(con, f"UPDATE {table} SET {column} = {other}"), (table, column)
            assert "append-only" in refused(con, f"UPDATE OR REPLACE {table} SET {column} = {other}")


IDENTITY = {"pk", "tenant", "run_id", "root_hash", "seed", "recorded_us", "event_count", "local"}


def test_no_row_of_a_ledger_table_can_be_replaced(con: apsw.Connection) -> None:
    for table in LEDGER_TABLES:
        assert "append-only" in refused(con, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1")
    columns = "run, kind, first_seq, last_seq, data"
    assert "append-only" in refused(
        con, f"INSERT INTO blocks ({columns}) SELECT {columns} FROM blocks LIMIT 1"
    )


def test_a_tombstone_opens_its_own_run_in_its_own_transaction(con: apsw.Connection) -> None:
    con.execute("PRAGMA foreign_keys = ON")
    whole = con.execute("SELECT pk FROM runs WHERE run_id = 'whole'").get
    con.execute("BEGIN")
    con.execute("INSERT INTO tombstones (run, erased_us, reason) VALUES (?, 0, 'test')", (whole,))
    tombstone = con.last_insert_rowid()
    con.execute("UPDATE blocks SET data = x'00' WHERE run = ? AND kind = 2", (whole,))
    con.execute("UPDATE runs SET seed = NULL WHERE pk = ?", (whole,))
    con.execute("DELETE FROM blocks WHERE run = ? AND kind = 2", (whole,))
    con.execute("INSERT INTO closings VALUES (?)", (tombstone,))
    con.execute("COMMIT")
    assert con.execute("SELECT count(*) FROM blocks WHERE run = ? AND kind = 2", (whole,)).get == 0


def _open_tombstone(con: apsw.Connection, run_id: str) -> None:
    con.execute("PRAGMA foreign_keys = ON")
    con.execute("BEGIN")
    con.execute(
        "INSERT INTO tombstones (run, erased_us, reason) SELECT pk, 0, 'test' FROM runs WHERE run_id = ?",
        (run_id,),
    )


def test_a_tombstone_that_is_not_closed_can_not_be_committed(con: apsw.Connection) -> None:
    _open_tombstone(con, "whole")
    assert "FOREIGN KEY" in refused(con, "COMMIT")


def test_a_tombstone_needs_the_check_that_closes_it(con: apsw.Connection) -> None:
    con.execute("PRAGMA foreign_keys = OFF")
    statement = "INSERT INTO tombstones (run, erased_us, reason) SELECT pk, 0, 'test' FROM runs"
    assert "foreign_keys" in refused(con, statement)


def test_an_old_tombstone_opens_nothing(con: apsw.Connection) -> None:
    assert con.execute("SELECT count(*) FROM tombstones").get == 1
    erased = "run = (SELECT pk FROM runs WHERE run_id = 'erased')"
    assert "append-only" in refused(con, f"UPDATE blocks SET data = x'00' WHERE kind = 2 AND {erased}")
    assert "append-only" in refused(con, f"DELETE FROM blocks WHERE kind = 3 AND {erased}")


def test_a_closed_tombstone_opens_nothing_in_its_own_transaction(con: apsw.Connection) -> None:
    _open_tombstone(con, "whole")
    con.execute("INSERT INTO closings SELECT max(id) FROM tombstones")
    assert "append-only" in refused(con, "DELETE FROM blocks WHERE kind = 2")


def test_an_open_tombstone_opens_no_other_run(con: apsw.Connection) -> None:
    _open_tombstone(con, "whole")
    other = "run = (SELECT pk FROM runs WHERE run_id = 'erased')"
    assert "append-only" in refused(con, f"DELETE FROM blocks WHERE kind = 2 AND {other}")


def test_an_open_tombstone_opens_no_events_and_no_identity(con: apsw.Connection) -> None:
    for statement in (
        "UPDATE blocks SET data = x'00' WHERE kind = 1",
        "DELETE FROM blocks WHERE kind = 1",
        "UPDATE runs SET root_hash = randomblob(32)",
        "UPDATE runs SET seed = randomblob(32)",
        "UPDATE runs SET local = 1",
        "DELETE FROM runs",
        "UPDATE blocks SET kind = 1 WHERE kind = 2",
        "UPDATE blocks SET run = run + 1 WHERE kind = 2",
    ):
        _open_tombstone(con, "whole")
        assert "append-only" in refused(con, statement)


def test_an_erasure_leaves_its_tombstone(con: apsw.Connection) -> None:
    (row,) = con.execute(
        "SELECT r.run_id, t.reason, e.seq, e.name, length(e.commitment) FROM erased_values AS e"
        " JOIN tombstones AS t ON t.id = e.tombstone JOIN runs AS r ON r.pk = t.run"
    ).fetchall()
    assert row == ("erased", "asked for", *TARGET, 32)


def test_what_is_derived_may_be_dropped_and_is_rebuilt(path: Path, con: apsw.Connection) -> None:
    con.execute("DELETE FROM steps; DELETE FROM terms; UPDATE runs SET agent_id = 'x', metadata = x'7b'")
    con.close()
    with SqliteStore(path) as store:
        assert store.rebuild() == 2
        assert_kept(store, make_run("whole", steps=make_steps(4)))


def test_a_store_whose_guards_were_taken_off_is_not_opened(path: Path, con: apsw.Connection) -> None:
    con.execute("DROP TRIGGER blocks_no_update")
    con.close()
    with pytest.raises(StoreCorruptError) as caught:
        SqliteStore(path)
    assert caught.value.got == "blocks_no_update"


def test_a_store_with_a_foreign_trigger_is_not_opened(path: Path, con: apsw.Connection) -> None:
    con.execute("CREATE TRIGGER spy AFTER INSERT ON blocks BEGIN SELECT 1; END")
    con.close()
    with pytest.raises(StoreCorruptError) as caught:
        SqliteStore(path)
    assert caught.value.got == "spy"


def test_a_store_may_be_given_indexes_and_views_of_its_own(path: Path, con: apsw.Connection) -> None:
    con.execute("CREATE INDEX mine ON runs (agent_id); CREATE VIEW my_view AS SELECT run_id FROM runs")
    con.close()
    SqliteStore(path).close()


# --- changes made past the guards ---------------------------------------------------------


def tamper(path: Path, *statements: str) -> None:
    """Changes a store as somebody would who can write to the file: guards off, and on again."""
    con = apsw.Connection(str(path))
    guards: list[Any] = con.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        con.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        con.execute(statement)
    for _, sql in guards:
        con.execute(sql)
    con.close()


WHOLE = "run = (SELECT pk FROM runs WHERE run_id = 'whole')"
OTHER_DATA = f"(SELECT other.data FROM blocks AS other WHERE other.kind = blocks.kind AND NOT other.{WHOLE})"


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM blocks WHERE kind = 1 AND {WHOLE}",
        f"DELETE FROM blocks WHERE kind = 2 AND {WHOLE}",
        f"UPDATE blocks SET data = substr(data, 1, length(data) - 1) WHERE kind = 1 AND {WHOLE}",
        f"UPDATE blocks SET data = x'0102' WHERE kind = 2 AND {WHOLE}",
        "UPDATE runs SET event_count = event_count + 1 WHERE run_id = 'whole'",
        "UPDATE runs SET event_count = event_count - 1 WHERE run_id = 'whole'",
        f"UPDATE blocks SET data = {OTHER_DATA} WHERE kind = 2 AND {WHOLE}",
    ],
)
def test_a_damaged_ledger_is_named_when_it_is_read(path: Path, statement: str) -> None:
    tamper(path, statement)
    with SqliteStore(path) as store:
        with pytest.raises(RecordCorruptError) as caught:
            store.ledger("whole", tenant_id=T)
        assert caught.value.run_id == "whole"
        assert store.get("whole", tenant_id=T).summary.total_steps == 4


@pytest.mark.parametrize(
    "statement",
    [
        # A run in place of another, a seed that gives other salts, a root that is not the run's.
        f"UPDATE blocks SET data = {OTHER_DATA} WHERE kind = 1 AND {WHOLE}",
        "UPDATE runs SET seed = randomblob(32) WHERE run_id = 'whole'",
        "UPDATE runs SET root_hash = randomblob(32) WHERE run_id = 'whole'",
    ],
)
def test_a_changed_ledger_does_not_verify(path: Path, statement: str) -> None:
    tamper(path, statement)
    with SqliteStore(path) as store, pytest.raises(RecordCorruptError):
        ledgers.verify(store.ledger("whole", tenant_id=T))


def test_a_damaged_summary_is_named_when_it_is_read(path: Path) -> None:
    tamper(path, "UPDATE runs SET metadata = x'7b' WHERE run_id = 'whole'")
    with SqliteStore(path) as store:
        with pytest.raises(StoreCorruptError, match="whole"):
            store.get("whole", tenant_id=T)
        store.rebuild()
        assert store.get("whole", tenant_id=T).metadata == {}
