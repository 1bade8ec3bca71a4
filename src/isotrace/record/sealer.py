"""Seals finished runs off the agent's thread, and adopts what other processes left behind."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isotrace.errors import ConflictError, JournalError, SchemaUnsupportedError, StoreError
from isotrace.record.home import journal_folder
from isotrace.record.journal import quarantine, scan, try_adopt
from isotrace.record.memory_journal import AnyJournal
from isotrace.record.sealing import seal_journal
from isotrace.record.warned import warn
from isotrace.registry import open_store

if TYPE_CHECKING:
    from isotrace.contracts import TraceStore


class Sealer:
    """One thread that turns finished journals into rows. Started when the first run ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[AnyJournal, TraceStore | str, bool]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending = 0
        self._quiet = threading.Condition(self._lock)
        self._stores: dict[str, TraceStore] = {}
        self.observers: list[Callable[[str], None]] = []
        self.begun_observers: list[Callable[[str], None]] = []

    def submit(self, journal: AnyJournal, target: TraceStore | str, *, stopped: bool = False) -> None:
        """Queues a finished run. Returns at once. `stopped`: its recording ended before it did."""
        with self._lock:
            self._pending += 1
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="isotrace-sealer", daemon=True)
                # Outside of any run or replay: what it does is none of theirs.
                Context().run(self._thread.start)
        self._queue.put((journal, target, stopped))

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until every finished run of this process is in its store; whether it is."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._quiet:
            while self._pending:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._quiet.wait(left)
        return True

    def _work(self) -> None:
        while True:
            journal, target, stopped = self._queue.get()
            try:
                self._seal(journal, target, stopped)
            except Exception as error:  # noqa: BLE001  # one run must not keep the others from being sealed
                kept = "Its journal is kept" if journal.path is not None else "It was kept in memory only"
                warn(f"run {journal.header.run_id} is not in the store: {_named(error)}. {kept}")
            finally:
                with self._quiet:
                    self._pending -= 1
                    self._quiet.notify_all()

    def _seal(self, journal: AnyJournal, target: TraceStore | str, stopped: bool) -> None:
        """The journal is removed only once the run is durable in the store."""
        try:
            run = seal_journal(journal.content(), stopped=stopped)
            self._store(target).put(run)
        except ConflictError:
            journal.close()
            if journal.path is not None:
                quarantine(journal.path, "conflict")
            raise
        except BaseException:
            journal.close()
            raise
        journal.remove()
        for told in list(self.observers):
            told(run.run_id)

    def _store(self, target: TraceStore | str) -> TraceStore:
        if not isinstance(target, str):
            return target
        store = self._stores.get(target)
        if store is None:
            store = self._stores[target] = open_store(target)
        return store

    def forget(self) -> None:
        """A forked child starts afresh: the thread, the lock and the connections are the parent's."""
        self.__init__()  # type: ignore[misc]  # the one way to replace all state at once


_sealer = Sealer()
os.register_at_fork(after_in_child=_sealer.forget)
atexit.register(_sealer.flush)


def submit(journal: AnyJournal, target: Any, *, stopped: bool = False) -> None:
    """Seals a finished run in the background. `stopped`: its recording ended before it did."""
    _sealer.submit(journal, target, stopped=stopped)


def began(run_id: str) -> None:
    """A run of this process has begun."""
    for told in list(_sealer.begun_observers):
        told(run_id)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def flush(timeout_s: float | None = None) -> bool:
    """Waits until every run that ended in this process is in its store.

    True if all are (or were refused with a warning), False after `timeout_s` seconds. Called by
    everything in isotrace that reads a store, and when the interpreter exits.
    """
    return _sealer.flush(timeout_s)


@contextmanager
def observed(told: Callable[[str], None], begun: Callable[[str], None]) -> Iterator[None]:
    """`told` hears the id of each run of this process as it is put into its store during the block,
    the runs that had ended by then included; it is called on the sealing thread. `begun` hears that of
    each run as it begins, where it begins."""
    _sealer.observers.append(told)
    _sealer.begun_observers.append(begun)
    try:
        yield
        flush()
    finally:
        # Gone in a child that was forked during the block: what it records is no news of this one.
        for observers, observer in ((_sealer.observers, told), (_sealer.begun_observers, begun)):
            with suppress(ValueError):
                observers.remove(observer)


def adopt_journals(store: TraceStore) -> list[str]:
    """Puts the runs of processes that ended without sealing them into the store.

    A journal whose lock is held belongs to a live run and is left alone. One that makes no run that the
    store takes is put aside; one that another version, or the store once it works again, can take stays.
    Each time a `RecordingWarning` says so: no journal keeps the others, or the store, from being opened.
    Returns the adopted run ids.
    """
    folder = journal_folder(store.url)
    if folder is None:
        return []
    adopted: list[str] = []
    for path in scan(folder):
        try:
            adopted += _adopt(path, store)
        except ConflictError as error:
            _put_aside(path, "conflict", error)
        except (OSError, MemoryError, SchemaUnsupportedError, StoreError) as error:
            # Not the fault of what the journal holds.
            warn(f"a journal could not be adopted: {path}: {_named(error)}")
        except Exception as error:  # noqa: BLE001  # whatever a journal holds, the next one may be whole
            _put_aside(path, "corrupt", error)
    return adopted


def _adopt(path: Path, store: TraceStore) -> list[str]:
    """The id of the run that was put into the store, if there is one."""
    journal = try_adopt(path)
    if journal is None:
        return []
    try:
        content = journal.content()
        if content.events:
            store.put(seal_journal(content))
        journal.remove()
    finally:
        journal.close()
    return [content.header.run_id] if content.events else []


def _put_aside(path: Path, why: str, error: Exception) -> None:
    try:
        kept = quarantine(path, why)
    except JournalError as problem:
        warn(f"a journal could be neither adopted ({_named(error)}) nor put aside: {problem}")
    else:
        warn(f"a journal was put aside as {kept}: {_named(error)}")
