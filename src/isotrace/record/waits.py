"""What stands in for asyncio's functions that wait, while they are called by an agent's own code in a run.

Timers become steps, so that a replay need not wait; and what asyncio takes out of a set comes in an
order that is the same in every process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from isotrace.record.context import current_branch, live_branch
from isotrace.record.tasks import OrderedSet, in_order
from isotrace.record.threads import to_thread

Original = Callable[..., Any]
SLEEP = "asyncio.sleep"


async def sleep(original: Original, delay: float, result: Any = None) -> Any:
    """`asyncio.sleep`: a timer step, unless it only yields."""
    branch = live_branch()
    if branch is None or not delay > 0:
        return await original(delay, result)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def fired() -> None:
        if not future.done():
            future.set_result(None)

    def failed(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    timer = branch.driver.timer(SLEEP, branch, delay, loop.time() + delay, fired, failed)
    try:
        await future
    finally:
        timer.cancel()
    return result


def timeout(original: Original, delay: float | None) -> asyncio.Timeout:
    """`asyncio.timeout`, which remembers the delay that the code named."""
    scope: asyncio.Timeout = original(delay)
    if live_branch() is not None:
        scope._isotrace_delay = delay  # type: ignore[attr-defined]  # read by `rescheduling`
    return scope


def rescheduling(plain: Original) -> Original:
    """`asyncio.Timeout.reschedule`: its expiry waits for its turn like any completion."""

    def reschedule(self: Any, when: float | None) -> None:
        plain(self, when)
        branch = live_branch()
        delay = self.__dict__.pop("_isotrace_delay", None)
        # Whether this is a step must not depend on what the clock says by now.
        if branch is None or when is None or (delay is not None and not delay > 0):
            return
        self._timeout_handler.cancel()
        self._timeout_handler = branch.driver.timer(
            "asyncio.timeout", branch, delay, when, self._on_timeout, _waits_elsewhere
        )

    return reschedule


def _waits_elsewhere(error: BaseException) -> None:
    """The code in the scope waits for something else, which is ended likewise."""


async def wait_for(original: Original, fut: Any, timeout: float | None) -> Any:  # noqa: ASYNC109  # asyncio's
    """`asyncio.wait_for`, by `asyncio.timeout`, as newer versions of Python have it."""
    if live_branch() is None or timeout is None or not timeout > 0:
        return await original(fut, timeout)
    async with asyncio.timeout(timeout):
        return await (fut if _WAITS_IN_PLACE else asyncio.ensure_future(fut))


# Until Python 3.11 a coroutine that is waited for gets a task, and so a branch, of its own.
_WAITS_IN_PLACE = sys.version_info >= (3, 12)


async def wait(
    original: Original,
    fs: Iterable[Any],
    *,
    timeout: float | None = None,  # noqa: ASYNC109  # asyncio's
    return_when: str = asyncio.ALL_COMPLETED,
) -> tuple[set[Any], set[Any]]:
    """`asyncio.wait`, with results in the order of the arguments and a time-out that has a turn."""
    if live_branch() is None or _is_one(fs) or not (listed := in_order(fs)):
        return await original(fs, timeout=timeout, return_when=return_when)  # type: ignore[no-any-return]  # as asyncio's
    if timeout is None:
        await original(listed, return_when=return_when)
    else:
        try:
            async with asyncio.timeout(timeout):
                await original(listed, return_when=return_when)
        except TimeoutError:
            pass
    return (
        OrderedSet((item for item in listed if item.done()), listed=listed),
        OrderedSet((item for item in listed if not item.done()), listed=listed),
    )


def _is_one(fs: Any) -> bool:
    """Whether the caller passed one awaitable for many, which asyncio refuses in its own words."""
    return asyncio.isfuture(fs) or asyncio.iscoroutine(fs)


def as_completed(original: Original, fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """`asyncio.as_completed` over tasks made in the order of the arguments."""
    if live_branch() is None or _is_one(fs):
        return original(fs, timeout=timeout)
    return _InOrder([asyncio.ensure_future(item) for item in in_order(fs)], timeout)


class _InOrder:
    """What `as_completed` returns: awaitables by completion, or the tasks themselves in `async for`."""

    def __init__(self, tasks: list[Any], timeout: float | None) -> None:
        self._left = dict.fromkeys(tasks)
        self._promised = len(self._left)
        self._done: asyncio.Queue[Any] = asyncio.Queue()
        self._timer: Any = None
        for task in self._left:
            task.add_done_callback(self._arrived)
        branch = live_branch()
        if timeout is not None and self._left and branch is not None:
            when = asyncio.get_running_loop().time() + timeout
            self._timer = branch.driver.timer(
                "asyncio.as_completed", branch, timeout, when, self._expired, _waits_elsewhere
            )

    def _arrived(self, task: Any) -> None:
        if task not in self._left:
            return
        del self._left[task]
        self._done.put_nowait(task)
        if not self._left and self._timer is not None:
            self._timer.cancel()

    def _expired(self) -> None:
        for _ in range(len(self._left)):
            self._done.put_nowait(None)
        self._left = {}

    async def _next(self) -> Any:
        task = await self._done.get()
        if task is None:
            raise TimeoutError
        return task

    async def _result(self) -> Any:
        return (await self._next()).result()

    def __iter__(self) -> Iterator[Coroutine[Any, Any, Any]]:
        return self

    def __next__(self) -> Coroutine[Any, Any, Any]:
        if self._promised == 0:
            raise StopIteration
        self._promised -= 1
        return self._result()

    def __aiter__(self) -> _InOrder:
        return self

    async def __anext__(self) -> Any:
        if self._promised == 0:
            raise StopAsyncIteration
        self._promised -= 1
        return await self._next()


async def to_thread_in_run(original: Original, func: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`asyncio.to_thread`: the thread is a branch of the run."""
    if live_branch() is None:
        return await original(func, *args, **kwargs)
    return await to_thread(func, *args, **kwargs)


def all_tasks(original: Original, loop: asyncio.AbstractEventLoop | None = None) -> set[Any]:
    """`asyncio.all_tasks`, in order: `asyncio.run` cancels what is left in it."""
    found: set[Any] = original(loop)
    return found if current_branch.get() is None else OrderedSet(found)


def ordering_group(plain: Original) -> Original:
    """`TaskGroup.__init__`: its tasks are cancelled in the order in which they were made."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if live_branch() is not None:
            self._tasks = OrderedSet()

    return init
