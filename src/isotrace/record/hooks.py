"""What isotrace changes in the standard library while a run is open, and takes back when the last ends.

- The task factory of the loops that a run uses: a task is a branch of the run.
- `asyncio.Runner.run`, `run_until_complete`, `run_forever`: the factory must be there before the
  first task.
- `asyncio.sleep`, `timeout`, `wait_for`, and `wait` and `as_completed` with a time-out: timers are
  steps, so that a replay need not wait.
- `asyncio.as_completed`, `wait`, `all_tasks`, `TaskGroup`: they iterate over sets, whose order differs
  between processes.
- `asyncio.to_thread`: the thread is a branch, its start and end have a turn.
- `call_soon_threadsafe`, by which threads wake a loop; `call_soon` of uvloop, which does not show
  whether it is idle.
- `ThreadPoolExecutor.submit`, `Thread.start`: a step that is made there belongs to the run, and is marked.
- `concurrent.futures.wait`, `as_completed`, `Future.result`, `Future.exception`: who waits lets others
  have their turn.

Each replacement calls the original unless it is called by an agent's own code inside a run. A function
that was imported by name (`from asyncio import sleep`) is replaced as well: what is swapped there
is the function's code.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.tasks
import asyncio.threads
import asyncio.timeouts
import concurrent.futures._base
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from isotrace.record import foreign_threads, tasks, waits
from isotrace.record.context import live_branch
from isotrace.record.idle import counting_callbacks, waking
from isotrace.record.patches import patch, swap_code


class _Hooks:
    """Counts the open runs, and knows the way back."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open_runs = 0
        self.covered: set[type] = set()
        self.undo: list[Callable[[], None]] = []


_hooks = _Hooks()


def enter() -> None:
    """A run opens: puts the hooks in place if it is the first, and on the running loop if there is one."""
    with _hooks.lock:
        _hooks.open_runs += 1
        if _hooks.open_runs == 1:
            _install()
    loop = asyncio._get_running_loop()
    if loop is not None:
        cover(loop)


def leave() -> None:
    """A run ends: takes the hooks away if it was the last."""
    with _hooks.lock:
        _hooks.open_runs -= 1
        if _hooks.open_runs == 0:
            _hooks.covered.clear()
            while _hooks.undo:
                _hooks.undo.pop()()


def _forked() -> None:
    """The runs that were open are the parent's; the lock may have been held by one of its threads."""
    _hooks.lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)


def _install() -> None:
    futures: Any = concurrent.futures._base
    for module, name, replacement in (
        (asyncio.tasks, "sleep", waits.sleep),
        (asyncio.tasks, "wait", waits.wait),
        (asyncio.tasks, "wait_for", waits.wait_for),
        (asyncio.tasks, "as_completed", waits.as_completed),
        (asyncio.tasks, "all_tasks", waits.all_tasks),
        (asyncio.threads, "to_thread", waits.to_thread_in_run),
        (asyncio.timeouts, "timeout", waits.timeout),
        (futures, "wait", foreign_threads.wait),
        (futures, "as_completed", foreign_threads.as_completed),
    ):
        _hooks.undo.append(swap_code(getattr(module, name), replacement))
    for owner, name, wrap in (
        (asyncio.Timeout, "reschedule", waits.rescheduling),
        (asyncio.TaskGroup, "__init__", waits.ordering_group),
        (asyncio.Runner, "run", _running_runner),
        (ThreadPoolExecutor, "submit", foreign_threads.submitting),
        (threading.Thread, "start", foreign_threads.starting_thread),
        (Future, "result", foreign_threads.awaiting),
        (Future, "exception", foreign_threads.awaiting),
    ):
        _hooks.undo.append(patch(owner, name, wrap))
    _cover_class(asyncio.BaseEventLoop)
    if uvloop := sys.modules.get("uvloop"):
        _cover_class(uvloop.Loop)


# --- event loops --------------------------------------------------------------------------


def cover(loop: asyncio.AbstractEventLoop) -> None:
    """Puts the hooks on a loop, for as long as any run is open."""
    with _hooks.lock:
        _cover_class(asyncio.BaseEventLoop if isinstance(loop, asyncio.BaseEventLoop) else type(loop))
        if restore := tasks.install_factory(loop):
            _hooks.undo.append(restore)


def _cover_class(loop_class: Any) -> None:
    if loop_class in _hooks.covered:
        return
    _hooks.covered.add(loop_class)
    wraps = {
        "set_task_factory": tasks.setting_factory,
        "get_task_factory": tasks.getting_factory,
        "run_until_complete": _running_until_complete,
        "run_forever": _running_forever,
        "call_soon_threadsafe": waking,
    }
    if loop_class is not asyncio.BaseEventLoop:
        wraps["call_soon"] = counting_callbacks
    for name, wrap in wraps.items():
        _hooks.undo.append(patch(loop_class, name, wrap))


def _running_runner(plain: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if live_branch() is not None:
            cover(self.get_loop())
        return plain(self, *args, **kwargs)

    return run


def _running_until_complete(plain: Callable[..., Any]) -> Callable[..., Any]:
    def run_until_complete(self: Any, future: Any) -> Any:
        if live_branch() is not None:
            cover(self)
        return plain(self, future)

    return run_until_complete


def _running_forever(plain: Callable[..., Any]) -> Callable[..., Any]:
    def run_forever(self: Any) -> None:
        branch = live_branch()
        if branch is None:
            return plain(self)  # type: ignore[no-any-return]  # None, as asyncio's
        cover(self)
        with branch.driver.scheduler.running(self, thread=branch.control.worker is not None):
            return plain(self)  # type: ignore[no-any-return]  # None, as asyncio's

    return run_forever
