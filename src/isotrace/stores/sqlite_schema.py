"""The tables of a SQLite store, their guards, and the migrations between versions of them.

*Ledger tables* are the truth: `names`, `blocks`, `tombstones`, `closings`, `erased_values`, `store`, and
of `runs` the columns up to `local`. *Projections* are derived from them, for searching, and
can be rebuilt: the other columns of `runs`, `steps`, `terms`.

Append-only is enforced here and not in Python, by triggers. What may change in a ledger table is
the seed of a run and its blocks of values and salts, and that only while a tombstone of the run is
open. A tombstone is open from its insertion until a row of `closings` names it; a deferred foreign
key makes that row a condition of the commit. So a tombstone covers its own transaction and no later
one. (SQLite checks foreign keys only where a connection asks for it: where it does not, no
tombstone can be inserted.) None of this stops who may write to the file and means harm; the root
hash, kept elsewhere, shows such changes.
"""

from __future__ import annotations

import re

import apsw

from isotrace.errors import StoreCorruptError, StoreVersionError
from isotrace.stores.sqlite_pool import rows, transaction

APPLICATION_ID = 0x49534F31  # "ISO1"

_OPEN_TOMBSTONE = """EXISTS (
    SELECT 1 FROM tombstones AS t LEFT JOIN closings AS c ON c.tombstone = t.id
    WHERE t.run = OLD.run AND c.tombstone IS NULL)"""


def _frozen(table: str) -> tuple[str, str, str]:
    """Guards of a table whose rows never change, go away or are replaced."""
    return (
        f"""CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN
  SELECT RAISE(ABORT, 'append-only: rows of {table} never change');
END""",
        f"""CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN
  SELECT RAISE(ABORT, 'append-only: rows of {table} are never deleted');
END""",
        # INSERT OR REPLACE deletes without asking the delete trigger.
        f"""CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM {table} WHERE {_KEYS[table]}) BEGIN
  SELECT RAISE(ABORT, 'append-only: the row of {table} is there already');
END""",  # noqa: S608  # table names are constants of this module
    )


_KEYS = {
    "names": "id = NEW.id OR name = NEW.name",
    "store": "key = NEW.key",
    "tombstones": "id = NEW.id",
    "closings": "tombstone = NEW.tombstone",
    "erased_values": "run = NEW.run AND seq = NEW.seq AND name = NEW.name",
}

_VERSION_1 = (
    # Facts about this file: its own id, which cursors are tied to.
    """CREATE TABLE store (
  key TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID""",
    # Tenants, skills, kinds and statuses: written once, referred to by number.
    """CREATE TABLE names (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT""",
    """CREATE TABLE runs (
  pk INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of recording
  tenant INTEGER NOT NULL REFERENCES names (id),
  run_id TEXT NOT NULL,
  root_hash BLOB NOT NULL CHECK (length(root_hash) = 32),
  seed BLOB CHECK (length(seed) = 32), -- gives all salts; NULL where they are kept one by one
  recorded_us INTEGER NOT NULL,
  event_count INTEGER NOT NULL,
  local INTEGER NOT NULL, -- 1: sealed from a journal of this machine
  correlation_id TEXT NOT NULL,
  agent_id TEXT,
  status TEXT NOT NULL,
  started_us INTEGER NOT NULL,
  completed_us INTEGER,
  total_steps INTEGER NOT NULL,
  success_count INTEGER NOT NULL,
  failure_count INTEGER NOT NULL,
  total_cost_cents REAL NOT NULL,
  total_duration_ms REAL NOT NULL,
  violation_step_index INTEGER,
  violation_us INTEGER,
  violation_policy_id TEXT,
  violation_reason ANY, -- text; a commitment (32 bytes) where it was erased
  signature BLOB,
  tool_signature BLOB,
  metadata BLOB NOT NULL, -- JSON
  UNIQUE (tenant, run_id)
) STRICT""",
    # Newest first, and what can be said of a run's time and cost without opening its row.
    "CREATE INDEX runs_newest ON runs (tenant, pk, started_us, total_cost_cents)",
    "CREATE INDEX runs_started ON runs (tenant, started_us)",
    "CREATE INDEX runs_cost ON runs (tenant, total_cost_cents)",
    """CREATE TABLE blocks (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (pk),
  kind INTEGER NOT NULL, -- 1 events, 2 values, 3 salts
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  data BLOB NOT NULL
) STRICT""",
    "CREATE UNIQUE INDEX blocks_of_run ON blocks (run, kind, first_seq, last_seq)",
    """CREATE TABLE tombstones (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (pk),
  erased_us INTEGER NOT NULL,
  reason TEXT NOT NULL,
  FOREIGN KEY (id) REFERENCES closings (tombstone) DEFERRABLE INITIALLY DEFERRED
) STRICT""",
    "CREATE INDEX tombstones_of_run ON tombstones (run)",
    "CREATE TABLE closings (tombstone INTEGER PRIMARY KEY) STRICT",
    """CREATE TABLE erased_values (
  run INTEGER NOT NULL REFERENCES runs (pk),
  seq INTEGER NOT NULL,
  name TEXT NOT NULL,
  commitment BLOB NOT NULL CHECK (length(commitment) = 32),
  tombstone INTEGER NOT NULL REFERENCES tombstones (id),
  PRIMARY KEY (run, seq, name)
) STRICT, WITHOUT ROWID""",
    # One number for run and step: rows of one run stand together, and take 8 % less than with two keys.
    """CREATE TABLE steps (
  id INTEGER PRIMARY KEY, -- run << 24 | step_index
  run INTEGER GENERATED ALWAYS AS (id >> 24) VIRTUAL,
  step_index INTEGER GENERATED ALWAYS AS (id & 16777215) VIRTUAL,
  skill INTEGER NOT NULL REFERENCES names (id),
  kind INTEGER NOT NULL REFERENCES names (id),
  status INTEGER NOT NULL REFERENCES names (id),
  start_seq INTEGER NOT NULL,
  end_seq INTEGER,
  lineage TEXT, -- NULL where it reads like step_index
  determinism_hash BLOB,
  path BLOB,
  tool_path BLOB,
  outcome_digest BLOB,
  cost_cents REAL NOT NULL,
  duration_ms REAL NOT NULL
) STRICT""",
    # One row for each thing that a run can be found by: see sqlite_terms.
    """CREATE TABLE terms (
  tenant INTEGER NOT NULL,
  field INTEGER NOT NULL,
  value ANY NOT NULL,
  run INTEGER NOT NULL REFERENCES runs (pk),
  PRIMARY KEY (tenant, field, value, run)
) STRICT, WITHOUT ROWID""",
    *(guard for table in _KEYS for guard in _frozen(table)),
    """CREATE TRIGGER tombstones_need_foreign_keys BEFORE INSERT ON tombstones
WHEN (SELECT foreign_keys FROM pragma_foreign_keys) = 0 BEGIN
  SELECT RAISE(ABORT, 'append-only: a tombstone needs PRAGMA foreign_keys = ON');
END""",
    """CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs BEGIN
  SELECT RAISE(ABORT, 'append-only: runs are never deleted');
END""",
    """CREATE TRIGGER runs_no_replace BEFORE INSERT ON runs
WHEN EXISTS (SELECT 1 FROM runs WHERE pk = NEW.pk OR (tenant = NEW.tenant AND run_id = NEW.run_id)) BEGIN
  SELECT RAISE(ABORT, 'append-only: the run is there already');
END""",
    """CREATE TRIGGER runs_no_update
BEFORE UPDATE OF pk, tenant, run_id, root_hash, recorded_us, event_count, local ON runs BEGIN
  SELECT RAISE(ABORT, 'append-only: what a run is never changes');
END""",
    f"""CREATE TRIGGER runs_keep_seed BEFORE UPDATE OF seed ON runs
WHEN NEW.seed IS NOT NULL OR NOT {_OPEN_TOMBSTONE.replace("OLD.run", "OLD.pk")} BEGIN
  SELECT RAISE(ABORT, 'append-only: a seed goes away with a tombstone only');
END""",
    f"""CREATE TRIGGER blocks_no_update BEFORE UPDATE ON blocks
WHEN OLD.kind = 1 OR NEW.id <> OLD.id OR NEW.run <> OLD.run OR NEW.kind <> OLD.kind
  OR NEW.first_seq < OLD.first_seq OR NEW.last_seq > OLD.last_seq OR NOT {_OPEN_TOMBSTONE} BEGIN
  SELECT RAISE(ABORT, 'append-only: a block changes with a tombstone only');
END""",
    f"""CREATE TRIGGER blocks_no_delete BEFORE DELETE ON blocks
WHEN OLD.kind = 1 OR NOT {_OPEN_TOMBSTONE} BEGIN
  SELECT RAISE(ABORT, 'append-only: a block goes away with a tombstone only');
END""",
    """CREATE TRIGGER blocks_no_replace BEFORE INSERT ON blocks
WHEN EXISTS (SELECT 1 FROM blocks WHERE id = NEW.id OR (
  run = NEW.run AND kind = NEW.kind AND first_seq <= NEW.last_seq AND last_seq >= NEW.first_seq)) BEGIN
  SELECT RAISE(ABORT, 'append-only: the block is there already');
END""",
)

_VERSION_2 = (
    # From a run to its terms, for verifying, erasing and rebuilding: without it, each of them reads the
    # terms of all runs, and rebuilding a large store takes hours.
    "CREATE INDEX terms_of_run ON terms (run)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2)
"""What leads from version n to n + 1, as one statement each. Never edited, only added to."""

SCHEMA_VERSION = len(MIGRATIONS)

_CREATED = re.compile(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX|TRIGGER) (\w+)")
# SQLite keeps the text of a statement as it was given: what stands in the file can be held against it.
_EXPECTED = {
    match[1]: statement
    for migration in MIGRATIONS
    for statement in migration
    if (match := _CREATED.match(statement))
}


def prepare(con: apsw.Connection, where: str, store_id: bytes) -> None:
    """Makes the file a store of this version: creates the tables in an empty file, migrates an older one.

    `store_id` is used if the file has none yet. Raises `StoreVersionError` for a file of a newer
    isotrace and `StoreCorruptError` for one that is no store, or whose guards were altered.
    """
    if _version(con, where) < SCHEMA_VERSION:
        with transaction(con):
            # Another process may have been faster.
            for statements in MIGRATIONS[_version(con, where) :]:
                for statement in statements:
                    con.execute(statement)
            if not rows(con, "SELECT 1 FROM store WHERE key = 'id'"):
                con.execute("INSERT INTO store VALUES ('id', ?)", (store_id,))
            con.pragma("application_id", APPLICATION_ID)
            con.pragma("user_version", SCHEMA_VERSION)
    _check(con, where)


def _version(con: apsw.Connection, where: str) -> int:
    version = int(con.pragma("user_version"))
    application = int(con.pragma("application_id"))
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise StoreVersionError(
                "the store was written by a newer isotrace",
                where=where,
                expected=f"version {SCHEMA_VERSION} or older",
                got=f"version {version}",
                hint="upgrade isotrace to open it",
            )
        return version
    if application or version or rows(con, "SELECT 1 FROM sqlite_schema"):
        raise StoreCorruptError(
            "the file is a SQLite database, but not a store of isotrace",
            where=where,
            hint="name another file with --store",
        )
    return 0


def _check(con: apsw.Connection, where: str) -> None:
    """Whether tables and guards are the ones that were created, and no others act on them."""
    schema = rows(con, "SELECT type, name, sql FROM sqlite_schema")
    found = {name: (kind, sql) for kind, name, sql in schema}
    wrong = [name for name, sql in _EXPECTED.items() if found.get(name, ("", ""))[1] != sql]
    wrong += [name for name, (kind, _) in found.items() if kind == "trigger" and name not in _EXPECTED]
    if wrong:
        raise StoreCorruptError(
            "tables or guards of the store were altered",
            where=where,
            got=", ".join(sorted(wrong)),
            hint="restore the file from a backup",
        )
