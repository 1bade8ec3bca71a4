"""How one run's scheduler sees one event loop."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from isotrace.record.idle import idle_probe

if TYPE_CHECKING:
    from isotrace.record.scheduler import Scheduler

SPIN_LIMIT = 1_000
"""Turns of a loop in which the run's code is never idle (a spinning `sleep(0)`) before a delivery is
forced."""


class Look:
    """Looks, turn by turn of one loop, whether the run's code there is idle, and has the scheduler
    deliver when it is.

    `busy`: something was delivered there and it was not found idle since. `blocked`: the agent's code
    blocks the loop while it waits for threads of ours.
    """

    __slots__ = ("_active", "_force", "_idle", "_scheduler", "_spins", "blocked", "busy", "loop")

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.busy = False
        self.blocked = False
        self._scheduler = scheduler
        self._idle = idle_probe(loop, scheduler)
        self._active = False
        self._force = False
        self._spins = 0

    @property
    def awake(self) -> bool:
        """Whether the loop turns, so that it can look."""
        return not self.blocked and self.loop.is_running()

    def poke(self, *, force: bool = False) -> None:
        """Starts looking, from any thread. `force`: the next delivery does not wait for other places."""
        self._force = self._force or force
        if self._active:
            return
        self._active = True
        try:
            if asyncio._get_running_loop() is self.loop:
                self._again()
            else:
                self.loop.call_soon_threadsafe(self._turn, context=Context())
        except RuntimeError:  # the loop was closed
            self._active = False

    def _again(self) -> None:
        # A context of its own: it does not count as the run's activity, and two loops can't be in one.
        self.loop.call_soon(self._turn, context=Context())

    def _turn(self) -> None:
        if not self._idle():
            self._spins += 1
            if self._spins < SPIN_LIMIT:
                self._again()
                return
            self._scheduler.forced(self)
        self._spins = 0
        # Cleared first: what is set in motion now may poke, and that must not get lost.
        self._active = False
        force, self._force = self._force, False
        if self._scheduler.advance(self, force=True) if force else self._scheduler.idle(self):
            self.poke()
