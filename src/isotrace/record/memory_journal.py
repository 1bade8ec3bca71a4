"""A journal that is no file: for a run that has no place on disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from isotrace.canonical import MAX_BYTES
from isotrace.events import Event
from isotrace.record.journal import Journal
from isotrace.record.lines import JournalContent, JournalHeader, json_bytes
from isotrace.record.shapes import VALUE_NAMES, Facts, named_facts
from isotrace.record.snapshot import dump_json, has_tag


class MemoryJournal:
    """What `Journal` is, for a run that is kept in memory: nothing survives the process."""

    path: Path | None = None

    def __init__(self, run_id: str, tenant_id: str, seed: bytes) -> None:
        self.header = JournalHeader(run_id, tenant_id, seed, os.getpid())
        self._events: list[Event] = []
        self._lock = threading.RLock()

    @property
    def inert(self) -> bool:
        return self.header.pid != os.getpid()

    def append(
        self, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: str = ""
    ) -> int:
        """Keeps one event; see `Journal.append`."""
        event = Event(-1, type_, time_us, orjson.loads(b"{%b}" % facts), dict(values))
        with self._lock:
            event.seq = len(self._events)
            self._events.append(event)
            return event.seq

    def append_json(self, type_: str, time_us: int, facts: Facts, value: Any, slot: str = "") -> bool:
        """Keeps one event; see `Journal.append_json`."""
        try:
            data = dump_json(value)
        except (TypeError, ValueError, RuntimeError, MemoryError):
            return False
        if has_tag(data) or len(data) > MAX_BYTES - 1024:
            return False
        named = json_bytes(named_facts(facts))[1:-1]
        self.append(type_, time_us, named, {VALUE_NAMES[type_]: data}, slot)
        return True

    def content(self) -> JournalContent:
        """What has been appended so far."""
        with self._lock:
            events = [
                Event(seq, e.type, e.time_us, dict(e.facts), dict(e.values))
                for seq, e in enumerate(self._events)
            ]
        return JournalContent(self.header, events)

    def close(self) -> None:
        """Nothing to let go of."""

    def remove(self) -> None:
        """Forgets the events."""
        with self._lock:
            self._events = []


AnyJournal = Journal | MemoryJournal
