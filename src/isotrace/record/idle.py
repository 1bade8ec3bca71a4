"""When a run's code in an event loop has nothing to do.

Only the run's own callbacks count, told by the branch in their context: a server's loop is never
without any. Those of a step's real call do not, until the agent cancels it: the cancellation is on its
way to the agent's code then.

asyncio's own loops show their ready queue. uvloop keeps its queue in C; there, the run's callbacks are
counted as they are scheduled: if none was scheduled between two looks, each made from a callback at
the end of the queue, then none was ready in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from isotrace.record.context import current_branch, current_step

if TYPE_CHECKING:
    from isotrace.record.scheduler import Scheduler

T = TypeVar("T")


def idle_probe(loop: asyncio.AbstractEventLoop, scheduler: Scheduler) -> Callable[[], bool]:
    """A function that says, called from a callback of `loop`, whether nothing of the run is ready."""
    queue = getattr(loop, "_ready", None)
    if queue is None:
        return _counting_probe(scheduler)

    def idle() -> bool:
        # Copied in one go: other threads append to it.
        for handle in queue.copy():
            if not handle._cancelled and scheduler in _whose(handle._context, handle._callback):
                return False
        return True

    return idle


def _whose(context: Context | None, callback: Any) -> Iterator[Scheduler]:
    """The runs whose code this callback runs: the one in whose branch it is; and each one in whose step
    it is, if the agent has cancelled that, which ends it at once."""
    branch = _get(current_branch, context)
    if branch is not None:
        yield branch.driver.scheduler
    step = _get(current_step, context) if branch is None else branch.driver.step
    task = getattr(callback, "__self__", None)
    # A run in a step of another run is in both.
    while step is not None:
        if isinstance(task, asyncio.Task) and task.cancelling() > step.cancelled:
            yield step.branch.driver.scheduler
        step = step.branch.driver.step


def _get(variable: ContextVar[T | None], context: Context | None) -> T | None:
    return variable.get() if context is None else context.get(variable)


def _counting_probe(scheduler: Scheduler) -> Callable[[], bool]:
    seen = -1

    def idle() -> bool:
        nonlocal seen
        quiet, seen = seen == scheduler.scheduled, scheduler.scheduled
        return quiet

    return idle


def counting_callbacks(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`call_soon` of a loop that hides its queue, counting what a run schedules."""

    def call_soon(self: Any, callback: Any, *args: Any, context: Context | None = None) -> Any:
        for scheduler in _whose(context, callback):
            scheduler.scheduled += 1
        return plain(self, callback, *args, context=context)

    return call_soon


def waking(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`call_soon_threadsafe`, by which the agent's threads give a loop something to do."""

    def call_soon_threadsafe(self: Any, callback: Any, *args: Any, context: Context | None = None) -> Any:
        branch = _get(current_branch, context)
        if branch is None or branch.driver.closed:
            return plain(self, callback, *args, context=context)
        branch.driver.scheduler.scheduled += 1
        handle = plain(self, callback, *args, context=context)
        branch.driver.scheduler.woken(self)
        return handle

    return call_soon_threadsafe
