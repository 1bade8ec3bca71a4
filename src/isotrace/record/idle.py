"""When a run's code in an event loop has nothing to do.

Only the run's own callbacks count, told by the branch in their context: a server's loop is never
without any. asyncio's own loops show their ready queue. uvloop keeps its queue in C; there, the run's
callbacks are counted as they are scheduled: if none was scheduled between two looks, each made
from a callback at the end of the queue, then none was ready in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from isotrace.record.context import Branch, current_branch

if TYPE_CHECKING:
    from isotrace.record.scheduler import Scheduler


def idle_probe(loop: asyncio.AbstractEventLoop, scheduler: Scheduler) -> Callable[[], bool]:
    """A function that says, called from a callback of `loop`, whether nothing of the run is ready."""
    queue = getattr(loop, "_ready", None)
    if queue is None:
        return _counting_probe(scheduler)

    def idle() -> bool:
        # Copied in one go: other threads append to it.
        for handle in queue.copy():
            branch = handle._context.get(current_branch)
            if branch is not None and branch.driver.scheduler is scheduler and not handle._cancelled:
                return False
        return True

    return idle


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
        branch = _branch_in(context)
        if branch is not None:
            branch.driver.scheduler.scheduled += 1
        return plain(self, callback, *args, context=context)

    return call_soon


def waking(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`call_soon_threadsafe`, by which the agent's threads give a loop something to do."""

    def call_soon_threadsafe(self: Any, callback: Any, *args: Any, context: Context | None = None) -> Any:
        branch = _branch_in(context)
        if branch is None or branch.driver.closed:
            return plain(self, callback, *args, context=context)
        branch.driver.scheduler.scheduled += 1
        handle = plain(self, callback, *args, context=context)
        branch.driver.scheduler.woken(self)
        return handle

    return call_soon_threadsafe


def _branch_in(context: Context | None) -> Branch | None:
    return current_branch.get() if context is None else context.get(current_branch)
