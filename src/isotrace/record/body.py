"""The real call of an awaited step.

Awaiting does not mean waiting: a coroutine that never waits for anything runs to its end in one go, and
nothing else runs in between. Which of the two a call did is known after its first leg.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType, coroutine
from typing import Any


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
def rest(steps: Coroutine[Any, Any, Any], wanted: Any) -> Generator[Any, Any, Any]:
    """Awaits a call from where it first waits, and gives what it returned."""
    advance: Any
    # What `yield from` does (PEP 380).
    while True:
        try:
            given = yield wanted
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as thrown:  # noqa: BLE001  # the call's business
            advance, given = steps.throw, thrown
        else:
            advance = steps.send
        try:
            wanted = advance(given)
        except StopIteration as stop:
            return stop.value
