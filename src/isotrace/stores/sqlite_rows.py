"""Rows of a SQLite store: what a run becomes when it is written, and what comes back.

Functions here take an open connection and leave transactions to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apsw
import orjson

from isotrace.contracts import RunItem, Tombstone
from isotrace.errors import RunNotFoundError, StoreCorruptError
from isotrace.events import datetime_of, microseconds_of
from isotrace.ledger import Ledger, Projection, SealedRun, StepRow
from isotrace.models import Erased, TraceSummary
from isotrace.stores.assembly import events_of, salts_of
from isotrace.stores.blocks import Block, ValueKey
from isotrace.stores.sqlite_pool import rows as all_rows
from isotrace.stores.sqlite_pool import scalar
from isotrace.stores.sqlite_terms import Term

# --- names --------------------------------------------------------------------------


class Names:
    """Texts that are written once and referred to by number, with a memory of both ways.

    A name never changes, so what was read once stays true, whoever writes to the file.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def find(self, con: apsw.Connection, name: str) -> int | None:
        """The number of a name, None if the store has never seen it."""
        known = self._ids.get(name)
        if known is None:
            known = scalar(con, "SELECT id FROM names WHERE name = ?", name)
            if known is not None:
                self.remember({name: known})
        return known

    def intern(self, con: apsw.Connection, names: Iterable[str]) -> dict[str, int]:
        """The numbers of these names; new ones are written.

        In a write transaction only; after its commit they may be given to `remember`.
        """
        ids: dict[str, int] = {}
        for name in names:
            known = self.find(con, name)
            if known is None:
                con.execute("INSERT INTO names (name) VALUES (?)", (name,))
                known = con.last_insert_rowid()
            ids[name] = known
        return ids

    def remember(self, ids: dict[str, int]) -> None:
        """Keeps numbers that are in the file for good."""
        self._ids.update(ids)
        self._names.update((number, name) for name, number in ids.items())

    def text(self, con: apsw.Connection, number: int) -> str:
        """The name of a number. Raises `StoreCorruptError` where the file has none."""
        name = self._names.get(number)
        if name is None:
            name = scalar(con, "SELECT name FROM names WHERE id = ?", number)
            if name is None:
                raise StoreCorruptError("the store refers to a name that it does not have", got=number)
            self.remember({name: number})
        return name


def names_in(run: SealedRun) -> set[str]:
    """The names that the rows of a run refer to."""
    names = {run.tenant_id}
    for row in run.projection.steps:
        names.update((row.skill_name, row.kind, row.status))
    return names


# --- writing ------------------------------------------------------------------------

_SUMMARY_COLUMNS = (
    "correlation_id",
    "agent_id",
    "status",
    "started_us",
    "completed_us",
    "total_steps",
    "success_count",
    "failure_count",
    "total_cost_cents",
    "total_duration_ms",
    "violation_step_index",
    "violation_us",
    "violation_policy_id",
    "violation_reason",
    "signature",
    "tool_signature",
    "metadata",
)
_RUN_COLUMNS = (
    "tenant",
    "run_id",
    "root_hash",
    "seed",
    "recorded_us",
    "event_count",
    "local",
    *_SUMMARY_COLUMNS,
)
# Column names are constants of this module; values are always bound.
_INSERT_RUN = f"INSERT INTO runs ({', '.join(_RUN_COLUMNS)}) VALUES ({', '.join('?' * len(_RUN_COLUMNS))})"  # noqa: S608
_UPDATE_RUN = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _SUMMARY_COLUMNS)} WHERE pk = ?"  # noqa: S608
_INSERT_BLOCK = "INSERT INTO blocks (run, kind, first_seq, last_seq, data) VALUES (?, ?, ?, ?, ?)"
_INSERT_STEP = "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_TERMS = "DELETE FROM terms WHERE run = ?"
_INSERT_TERM = "INSERT INTO terms VALUES (?, ?, ?, ?)"


MAX_STEPS = 2**24 - 1
"""How many steps a run may have."""


def step_key(run: int, step_index: int) -> int:
    """The key of a step's row; an index beyond `MAX_STEPS` counts as that, a negative one as 0."""
    return run << 24 | min(max(step_index, 0), MAX_STEPS)


def insert_run(con: apsw.Connection, run: SealedRun, tenant: int, recorded_us: int) -> int:
    """Writes the run's own row; its key."""
    ledger = run.ledger
    identity = (
        tenant,
        run.run_id,
        bytes.fromhex(ledger.root_hash),
        ledger.seed,
        recorded_us,
        len(ledger.events),
        int(run.local),
    )
    con.execute(_INSERT_RUN, identity + _summary_row(run.projection))
    return con.last_insert_rowid()


def insert_blocks(con: apsw.Connection, run: int, blocks: Iterable[Block]) -> None:
    """Writes blocks of a run."""
    con.executemany(_INSERT_BLOCK, ((run, *block) for block in blocks))


def insert_projection(
    con: apsw.Connection,
    run: int,
    tenant: int,
    rows: Iterable[StepRow],
    terms: Iterable[Term],
    ids: dict[str, int],
) -> None:
    """Writes what a run is searched by, beside its own row."""
    con.executemany(_INSERT_STEP, _step_rows(run, rows, ids))
    con.executemany(_INSERT_TERM, ((tenant, term.field, term.value, run) for term in terms))


def replace_projection(
    con: apsw.Connection,
    run: int,
    tenant: int,
    projected: SealedRun,
    terms: Iterable[Term],
    ids: dict[str, int],
) -> None:
    """Drops everything that was derived from a run's ledger and writes it anew."""
    con.execute("DELETE FROM steps WHERE id BETWEEN ? AND ?", (step_key(run, 0), step_key(run, MAX_STEPS)))
    con.execute(DROP_TERMS, (run,))
    con.execute(_UPDATE_RUN, (*_summary_row(projected.projection), run))
    insert_projection(con, run, tenant, projected.projection.steps, terms, ids)


def _summary_row(projection: Projection) -> tuple[Any, ...]:
    summary = projection.summary
    reason: Any = summary.violation_reason
    return (
        summary.correlation_id,
        summary.agent_id,
        summary.status,
        microseconds_of(summary.started_at),
        None if summary.completed_at is None else microseconds_of(summary.completed_at),
        summary.total_steps,
        summary.success_count,
        summary.failure_count,
        summary.total_cost_cents,
        summary.total_duration_ms,
        summary.violation_step_index,
        None if summary.violation_timestamp is None else microseconds_of(summary.violation_timestamp),
        summary.violation_policy_id,
        bytes.fromhex(reason.commit) if isinstance(reason, Erased) else reason,
        _raw(projection.signature),
        _raw(projection.tool_signature),
        orjson.dumps(projection.metadata),
    )


def _raw(digest: str | None) -> bytes | None:
    return None if digest is None else bytes.fromhex(digest)


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _step_rows(run: int, rows: Iterable[StepRow], ids: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        index = row.step_index
        yield (
            step_key(run, index),
            ids[row.skill_name],
            ids[row.kind],
            ids[row.status],
            row.start_seq,
            row.end_seq,
            None if row.lineage == str(index) else row.lineage,
            row.determinism_hash,
            row.path,
            row.tool_path,
            row.outcome_digest,
            row.cost_cents,
            row.duration_ms,
        )


# --- reading ------------------------------------------------------------------------

ITEM_COLUMNS = "r.pk, r.run_id, r.root_hash, r.local, " + ", ".join(f"r.{name}" for name in _SUMMARY_COLUMNS)


def item_of(row: tuple[Any, ...], tenant_id: str) -> RunItem:
    """A listing entry from the columns `ITEM_COLUMNS`. Raises `StoreCorruptError`."""
    (
        _,
        run_id,
        root_hash,
        local,
        correlation_id,
        agent_id,
        status,
        started_us,
        completed_us,
        total_steps,
        success_count,
        failure_count,
        total_cost_cents,
        total_duration_ms,
        violation_step_index,
        violation_us,
        violation_policy_id,
        violation_reason,
        signature,
        tool_signature,
        metadata,
    ) = row
    if isinstance(violation_reason, bytes):
        violation_reason = Erased(violation_reason.hex())
    try:
        summary = TraceSummary(
            run_id,
            correlation_id,
            tenant_id,
            agent_id,
            total_steps,
            success_count,
            failure_count,
            total_cost_cents,
            total_duration_ms,
            datetime_of(started_us),
            None if completed_us is None else datetime_of(completed_us),
            status,
            violation_step_index,
            None if violation_us is None else datetime_of(violation_us),
            violation_policy_id,
            violation_reason,
        )
        return RunItem(
            summary,
            _hex(signature),
            _hex(tool_signature),
            root_hash.hex(),
            orjson.loads(metadata),
            bool(local),
        )
    except (ValueError, OverflowError) as error:
        raise StoreCorruptError(
            "the summary of a run is damaged",
            got=f"run {run_id}: {error}",
            hint="`isotrace rebuild` recomputes it from the ledger",
        ) from None


_SELECT_HEAD = """
SELECT root_hash, seed, event_count, (SELECT name FROM names WHERE id = tenant) FROM runs WHERE pk = ?"""
_SELECT_BLOCKS = "SELECT kind, first_seq, last_seq, data FROM blocks WHERE run = ? ORDER BY kind, first_seq"
_SELECT_STEPS = """
SELECT step_index, start_seq, end_seq, lineage, skill, kind, status, determinism_hash, path, tool_path,
  outcome_digest, cost_cents, duration_ms
FROM steps WHERE id >= ? AND id < ? ORDER BY id"""


def read_steps(con: apsw.Connection, names: Names, run: int, start: int, stop: int) -> list[StepRow]:
    """The rows of steps start..stop−1."""
    return [
        StepRow(
            index,
            start_seq,
            end_seq,
            str(index) if lineage is None else lineage,
            names.text(con, skill),
            names.text(con, kind),
            names.text(con, status),
            *rest,
        )
        for index, start_seq, end_seq, lineage, skill, kind, status, *rest in all_rows(
            con, _SELECT_STEPS, step_key(run, start), step_key(run, stop)
        )
    ]


# Bisection in one statement: `same` steps are alike, and `size`, a power of two, is how many more are looked
# at next. Many small statements would each lock the file. NULL, where erased content breaks a path, equals
# nothing; the shorter run has no row beyond its end.
_COMMON_STEPS = """
WITH RECURSIVE search (same, size) AS (
  VALUES (0, ?3)
  UNION ALL
  SELECT same + size * coalesce((
    SELECT a.path = b.path FROM steps AS a, steps AS b
    WHERE a.id = ?1 + same + size - 1 AND b.id = ?2 + same + size - 1), 0), size / 2
  FROM search WHERE size > 0)
SELECT same FROM search WHERE size = 0"""


def common_steps(con: apsw.Connection, run: int, other: int, limit: int) -> int:
    """How many of their first `limit` steps two runs have in common: the last place where paths are equal."""
    limit = min(max(limit, 0), MAX_STEPS)
    size = (1 << limit.bit_length()) >> 1
    return min(int(scalar(con, _COMMON_STEPS, step_key(run, 0), step_key(other, 0), size)), limit)


def read_ledger(con: apsw.Connection, run: int, run_id: str) -> Ledger:
    """The whole ledger of a run, in a transaction of the caller's.

    Raises `RecordCorruptError` where a block is damaged or missing.
    """
    found = all_rows(con, _SELECT_HEAD, run)
    if not found:
        raise RunNotFoundError("there is no such run", run_id=run_id)
    root_hash, seed, event_count, tenant = found[0]
    blocks = [Block(*row) for row in all_rows(con, _SELECT_BLOCKS, run)]
    events = events_of(run_id, blocks, _erased(con, run), event_count)
    ledger = Ledger(events, root_hash.hex(), seed, {} if seed is not None else salts_of(run_id, blocks))
    return ledger.owned_by(tenant)


def read_tombstones(con: apsw.Connection, run: int) -> list[Tombstone]:
    """What was erased from a run, oldest first."""
    targets: dict[int, list[ValueKey]] = {}
    erased = "SELECT tombstone, seq, name FROM erased_values WHERE run = ? ORDER BY seq, name"
    for tombstone, seq, name in all_rows(con, erased, run):
        targets.setdefault(tombstone, []).append((seq, name))
    found = all_rows(con, "SELECT id, erased_us, reason FROM tombstones WHERE run = ? ORDER BY id", run)
    return [
        Tombstone(tuple(targets.get(tombstone, ())), datetime_of(erased_us), reason)
        for tombstone, erased_us, reason in found
    ]


def _erased(con: apsw.Connection, run: int) -> dict[ValueKey, str]:
    found = all_rows(con, "SELECT seq, name, commitment FROM erased_values WHERE run = ?", run)
    return {(seq, name): commitment.hex() for seq, name, commitment in found}
