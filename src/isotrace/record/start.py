"""Opens the journal of a run. Whatever goes wrong here, the agent goes on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from isotrace.clock import Clock
from isotrace.errors import JournalError, RecordingWarning
from isotrace.record import sealer
from isotrace.record.context import RunInfo
from isotrace.record.home import default_store_url, journal_folder
from isotrace.record.journal import AnyJournal, Journal, MemoryJournal
from isotrace.record.recorder import Recorder

if TYPE_CHECKING:
    from isotrace.contracts import TraceStore

Durability = Literal["process", "power"]
"""`process`: an event survives the process. `power`: it survives a power cut."""


def start_recording(
    info: RunInfo, store: TraceStore | str | None, durability: Durability, clock: Clock, *, fresh_id: bool
) -> Recorder:
    """A recorder with its journal in place.

    Where no journal file can be made (a read-only or full disk), a `RecordingWarning` says so and the
    events are kept in memory until the run ends.
    """
    target: TraceStore | str = default_store_url() if store is None else store
    journal = _journal(info, target, durability, clock)
    return Recorder(info, journal, clock, lambda ended: sealer.submit(ended, target))


def _journal(info: RunInfo, target: TraceStore | str, durability: Durability, clock: Clock) -> AnyJournal:
    seed = clock.random_bytes(32)
    folder = journal_folder(target if isinstance(target, str) else target.url)
    if folder is not None:
        try:
            return Journal.create(folder, info.run_id, info.tenant_id, seed, durability=durability)
        except JournalError as error:
            warnings.warn(
                RecordingWarning(f"run {info.run_id} is kept in memory until it ends: {error}"), stacklevel=5
            )
    return MemoryJournal(info.run_id, info.tenant_id, seed)
