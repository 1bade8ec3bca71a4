"""What replayed code reads by itself, from the record: clocks, fresh ids, entropy.

The k-th value of a gap is the k-th that was read there. A read too many, or too few, is no divergence by
itself, and never moves what is read in the gap after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from isotrace.events import Event
from isotrace.models import Erased, Lineage
from isotrace.record.context import Branch
from isotrace.record.sources.generators import watching
from isotrace.record.sources.noted import CLOCK, CONNECTION, MOVED, PROCESS, decoded
from isotrace.record.sources.surroundings import EARLY_GAP
from isotrace.replay.recorded import RecordedRun


class NotedReads:
    """The noted values of one recorded run, as its replay hands them out. Thread-safe.

    `real_ns` is the machine's time. `note` is told what could not be served.
    """

    def __init__(
        self,
        record: RecordedRun,
        note: Callable[[str], None],
        real_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._record = record
        self._note = note
        self._real_ns = real_ns
        self._lock = threading.RLock()
        self._places: dict[tuple[Lineage, str], _Place] = {}
        self._sources = frozenset(record.sources)

    def next(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        """The value of this read. Where the record has none: of a clock the time that goes on from the
        last one, of anything else what `function` gives."""
        if source not in self._sources and not source.startswith((PROCESS, CONNECTION)):
            return function()
        return self._next((branch.path, branch.count, source), branch.last_us, function)

    def early(self, source: str, function: Callable[[], Any]) -> Any:
        """The same for what is read before the run begins. Left alone where nothing of it is on record."""
        if ((), EARLY_GAP, source) not in self._record.noted:
            return function()
        return self._next(((), EARLY_GAP, source), 0, function)

    def _next(self, gap: tuple[Lineage, int, str], event_us: int, function: Callable[[], Any]) -> Any:
        path, number, source = gap
        with self._lock:
            place = self._places.get((path, source))
            if place is None:
                place = self._places[path, source] = _Place()
            if place.gap != number:
                place.gap, place.left = number, iter(self._of_gap(gap))
            for value in place.left:
                place.last, place.read_ns = value, self._real_ns()
                return value
            return self._passing(place, event_us * 1000) if source == CLOCK else function()

    def restore_generators(self, path: Lineage, gap: int) -> list[Any]:
        """A step was served whose body, on record, drew from the global generators: they are where it had
        left them. In a process that is not the program's own they are left alone. Gives the states."""
        watch, restored = watching(), list[Any]()
        if watch is None or MOVED not in self._sources:
            return restored
        for states in self._of_gap((path, gap, MOVED)):
            try:
                watch.restore(states)
                restored.append(states)
            except (ValueError, TypeError, KeyError):
                self._note("the state of a random generator can't be read again")
        return restored

    def _passing(self, place: _Place, event_ns: int) -> int:
        """The time that stands at the last value, or at the branch's last event, and goes on from there."""
        if place.last is None or place.last < event_ns:
            place.last, place.read_ns = event_ns, self._real_ns()
        return int(place.last) + self._real_ns() - place.read_ns

    def _of_gap(self, gap: tuple[Lineage, int, str]) -> list[Any]:
        values: list[Any] = []
        for event in self._record.noted.get(gap, ()):
            values += self._values(gap[2], event)
        return values

    def _values(self, source: str, event: Event) -> list[Any]:
        data = event.values.get("value")
        if not isinstance(data, bytes):
            why = "was erased" if isinstance(data, Erased) else "is not on record"
            self._note(f"what the code read from {source} {why}")
            return []
        try:
            return decoded(source, orjson.loads(data))
        except (ValueError, TypeError, KeyError):
            self._note(f"what the code read from {source} can't be read again (event {event.seq})")
            return []


class _Place:
    """How far one branch has read of one source."""

    __slots__ = ("gap", "last", "left", "read_ns")

    def __init__(self) -> None:
        self.gap: int | None = None
        self.left: Any = iter(())
        self.last: Any = None
        self.read_ns = 0
