"""Opens the journal of a run. Whatever goes wrong here, the agent goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from isotrace.clock import Clock
from isotrace.errors import IsotraceError, RunInUseError
from isotrace.record import sealer
from isotrace.record.context import RunInfo
from isotrace.record.home import IN_MEMORY, default_store_url, journal_folder
from isotrace.record.journal import Durability, Journal
from isotrace.record.memory_journal import AnyJournal, MemoryJournal
from isotrace.record.provisional import ProvisionalJournal
from isotrace.record.recorder import Recorder
from isotrace.record.warned import warn

if TYPE_CHECKING:
    from isotrace.contracts import TraceStore

MakeRecorder = Callable[[RunInfo, AnyJournal, Clock, Callable[[AnyJournal, bool], None]], Recorder]


def start_recording(
    info: RunInfo,
    store: TraceStore | str | None,
    durability: Durability,
    clock: Clock,
    *,
    make: MakeRecorder = Recorder,
) -> Recorder:
    """A recorder, made by `make`, with its journal in place.

    Where no journal file can be made (a read-only or full disk), a `RecordingWarning` says so and the
    events are kept in memory until the run ends. A run id that another process is recording under is
    left to that one: this run gets a fresh id, and metadata that says which it asked for. A provisional
    run begins with its first step, and is no run without one.
    """
    try:
        target: TraceStore | str = default_store_url() if store is None else store
        folder = journal_folder(target if isinstance(target, str) else target.url)
    except (OSError, RuntimeError) as error:  # no current folder, no home
        target, folder = IN_MEMORY, None
        warn(f"run {info.run_id} is not kept, there is no place for a store: {error}")

    def begin() -> AnyJournal:
        journal = _journal(info, folder, seed, durability, clock)
        sealer.began(info.run_id)
        return journal

    def ended(journal: AnyJournal, stopped: bool) -> None:
        kept = journal.kept if isinstance(journal, ProvisionalJournal) else journal
        if kept is not None:
            sealer.submit(kept, target, stopped=stopped)

    seed = clock.random_bytes(32)
    if info.provisional:
        return make(info, ProvisionalJournal(info.run_id, info.tenant_id, seed, begin), clock, ended)
    return make(info, begin(), clock, ended)


def _journal(
    info: RunInfo, folder: Path | None, seed: bytes, durability: Durability, clock: Clock
) -> AnyJournal:
    if folder is not None:
        try:
            return _file_journal(folder, info, seed, durability, clock)
        except (IsotraceError, OSError, ValueError) as error:  # ValueError: a path with a NUL byte
            warn(f"run {info.run_id} is kept in memory until it ends: {error}")
    return MemoryJournal(info.run_id, info.tenant_id, seed)


def _file_journal(
    folder: Path, info: RunInfo, seed: bytes, durability: Durability, clock: Clock
) -> AnyJournal:
    try:
        return Journal.create(folder, info.run_id, info.tenant_id, seed, durability=durability)
    except RunInUseError as error:
        wanted, fresh = info.run_id, clock.new_id()
        warn(f"run {wanted} is recorded as {fresh}: {error}")
        if info.correlation_id == wanted:
            info.correlation_id = fresh
        if info.origin_run_id == wanted:
            info.origin_run_id = fresh
        info.run_id = fresh
        info.metadata["requested_run_id"] = wanted
        return Journal.create(folder, fresh, info.tenant_id, seed, durability=durability)
