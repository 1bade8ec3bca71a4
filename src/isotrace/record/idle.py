"""When an event loop has nothing else to do.

asyncio's own loops show their ready queue. uvloop keeps its queue in C; there, every callback that is
scheduled is counted instead: if no callback was scheduled between two looks, each made from a
callback at the end of the queue, then nothing was ready in between.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

_EMPTY = contextvars.Context()


class _Counter:
    """How many callbacks were scheduled on loops that don't show their queue."""

    def __init__(self) -> None:
        self.scheduled = 0


_counter = _Counter()
_plain_call_soon: Callable[..., Any] | None = None


def idle_probe(loop: asyncio.AbstractEventLoop) -> Callable[[], bool]:
    """A function that says, called from a callback of `loop`, whether nothing else is ready."""
    queue = getattr(loop, "_ready", None)
    if queue is not None:
        return lambda: not queue
    seen = -1

    def idle() -> bool:
        nonlocal seen
        quiet, seen = seen == _counter.scheduled, _counter.scheduled
        return quiet

    return idle


def quiet_call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Schedules a callback that does not count as the agent's activity."""
    if _plain_call_soon is not None and not hasattr(loop, "_ready"):
        _plain_call_soon(loop, callback, context=_EMPTY)
    else:
        loop.call_soon(callback, context=_EMPTY)


def count_callbacks() -> Callable[[], None] | None:
    """Begins to count callbacks on uvloop's loops, if uvloop is in use; returns the way back."""
    global _plain_call_soon
    uvloop = sys.modules.get("uvloop")
    loop_class: Any = getattr(uvloop, "Loop", None)
    if loop_class is None or "call_soon" in vars(loop_class):
        return None
    plain = loop_class.call_soon
    plain_threadsafe = loop_class.call_soon_threadsafe

    def call_soon(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        _counter.scheduled += 1
        return plain(self, callback, *args, context=context)

    def call_soon_threadsafe(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        _counter.scheduled += 1
        return plain_threadsafe(self, callback, *args, context=context)

    loop_class.call_soon = call_soon
    loop_class.call_soon_threadsafe = call_soon_threadsafe
    _plain_call_soon = plain

    def restore() -> None:
        global _plain_call_soon
        del loop_class.call_soon
        del loop_class.call_soon_threadsafe
        _plain_call_soon = None

    return restore
