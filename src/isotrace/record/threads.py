"""Threads of the agent's own code, in an order that a replay can repeat.

Real calls of steps run in parallel as ever; the agent's code between them runs in one place at a time.
A thread of ours holds the turn while it runs that code, gives it up while a step's real call is under
way or while it waits for a future, and gets it back when its turn comes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from weakref import WeakKeyDictionary

from isotrace.record.context import Branch, current_branch, live_branch
from isotrace.record.look import Look
from isotrace.record.scheduler import TO_THREAD_CAPACITY, Gate, Scheduler, Waiter

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """One thread's place in the schedule; with `look`, that of a loop whose thread blocks."""

    def __init__(self, scheduler: Scheduler, look: Look | None = None) -> None:
        self._scheduler = scheduler
        self._look = look
        self._error: BaseException | None = None

    def pause(self) -> None:
        """Gives up the turn."""
        if self._look is None:
            self._scheduler.thread_paused()
        else:
            self._scheduler.loop_blocked(self._look)

    def go_on(self) -> None:
        """Takes the turn without waiting for it."""
        if self._look is None:
            self._scheduler.thread_resumed()
        else:
            self._scheduler.loop_unblocked(self._look)

    def resume(self, key: Any, complete: Callable[[], None]) -> None:
        """Waits for this completion's turn. Raises what a replay ends the wait with."""
        ready = threading.Event()

        def fire() -> None:
            try:
                complete()
            finally:
                ready.set()

        def fail(error: BaseException) -> None:
            self._error = error
            self.go_on()
            ready.set()

        self._scheduler.offer(Waiter(key, fire, fail, thread=True))
        ready.wait()
        if self._error is not None:
            raise self._error

    def wait_for(self, futures: Iterable[Future[Any]], timeout: float | None = None) -> None:
        """Gives up the turn until one of the futures is done, or the time is up."""
        woken = threading.Event()
        first = threading.Lock()
        waiter = Waiter("wait", woken.set, _ignore, thread=self._look is None, look=self._look)

        def wake(_: Future[Any]) -> None:
            if first.acquire(blocking=False):
                self._scheduler.start(waiter)

        for future in futures:
            future.add_done_callback(wake)
        self.pause()
        if woken.wait(timeout):
            return
        if first.acquire(blocking=False):
            self.go_on()
        else:
            woken.wait()


def _ignore(error: BaseException) -> None:
    """What starts is not failed: it finds out at its next step."""


def place() -> Worker | None:
    """The place of the calling code, if its waits have to be known: a thread of ours, or a run's loop."""
    branch = live_branch()
    if branch is None:
        return None
    if branch.control.worker is not None:
        return branch.control.worker
    loop = asyncio._get_running_loop()
    if loop is None:
        return None
    scheduler = branch.driver.scheduler
    return Worker(scheduler, scheduler.look(loop))


def wait_until(futures: list[Future[Any]], enough: Callable[[], bool]) -> None:
    """Waits, letting other places have their turn, until `enough()`, or until all of them are done."""
    here = place()
    while not enough() and (left := [future for future in futures if not future.done()]):
        if here is None:
            concurrent.futures.wait(left, return_when=concurrent.futures.FIRST_COMPLETED)
        else:
            here.wait_for(left)


def completed(futures: Iterable[Future[T]]) -> Iterator[Future[T]]:
    """The futures, each once, in the order in which they complete."""
    waiting = dict.fromkeys(futures)
    arrived: SimpleQueue[Future[T]] = SimpleQueue()
    for future in waiting:
        future.add_done_callback(arrived.put)
    while waiting:
        here = place()
        while here is not None and arrived.empty():
            here.wait_for(waiting)
        future = arrived.get()
        del waiting[future]
        yield future


class _Job:
    """A function that runs in a thread of ours, in a branch of its own, when its turn comes."""

    def __init__(
        self,
        branch: Branch,
        gate: Gate,
        executor: ThreadPoolExecutor,
        function: Callable[[], Any],
        started: Callable[[], bool],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        self.scheduler = branch.driver.scheduler
        self._gate = gate
        self._executor = executor
        self._function = function
        self._started = started
        self._done = done
        self._branch = branch.child()
        self._branch.control.worker = Worker(self.scheduler)
        self._context = contextvars.copy_context()
        self.start = Waiter(("start", self._branch.path), self._launch, _ignore, thread=True)

    def submit(self) -> None:
        self.scheduler.start(self.start, self._gate)

    def _launch(self) -> None:
        if not self._started():
            self.scheduler.landed(self._gate)
            self.scheduler.thread_paused()
            return
        try:
            # Outside of the run's context: what the executor does is none of the agent's doing.
            contextvars.Context().run(self._executor.submit, self._run)
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self._end(None, error)

    def _run(self) -> None:
        result, error = None, None
        self._branch.control.thread = threading.get_ident()
        try:
            result = self._context.run(self._call)
        except BaseException as raised:  # noqa: BLE001  # handed to whoever waits for it
            error = raised
        self._end(result, error)

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.scheduler.landed(self._gate)
        self._done(result, error)

    def _call(self) -> Any:
        current_branch.set(self._branch)
        return self._function()


# --- asyncio.to_thread -------------------------------------------------------------------


class _Home:
    """The executor behind `asyncio.to_thread` inside runs, and the room in it that each loop has."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = WeakKeyDictionary()

    @property
    def executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                # The gates bound it: a job that has its turn must never wait for a thread.
                self._executor = ThreadPoolExecutor(100_000, thread_name_prefix="isotrace")
            return self._executor

    def gate(self, loop: asyncio.AbstractEventLoop) -> Gate:
        return self._gates.setdefault(loop, Gate(TO_THREAD_CAPACITY))


_home = _Home()
os.register_at_fork(after_in_child=_home.__init__)  # type: ignore[misc]  # its threads are the parent's


async def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread` for code inside a run: the thread is a branch of its own."""
    branch = live_branch()
    assert branch is not None
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    ended = threading.Event()
    scheduler = branch.driver.scheduler

    def settle(result: Any, error: BaseException | None) -> None:
        _settle(future, result, error)
        scheduler.thread_paused(loop)

    def done(result: Any, error: BaseException | None) -> None:
        ended.set()
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop was closed: nobody waits any more
            scheduler.thread_paused()

    scheduler.look(loop)
    job = _Job(branch, _home.gate(loop), _home.executor, lambda: function(*args, **kwargs), _always, done)
    job.submit()
    try:
        return await future
    except asyncio.CancelledError:
        if not scheduler.recall(job.start):
            # The loop waits for its executor before it closes, and so for this thread.
            with suppress(RuntimeError):
                contextvars.Context().run(lambda: loop.run_in_executor(None, ended.wait))
        raise


def _always() -> bool:
    return True


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):
        # A future can't carry it; asyncio's own to_thread has the same limit.
        error = RuntimeError("StopIteration was raised in a thread")
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


# --- our thread pool ---------------------------------------------------------------------


class ThreadPool:
    """A thread pool whose jobs are branches of the run, so that their steps can be replayed.

    Has the methods of `concurrent.futures.ThreadPoolExecutor`, and `as_completed`. Outside a run
    it is a plain pool. In an agent with an event loop, use `asyncio.to_thread`.
    """

    def __init__(self, max_workers: int = 8) -> None:
        self._executor = ThreadPoolExecutor(max_workers, thread_name_prefix="isotrace-pool")
        self._gate = Gate(max_workers)
        self._unfinished: dict[Future[Any], None] = {}
        self._shut = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Runs `function(*args, **kwargs)` in a thread. Raises `RuntimeError` after `shutdown`."""
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        branch = live_branch()
        if branch is None:
            return self._executor.submit(function, *args, **kwargs)
        scheduler = branch.driver.scheduler
        if branch.control.worker is None and asyncio._get_running_loop() is None:
            branch.control.worker = Worker(scheduler)
            scheduler.thread_resumed()
        future: Future[T] = Future()

        def done(result: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            scheduler.thread_paused()

        def ended(_: Future[Any]) -> None:
            self._unfinished.pop(future, None)
            if future.cancelled():
                scheduler.recall(job.start)

        job = _Job(
            branch,
            self._gate,
            self._executor,
            lambda: function(*args, **kwargs),
            future.set_running_or_notify_cancel,
            done,
        )
        self._unfinished[future] = None
        future.add_done_callback(ended)
        job.submit()
        return future

    def map(self, function: Callable[..., T], *iterables: Iterable[Any]) -> Iterator[T]:
        """The results of `function` over the iterables, in their order; all calls start now."""
        futures = [self.submit(function, *args) for args in zip(*iterables, strict=False)]

        def results() -> Iterator[T]:
            try:
                for future in futures:
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def as_completed(self, futures: Iterable[Future[T]]) -> Iterator[Future[T]]:
        """The futures in the order in which they complete."""
        return completed(futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the threads end; with `wait`, when all jobs are done."""
        self._shut = True
        unfinished = list(self._unfinished)
        if cancel_futures:
            for future in unfinished:
                future.cancel()
        if wait:
            wait_until(unfinished, lambda: all(future.done() for future in unfinished))
            self._executor.shutdown()
        elif not unfinished:
            self._executor.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
