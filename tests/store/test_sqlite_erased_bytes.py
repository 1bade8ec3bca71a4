"""Erased is erased: neither the file nor its log holds the bytes any longer, in whatever form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from isotrace.contracts import RunQuery
from isotrace.errors import StoreUnavailableError
from isotrace.ledger import SealedRun
from isotrace.stores.blocks import VALUES, read_values
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.contract_keeping import T
from isotrace.testing.runs import Breach, Call, llm, make_run, tool

SECRET = "4111-1111-1111-1111"


def _run(run_id: str = "run") -> SealedRun:
    """A run that says its secret in params, outcome, error, chunk, metadata, input, result and a reason."""
    others = [tool("search", {"q": f"question {number} " * 40}, {"hits": number}) for number in range(40)]
    telling: list[Call] = [
        llm({"messages": [{"content": f"my card is {SECRET}"}]}, {"text": f"you said {SECRET}"}),
        tool("pay", {"card": SECRET}, None, status="failure", category="PERMANENT", error=f"bad {SECRET}"),
        llm({"q": 1}, chunks=[SECRET, "…"]),
    ]
    return make_run(
        run_id,
        steps=[*others[:20], *telling, *others[20:]],
        metadata={"card": SECRET, "note": f"about {SECRET}" * 20},
        input=SECRET,
        result={"said": SECRET},
        violations=[Breach("pii", 21, f"card {SECRET}")],
    )


def _telling(run: SealedRun) -> set[tuple[int, str]]:
    return {
        (event.seq, name)
        for event in run.ledger.events
        for name, value in event.values.items()
        if isinstance(value, bytes) and SECRET.encode() in value
    }


def _on_disk(path: Path) -> bytes:
    return b"".join(found.read_bytes() for found in sorted(path.parent.glob(f"{path.name}*")))


@pytest.fixture(params=[0, None], ids=["uncompressed", "compressed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "traces.db", compression=request.param) as store:
        yield store


def _value_blocks(path: Path) -> list[bytes]:
    con = apsw.Connection(str(path))
    found = [data for (data,) in con.execute("SELECT data FROM blocks WHERE kind = ?", (VALUES,))]
    con.close()
    return found


def _pieces(data: bytes, size: int = 24) -> set[bytes]:
    return {data[start : start + size] for start in range(0, len(data) - size, size)}


def test_no_byte_of_an_erased_value_is_left_in_file_or_log(store: SqliteStore) -> None:
    run = _run()
    store.put(run)
    uncompressed = SECRET.encode() in _on_disk(store.path)
    before = _value_blocks(store.path)
    assert any(SECRET.encode() in b"".join(read_values(data, "run").values()) for data in before)

    store.erase("run", _telling(run), tenant_id=T, reason="card number")

    disk = _on_disk(store.path)
    assert SECRET.encode() not in disk
    assert (store.path.parent / "traces.db-wal").stat().st_size == 0
    after = _value_blocks(store.path)
    assert all(SECRET.encode() not in b"".join(read_values(data, "run").values()) for data in after)
    if not uncompressed:
        # The packed form as it was is gone as well: it could be unpacked again.
        gone = {piece for old in before for piece in _pieces(old)} - {
            piece for new in after for piece in _pieces(new)
        }
        assert len(gone) > 10
        assert [piece for piece in gone if piece in disk] == []


def test_no_digest_or_salt_that_could_confirm_a_guess_is_left(store: SqliteStore) -> None:
    run = _run()
    store.put(run)
    ledger, steps = run.ledger, run.projection.steps
    confirming = [ledger.seed, *(ledger.salt_of(seq, name) for seq, name in _telling(run))]
    for row in steps[20:22]:
        confirming += [row.determinism_hash, row.path]
    confirming += [steps[20].outcome_digest, steps[42].path, bytes.fromhex(run.projection.signature or "")]
    assert [one for one in confirming if one is not None and one in _on_disk(store.path)] != []

    store.erase("run", _telling(run), tenant_id=T, reason="card number")

    disk = _on_disk(store.path)
    assert [one for one in confirming if one is None or one in disk] == []
    assert (steps[19].path or b"?") in disk, "what came before the erased step stays"


def test_erasing_in_a_large_store_leaves_other_runs_as_they_are(store: SqliteStore) -> None:
    for number in range(20):
        store.put(_run(f"run-{number}"))
    before = store.ledger("run-5", tenant_id=T)
    store.erase("run-7", _telling(_run("run-7")), tenant_id=T, reason="card number")
    assert store.ledger("run-5", tenant_id=T) == before
    assert store.count(RunQuery(metadata={"card": SECRET})) == 19


def test_a_log_that_a_reader_holds_back_is_said_so(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db", timeout_s=0.1) as store:
        run = _run()
        store.put(run)
        reader = apsw.Connection(str(store.path))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchall()
        with pytest.raises(StoreUnavailableError, match="erased, but"):
            store.erase("run", _telling(run), tenant_id=T, reason="card number")
        assert store.values("run", sorted(_telling(run)), tenant_id=T) == {}, "erased it is"
        reader.execute("COMMIT")
        reader.close()
    assert SECRET.encode() not in _on_disk(store.path), "the last one to close the store empties the log"


@pytest.mark.parametrize("seed", [29, 131, 137])
def test_no_byte_is_left_either_where_rows_moved_before_they_were_erased(tmp_path: Path, seed: int) -> None:
    # Inserting into full pages moves rows to others; a copy must not stay where they were. Which rows move
    # depends on the length of everything and on the order of sets, so it is a process of its own.
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("erased_rows.py"), tmp_path / "traces.db", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"erased": 80, "left": [], "alive": True}
