"""Figures, and how they are taken on a machine that others use too.

Times are CPU time of the calling thread (`time.thread_time`), kernel included: what another process
does meanwhile is not counted. Contenders take turns, and each round gives one ratio, so that a
machine that slows down slows both. What counts is the median over the rounds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and its target. `beside` is what helps to judge it, with its unit in the name.

    `target` is an upper bound, a lower one where `at_least`. `missing` says why there is no number.
    """

    name: str
    what: str
    measured: float | None
    target: float
    unit: str = ""
    at_least: bool = False
    beside: Mapping[str, float] = field(default_factory=dict)
    missing: str | None = None

    @property
    def passed(self) -> bool | None:
        """None where nothing could be measured."""
        if self.measured is None:
            return None
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "what": self.what,
            "measured": self.measured,
            "target": self.target,
            "bound": "at least" if self.at_least else "at most",
            "unit": self.unit,
            "passed": self.passed,
            "beside": dict(self.beside),
            "missing": self.missing,
        }


def cpu_s(call: Callable[[], object]) -> float:
    """CPU seconds that this thread spends in one call."""
    gc.collect()
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def typical_cpu_s(call: Callable[[], object], *, rounds: int, calls: int = 1) -> float:
    """The median CPU time of one call, in seconds, over rounds of several calls each; one goes unmeasured."""

    def several() -> None:
        for _ in range(calls):
            call()

    call()
    return median(cpu_s(several) for _ in range(rounds)) / calls


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contender measured in each round. The first changes from round to round, because what
    ran before leaves its traces in the caches; a round at the start is not counted."""
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            measured = contenders[name]()
            if number >= 0:
                taken[name].append(measured)
    return taken


def typical_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """The median of the ratios of the single rounds."""
    return median(one / other for one, other in zip(of, to, strict=True))
