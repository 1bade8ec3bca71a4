"""Several processes at one store, and processes that die: what `put` has returned for is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import apsw
import pytest

from isotrace import ledger as ledgers
from isotrace.contracts import RunQuery
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.contract_keeping import T, assert_kept
from isotrace.testing.runs import make_run, make_steps

PUT_FOREVER = """
    import itertools, sys
    from isotrace.stores.sqlite import SqliteStore
    from isotrace.testing.runs import make_run, make_steps

    store = SqliteStore(sys.argv[1])
    for number in itertools.count():
        run_id = f"{sys.argv[2]}-{number}"
        store.put(make_run(run_id, steps=make_steps(20, 200)))
        print(run_id, flush=True)
"""

PUT_SOME = """
    import sys
    from isotrace.stores.sqlite import SqliteStore
    from isotrace.testing.runs import make_run, make_steps

    store = SqliteStore(sys.argv[1])
    added = [store.put(make_run("shared", steps=make_steps(3)))]
    for number in range(25):
        added.append(store.put(make_run(f"{sys.argv[2]}-{number}", steps=make_steps(4))))
    store.close()
    print(sum(added))
"""


def _python(script: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _healthy(path: Path) -> bool:
    con = apsw.Connection(str(path))
    try:
        return con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        con.close()


def test_a_run_survives_the_death_of_the_process_that_put_it(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    said: list[str] = []
    for life in range(3):
        with _python(PUT_FOREVER, path, f"life{life}") as child:
            assert child.stdout is not None
            said += [child.stdout.readline().strip() for _ in range(5 + life)]
            child.send_signal(signal.SIGKILL)
            said += child.stdout.read().split()
    with SqliteStore(path) as store:
        for run_id in said:
            ledgers.verify(store.ledger(run_id, tenant_id=T))
            assert_kept(store, make_run(run_id, steps=make_steps(20, 200)))
        # Each life may have kept one run more than it could say.
        assert 0 <= store.count(RunQuery()) - len(said) <= 3
    assert _healthy(path)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    children = [_python(PUT_SOME, path, name) for name in "abcd"]
    added = [int(child.communicate()[0]) for child in children]
    assert sum(added) == 4 * 25 + 1, "the run that all of them put was added once"
    with SqliteStore(path) as store:
        assert store.count(RunQuery()) == 4 * 25 + 1
        for name in "abcd":
            assert_kept(store, make_run(f"{name}-24", steps=make_steps(4)))
    assert _healthy(path)


def test_a_forked_child_and_its_parent_can_both_go_on(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        store.put(make_run("before", steps=make_steps(2)))
        store.count(RunQuery())
        child = os.fork()
        if child == 0:
            try:
                for number in range(10):
                    store.put(make_run(f"child-{number}", steps=make_steps(2)))
                os._exit(0 if store.count(RunQuery()) >= 11 else 1)
            finally:
                os._exit(2)
        for number in range(10):
            store.put(make_run(f"parent-{number}", steps=make_steps(2)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.count(RunQuery()) == 21
    assert _healthy(store.path)


def test_a_fork_takes_no_open_connection_along(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        store.put(make_run("before"))
        child = os.fork()
        if child == 0:
            try:
                os._exit(str(store.path) in _open_files())
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.count(RunQuery()) == 1
        assert str(store.path) in _open_files()


@pytest.mark.filterwarnings(
    "ignore:.*use of fork:DeprecationWarning"
)  # from Python 3.12 on; it is what is tested
def test_forking_while_other_threads_write_harms_neither(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        done = threading.Event()
        put: list[str] = []

        def write(name: str) -> None:
            while not done.is_set():
                run = make_run(f"{name}-{len(put)}", steps=make_steps(4))
                assert store.put(run)
                put.append(run.run_id)

        threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        children = []
        for number in range(8):
            child = os.fork()
            if child == 0:
                try:
                    store.put(make_run(f"child-{number}", steps=make_steps(4)))
                    os._exit(0)
                finally:
                    os._exit(2)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        done.set()
        for thread in threads:
            thread.join()
        assert codes == [0] * 8
        assert store.count(RunQuery()) == len(put) + 8
    assert _healthy(store.path)


def _open_files() -> set[str]:
    # realpath, because the descriptor of the listing itself is closed by then.
    return {os.path.realpath(found) for found in Path("/proc/self/fd").iterdir()}


def test_a_reader_never_sees_half_a_run(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        store.put(make_run("first", steps=make_steps(30)))
        done = threading.Event()
        seen: list[tuple[int, int]] = []

        def read() -> None:
            while not done.is_set():
                run_id = store.resolve("@last", tenant_id=T)
                steps = store.steps(run_id, tenant_id=T)
                seen.append((len(steps), len(store.ledger(run_id, tenant_id=T).events)))

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(30):
            store.put(make_run(f"run-{number}", steps=make_steps(30)))
        done.set()
        reader.join()
        assert set(seen) == {(30, 62)}
