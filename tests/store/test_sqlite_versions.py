"""Every format that a store was ever written in stays readable.

`data/version-N.db.gz` was written by `write` below when version N was the newest. A new version adds
its file and leaves the others alone:

    python tests/store/test_sqlite_versions.py tests/store/data/version-N.db.gz
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from isotrace import ledger as ledgers
from isotrace.clock import ManualClock
from isotrace.contracts import RunQuery, Tombstone, TraceStore
from isotrace.events import datetime_of
from isotrace.ledger import SealedRun
from isotrace.stores.sqlite import SqliteStore
from isotrace.stores.sqlite_schema import SCHEMA_VERSION
from isotrace.testing.contract_keeping import T, assert_kept, history, rich_run

DATA = Path(__file__).parent / "data"
ERASED = {(1, "params"), (2, "outcome_data")}
WHEN_US = 1_800_000_000_000_000


def write(store: TraceStore) -> None:
    """What the files hold."""
    store.put(rich_run())
    store.put(rich_run("theirs", tenant_id="acme"))
    store.put(history(40))
    store.put(rich_run("erased"))
    store.erase("erased", sorted(ERASED), tenant_id=T, reason="a card number")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_file_of_each_version_is_read_whole(version: int, tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    path.write_bytes(gzip.decompress((DATA / f"version-{version}.db.gz").read_bytes()))
    ledger = ledgers.erase(rich_run("erased").ledger, ERASED)
    with SqliteStore(path) as store:
        for run in (rich_run(), rich_run("theirs", tenant_id="acme"), history(40)):
            assert_kept(store, run)
        assert_kept(store, SealedRun(ledger, ledgers.project(ledger)))
        assert store.tombstones("erased", tenant_id=T) == [
            Tombstone(tuple(sorted(ERASED)), datetime_of(WHEN_US), "a card number")
        ]
        listed = [item.summary.run_id for item in store.query(RunQuery(metadata={"task": "13"})).runs]
        assert listed == ["erased", "rich"]
        assert store.put(rich_run("new"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    plain = target.with_suffix("")
    with SqliteStore(plain, clock=ManualClock(WHEN_US)) as made:
        write(made)
    target.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
