"""What isotrace changes in asyncio while a run is open, and takes back when the last one ends.

| what | why |
|---|---|
| the task factory of the loops a run uses | a task is a branch of the run |
| `asyncio.Runner.run`, `run_until_complete` | the factory must be there before the loop's first task |
| `asyncio.sleep`, `asyncio.timeout`, `wait_for`, `wait(timeout=…)` | timers are steps, so a replay need not wait |
| `asyncio.as_completed`, `wait`, `TaskGroup` | they iterate over sets, whose order differs between processes |
| `asyncio.to_thread` | the thread is a branch, its start and end have a turn |
| `uvloop.Loop.call_soon` | uvloop does not show whether it is idle |

Each replacement calls the original unless it is called by an agent's own code inside a run. A function that
was imported by name (`from asyncio import sleep`) is replaced as well: what is swapped there is
the function's code.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.runners
import asyncio.tasks
import asyncio.threads
import asyncio.timeouts
import contextvars
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from isotrace.record.context import Branch, current_branch, live_branch
from isotrace.record.idle import count_callbacks
from isotrace.record.threads import to_thread

_lock = threading.Lock()
_open_runs = 0
_undo: list[Callable[[], None]] = []


def enter() -> None:
    """A run opens: puts the hooks in place if it is the first, and on the running loop if there is one."""
    global _open_runs
    with _lock:
        _open_runs += 1
        if _open_runs == 1:
            _install()
    loop = asyncio._get_running_loop()
    if loop is not None:
        install_factory(loop)


def leave() -> None:
    """A run ends: takes the hooks away if it was the last."""
    global _open_runs
    with _lock:
        _open_runs -= 1
        if _open_runs == 0:
            while _undo:
                _undo.pop()()


# --- tasks ------------------------------------------------------------------------------


class _Factory:
    """Makes each task of a run a branch, then lets the factory that was there before make the task."""

    def __init__(self, before: Callable[..., Any] | None) -> None:
        self.before = before

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, *, context: Any = None, **kwargs: Any
    ) -> asyncio.Future[Any]:
        context = contextvars.copy_context() if context is None else context
        parent: Branch | None = context.get(current_branch)
        if parent is not None and not parent.driver.closed:
            context.run(current_branch.set, parent.child())
        if self.before is not None:
            return self.before(loop, coro, context=context, **kwargs)  # type: ignore[no-any-return]  # a task
        return asyncio.Task(coro, loop=loop, context=context, **kwargs)


def install_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Makes tasks of this loop branches, for as long as any run is open."""
    before = loop.get_task_factory()
    if isinstance(before, _Factory):
        return
    factory = _Factory(before)
    loop.set_task_factory(factory)

    def restore() -> None:
        if loop.get_task_factory() is factory and not loop.is_closed():
            loop.set_task_factory(before)

    _undo.append(restore)


def _starting(original: Callable[..., Any], loop_of: Callable[[Any], asyncio.AbstractEventLoop]) -> Any:
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        if live_branch() is not None:
            install_factory(loop_of(self))
        return original(self, *args, **kwargs)

    return start


# --- replacements of asyncio's functions ----------------------------------------------------

_originals: dict[str, Callable[..., Any]] = {}


async def sleep(delay: float, result: Any = None) -> Any:
    """`asyncio.sleep`: a timer step, unless it only yields."""
    branch = live_branch()
    if branch is None or delay <= 0:
        return await _originals["sleep"](delay, result)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def fired() -> None:
        if not future.done():
            future.set_result(None)

    timer = branch.driver.timer("asyncio.sleep", branch, delay, loop.time() + delay, fired)
    try:
        await future
    finally:
        timer.cancel()
    return result


def timeout(delay: float | None) -> asyncio.Timeout:
    """`asyncio.timeout`, which remembers the delay that the code named."""
    scope: asyncio.Timeout = _originals["timeout"](delay)
    if live_branch() is not None:
        scope._isotrace_delay = delay  # type: ignore[attr-defined]  # read by `_reschedule` below
    return scope


def _reschedule(self: Any, when: float | None) -> None:
    """`asyncio.Timeout.reschedule`: its expiry waits for its turn like any completion."""
    _originals["reschedule"](self, when)
    branch = live_branch()
    delay = self.__dict__.pop("_isotrace_delay", None)
    # Whether this is a step must not depend on what the clock says by now.
    if branch is None or when is None or (delay is not None and delay <= 0):
        return
    self._timeout_handler.cancel()
    self._timeout_handler = branch.driver.timer("asyncio.timeout", branch, delay, when, self._on_timeout)


async def wait_for(awaitable: Any, timeout: float | None) -> Any:
    """`asyncio.wait_for`, by `asyncio.timeout`."""
    if live_branch() is None or timeout is None or timeout <= 0:
        return await _originals["wait_for"](awaitable, timeout)
    async with asyncio.timeout(timeout):
        return await (awaitable if asyncio.isfuture(awaitable) else asyncio.ensure_future(awaitable))


class _OrderedSet(set[Any]):
    """A set of tasks that iterates in the order in which they were added."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._order = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[Any]:
        return iter([item for item in self._order if item in self])

    def add(self, item: Any) -> None:
        self._order[item] = None
        super().add(item)

    def discard(self, item: Any) -> None:
        self._order.pop(item, None)
        super().discard(item)

    def pop(self) -> Any:
        for item in self:
            self.discard(item)
            return item
        raise KeyError("pop from an empty set")


def _ordered_group(original: Callable[..., Any]) -> Any:
    """`TaskGroup.__init__`: its tasks are cancelled in the order in which they were made."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if live_branch() is not None:
            self._tasks = _OrderedSet()

    return __init__


async def wait(
    fs: Iterable[Any], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[set[Any], set[Any]]:
    """`asyncio.wait`, with results in the order of the arguments and a time-out that has a turn."""
    listed = list(fs)
    if live_branch() is None or not listed:
        return await _originals["wait"](listed, timeout=timeout, return_when=return_when)  # type: ignore[no-any-return]  # as asyncio's
    if timeout is None:
        await _originals["wait"](listed, return_when=return_when)
    else:
        try:
            async with asyncio.timeout(timeout):
                await _originals["wait"](listed, return_when=return_when)
        except TimeoutError:
            pass
    return (
        _OrderedSet(item for item in listed if item.done()),
        _OrderedSet(item for item in listed if not item.done()),
    )


def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """`asyncio.as_completed` over tasks made in the order of the arguments."""
    if live_branch() is None:
        return _originals["as_completed"](fs, timeout=timeout)
    if timeout is not None:
        return _originals["as_completed"]([asyncio.ensure_future(item) for item in fs], timeout=timeout)
    return _InOrder([asyncio.ensure_future(item) for item in fs])


class _InOrder:
    """What `as_completed` returns: awaitables by completion, or the tasks themselves in `async for`."""

    def __init__(self, tasks: list[Any]) -> None:
        self._left = len(set(tasks))
        self._done: asyncio.Queue[Any] = asyncio.Queue()
        for task in dict.fromkeys(tasks):
            task.add_done_callback(self._done.put_nowait)

    def __iter__(self) -> Iterator[Coroutine[Any, Any, Any]]:
        return self

    def __next__(self) -> Coroutine[Any, Any, Any]:
        if self._left == 0:
            raise StopIteration
        self._left -= 1
        return self._result()

    async def _result(self) -> Any:
        return (await self._done.get()).result()

    def __aiter__(self) -> _InOrder:
        return self

    async def __anext__(self) -> Any:
        if self._left == 0:
            raise StopAsyncIteration
        self._left -= 1
        return await self._done.get()


async def _to_thread(func: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`asyncio.to_thread`: the thread is a branch of the run."""
    if live_branch() is None:
        return await _originals["to_thread"](func, *args, **kwargs)
    return await to_thread(func, *args, **kwargs)


# --- putting in and taking out --------------------------------------------------------------


def _install() -> None:
    tasks, threads, timeouts = asyncio.tasks, asyncio.threads, asyncio.timeouts
    for module, name, replacement in (
        (tasks, "sleep", sleep),
        (tasks, "wait", wait),
        (tasks, "wait_for", wait_for),
        (tasks, "as_completed", as_completed),
        (threads, "to_thread", _to_thread),
        (timeouts, "timeout", timeout),
    ):
        _swap_code(getattr(module, name), name, replacement)
    _originals["reschedule"] = asyncio.Timeout.reschedule
    _patch(asyncio.Timeout, "reschedule", _reschedule)
    _patch(asyncio.TaskGroup, "__init__", _ordered_group(asyncio.TaskGroup.__init__))
    _patch(asyncio.Runner, "run", _starting(asyncio.Runner.run, lambda runner: runner.get_loop()))
    for loop_class in _loop_classes():
        _patch(loop_class, "run_until_complete", _starting(loop_class.run_until_complete, lambda loop: loop))
    if restore := count_callbacks():
        _undo.append(restore)


def _loop_classes() -> list[Any]:
    uvloop = sys.modules.get("uvloop")
    return [asyncio.BaseEventLoop] + ([uvloop.Loop] if uvloop is not None else [])


def _patch(owner: Any, name: str, replacement: Any) -> None:
    inherited = name not in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, replacement)

    def restore() -> None:
        if vars(owner).get(name) is not replacement:
            return  # somebody patched over it: leave theirs, ours passes calls through
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    _undo.append(restore)


def _swap_code(function: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Lets `function` run `replacement`, wherever it was imported to; `_originals` keeps a copy.

    The stand-in takes any arguments and finds the replacement through its defaults.
    """
    code, defaults, kwdefaults = function.__code__, function.__defaults__, function.__kwdefaults__
    copy = types.FunctionType(code, function.__globals__, name, defaults, function.__closure__)
    copy.__kwdefaults__ = kwdefaults
    _originals[name] = copy
    is_coroutine = bool(code.co_flags & 0x80)
    stand_in: Any = _stand_in_async if is_coroutine else _stand_in
    function.__code__ = stand_in.__code__
    function.__defaults__ = None
    function.__kwdefaults__ = {"_isotrace": replacement}

    def restore() -> None:
        function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, kwdefaults

    _undo.append(restore)


def _stand_in(*args: Any, _isotrace: Any, **kwargs: Any) -> Any:
    return _isotrace(*args, **kwargs)


async def _stand_in_async(*args: Any, _isotrace: Any, **kwargs: Any) -> Any:
    return await _isotrace(*args, **kwargs)
