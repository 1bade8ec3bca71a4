"""Connections to one SQLite file: how they are set up, lent to threads, and how their errors read.

Each call borrows a connection, so that readers of several threads never wait for each other. A
fork must not find one open: SQLite keeps locks per process, and a child that uses its parent's
connection, or merely opens the file beside it, may lose them and damage the file.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from isotrace.clock import SYSTEM
from isotrace.errors import IsotraceError, StoreCorruptError, StoreError, StoreUnavailableError

_PAUSE_S = 0.01

_UNAVAILABLE: tuple[tuple[tuple[type[apsw.Error], ...], str, str], ...] = (
    (
        (apsw.BusyError, apsw.LockedError),
        "the store is locked by another process",
        "wait until it has finished and try again",
    ),
    (
        (apsw.ReadOnlyError, apsw.PermissionsError),
        "the store can't be written",
        "make the file and its folder writable, or name another with --store",
    ),
    (
        (apsw.CantOpenError,),
        "the store can't be opened",
        "make the file and its folder readable and writable, or name another with --store",
    ),
    ((apsw.FullError,), "the disk is full", "free some space and try again"),
    (
        (apsw.IOError, apsw.NoLFSError, apsw.ProtocolError),
        "the store can't be read or written",
        "check the disk: is it full, or gone?",
    ),
)


def store_error(error: apsw.Error, where: str) -> IsotraceError:
    """The error of ours that says what SQLite's means."""
    text = f"{type(error).__name__}: {error}"
    for kinds, what, hint in _UNAVAILABLE:
        if isinstance(error, kinds):
            return StoreUnavailableError(what, where=where, got=text, hint=hint)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError):
        return StoreCorruptError(
            "the store's file is damaged, or is no SQLite database",
            where=where,
            got=text,
            hint="restore it from a backup, or name another with --store",
        )
    return StoreError("the store refused a statement", where=where, got=text)


def rows(con: apsw.Connection, statement: str, *values: Any) -> list[Any]:
    """All rows of a statement's answer, as tuples."""
    return con.execute(statement, values).fetchall()


def scalar(con: apsw.Connection, statement: str, *values: Any) -> Any:
    """The first column of the first row, None if there is no row."""
    row = con.execute(statement, values).fetchone()
    return None if row is None else row[0]


@contextmanager
def transaction(con: apsw.Connection, mode: str = "IMMEDIATE") -> Iterator[None]:
    """One transaction: committed at the end of the block, rolled back on any error.

    IMMEDIATE takes the write lock at once, because a reader that turns writer can't wait for it.
    """
    con.execute(f"BEGIN {mode}")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise


class Pool:
    """Opens connections to one file and keeps them for the next who asks.

    Safe to share between threads, and over forks.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self.where = str(path)
        self.closed = False
        # deque's append and pop are atomic, so no lock is there for a fork to catch held.
        self._idle: deque[apsw.Connection] = deque()
        _POOLS.add(self)

    def borrow(self) -> Loan:
        """A connection for the length of a `with` block; errors of SQLite become errors of isotrace."""
        return Loan(self)

    def take(self) -> apsw.Connection:
        """An idle connection, or a new one. Raises `StoreError` once the pool is closed."""
        if self.closed:
            raise StoreError("the store is closed", where=self.where)
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._open()
        except apsw.Error as error:
            raise store_error(error, self.where) from error

    def give_back(self, con: apsw.Connection) -> None:
        """Keeps a connection for the next who asks."""
        if con.in_transaction:
            # Interrupted between two statements; whoever comes next must not find it so.
            con.execute("ROLLBACK")
        self._idle.append(con)
        if self.closed:
            self.let_go()

    def let_go(self) -> None:
        """Closes the connections that nobody uses; the next call opens a new one."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                return

    def close(self) -> None:
        """Closes all connections, those in use when they come back."""
        self.closed = True
        self.let_go()

    def _open(self) -> apsw.Connection:
        con = apsw.Connection(self.where, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            con.set_busy_timeout(int(self.timeout_s * 1000))
            self._set_up(con)
        except BaseException:
            con.close()
            raise
        return con

    def _set_up(self, con: apsw.Connection) -> None:
        con.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        # What is deleted is overwritten, not just unlinked: erased must be erased.
        con.pragma("secure_delete", True)
        con.pragma("temp_store", "MEMORY")
        # SQLite does not wait by itself where two connections switch a new file at once.
        mode = self.retry(lambda: con.pragma("journal_mode", "WAL"))
        if mode != "wal":
            raise StoreUnavailableError(
                "the store's file system can't share memory between processes, which SQLite's log needs",
                where=self.where,
                expected="journal mode wal",
                got=str(mode),
                hint="keep the store on a local disk",
            )
        # Each commit reaches the disk before it returns.
        con.pragma("synchronous", "FULL")
        con.pragma("foreign_keys", True)

    def retry(self, action: Callable[[], object]) -> object:
        """What the action returns, tried again while the file is locked, until the time-out."""
        end = SYSTEM.monotonic_ns() + self.timeout_s * 1e9
        while True:
            try:
                return action()
            except apsw.BusyError:
                if SYSTEM.monotonic_ns() >= end:
                    raise
                time.sleep(_PAUSE_S)


class Loan:
    """See `Pool.borrow`. A class, because a generator's context manager costs as much as a look-up."""

    __slots__ = ("_con", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __enter__(self) -> apsw.Connection:
        self._con = self._pool.take()
        return self._con

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._pool.give_back(self._con)
        if isinstance(error, apsw.Error):
            raise store_error(error, self._pool.where) from error


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()


def _before_fork() -> None:
    for pool in list(_POOLS):
        pool.let_go()


os.register_at_fork(before=_before_fork)
