"""One delivery at a time: the schedule of concurrent steps, made reproducible while it is recorded.

When a step's real call has finished, its completion is not handed to the agent at once. It waits
here until nothing of the agent's own code can run any more: every event loop of the run has an empty
ready queue, and every thread of ours is blocked. Then exactly one completion is delivered, and what
it sets in motion runs until all is quiet again. So the order of deliveries alone determines the
schedule, that order is in the ledger, and a replay that delivers in the same order sees the same
schedule. It is one that asyncio might have chosen anyway.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from isotrace.record.idle import idle_probe, quiet_call_soon

SPIN_LIMIT = 1_000
"""Turns of a loop that is never idle (a spinning `sleep(0)`) before a delivery is forced."""

TO_THREAD_CAPACITY = 32
"""Threads that `asyncio.to_thread` may use at once within a run, as many as asyncio's own maximum."""

FORCE_AFTER_S = 0.25
"""How long a thread waits for the agent's other threads before its delivery is forced."""

_EMPTY = contextvars.Context()


class Waiter:
    """A completion that waits for its turn.

    `key` names it in the run; `fire` hands it over and is called once, in the loop's thread where
    `loop` is given; `fail` ends the wait with an error instead.
    """

    __slots__ = ("fail", "fire", "key", "loop", "thread")

    def __init__(
        self,
        key: Any,
        fire: Callable[[], None],
        fail: Callable[[BaseException], None],
        loop: asyncio.AbstractEventLoop | None = None,
        thread: bool = False,
    ) -> None:
        self.key = key
        self.fire = fire
        self.fail = fail
        self.loop = loop
        self.thread = thread


class Gate:
    """How many threads of one pool may run at once. The number is the schedule's business, so it
    never depends on the machine."""

    __slots__ = ("active", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.active = 0


class Turns(Protocol):
    """Whose turn it is. Called under the scheduler's lock."""

    def add(self, waiter: Waiter) -> None: ...

    def remove(self, waiter: Waiter) -> None: ...

    def next(self) -> Waiter | None:
        """The waiter whose turn it is, or None if that one is not here (yet)."""
        ...

    def waiting(self) -> list[Waiter]: ...


class ArrivalOrder:
    """Recording: first finished, first delivered."""

    def __init__(self) -> None:
        self._queue: dict[int, Waiter] = {}

    def add(self, waiter: Waiter) -> None:
        self._queue[id(waiter)] = waiter

    def remove(self, waiter: Waiter) -> None:
        self._queue.pop(id(waiter), None)

    def next(self) -> Waiter | None:
        return next(iter(self._queue.values()), None)

    def waiting(self) -> list[Waiter]:
        return list(self._queue.values())


class Scheduler:
    """Hands completions to the agent one by one, each when all of the agent's code is quiet.

    `mark` is called with a reason when an order had to be forced. `stalled` is called when nothing
    can run any more and the completion whose turn it is never came; it may `fail` the waiters.
    """

    def __init__(
        self,
        turns: Turns,
        mark: Callable[[str], None],
        stalled: Callable[[list[Waiter]], None] | None = None,
        stall_after_s: float = 2.0,
    ) -> None:
        self._turns = turns
        self._mark = mark
        self._stalled = stalled
        self._stall_after_s = stall_after_s
        self._lock = threading.RLock()
        self._pumps: dict[int, _Pump] = {}
        self._running = 0
        self._launches: deque[tuple[Gate, Waiter]] = deque()
        self.delivered = 0
        self.to_thread_gate = Gate(TO_THREAD_CAPACITY)

    # --- completions ----------------------------------------------------------------

    def offer(self, waiter: Waiter) -> None:
        """Queues a completion. From any thread."""
        with self._lock:
            self._turns.add(waiter)
        self._poke(waiter.loop)

    def withdraw(self, waiter: Waiter) -> None:
        """Takes a completion back: its step was cancelled."""
        with self._lock:
            self._turns.remove(waiter)
        self._poke(waiter.loop)

    def launch(self, gate: Gate, waiter: Waiter) -> None:
        """Queues the start of a thread's own code. Starts come before completions, in this order."""
        with self._lock:
            self._launches.append((gate, waiter))
        self._poke(waiter.loop)

    def landed(self, gate: Gate) -> None:
        """A thread that was launched through this gate has ended."""
        with self._lock:
            gate.active -= 1

    def _next_launch(self) -> Waiter | None:
        for position, (gate, waiter) in enumerate(self._launches):
            if gate.active < gate.capacity:
                gate.active += 1
                del self._launches[position]
                return waiter
        return None

    async def turn(self, key: Any, complete: Callable[[], None]) -> None:
        """Waits until it is this completion's turn; `complete` is called just before.

        Raises `CancelledError` if the waiting task is cancelled; `complete` was not called then.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def fire() -> None:
            if not future.cancelled():
                complete()
                future.set_result(None)

        def fail(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error)

        waiter = Waiter(key, fire, fail, loop)
        self.offer(waiter)
        try:
            await future
        except asyncio.CancelledError:
            self.withdraw(waiter)
            raise

    # --- threads of ours --------------------------------------------------------------

    def thread_resumed(self) -> None:
        """A thread of ours begins to run the agent's code."""
        with self._lock:
            self._running += 1

    def thread_paused(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """A thread of ours stops running the agent's code: it waits, is in a real call, or ended."""
        with self._lock:
            self._running -= 1
        self._poke(loop)

    def block(self, waiter: Waiter, ready: threading.Event) -> None:
        """Blocks the calling thread of ours until `waiter` has fired, which sets `ready`.

        The thread has paused before. A thread that nothing wakes, because other code of the agent
        blocks where we can't see it, is woken by force, and the run is marked.
        """
        while not ready.wait(FORCE_AFTER_S):
            with self._lock:
                due = self._turns.next()
                if due is not waiter or self._pumps:
                    continue
                self._turns.remove(waiter)
                self._running += 1
            self._mark("threads: a delivery was forced while other threads of the agent were running")
            waiter.fire()
            self.delivered += 1

    # --- moving on ------------------------------------------------------------------

    def _poke(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Something changed: lets the loop's pump look, or looks here if there is no loop."""
        if loop is not None:
            self._pump(loop).poke()
            return
        with self._lock:
            pumps = list(self._pumps.values())
        if pumps:
            for pump in pumps:
                pump.poke()
        else:
            while self.advance(None):
                pass

    def _pump(self, loop: asyncio.AbstractEventLoop) -> _Pump:
        pump = self._pumps.get(id(loop))
        if pump is None:
            with self._lock:
                pump = self._pumps.setdefault(id(loop), _Pump(self, loop))
        return pump

    def advance(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Delivers the next completion if all is quiet; whether it did.

        Called in `loop`'s thread when that loop is idle, or with None when there is no loop.
        """
        with self._lock:
            if self._running > 0:
                return False
            waiter = self._next_launch()
            if waiter is None:
                waiter = self._turns.next()
                if waiter is None:
                    return False
                if waiter.loop is not None and waiter.loop is not loop:
                    self._pump(waiter.loop).poke()
                    return False
                self._turns.remove(waiter)
            if waiter.thread:
                self._running += 1
        waiter.fire()
        self.delivered += 1
        return True

    def forced(self) -> None:
        """A loop is never idle; the pump delivers all the same."""
        self._mark("event loop: never idle, so a delivery was forced")

    def quiet(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop is idle and nothing could be delivered. Waits a while, then calls it a stall."""
        if self._stalled is None or not self._turns.waiting():
            return
        seen = self.delivered
        quiet_call_later(loop, self._stall_after_s, self._check_stall, loop, seen)

    def _check_stall(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        with self._lock:
            waiting = self._turns.waiting()
            stuck = seen == self.delivered and waiting and self._running == 0 and self._turns.next() is None
        if stuck and self._stalled is not None:
            self._stalled(waiting)
        elif waiting and seen != self.delivered:
            self._pump(loop).poke()

    def abort(self, error: BaseException) -> None:
        """Ends every wait with this error, each in its own loop's thread."""
        with self._lock:
            waiting = self._turns.waiting()
            for waiter in waiting:
                self._turns.remove(waiter)
        for waiter in waiting:
            if waiter.loop is None:
                waiter.fail(error)
            elif not waiter.loop.is_closed():
                waiter.loop.call_soon_threadsafe(waiter.fail, error, context=_EMPTY)

    def close(self) -> None:
        """Forgets the loops; waiters that are left never fire."""
        with self._lock:
            self._pumps.clear()


def quiet_call_later(
    loop: asyncio.AbstractEventLoop, delay: float, callback: Callable[..., None], *args: Any
) -> None:
    """`call_later` outside of any run's context."""
    loop.call_later(delay, callback, *args, context=_EMPTY)


def quiet_call_at(
    loop: asyncio.AbstractEventLoop, when: float, callback: Callable[..., None], *args: Any
) -> asyncio.TimerHandle:
    """`call_at` outside of any run's context."""
    return loop.call_at(when, callback, *args, context=_EMPTY)


class _Pump:
    """Looks, turn by turn of one loop, whether it is idle, and delivers when it is."""

    __slots__ = ("_active", "_idle", "_loop", "_scheduler", "_spins", "_thread")

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self._idle = idle_probe(loop)
        self._active = False
        self._spins = 0
        self._thread = threading.get_ident()

    def poke(self) -> None:
        """Starts looking, from any thread."""
        if self._active:
            return
        if self._loop.is_closed():
            return
        self._active = True
        if threading.get_ident() == self._thread:
            quiet_call_soon(self._loop, self._turn)
        else:
            self._loop.call_soon_threadsafe(self._turn, context=_EMPTY)

    def _turn(self) -> None:
        if not self._idle():
            self._spins += 1
            if self._spins < SPIN_LIMIT:
                quiet_call_soon(self._loop, self._turn)
                return
            self._scheduler.forced()
        self._spins = 0
        # Cleared first: what `advance` sets in motion may poke, and that must not get lost.
        self._active = False
        if self._scheduler.advance(self._loop):
            self.poke()
        else:
            self._scheduler.quiet(self._loop)
