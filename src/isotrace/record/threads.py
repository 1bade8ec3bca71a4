"""Threads of the agent's own code, in an order that a replay can repeat.

Real calls of steps run in parallel as ever; the agent's code between them runs in one thread at a time.
A thread of ours holds the turn while it runs that code, gives it up while a step's real call is under
way, and gets it back when that step's completion is delivered.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from isotrace.record.context import Branch, current_branch, live_branch
from isotrace.record.scheduler import TO_THREAD_CAPACITY, Gate, Scheduler, Waiter

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """One thread's place in the schedule."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._error: BaseException | None = None

    def pause(self) -> None:
        """Gives up the turn."""
        self._scheduler.thread_paused()

    def resume(self, key: Any, complete: Callable[[], None]) -> None:
        """Waits for this completion's turn. Raises what a replay ends the wait with."""
        ready = threading.Event()

        def fire() -> None:
            complete()
            ready.set()

        waiter = Waiter(key, fire, self._failing(ready), thread=True)
        self._scheduler.offer(waiter)
        self._scheduler.block(waiter, ready)
        if self._error is not None:
            raise self._error

    def _failing(self, ready: threading.Event) -> Callable[[BaseException], None]:
        def fail(error: BaseException) -> None:
            self._error = error
            self._scheduler.thread_resumed()
            ready.set()

        return fail

    def wait_for(self, futures: Iterable[Future[Any]], timeout: float | None = None) -> None:
        """Gives up the turn until one of the futures is done."""
        woken = threading.Event()
        once = threading.Lock()

        def wake(_: Future[Any]) -> None:
            # The thread that ends passes its turn on before it gives it up, so nobody comes between.
            if once.acquire(blocking=False):
                self._scheduler.thread_resumed()
                woken.set()

        for future in futures:
            future.add_done_callback(wake)
        self.pause()
        if not woken.wait(timeout) and once.acquire(blocking=False):
            self._scheduler.thread_resumed()


class _Job:
    """A function that runs in a thread of ours, in a branch of its own."""

    def __init__(self, branch: Branch, gate: Gate, function: Callable[[], Any]) -> None:
        self._scheduler = branch.driver.scheduler
        self._gate = gate
        self._branch = branch.child()
        self._branch.worker = Worker(self._scheduler)
        self._context = contextvars.copy_context()
        self._function = function
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def submit(self, executor: ThreadPoolExecutor, done: Callable[[Any, BaseException | None], None]) -> None:
        executor.submit(self._run, done)
        self._scheduler.launch(
            self._gate, Waiter(("launch", self._branch.path), self._ready.set, self._fail, thread=True)
        )

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._ready.set()

    def _run(self, done: Callable[[Any, BaseException | None], None]) -> None:
        self._ready.wait()
        result, error = None, self._failure
        if error is None:
            self._branch.thread = threading.get_ident()
            try:
                result = self._context.run(self._call)
            except BaseException as raised:
                error = raised
        self._scheduler.landed(self._gate)
        done(result, error)

    def _call(self) -> Any:
        current_branch.set(self._branch)
        return self._function()


class _ThreadHome:
    """The executor behind `asyncio.to_thread` inside runs; made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(TO_THREAD_CAPACITY, thread_name_prefix="isotrace")
            return self._executor


_home = _ThreadHome()


async def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread` for code inside a run: the thread is a branch of its own."""
    branch = live_branch()
    assert branch is not None
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    scheduler = branch.driver.scheduler

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):
                # A future can't carry it; asyncio's own to_thread has the same limit.
                future.set_exception(RuntimeError("StopIteration was raised in a thread"))
            else:
                future.set_exception(error)
        scheduler.thread_paused(loop)

    def done(result: Any, error: BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop was closed: nobody waits any more
            scheduler.thread_paused()

    _Job(branch, scheduler.to_thread_gate, lambda: function(*args, **kwargs)).submit(_home.executor(), done)
    return await future


class OrderedFuture(Future[T]):
    """A future of `ThreadPool`: waiting for it lets the other threads have their turn."""

    def result(self, timeout: float | None = None) -> T:
        self._wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(timeout)

    def _wait(self, timeout: float | None) -> None:
        branch = live_branch()
        if branch is not None and branch.worker is not None and not self.done():
            branch.worker.wait_for([self], timeout)


class ThreadPool:
    """A thread pool whose jobs are branches of the run, so that their steps can be replayed.

    Has the methods of `concurrent.futures.ThreadPoolExecutor`, and `as_completed`. Outside a run
    it is a plain pool. In an agent with an event loop, use `asyncio.to_thread`.
    """

    def __init__(self, max_workers: int = 8) -> None:
        self._executor = ThreadPoolExecutor(max_workers, thread_name_prefix="isotrace-pool")
        self._gate = Gate(max_workers)
        self._unfinished: dict[Future[Any], None] = {}

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Runs `function(*args, **kwargs)` in a thread."""
        branch = live_branch()
        if branch is None:
            return self._executor.submit(function, *args, **kwargs)
        scheduler = branch.driver.scheduler
        if branch.worker is None:
            branch.worker = Worker(scheduler)
            scheduler.thread_resumed()
        future: OrderedFuture[T] = OrderedFuture()
        future.set_running_or_notify_cancel()
        self._unfinished[future] = None
        future.add_done_callback(lambda ended: self._unfinished.pop(ended, None))

        def done(result: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            scheduler.thread_paused()

        _Job(branch, self._gate, lambda: function(*args, **kwargs)).submit(self._executor, done)
        return future

    def map(self, function: Callable[..., T], *iterables: Iterable[Any]) -> Iterator[T]:
        """The results of `function` over the iterables, in their order; all calls start now."""
        futures = [self.submit(function, *args) for args in zip(*iterables, strict=False)]
        return (future.result() for future in futures)

    def as_completed(self, futures: Iterable[Future[T]]) -> Iterator[Future[T]]:
        """The futures in the order in which they complete."""
        done: deque[Future[T]] = deque()
        waiting = list(futures)
        for future in waiting:
            future.add_done_callback(done.append)
        for _ in range(len(waiting)):
            if not done:
                branch = live_branch()
                left = [future for future in waiting if not future.done()]
                if branch is not None and branch.worker is not None:
                    branch.worker.wait_for(left)
                elif left:
                    left[0].exception()
            yield done.popleft()

    def shutdown(self, wait: bool = True) -> None:
        """Lets the threads end; with `wait`, when all jobs are done."""
        branch = live_branch()
        if wait and branch is not None and branch.worker is not None:
            while left := [future for future in list(self._unfinished) if not future.done()]:
                branch.worker.wait_for(left[:1])
        self._executor.shutdown(wait=wait)

    def __enter__(self) -> ThreadPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
