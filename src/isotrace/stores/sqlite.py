"""The store of one machine: a SQLite file that several processes may use at once.

A run is written in one transaction, which is on disk when `put` returns. How it is laid out and
guarded stands in `sqlite_schema`; how its events and values are packed, in `blocks`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import apsw

from isotrace import ledger as ledgers
from isotrace.clock import SYSTEM, Clock
from isotrace.contracts import Page, PathCounts, RunItem, RunQuery, Tombstone
from isotrace.errors import (
    AmbiguousRunError,
    ConflictError,
    LimitError,
    RunNotFoundError,
    StoreUnavailableError,
    UsageError,
)
from isotrace.hashing import path_start
from isotrace.ledger import Ledger, SealedRun, StepRow
from isotrace.stores.assembly import blocks_of
from isotrace.stores.blocks import VALUES, Packer, ValueKey, read_values
from isotrace.stores.queries import Cursors, check_grouping, check_query, is_text
from isotrace.stores.sqlite_erase import erase_values, project_again
from isotrace.stores.sqlite_paths import count_paths
from isotrace.stores.sqlite_pool import Pool, rows, scalar, transaction
from isotrace.stores.sqlite_query import choose, count, find
from isotrace.stores.sqlite_rows import (
    ITEM_COLUMNS,
    MAX_STEPS,
    Names,
    common_steps,
    insert_blocks,
    insert_projection,
    insert_run,
    item_of,
    names_in,
    read_ledger,
    read_steps,
    read_tombstones,
    step_key,
)
from isotrace.stores.sqlite_schema import prepare
from isotrace.stores.sqlite_terms import Field, Term, terms_of

LAST = "@last"
TERMS_OF = "SELECT tenant, field, value FROM terms WHERE run = ?"
_LISTED = 5
_PROBLEMS = 20
_REBUILT_AT_ONCE = 200
_KEYS_KEPT = 4096
_PATH_SHOWN = 200


class SqliteStore:
    """A `TraceStore` in one SQLite file (and its log beside it).

    Safe to share between threads, processes and forks. `timeout_s` is how long a call waits for
    another process to finish writing. `compression` is a zstd level, 1 to 22, or 0 for none, used
    for what this object writes; None means a quick one, and a thorough one where message histories
    are so repetitive that it costs next to nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        timeout_s: float = 10.0,
        compression: int | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """Opens the file, and creates it and its folder if `create` allows.

        Raises `StoreUnavailableError`, `StoreCorruptError` or `StoreVersionError`.
        """
        if os.fspath(path) in ("", ":memory:"):
            raise UsageError("a SQLite store needs a file", got=os.fspath(path), hint="memory: keeps no file")
        self.path = Path(path).absolute()
        self.url = f"sqlite:///{self.path}"
        self._clock = clock
        self._packer = Packer(compression)
        self._names = Names()
        self._keys: dict[tuple[str, str], int] = {}
        _make_file(self.path, create)
        self._pool = Pool(self.path, timeout_s)
        try:
            with self._pool.borrow() as con:
                prepare(con, str(self.path), clock.random_bytes(16))
                self._cursors = Cursors(scalar(con, "SELECT value FROM store WHERE key = 'id'"))
        except BaseException:
            self._pool.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing --------------------------------------------------------------------

    def put(self, run: SealedRun) -> bool:
        with self._pool.borrow() as con:
            if len(run.projection.steps) > MAX_STEPS:
                raise LimitError("a run has too many steps", run_id=run.run_id, expected=MAX_STEPS)
            # Looked at first, so that a run that is there already is not packed in vain.
            if self._is_there(con, run):
                return False
            blocks = blocks_of(run.ledger, self._packer, run.run_id)
            terms = terms_of(run)
            with transaction(con):
                if self._is_there(con, run):
                    return False
                ids = self._names.intern(con, names_in(run))
                tenant = ids[run.tenant_id]
                pk = insert_run(con, run, tenant, self._clock.now_us())
                insert_blocks(con, pk, blocks)
                insert_projection(con, pk, tenant, run.projection.steps, terms, ids)
            self._names.remember(ids)
        return True

    def _is_there(self, con: apsw.Connection, run: SealedRun) -> bool:
        """Raises `ConflictError` if another run is."""
        tenant = self._names.find(con, run.tenant_id)
        root = scalar(con, _ROOT, tenant, run.run_id)
        if root is not None and root.hex() != run.ledger.root_hash:
            raise ConflictError(
                "another run stands under this id; it stays as it is",
                run_id=run.run_id,
                expected=f"root {root.hex()}",
                got=f"root {run.ledger.root_hash}",
            )
        return root is not None

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        wanted = set(targets)
        with self._pool.borrow() as con:
            pk = self._key(con, run_id, tenant_id)
            if not wanted:
                return
            with transaction(con):
                ids = erase_values(
                    con,
                    self._names,
                    pk,
                    run_id,
                    wanted,
                    reason=reason,
                    now_us=self._clock.now_us(),
                    packer=self._packer,
                )
            self._names.remember(ids)
            self._scrub(con, run_id)

    def tombstones(self, run_id: str, *, tenant_id: str) -> list[Tombstone]:
        with self._pool.borrow() as con, transaction(con, "DEFERRED"):
            return read_tombstones(con, self._key(con, run_id, tenant_id))

    def _scrub(self, con: apsw.Connection, run_id: str) -> None:
        """Rows that once moved to another page left copies where they were, which `secure_delete` does
        not overwrite: the file is written anew. Its log still holds the pages as they were before."""

        def empty_log() -> None:
            if scalar(con, "PRAGMA wal_checkpoint(TRUNCATE)"):
                raise apsw.BusyError("a reader still uses the log")

        try:
            self._pool.retry(lambda: con.execute("VACUUM"))
            self._pool.retry(empty_log)
        except apsw.BusyError:
            raise StoreUnavailableError(
                "the values are erased, but the store's log may hold them until its readers have finished",
                where=f"{self.path}-wal",
                run_id=run_id,
                hint="end the other processes that use the store; the last one to close it empties the log",
            ) from None
        except (apsw.FullError, apsw.NoMemError, apsw.IOError) as error:
            raise StoreUnavailableError(
                "the values are erased, but there was no room to write the file anew: it may hold copies",
                where=str(self.path),
                run_id=run_id,
                got=str(error),
                hint="free some space, then erase again",
            ) from None

    def rebuild(self) -> int:
        rebuilt = last = 0
        with self._pool.borrow() as con:
            while batch := self._rebuild_after(con, last):
                rebuilt += len(batch)
                last = batch[-1][0]
        return rebuilt

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file: pages, indexes, and rows that refer to nothing. Empty if
        nothing is wrong. Whether runs are what was recorded is `verify`'s question."""
        with self._pool.borrow() as con, transaction(con, "DEFERRED"):
            found = [str(row[0]) for row in rows(con, f"PRAGMA integrity_check({_PROBLEMS})")]
            dangling = rows(con, 'SELECT DISTINCT "table", parent FROM pragma_foreign_key_check')
        problems = [] if found == ["ok"] else found
        return problems + [
            f"a row of {table} refers to a row of {parent} that is not there" for table, parent in dangling
        ]

    def unlisted(self, run: SealedRun) -> list[str]:
        """By which filters of a query this run, which the store holds, is not found as it should be:
        missed by those that fit it, or found by others. Empty if nothing is wrong."""
        terms = terms_of(run)
        with self._pool.borrow() as con, transaction(con, "DEFERRED"):
            pk = self._key(con, run.run_id, run.tenant_id)
            tenant = self._names.find(con, run.tenant_id)
            held = {(row[0], Term(*row[1:])) for row in rows(con, TERMS_OF, pk)}
        wrong = held ^ {(tenant, Term(int(term.field), term.value)) for term in terms}
        return sorted({Field(term.field).name.lower() for _, term in wrong})

    def _rebuild_after(self, con: apsw.Connection, last: int) -> list[tuple[int, str]]:
        """Rebuilds the next runs, not all at once: a large store must not be locked for minutes."""
        ids: dict[str, int] = {}
        with transaction(con):
            batch = rows(con, _RUNS_AFTER, last, _REBUILT_AT_ONCE)
            for pk, run_id in batch:
                ledger = read_ledger(con, pk, run_id)
                ids |= project_again(con, self._names, pk, SealedRun(ledger, ledgers.project(ledger)))
        self._names.remember(ids)
        return batch

    # --- one run --------------------------------------------------------------------

    def _key(self, con: apsw.Connection, run_id: str, tenant_id: str) -> int:
        """The key of a run. Raises `RunNotFoundError`."""
        # A run is never deleted and its key never changes, so what was found once stays true.
        key = self._keys.get((tenant_id, run_id))
        if key is None:
            # SQLite can't even be asked for what is no text.
            if not (is_text(run_id) and is_text(tenant_id)):
                raise _not_found(run_id, tenant_id)
            tenant = self._names.find(con, tenant_id)
            key = scalar(con, "SELECT pk FROM runs WHERE tenant = ? AND run_id = ?", tenant, run_id)
            if key is None:
                raise _not_found(run_id, tenant_id)
            if len(self._keys) >= _KEYS_KEPT:
                self._keys.clear()
            self._keys[tenant_id, run_id] = key
        return key

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        with self._pool.borrow() as con, transaction(con, "DEFERRED"):
            return read_ledger(con, self._key(con, run_id, tenant_id), run_id)

    def get(self, run_id: str, *, tenant_id: str) -> RunItem:
        with self._pool.borrow() as con:
            pk = self._key(con, run_id, tenant_id)
            found = rows(con, _ITEM, pk)
        return item_of(found[0], tenant_id)

    def steps(self, run_id: str, *, tenant_id: str, start: int = 0, stop: int | None = None) -> list[StepRow]:
        with self._pool.borrow() as con:
            pk = self._key(con, run_id, tenant_id)
            return read_steps(con, self._names, pk, start, MAX_STEPS if stop is None else stop)

    def path_at(self, run_id: str, k: int, *, tenant_id: str) -> bytes | None:
        with self._pool.borrow() as con:
            pk = self._key(con, run_id, tenant_id)
            found: list[tuple[bytes | None]] = rows(con, _PATH, step_key(pk, k - 1)) if k > 0 else []
            if found:
                return found[0][0]
            total = scalar(con, "SELECT total_steps FROM runs WHERE pk = ?", pk)
        if k != 0:
            raise IndexError(f"the run has {total} steps, so there is no path of {k}")
        return path_start()

    def common_steps(self, run_id: str, other_id: str, limit: int, *, tenant_id: str) -> int:
        """How many of their first `limit` steps two runs have in common: bisected over `path_at`, by the
        database. A path that an erased step breaks equals nothing. Raises `RunNotFoundError`."""
        with self._pool.borrow() as con:
            pk, other = (self._key(con, one, tenant_id) for one in (run_id, other_id))
            return common_steps(con, pk, other, limit)

    def values(self, run_id: str, wanted: Sequence[ValueKey], *, tenant_id: str) -> dict[ValueKey, bytes]:
        found: dict[ValueKey, bytes] = {}
        keys = set(wanted)
        with self._pool.borrow() as con:
            pk = self._key(con, run_id, tenant_id)
            read_to = -1
            for seq in sorted({seq for seq, _ in keys}):
                if seq <= read_to:
                    continue
                for last_seq, data in rows(con, _BLOCK_WITH, pk, VALUES, seq, seq):
                    read_to = last_seq
                    found.update(read_values(data, run_id, keys))
        return found

    # --- many runs ------------------------------------------------------------------

    def query(self, query: RunQuery) -> Page:
        check_query(query)
        below = self._cursors.read(query)
        with self._pool.borrow() as con:
            tenant = self._names.find(con, query.tenant_id)
            if tenant is None:
                return Page((), None)
            with transaction(con, "DEFERRED"):
                rows = find(con, tenant, query, below, query.limit + 1)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        return Page(
            [item_of(row, query.tenant_id) for row in rows],
            self._cursors.make(query, rows[-1][0]) if more else None,
        )

    def count(self, query: RunQuery) -> int:
        check_query(query)
        with self._pool.borrow() as con:
            tenant = self._names.find(con, query.tenant_id)
            if tenant is None:
                return 0
            with transaction(con, "DEFERRED"):
                return count(con, tenant, query)

    def behaviours(
        self,
        queries: Sequence[RunQuery],
        *,
        by: str | None = None,
        tool: bool = False,
        newest: int | None = None,
        threshold: float = 1.0,
        examples: int = 100,
    ) -> PathCounts:
        check_grouping(queries, by, newest, threshold, examples)
        with self._pool.borrow() as con:
            tenant = self._names.find(con, queries[0].tenant_id) if queries else None
            if tenant is None:
                return PathCounts(())
            with transaction(con, "DEFERRED"):
                chosen = choose(con, tenant, queries, newest)
                return (
                    PathCounts(())
                    if chosen is None
                    else count_paths(con, chosen, by, tool, threshold, examples)
                )

    def resolve(self, prefix: str, *, tenant_id: str) -> str:
        if not (is_text(prefix) and is_text(tenant_id)):
            raise _not_found(prefix, tenant_id)
        with self._pool.borrow() as con:
            tenant = self._names.find(con, tenant_id)
            if prefix and scalar(con, _ROOT, tenant, prefix):
                return prefix
            if prefix == LAST:
                newest = scalar(con, _NEWEST, tenant)
                if newest is None:
                    raise RunNotFoundError(
                        "the store holds no run yet", got=LAST, where=f"tenant {tenant_id}"
                    )
                return str(newest)
            found = self._starting_with(con, tenant, prefix)
        if not found:
            raise _not_found(prefix, tenant_id)
        if len(found) > 1:
            raise AmbiguousRunError(
                f"several runs begin with {prefix!r}",
                nearest=", ".join(found[:_LISTED]) + (" and more" if len(found) > _LISTED else ""),
                hint="give more of the id",
            )
        return found[0]

    def _starting_with(self, con: apsw.Connection, tenant: int | None, prefix: str) -> list[str]:
        if not prefix:
            return []
        # No UTF-8 text contains 0xFF, so this lies above everything that begins with the prefix.
        above = prefix.encode() + b"\xff"
        return [row[0] for row in rows(con, _STARTING, tenant, prefix, above, _LISTED + 1)]

    def close(self) -> None:
        self._pool.close()


# Parts of these are constants of this room; values are always bound.
_ITEM = f"SELECT {ITEM_COLUMNS} FROM runs AS r WHERE r.pk = ?"  # noqa: S608
_PATH = "SELECT path FROM steps WHERE id = ?"
_BLOCK_WITH = """
SELECT last_seq, data FROM blocks WHERE run = ? AND kind = ? AND first_seq <= ? AND last_seq >= ?"""
_RUNS_AFTER = "SELECT pk, run_id FROM runs WHERE pk > ? ORDER BY pk LIMIT ?"
_ROOT = "SELECT root_hash FROM runs WHERE tenant = ? AND run_id = ?"
_NEWEST = "SELECT run_id FROM runs INDEXED BY runs_newest WHERE tenant = ? ORDER BY pk DESC LIMIT 1"
_STARTING = """
SELECT run_id FROM runs WHERE tenant = ? AND run_id >= ? AND run_id < CAST(? AS TEXT)
ORDER BY run_id LIMIT ?"""


def _not_found(run_id: str, tenant_id: str) -> RunNotFoundError:
    return RunNotFoundError(
        "there is no such run",
        run_id=run_id,
        where=f"tenant {tenant_id}",
        hint="`isotrace ls` lists the runs; --tenant asks for another tenant's",
    )


def _is_file(path: Path) -> bool:
    """Raises `StoreUnavailableError` for a path that no file can have, or that is something else."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return True
        problem = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:  # too long, below a file, not to be searched; a NUL byte
        problem = getattr(error, "strerror", None) or str(error)
    shown = str(path)
    raise StoreUnavailableError(
        "no store can be at this path",
        where=shown if len(shown) <= _PATH_SHOWN else f"{shown[:_PATH_SHOWN]}…",
        got=problem,
        hint="name another store with --store",
    )


def _make_file(path: Path, create: bool) -> None:
    """Creates an empty file that only its owner may read: runs hold what users said."""
    if _is_file(path):
        return
    if not create:
        raise StoreUnavailableError(
            "there is no store here yet",
            where=str(path),
            hint="record or import a run, or name another store with --store",
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its log the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailableError(
            "the store can't be created",
            where=str(path),
            got=str(error),
            hint="make the folder writable, or name another store with --store",
        ) from None
