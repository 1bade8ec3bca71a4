"""The only reader of wall time, of randomness and of new ids.

Everything else is given a `Clock`, so that a test (or a replay) decides what time it is.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Where time, randomness and ids come from. Implementations MUST be safe to share between threads."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC. May jump, also back: it is what the machine believes."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start; never goes back."""
        ...

    def random_bytes(self, n: int) -> bytes:
        """`n` bytes that nobody can guess (a run's seed is a secret)."""
        ...

    def new_id(self) -> str:
        """A fresh id: 32 lower-case hex digits of a version 4 UUID."""
        ...


_time_ns: Callable[[], int] = time.time_ns
_random_bytes = os.urandom


def read_by(time_ns: Callable[[], int] | None) -> None:
    """Has the system's clock read by this function, where `time.time_ns` is not the machine's own any
    more; None: by that again. What `os.urandom` was at first is used in any case."""
    global _time_ns  # noqa: PLW0603 - a method would cost the hot path a lookup
    _time_ns = time_ns or time.time_ns


class SystemClock:
    """The machine's own clock and the operating system's randomness."""

    __slots__ = ()

    def now_us(self) -> int:
        return _time_ns() // 1000

    # The function itself: every step reads it twice.
    monotonic_ns = staticmethod(time.perf_counter_ns)

    def random_bytes(self, n: int) -> bytes:
        return _random_bytes(n)

    def new_id(self) -> str:
        return uuid.UUID(bytes=_random_bytes(16), version=4).hex


SYSTEM: Clock = SystemClock()


class ManualClock:
    """A clock for tests: stands still until it is told otherwise, and repeats itself from the same start.

    `tick_us` is added after each reading of the time. Random bytes and ids are counted up, not
    random: `new_id()` gives `00…01`, `00…02` and so on.
    """

    def __init__(self, now_us: int = 1_700_000_000_000_000, *, tick_us: int = 0) -> None:
        self._lock = threading.Lock()
        self._now_us = now_us
        self._monotonic_ns = 0
        self._tick_us = tick_us
        self._ids = 0
        self._draws = 0

    def now_us(self) -> int:
        with self._lock:
            now = self._now_us
            self._now_us += self._tick_us
            self._monotonic_ns += self._tick_us * 1000
            return now

    def monotonic_ns(self) -> int:
        with self._lock:
            return self._monotonic_ns

    def random_bytes(self, n: int) -> bytes:
        with self._lock:
            self._draws += 1
            return (self._draws.to_bytes(8, "big") * (n // 8 + 1))[:n]

    def new_id(self) -> str:
        with self._lock:
            self._ids += 1
            return f"{self._ids:032x}"

    def set(self, now_us: int) -> None:
        """Sets the wall time, back as well as forth; monotonic time stays."""
        with self._lock:
            self._now_us = now_us

    def advance(self, *, us: int = 0, ms: float = 0.0) -> None:
        """Lets wall and monotonic time pass. Raises `ValueError` for a negative span."""
        span_us = us + round(ms * 1000)
        if span_us < 0:
            raise ValueError("time does not pass backwards: use set()")
        with self._lock:
            self._now_us += span_us
            self._monotonic_ns += span_us * 1000
