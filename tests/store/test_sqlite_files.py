"""Opening a file: a new one, an old one, one of a newer version, and what is no store at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from isotrace.contracts import RunQuery
from isotrace.errors import (
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    UsageError,
)
from isotrace.stores import sqlite_schema
from isotrace.stores.sqlite import SqliteStore
from isotrace.stores.sqlite_schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from isotrace.testing.contract_keeping import T, assert_kept
from isotrace.testing.runs import make_run, make_steps


def test_a_store_and_its_folder_are_created_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".isotrace" / "traces.db"
    with SqliteStore(path) as store:
        store.put(make_run("run"))
        modes = {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.is_file()


def test_a_store_knows_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteStore("traces.db") as store:
        assert store.url == f"sqlite:///{tmp_path}/traces.db"
        monkeypatch.chdir("/")
        store.put(make_run("run"))
    assert os.listdir(tmp_path) == ["traces.db"]  # noqa: PTH208  # names alone


def test_a_file_says_what_it_is_and_how_careful_it_is(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store, store._pool.borrow() as con:
        pragmas = ("application_id", "user_version", "journal_mode", "synchronous", "foreign_keys")
        found = [con.pragma(name) for name in (*pragmas, "secure_delete")]
    assert found == [APPLICATION_ID, SCHEMA_VERSION, "wal", 2, 1, 1]


def test_a_store_is_not_created_unless_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="no store here"):
        SqliteStore(tmp_path / "traces.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "traces.db").touch()
    with SqliteStore(tmp_path / "traces.db", create=False) as store:
        assert store.put(make_run("run"))


def test_a_file_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    SqliteStore(path).close()
    con = apsw.Connection(str(path))
    con.pragma("user_version", SCHEMA_VERSION + 1)
    con.close()
    before = path.read_bytes()
    with pytest.raises(StoreVersionError) as caught:
        SqliteStore(path)
    assert caught.value.got == f"version {SCHEMA_VERSION + 1}"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"x" * 20, b"PK\x03\x04" * 2000, b"SQLite format 3\x00" + b"\xff" * 8000]
)
def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "traces.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError) as caught:
        SqliteStore(path)
    assert caught.value.where == str(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("pragma", ["", "PRAGMA application_id = 7", "PRAGMA user_version = 1"])
def test_a_database_of_another_program_is_not_touched(tmp_path: Path, pragma: str) -> None:
    path = tmp_path / "traces.db"
    con = apsw.Connection(str(path))
    con.execute(f"CREATE TABLE notes (text); {pragma}")
    con.close()
    with pytest.raises(StoreCorruptError, match="not a store of isotrace"):
        SqliteStore(path)
    con = apsw.Connection(str(path))
    assert con.execute("SELECT name FROM sqlite_schema").fetchall() == [("notes",)]
    con.close()


def test_a_file_whose_pages_were_overwritten_is_named(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with SqliteStore(path) as store:
        for number in range(30):
            store.put(make_run(f"run-{number}", steps=make_steps(20, 100)))
    data = bytearray(path.read_bytes())
    for page in range(20, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(data)
    with pytest.raises(StoreCorruptError) as caught:
        _read_all(path)
    assert caught.value.where == str(path)


def _read_all(path: Path) -> None:
    with SqliteStore(path) as store:
        for number in range(30):
            store.ledger(f"run-{number}", tenant_id=T)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("path", "got"),
    [
        ("folder", "a folder"),
        ("pipe", "a device, pipe or socket"),
        ("file/traces.db", "Not a directory"),
        ("x" * 5000, "File name too long"),
        ("x/" * 3000 + "traces.db", "File name too long"),
        ("nul\0byte", "embedded null"),
        ("surro\ud800gate", "surrogates not allowed"),
    ],
)
def test_a_path_that_no_store_can_have_is_named(tmp_path: Path, path: str, got: str, create: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreUnavailableError, match="no store can be at this path") as caught:
        SqliteStore(tmp_path / path, create=create)
    assert got in caught.value.got
    assert caught.value.where is not None
    assert caught.value.where.rstrip("…") == str(tmp_path / path)[:200]


def test_a_store_in_memory_has_another_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="memory:"):
        SqliteStore(":memory:")


def test_a_locked_store_is_named_after_the_time_out(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with SqliteStore(path, timeout_s=0.05) as store:
        store.put(make_run("first"))
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.put(make_run("second"))
        assert store.count(RunQuery()) == 1, "readers don't wait for writers"
        other.execute("COMMIT")
        other.close()
        assert store.put(make_run("second"))


def test_a_put_waits_for_another_process_to_finish_writing(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with SqliteStore(path) as store:
        child = _python(
            """
            import apsw, sys, time
            con = apsw.Connection(sys.argv[1])
            con.execute("BEGIN IMMEDIATE")
            print("locked", flush=True)
            time.sleep(0.3)
            con.execute("COMMIT")
            """,
            path,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        assert store.put(make_run("run"))
        child.communicate()


def test_a_full_disk_is_named_and_leaves_no_half_run(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    big = make_run("big", steps=make_steps(300, 2000), run_seed=bytes(32))
    with SqliteStore(path, compression=0) as store:
        store.put(first := make_run("first"))
        with store._pool.borrow() as con:  # the one connection, which is lent again
            pages = int(con.pragma("page_count"))
            con.pragma("max_page_count", pages + 10)
        with pytest.raises(StoreUnavailableError, match="full"):
            store.put(big)
        assert store.count(RunQuery()) == 1
        with store._pool.borrow() as con:
            con.pragma("max_page_count", 10**6)
        assert store.put(big)
        assert_kept(store, first)
        assert_kept(store, big)


def test_a_write_error_of_the_system_is_named_and_leaves_no_half_run(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with SqliteStore(path) as store:
        store.put(first := make_run("first"))
    child = _python(
        """
        import os, resource, signal, sys
        from isotrace.errors import StoreUnavailableError
        from isotrace.stores.sqlite import SqliteStore
        from isotrace.testing.runs import make_run, tool

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = SqliteStore(sys.argv[1], compression=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            store.put(make_run("big", steps=[tool("t", {"n": os.urandom(1000).hex()}) for _ in range(400)]))
        except StoreUnavailableError as error:
            print("named:", error.where)
        """,
        path,
    )
    assert child.communicate()[0] == f"named: {path}\n"
    with SqliteStore(path) as store:
        assert store.count(RunQuery()) == 1
        assert_kept(store, first)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, so that permissions bind")
def test_a_store_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        store.put(make_run("run"))
    (tmp_path / "traces.db").chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    child = _python(
        """
        import os, sys
        from isotrace.errors import StoreUnavailableError
        from isotrace.stores.sqlite import SqliteStore
        from isotrace.testing.runs import make_run

        run = make_run("another")
        os.setuid(65534)
        for name in ("traces.db", "new.db"):
            try:
                SqliteStore(sys.argv[1] + "/" + name).put(run)
            except StoreUnavailableError as error:
                print("named:", error.where)
        """,
        tmp_path,
    )
    assert child.communicate()[0] == f"named: {tmp_path}/traces.db\nnamed: {tmp_path}/new.db\n"


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "traces.db")
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.put(make_run("run"))


def test_closing_the_last_store_leaves_one_file(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        store.put(make_run("run"))
        assert {found.name for found in tmp_path.iterdir()} == {"traces.db", "traces.db-wal", "traces.db-shm"}
    assert [found.name for found in tmp_path.iterdir()] == ["traces.db"]


def _python(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_older_file_is_migrated_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "traces.db"
    run = make_run("run", steps=make_steps(3))
    with SqliteStore(path) as store:
        store.put(run)

    def later(*statements: str) -> None:
        monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, statements))
        monkeypatch.setattr(sqlite_schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)

    later("ALTER TABLE runs ADD COLUMN mood TEXT", "CREATE TABLE runs (broken)")
    with pytest.raises(StoreError):
        SqliteStore(path)
    monkeypatch.undo()
    with SqliteStore(path) as store:
        assert_kept(store, run)

    later("CREATE INDEX runs_by_mood ON runs (status)")
    for _ in range(2):
        with SqliteStore(path) as store:
            assert_kept(store, run)
            with store._pool.borrow() as con:
                assert con.pragma("user_version") == SCHEMA_VERSION + 1
    monkeypatch.undo()
    with pytest.raises(StoreVersionError):
        SqliteStore(path)


def test_a_call_that_was_interrupted_leaves_no_transaction_to_the_next(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        with store._pool.borrow() as con:
            con.execute("BEGIN IMMEDIATE")
        assert store.put(make_run("run"))
        assert store.count(RunQuery()) == 1
