"""The journal of a run that may turn out to be none: that of a program whose own code calls nothing.

`isotrace run` opens a run around every program. Where all that happens is inside runs that the program opens
itself, that outer run says nothing of its own, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from isotrace.record.memory_journal import AnyJournal, MemoryJournal
from isotrace.record.shapes import STARTED, Facts
from isotrace.record.warned import warn

_NOTHING_OF_ITS_OWN = ("agent", "timer")
"""Kinds of steps that a run need not be kept for: an agent is a run of its own, a timer only waits."""

MAX_EVENTS = 10_000
MAX_SIZE = 16 * 1024 * 1024


class ProvisionalJournal(MemoryJournal):
    """Keeps a run's events in memory up to its first step that does something. From then on it is the
    journal that `begin` gives: that step's intent, and all before it, are there before the step's effect.

    `begin` also tells whoever waits for runs that one has begun. A program that only calls agents, and
    goes on for too long to keep count of them, gives up being a run: a step of its own is warned about.
    """

    def __init__(self, run_id: str, tenant_id: str, seed: bytes, begin: Callable[[], AnyJournal]) -> None:
        super().__init__(run_id, tenant_id, seed)
        self._begin = begin
        self._held: list[tuple[str, int, bytes, Mapping[str, bytes], str]] = []
        self._size = 0
        self._given_up = False
        self.kept: AnyJournal | None = None

    def append(
        self, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: str = ""
    ) -> int:
        """Keeps one event; see `Journal.append`."""
        with self._lock:
            if self.kept is None:
                return self._hold(type_, time_us, facts, values, slot)
        return self.kept.append(type_, time_us, facts, values, slot)

    def append_json(self, type_: str, time_us: int, facts: Facts, value: Any, slot: str = "") -> bool:
        """Keeps one event; see `Journal.append_json`."""
        if self.kept is not None:
            return self.kept.append_json(type_, time_us, facts, value, slot)
        return super().append_json(type_, time_us, facts, value, slot)

    def _hold(self, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: str) -> int:
        earns = type_ == STARTED and orjson.loads(b"{%b}" % facts)["kind"] not in _NOTHING_OF_ITS_OWN
        if self._given_up:
            if earns:
                warn("the program's own calls are not recorded: it had called too many agents before them")
            return -1
        self._held.append((type_, time_us, facts, dict(values), slot))
        self._size += len(facts) + sum(map(len, values.values()))
        if earns:
            return self._keep()
        if len(self._held) > MAX_EVENTS or self._size > MAX_SIZE:
            self._given_up = True
            self._held = []
        return len(self._held) - 1

    def _keep(self) -> int:
        journal = self._begin()
        seq = -1
        for held in self._held:
            seq = journal.append(*held)
        self._held = []
        self.kept = journal
        return seq
