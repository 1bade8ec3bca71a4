"""Tasks as branches of a run, and sets of them in an order that does not depend on memory addresses."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, finalize

from isotrace.events import lineage_key
from isotrace.record.context import Branch, Driver, current_branch, live_branch

_branches: WeakKeyDictionary[Any, Branch] = WeakKeyDictionary()
_factories: WeakKeyDictionary[asyncio.AbstractEventLoop, Factory] = WeakKeyDictionary()


class Factory:
    """Makes each task of a run a branch, and has the factory that was there before make the task."""

    def __init__(self, before: Callable[..., Any] | None) -> None:
        self.before = before

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, *, context: Any = None, **kwargs: Any
    ) -> asyncio.Future[Any]:
        parent = None if _closes_generator(coro) else _parent(context)
        if parent is None:
            return self._make(loop, coro, context, kwargs)
        # Of what is not the agent's, timers and calls are no steps either.
        branch = parent.child() if _is_agents(coro) else None
        if context is None:
            # Inside a context, not with one: a factory need not know of contexts.
            scope = contextvars.copy_context()
            scope.run(current_branch.set, branch)
            task = scope.run(self._make, loop, coro, None, kwargs)
        else:
            context.run(current_branch.set, branch)
            task = self._make(loop, coro, context, kwargs)
        if branch is not None:
            _branches[task] = branch
        return task

    def _make(
        self, loop: asyncio.AbstractEventLoop, coro: Any, context: Any, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        if context is not None:
            kwargs["context"] = context
        if self.before is not None:
            return self.before(loop, coro, **kwargs)  # type: ignore[no-any-return]  # a task
        return asyncio.Task(coro, loop=loop, **kwargs)


def _parent(context: contextvars.Context | None) -> Branch | None:
    """The branch that a new task is opened by. A context from before the run is no way out of it."""
    here = live_branch()
    if context is not None and current_branch in context:
        found = context[current_branch]
        if found is None or not found.driver.closed:
            here = found
    return here


def _closes_generator(coro: Any) -> bool:
    """Whether the loop closes an abandoned generator, which it does when the collector comes by."""
    return type(coro).__name__ == "async_generator_athrow"


def _is_agents(coro: Any) -> bool:
    """Whether this is the agent's doing. What the loop does by itself takes no number: it puts away its own
    things at the end. Nor does what the collector has an object do, such as a client that closes its
    connections."""
    return getattr(coro, "__name__", "") not in _SHUTDOWN and not _in_finalizer()


def _in_finalizer() -> bool:
    """Whether the task is made by a `__del__` or a `weakref.finalize`, which are called when the collector
    likes: seen from the task's factory, at most past `asyncio.create_task` and the loop's own, or past
    `asyncio.run`."""
    frame: FrameType | None = sys._getframe(3)
    left = _FRAMES
    while frame is not None and left:
        code = frame.f_code
        if code.co_name == "__del__" or code is _FINALIZE:
            return True
        if code is _RUN:
            left += _FRAMES
        frame, left = frame.f_back, left - 1
    return False


_FRAMES = 4
_FINALIZE = finalize.__call__.__code__
_RUN = asyncio.Runner.run.__code__


# The last is aiohttp's: a session that is closed has its connections wait for their ends, if it has any.
_SHUTDOWN = ("shutdown_asyncgens", "shutdown_default_executor", "_wait_for_close")


def install_factory(loop: asyncio.AbstractEventLoop) -> Callable[[], None] | None:
    """Makes tasks of this loop branches; the way back, or None if that is so already."""
    if loop in _factories:
        return None
    factory = Factory(loop.get_task_factory())
    loop.set_task_factory(factory)
    _factories[loop] = factory

    def restore() -> None:
        _factories.pop(loop, None)
        if not loop.is_closed() and loop.get_task_factory() is factory:
            loop.set_task_factory(factory.before)

    return restore


def setting_factory(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`set_task_factory` inside a run: what the agent sets makes the tasks, ours stays around it."""

    def set_task_factory(self: Any, factory: Any) -> None:
        ours = _factories.get(self)
        if ours is None or not (factory is None or callable(factory)):
            plain(self, factory)
        else:
            ours.before = factory

    return set_task_factory


def getting_factory(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`get_task_factory` inside a run: what the agent set."""

    def get_task_factory(self: Any) -> Any:
        ours = _factories.get(self)
        return plain(self) if ours is None else ours.before

    return get_task_factory


def tasks_of(driver: Driver, loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """The unfinished tasks that a run opened in this loop, in the order of their lineages."""
    mine = [task for task in asyncio.all_tasks(loop) if task in _branches]
    return [task for task in OrderedSet(mine) if _branches[task].driver is driver]


# --- sets of tasks ------------------------------------------------------------------------


class OrderedSet(set[Any]):
    """A set that iterates over `listed` in that order, then over other tasks by their lineage."""

    def __init__(self, items: Iterable[Any] = (), *, listed: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self._rank = {item: rank for rank, item in enumerate(listed)}

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=self._place))

    def _place(self, item: Any) -> tuple[Any, ...]:
        rank = self._rank.get(item)
        if rank is not None:
            return (0, rank)
        branch = _branches.get(item)
        return (2,) if branch is None else (1, lineage_key(branch.path))

    def pop(self) -> Any:
        for item in self:
            self.discard(item)
            return item
        raise KeyError("pop from an empty set")


def in_order(items: Iterable[Any]) -> list[Any]:
    """The items as listed; those of a set by their lineage."""
    return list(OrderedSet(items) if isinstance(items, (set, frozenset)) else items)
