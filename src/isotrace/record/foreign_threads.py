"""Threads that the schedule does not know of: the standard pool's, and those that code starts itself.

Context variables don't reach them, so a step that is made there would be lost without a word. They
become branches; but when their code runs is up to the machine, so their steps are marked. What waits for
futures in a thread of ours, on the other hand, is told to the schedule.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import contextvars
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from isotrace.record import telemetry
from isotrace.record.context import Branch, Step, current_branch, current_step, live_branch, running_jobs
from isotrace.record.threads import completed, place, wait_until


def submitting(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`ThreadPoolExecutor.submit`: the job is a branch of the run."""

    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        branch = live_branch()
        if branch is None and (step := current_step.get()) is not None:
            return plain(self, _inside, step, fn, *args, **kwargs)
        if branch is None or _only_waits(fn, args):
            return plain(self, fn, *args, **kwargs)
        return plain(self, _within, branch.thread(), fn, *args, **kwargs)

    return submit


def _only_waits(fn: Any, args: tuple[Any, ...]) -> bool:
    """Whether a job does nothing but wait, as LangGraph has one do while it streams: how often depends on
    the machine, so such a job takes no number."""
    for _ in range(8):
        if isinstance(fn, functools.partial):
            fn, args = fn.func, (*fn.args, *args)
        elif isinstance(getattr(fn, "__self__", None), contextvars.Context) and args:
            fn, args = args[0], args[1:]
        else:
            break
    return getattr(fn, "__module__", None) in _WAITING


_WAITING = ("langgraph._internal._queue", "queue", "threading")


def _within(branch: Branch, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    branch.control.thread = threading.get_ident()
    jobs = running_jobs()
    jobs.append(branch)
    token = current_branch.set(branch)
    try:
        return fn(*args, **kwargs)
    finally:
        current_branch.reset(token)
        jobs.remove(branch)


def _inside(step: Step, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What a skill's body has a thread do is the body's: runs that open there are held to what it is."""
    token = current_step.set(step)
    try:
        return fn(*args, **kwargs)
    finally:
        current_step.reset(token)


def starting_thread(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`Thread.start`: what the thread runs is a branch of the run; a pool's thread is for any job, and one
    of telemetry is none of the agent's."""

    def start(self: threading.Thread) -> Any:
        branch = live_branch()
        own = getattr(self, "_target", None) is not _pool_worker and not telemetry.exports(self)
        if branch is not None and own:
            thread, run = branch.thread(), self.run
            self.run = lambda: _within(thread, run)  # type: ignore[method-assign]  # of this object alone
        elif own and (step := current_step.get()) is not None:
            body = self.run
            self.run = lambda: _inside(step, body)  # type: ignore[method-assign]  # as above
        return plain(self)

    return start


_pool_worker = getattr(concurrent.futures.thread, "_worker", None)


def awaiting(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`Future.result` and `Future.exception`: others have their turn meanwhile."""

    def wait(self: Future[Any], timeout: float | None = None) -> Any:
        if not self.done() and (here := place()) is not None:
            here.wait_for([self], timeout)
            timeout = None if timeout is None else 0
        return plain(self, timeout)

    return wait


def wait(
    original: Callable[..., Any],
    fs: Iterable[Future[Any]],
    timeout: float | None = None,
    return_when: str = concurrent.futures.ALL_COMPLETED,
) -> Any:
    """`concurrent.futures.wait`, likewise."""
    listed = list(fs)
    if timeout is not None or place() is None:
        return original(listed, timeout, return_when)
    wait_until(listed, lambda: _enough(listed, return_when))
    return original(listed, 0, return_when)


def _enough(futures: list[Future[Any]], return_when: str) -> bool:
    done = [future for future in futures if future.done()]
    if return_when == concurrent.futures.FIRST_COMPLETED:
        return bool(done)
    failed = any(not future.cancelled() and future.exception() is not None for future in done)
    return len(done) == len(futures) or (return_when == concurrent.futures.FIRST_EXCEPTION and failed)


def as_completed(
    original: Callable[..., Any], fs: Iterable[Future[Any]], timeout: float | None = None
) -> Iterator[Future[Any]]:
    """`concurrent.futures.as_completed`, likewise."""
    if timeout is not None or place() is None:
        return original(fs, timeout)  # type: ignore[no-any-return]  # as the standard library's
    return completed(fs)
