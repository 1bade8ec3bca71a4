"""Connections to one SQLite file: how they are set up, lent to threads, and how their errors read.

Each call borrows a connection, so that readers of several threads never wait for each other. A
fork must not find one open: SQLite keeps locks per process, and a child that uses its parent's
connection, or merely opens the file beside it, may lose them and damage the file.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
        self._idle: list[apsw.Connection] = []
        self._lent = 0
        self._forking = False
        # The lock itself is taken where nobody waits: a condition's own entry costs as much as a look-up.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        _POOLS.add(self)

    def borrow(self) -> Loan:
        """A connection for the length of a `with` block; errors of SQLite become errors of isotrace."""
        return Loan(self)

    def take(self) -> apsw.Connection:
        """An idle connection, or a new one. Raises `StoreError` once the pool is closed."""
        with self._lock:
            while self._forking:
                self._changed.wait()
            if self.closed:
                raise StoreError("the store is closed", where=self.where)
            self._lent += 1
            con = self._idle.pop() if self._idle else None
        if con is not None:
            return con
        try:
            return self._open()
        except BaseException as error:
            with self._lock:
                self._lent -= 1
                self._tell()
            if isinstance(error, apsw.Error):
                raise store_error(error, self.where) from error
            raise

    def give_back(self, con: apsw.Connection) -> None:
        """Keeps a connection for the next who asks."""
        usable = self._settle(con)
        with self._lock:
            if usable:
                self._idle.append(con)
            self._lent -= 1
            if self.closed:
                self._close_idle()
            self._tell()

    @staticmethod
    def _settle(con: apsw.Connection) -> bool:
        """Whether a connection is in no transaction; one that was interrupted in the midst is rolled back."""
        if con.in_transaction:
            try:
                con.execute("ROLLBACK")
            except apsw.Error:
                con.close(True)
                return False
        return True

    def _tell(self) -> None:
        if self._forking:
            self._changed.notify_all()

    def close(self) -> None:
        """Closes all connections, those in use when they come back."""
        with self._lock:
            self.closed = True
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def before_fork(self) -> None:
        """Waits until no connection is lent, closes all, and lends none until `after_fork`."""
        self._changed.acquire()
        self._forking = True
        # Bounded: a child with a locked store is better than a parent that never goes on.
        self._changed.wait_for(lambda: not self._lent, timeout=self.timeout_s)
        self._close_idle()

    def after_fork(self, *, in_child: bool) -> None:
        """Lends connections again."""
        self._forking = False
        if in_child:
            # Whoever still had one is a thread of the parent.
            self._lent = 0
        self._changed.notify_all()
        self._changed.release()

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
# Which pools a forking thread holds still. A thread forks once at a time, and survives in the child.
_HELD: dict[int, list[Pool]] = {}


def _before_fork() -> None:
    # In one order, so that two threads that fork at once don't wait for each other.
    held = _HELD[threading.get_ident()] = []
    for pool in sorted(_POOLS, key=id):
        pool.before_fork()
        held.append(pool)


def _after_fork(in_child: bool) -> None:
    for pool in _HELD.pop(threading.get_ident(), ()):
        pool.after_fork(in_child=in_child)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=partial(_after_fork, in_child=False),
    after_in_child=partial(_after_fork, in_child=True),
)
