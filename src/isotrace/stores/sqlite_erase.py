"""Erasing values from a SQLite file, so that neither the file nor its log holds them any longer."""

from __future__ import annotations

import apsw

from isotrace import ledger as ledgers
from isotrace.ledger import Ledger, SealedRun
from isotrace.models import Erased
from isotrace.stores.assembly import slot_keys_of, without
from isotrace.stores.blocks import SALTS, VALUES, Packer, ValueKey, salt_blocks
from isotrace.stores.sqlite_pool import rows, scalar
from isotrace.stores.sqlite_rows import (
    Names,
    insert_blocks,
    names_in,
    read_ledger,
    replace_projection,
)
from isotrace.stores.sqlite_terms import terms_of


def erase_values(
    con: apsw.Connection,
    names: Names,
    run: int,
    run_id: str,
    targets: set[ValueKey],
    *,
    reason: str,
    now_us: int,
    packer: Packer,
) -> dict[str, int]:
    """Erases in the caller's write transaction; the numbers of the names that were used.

    The run's seed gives every salt, so it goes as well, and the salts that are left are written
    out. Raises `RecordGapError` for a value that is not there, `RecordCorruptError` for a run that
    can't be read.
    """
    before = read_ledger(con, run, run_id)
    after = ledgers.erase(before, targets)
    tombstone = _open_tombstone(con, run, reason, now_us)
    _write_commitments(con, run, tombstone, after, targets)
    _rewrite_values(con, run, run_id, targets, before, packer)
    con.execute("DELETE FROM blocks WHERE run = ? AND kind = ?", (run, SALTS))
    insert_blocks(con, run, salt_blocks(after.salts, packer))
    con.execute("UPDATE runs SET seed = NULL WHERE pk = ?", (run,))
    con.execute("INSERT INTO closings VALUES (?)", (tombstone,))
    return project_again(con, names, run, SealedRun(after, ledgers.project(after)))


def project_again(con: apsw.Connection, names: Names, run: int, projected: SealedRun) -> dict[str, int]:
    """Replaces all that is derived from a run's ledger; the numbers of the names that were used."""
    ids = names.intern(con, names_in(projected))
    replace_projection(con, run, ids[projected.tenant_id], projected, terms_of(projected), ids)
    return ids


def _open_tombstone(con: apsw.Connection, run: int, reason: str, now_us: int) -> int:
    con.execute("INSERT INTO tombstones (run, erased_us, reason) VALUES (?, ?, ?)", (run, now_us, reason))
    return con.last_insert_rowid()


def _write_commitments(
    con: apsw.Connection, run: int, tombstone: int, after: Ledger, targets: set[ValueKey]
) -> None:
    for seq, name in sorted(targets):
        value = after.events[seq].values[name]
        assert isinstance(value, Erased)
        con.execute(
            "INSERT INTO erased_values VALUES (?, ?, ?, ?, ?)",
            (run, seq, name, bytes.fromhex(value.commit), tombstone),
        )


def _rewrite_values(
    con: apsw.Connection, run: int, run_id: str, targets: set[ValueKey], before: Ledger, packer: Packer
) -> None:
    """Writes the blocks that hold targets anew; all others stay as they are."""
    slot_keys = slot_keys_of(before.events)
    blocks = rows(con, "SELECT id, first_seq, last_seq FROM blocks WHERE run = ? AND kind = ?", run, VALUES)
    for block_id, first_seq, last_seq in blocks:
        if not any(first_seq <= seq <= last_seq for seq, _ in targets):
            continue
        data = scalar(con, "SELECT data FROM blocks WHERE id = ?", block_id)
        block = without(data, targets, slot_keys, packer, run_id)
        if block is None:
            con.execute("DELETE FROM blocks WHERE id = ?", (block_id,))
        else:
            con.execute(
                "UPDATE blocks SET first_seq = ?, last_seq = ?, data = ? WHERE id = ?",
                (block.first_seq, block.last_seq, block.data, block_id),
            )
