"""Timers of the agent's own code: `asyncio.sleep`, `asyncio.timeout`, and what waits with a time-out.

A timer is a step of kind `timer`. That it fired, or was cancelled first, stands in the ledger like any
other completion; so a replay fires it in its recorded turn, without waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import cache
from typing import TYPE_CHECKING, Any

from isotrace.record.context import Ending, Step
from isotrace.record.scheduler import Waiter
from isotrace.record.spec import SkillSpec
from isotrace.record.writer import UNDELIVERED

if TYPE_CHECKING:
    from isotrace.record.recorder import Recorder


def _timer(delay: float | None = None) -> None:
    """The signature that timers are bound with: a delay in seconds, if the code named one."""


def timer_args(delay: float | None) -> tuple[float, ...]:
    """What a timer is asked for, as far as the code decided it.

    A delay that is no whole number of microseconds was computed, from a clock or with jitter: no two runs
    would have the same.
    """
    return () if delay is None or round(delay, 6) != delay else (delay,)


@cache
def timer_spec(name: str) -> SkillSpec:
    """The skill that stands for one of asyncio's timers."""
    return SkillSpec(_timer, name=name, kind="timer", effect="pure")


class RecordedTimer:
    """A running timer. `cancel` ends it unless it has fired; cancelling twice is fine."""

    def __init__(
        self,
        recorder: Recorder,
        step: Step,
        when: float,
        fired: Callable[[], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._recorder = recorder
        self._step = step
        self._fired = fired
        self._done = False
        self._now_ns = now_ns
        self._started = now_ns()
        loop = asyncio.get_running_loop()
        self._waiter = Waiter((step.lineage, "end"), self._fire, _never, loop=loop)
        # Outside of the run's context: waiting for its turn is not the run's activity.
        self._handle = loop.call_at(when, recorder.scheduler.offer, self._waiter, context=Context())

    def _end(self, facts: Mapping[str, Any]) -> None:
        self._recorder.writer.finish(Ending(self._step, dict(facts), {}), self._now_ns() - self._started)

    def _fire(self) -> None:
        if not self._done:
            self._done = True
            self._end({})
            self._fired()

    def cancel(self) -> None:
        if self._done:
            return
        self._done = True
        self._handle.cancel()
        self._recorder.scheduler.withdraw(self._waiter)
        self._end(_CANCELLED)


_CANCELLED = {
    "status": "failure",
    "outcome_category": "CANCELLED",
    "outcome_code": "CancelledError",
    **UNDELIVERED,
}


def _never(error: BaseException) -> None:
    """A live timer has nothing to fail."""
