"""One delivery at a time: the schedule of concurrent steps, made reproducible while it is recorded.

When a step's real call has finished, its completion is not handed to the agent at once. It waits
here until nothing of the agent's own code can run any more: in every event loop of the run it is
idle, and every thread of ours is blocked. Then exactly one completion is delivered, and what it sets
in motion runs until all is quiet again. So the order of deliveries alone determines the schedule,
that order is in the ledger, and a replay that delivers in the same order sees the same schedule. It
is one that asyncio might have chosen anyway.

The agent's code runs in *places*: event loops and threads of ours. `_busy` counts those that
run it. A loop is busy from a delivery until `Look` finds it idle; a thread from its turn until it pauses.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any, Protocol

from isotrace.record.look import Look

TO_THREAD_CAPACITY = 32
"""Threads that `asyncio.to_thread` may use at once per loop, as many as asyncio's own maximum."""

FORCE_AFTER_S = 0.25
"""How long a completion waits for places that don't become quiet before it is delivered by force."""


class Waiter:
    """A completion that waits for its turn.

    `key` names it in the run; `fire` hands it over and is called once, in the loop's thread where
    `loop` is given; `fail` ends the wait with an error instead. What it wakes is a thread of ours
    (`thread`), code in `loop`, or code that blocks the loop of `look`.
    """

    __slots__ = ("fail", "fire", "key", "look", "loop", "thread")

    def __init__(
        self,
        key: Any,
        fire: Callable[[], None],
        fail: Callable[[BaseException], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        thread: bool = False,
        look: Look | None = None,
    ) -> None:
        self.key = key
        self.fire = fire
        self.fail = fail
        self.loop = loop
        self.thread = thread
        self.look = look


class Gate:
    """How many threads of one pool may run at once. The number is the schedule's business, so it
    never depends on the machine."""

    __slots__ = ("active", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.active = 0


class Turns(Protocol):
    """Whose turn it is. Called under the scheduler's lock. Removing twice is fine."""

    def add(self, waiter: Waiter) -> None: ...

    def remove(self, waiter: Waiter) -> None: ...

    def served(self, key: Any) -> None:
        """This completion was handed over without waiting: a plain function's."""
        ...

    def next(self) -> Waiter | None:
        """The waiter whose turn it is, or None if that one is not here (yet)."""
        ...

    def taken(self, waiter: Waiter) -> None:
        """It is handed over now."""
        ...

    def overtaking(self) -> Waiter | None:
        """A thread that may go first where the loop of the one whose turn it is does not answer."""
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

    def served(self, key: Any) -> None:
        """Nobody waits for what comes after it."""

    def next(self) -> Waiter | None:
        for waiter in self._queue.values():
            # One whose loop has stopped must not hold up the others.
            if waiter.loop is None or waiter.loop.is_running():
                return waiter
        return None

    def taken(self, waiter: Waiter) -> None:
        self._queue.pop(id(waiter), None)

    def overtaking(self) -> Waiter | None:
        return next((waiter for waiter in self._queue.values() if waiter.loop is None), None)

    def waiting(self) -> list[Waiter]:
        return list(self._queue.values())


class Scheduler:
    """Hands completions to the agent one by one, each when all of the agent's code is quiet.

    `mark` is called with a reason when an order had to be forced. `stalled` is called, from any
    thread, when nothing can run any more and the completion whose turn it is did not come for
    `stall_after_s`. `stuck` is called in a loop that is idle after `abort`; it says whether it set
    something in motion.
    """

    def __init__(
        self,
        turns: Turns,
        mark: Callable[[str], None],
        stalled: Callable[[list[Waiter]], None] | None = None,
        stuck: Callable[[asyncio.AbstractEventLoop], bool] | None = None,
        stall_after_s: float = 2.0,
    ) -> None:
        self.scheduled = 0
        self._turns = turns
        self._mark = mark
        self._stalled = stalled
        self._stuck = stuck
        self._stall_after_s = stall_after_s
        self._lock = threading.RLock()
        self._looks: dict[int, Look] = {}
        self._busy = 0
        self._starts: deque[tuple[Gate | None, Waiter]] = deque()
        self._progress = 0
        self._timer: threading.Timer | None = None
        self._aborted: BaseException | None = None
        self._closed = False
        self._left: BaseException | None = None

    # --- completions ----------------------------------------------------------------

    def offer(self, waiter: Waiter) -> None:
        """Queues a completion. From any thread."""
        with self._lock:
            aborted = self._aborted
            if aborted is None:
                self._turns.add(waiter)
        if aborted is not None:
            waiter.fail(aborted)
        else:
            self._move_on(waiter.loop)

    def withdraw(self, waiter: Waiter) -> None:
        """Takes a completion back: its step was cancelled. After it was delivered, does nothing."""
        with self._lock:
            self._turns.remove(waiter)
        self._move_on(waiter.loop)

    def served(self, key: Any) -> None:
        """A completion that did not wait was handed over; others may have waited for that."""
        with self._lock:
            self._turns.served(key)
            waiting = bool(self._turns.waiting())
        if waiting:
            self._move_on()

    def rearrange(self, change: Callable[[], None]) -> None:
        """Lets the order of what waits be changed."""
        with self._lock:
            change()
        self._move_on()

    async def turn(self, key: Any, complete: Callable[[], None]) -> None:
        """Waits until it is this completion's turn; `complete` is called just before.

        Raises `CancelledError` if the waiting task is cancelled, which may be after `complete` was
        called, and what `abort` was given.
        """
        loop = asyncio._get_running_loop()
        if loop is None:
            # Another library (trio, say) drives this coroutine, by a schedule of its own.
            self._mark("event loop: a step was awaited outside of asyncio, where isotrace does not order")
            complete()
            self.served(key)
            return
        future: asyncio.Future[None] = loop.create_future()

        def fire() -> None:
            if not future.done():
                try:
                    complete()
                finally:
                    future.set_result(None)

        def fail(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error)

        waiter = Waiter(key, fire, fail, loop=loop)
        self.offer(waiter)
        try:
            await future
        except BaseException:
            self.withdraw(waiter)
            raise

    # --- threads of ours --------------------------------------------------------------

    def start(self, waiter: Waiter, gate: Gate | None = None) -> None:
        """Queues code of a thread, or code that blocks a loop, to begin or go on. These come before
        completions and in this order; a gate holds up the starts that it has no room for."""
        with self._lock:
            self._starts.append((gate, waiter))
        self._move_on()

    def recall(self, waiter: Waiter) -> bool:
        """Takes back a start; whether it had not happened yet."""
        with self._lock:
            for position, (_, queued) in enumerate(self._starts):
                if queued is waiter:
                    del self._starts[position]
                    return True
        return False

    def landed(self, gate: Gate) -> None:
        """A thread that was started through this gate has ended."""
        with self._lock:
            gate.active -= 1

    def thread_resumed(self) -> None:
        """A thread of ours runs the agent's code, without having waited for a turn."""
        with self._lock:
            self._busy += 1
            self._progress += 1

    def thread_paused(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """A thread of ours stops running the agent's code: it waits, is in a real call, or ended,
        having handed what it has to `loop` if that is given."""
        with self._lock:
            if loop is not None:
                self._set_busy(self.look(loop), True)
            self._busy -= 1
            self._progress += 1
        self._move_on(loop)

    # --- event loops --------------------------------------------------------------------

    def look(self, loop: asyncio.AbstractEventLoop) -> Look:
        """How the scheduler sees this loop."""
        look = self._looks.get(id(loop))
        if look is None:
            with self._lock:
                self._looks = {key: one for key, one in self._looks.items() if not one.loop.is_closed()}
                look = self._looks.setdefault(id(loop), Look(self, loop))
        return look

    @contextmanager
    def running(self, loop: asyncio.AbstractEventLoop, *, thread: bool) -> Iterator[None]:
        """While a loop runs; `thread`: in a thread of ours, whose turn is the loop's meanwhile."""
        look = self.look(loop)
        with self._lock:
            self._busy -= thread
            self._set_busy(look, True)
        look.poke()
        try:
            yield
        finally:
            with self._lock:
                self._set_busy(look, False)
                self._busy += thread
            if not thread:
                self._move_on()

    def woken(self, loop: asyncio.AbstractEventLoop) -> None:
        """The agent's code, in some thread, gave this loop something to run."""
        look = self.look(loop)
        with self._lock:
            self._set_busy(look, True)
        look.poke()

    def loop_blocked(self, look: Look) -> None:
        """The agent's code blocks this loop until threads of ours have come further."""
        with self._lock:
            look.blocked = True
            self._set_busy(look, False)
        self._move_on()

    def loop_unblocked(self, look: Look) -> None:
        """It goes on, without having waited for a turn."""
        with self._lock:
            look.blocked = False
            self._set_busy(look, True)
        look.poke()

    def _set_busy(self, look: Look, busy: bool) -> None:
        self._busy += busy - look.busy
        look.busy = busy
        self._progress += 1

    def idle(self, look: Look) -> bool:
        """The run's code in this loop is idle: delivers what is next; whether it is to look again."""
        with self._lock:
            self._set_busy(look, False)
            waiter = self._take(look, force=False)
        if waiter is not None:
            waiter.fire()
            return True
        if self._closed:
            if self._left is not None:
                # Code after the run's end may wait for what is not on record.
                self._fail(self._turns.waiting(), self._left)
        elif self._aborted is not None and self._stuck is not None:
            return self._stuck(look.loop)
        return False

    def forced(self, look: Look) -> None:
        """The run's code in this loop is never idle. What is next is delivered all the same."""
        with self._lock:
            due = self._turns.next() is not None
        if due:
            self._mark("event loop: never idle, so a delivery was forced")

    # --- moving on ------------------------------------------------------------------

    def _move_on(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Something changed: lets a loop look whether it is idle, or delivers here if there is none."""
        if loop is not None:
            self.look(loop).poke()
            return
        awake = [look for look in list(self._looks.values()) if look.awake]
        for look in awake:
            look.poke()
        while not awake and self.advance(None):
            pass

    def advance(self, here: Look | None, *, force: bool = False) -> bool:
        """Delivers the next completion if all is quiet; whether it did.

        Called in the thread of the loop of `here` when that is idle, or with None when no loop runs.
        """
        with self._lock:
            waiter = self._take(here, force=force)
        if waiter is None:
            return False
        waiter.fire()
        return True

    def _take(self, here: Look | None, *, force: bool) -> Waiter | None:
        if self._busy > 0 and not force:
            self._watch()
            return None
        waiter = (self._next_start() if self._starts else None) or self._next_completion(here, force)
        if waiter is None:
            self._watch()
            return None
        if self._busy > 0:
            self._mark("threads: a delivery was forced while other code of the agent was running")
        self._progress += 1
        if waiter.thread:
            self._busy += 1
        elif waiter.look is not None:
            waiter.look.blocked = False
            self._set_busy(waiter.look, True)
            waiter.look.poke()
        elif here is not None:
            self._set_busy(here, True)
        return waiter

    def _next_completion(self, here: Look | None, force: bool) -> Waiter | None:
        waiter = self._turns.next()
        if waiter is not None and waiter.loop is not None and (here is None or waiter.loop is not here.loop):
            # Only its own loop can tell when it is idle.
            self.look(waiter.loop).poke(force=force)
            waiter = self._turns.overtaking() if force else None
        if waiter is not None:
            self._turns.taken(waiter)
        return waiter

    def _next_start(self) -> Waiter | None:
        for position, (gate, waiter) in enumerate(self._starts):
            if gate is None or gate.active < gate.capacity:
                if gate is not None:
                    gate.active += 1
                del self._starts[position]
                return waiter
        return None

    # --- what does not move ---------------------------------------------------------------

    def _watch(self) -> None:
        """Looks again after a while if something waits and can't be delivered."""
        if self._timer is not None or self._closed or self._aborted is not None:
            return
        if self._busy > 0:
            if not self._has_due():
                return
            delay = FORCE_AFTER_S
        elif self._stalled is not None and self._turns.waiting():
            delay = self._stall_after_s
        else:
            return
        self._timer = threading.Timer(delay, self._look_again, (self._progress,))
        self._timer.daemon = True
        with suppress(RuntimeError):  # the interpreter is shutting down
            # Outside of the run's context: this thread is none of the agent's.
            Context().run(self._timer.start)

    def _has_due(self) -> bool:
        room = any(gate is None or gate.active < gate.capacity for gate, _ in self._starts)
        return room or self._turns.next() is not None

    def _look_again(self, seen: int) -> None:
        """Delivers by force where some code of the agent blocks, or computes, where we can't see it;
        where all is quiet and the one whose turn it is still did not come, this is a stall."""
        stalled: list[Waiter] = []
        with self._lock:
            self._timer = None
            if self._closed or self._aborted is not None:
                return
            if seen != self._progress:
                self._watch()
                return
            busy = self._busy > 0
            if not busy and not self._has_due():
                stalled = self._turns.waiting()
        if stalled and self._stalled is not None:
            self._stalled(stalled)
        elif busy:
            self.advance(None, force=True)
            with self._lock:
                self._watch()
        else:
            self._move_on()

    def abort(self, error: BaseException) -> None:
        """Ends every wait with this error, each in its own loop's thread, and every wait to come."""
        with self._lock:
            self._aborted = error
            waiting = self._turns.waiting()
        self._fail(waiting, error)
        for look in list(self._looks.values()):
            look.poke()

    def _fail(self, waiting: list[Waiter], error: BaseException) -> None:
        for waiter in waiting:
            with self._lock:
                self._turns.remove(waiter)
            if waiter.loop is None:
                waiter.fail(error)
            elif not waiter.loop.is_closed():
                waiter.loop.call_soon_threadsafe(waiter.fail, error, context=Context())

    def close(self, left: BaseException | None = None) -> None:
        """The run has ended, and nothing is watched any more. What still waits is delivered as before; or
        with `left`, what never will be ends with that: threads now, tasks where their loop is idle."""
        with self._lock:
            self._closed = True
            self._left = left
            timer, self._timer = self._timer, None
            waiting = self._turns.waiting()
        if timer is not None:
            timer.cancel()
        if left is not None:
            self._fail([waiter for waiter in waiting if waiter.loop is None], left)
        for look in list(self._looks.values()):
            look.poke()
