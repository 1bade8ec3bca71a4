"""Opens the journal of a run. Whatever goes wrong here, the agent goes on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from isotrace.clock import Clock
from isotrace.errors import JournalError, RecordingWarning, RunInUseError
from isotrace.record import sealer
from isotrace.record.context import RunInfo
from isotrace.record.home import default_store_url, journal_folder
from isotrace.record.journal import AnyJournal, Durability, Journal, MemoryJournal
from isotrace.record.recorder import Recorder

if TYPE_CHECKING:
    from isotrace.contracts import TraceStore


def start_recording(
    info: RunInfo, store: TraceStore | str | None, durability: Durability, clock: Clock
) -> Recorder:
    """A recorder with its journal in place.

    Where no journal file can be made (a read-only or full disk), a `RecordingWarning` says so and the
    events are kept in memory until the run ends. A run id that another process is recording under is
    left to that one: this run gets a fresh id, and metadata that says which it asked for.
    """
    target: TraceStore | str = default_store_url() if store is None else store
    journal = _journal(info, target, durability, clock)
    return Recorder(info, journal, clock, lambda ended: sealer.submit(ended, target))


def _journal(info: RunInfo, target: TraceStore | str, durability: Durability, clock: Clock) -> AnyJournal:
    seed = clock.random_bytes(32)
    folder = journal_folder(target if isinstance(target, str) else target.url)
    if folder is not None:
        try:
            return _file_journal(folder, info, seed, durability, clock)
        except JournalError as error:
            _warn(f"run {info.run_id} is kept in memory until it ends: {error}")
    return MemoryJournal(info.run_id, info.tenant_id, seed)


def _file_journal(
    folder: Path, info: RunInfo, seed: bytes, durability: Durability, clock: Clock
) -> AnyJournal:
    try:
        return Journal.create(folder, info.run_id, info.tenant_id, seed, durability=durability)
    except RunInUseError as error:
        wanted, fresh = info.run_id, clock.new_id()
        _warn(f"run {wanted} is recorded as {fresh}: {error}")
        info.run_id = fresh
        if info.origin_run_id == wanted:
            info.origin_run_id = fresh
        info.metadata["requested_run_id"] = wanted
        return Journal.create(folder, fresh, info.tenant_id, seed, durability=durability)


def _warn(text: str) -> None:
    warnings.warn(RecordingWarning(text), stacklevel=7)
