"""The real call of an awaited step.

Awaiting does not mean waiting: a coroutine that never waits for anything runs to its end in one go, and
nothing else runs in between. Which of the two a call did is known after its first leg.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isotrace.record.context import Step


def first_leg(call: Awaitable[Any]) -> tuple[bool, Any, Any]:
    """Runs a call to where it first waits.

    Gives whether it waits at all; if it does, the coroutine and what it waits for, for `await
    rest(…)`; if it does not, None and what it returned. Raises what the call raises.
    """
    steps = call if type(call) is CoroutineType else _awaited(call)
    try:
        return True, steps, steps.send(None)
    except StopIteration as stop:
        return False, None, stop.value


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


@coroutine
def rest(step: Step, steps: Coroutine[Any, Any, Any], wanted: Any) -> Generator[Any, Any, Any]:
    """Awaits a step's call from where it first waits, and gives what it returned."""
    advance: Any
    step.waits()
    # What `yield from` does (PEP 380).
    while True:
        try:
            given = yield wanted
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as thrown:  # noqa: BLE001  # the call's business
            advance, given = steps.throw, thrown
            if not _ends_at_once(wanted):
                step.survives()
        else:
            advance = steps.send
        try:
            wanted = advance(given)
        except StopIteration as stop:
            return stop.value
        if advance == steps.throw:
            # It goes on, and may take its time to end.
            step.survives()


def _ends_at_once(wanted: Any) -> bool:
    """Whether a task that waits for this goes on as soon as it is cancelled. One that waits for other
    tasks goes on when those have ended."""
    return wanted is None or type(wanted) is asyncio.Future
