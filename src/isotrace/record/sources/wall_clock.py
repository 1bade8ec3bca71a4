"""The wall clock, read by the agent's own code: `datetime.now`, `time.time` and what follows them.

The functions are hooked in C by time-machine, so that they stay the objects and the types that they are.
While a run is recorded they tell the real time, in a replay the recorded one. Clocks that only go on
(`time.monotonic`, `time.perf_counter`) are left alone: event loops live by them.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isotrace import clock
from isotrace.record.capture.about import About
from isotrace.record.patches import patch
from isotrace.record.sources.noted import CLOCK, noted
from isotrace.record.warned import warn

ABOUT = About(
    libraries="the wall clock (`datetime`, `time`)",
    versions="Python 3.11 to 3.13, by time-machine 3.6",
    steps=(
        (
            "`datetime.now`, `utcnow`, `today`; `date.today`; `time.time`, `time_ns`",
            "noted",
            "the recorded time; after the last noted value it goes on",
        ),
        ("`time.gmtime`, `localtime`, `strftime`, `ctime`, `asctime` without a time", "noted", "the same"),
        ("`time.sleep`", "waits", "does not wait"),
    ),
    not_captured=(
        "`time.monotonic` and `time.perf_counter`, by which event loops live.",
        "Clocks that C code reads by itself: `numpy.datetime64('now')`, `pandas.Timestamp.now()`.",
        "The time that `logging` gives its records.",
    ),
)

_logging: dict[str, Any] = vars(logging)


class _Traveller:
    """What time-machine's hooks ask for the time, in place of a journey of theirs."""

    def __init__(self, real: Callable[[], int]) -> None:
        self.real = real
        self.asked = 0

    def time_ns(self) -> int:
        self.asked += 1
        try:
            if sys._getframe(1).f_globals is _logging:
                return self.real()
            return noted(CLOCK, self.real)  # type: ignore[no-any-return]  # as `real`
        except Exception:  # noqa: BLE001  # a program that asks for the time gets it
            return self.real()


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.undo: Callable[[], None] | None = None


_state = _State()


def control() -> Callable[[], None]:
    """Has the wall clock noted inside runs, and served in replays; gives the way back.

    Where time-machine is not there, or built otherwise, a `RecordingWarning` says so, and the clock is
    left alone.
    """
    with _state.lock:
        _state.users += 1
        if _state.users == 1:
            try:
                _state.undo = _hook()
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                warn(f"the clock is not noted, a replay reads the real one: {error}")
    done = False

    def restore() -> None:
        nonlocal done
        with _state.lock:
            if not done:
                done = True
                _state.users -= 1
                if _state.users == 0 and _state.undo is not None:
                    _state.undo()
                    _state.undo = None

    return restore


def controlled() -> bool:
    """Whether the clock is hooked now."""
    return _state.undo is not None


def _hook() -> Callable[[], None]:
    module = _time_machine()
    hooks = module._time_machine
    stack: list[Any] = module.traveller_stack
    traveller = _Traveller(hooks.original_time_ns)
    stack.insert(0, traveller)  # below the journeys of a program that travels by itself
    hooks.patch()

    others: list[Callable[[], None]] = []

    def undo() -> None:
        while others:
            others.pop()()
        clock.read_by(None)
        stack.remove(traveller)
        if not stack:
            hooks.unpatch()

    try:
        # isotrace's own time stays the real one.
        clock.read_by(hooks.original_time_ns)
        _check(traveller, alone=len(stack) == 1)
        others += [patch(time, "ctime", _ctime), patch(time, "asctime", _asctime)]
    except BaseException:
        undo()
        raise
    return undo


def _ctime(plain: Callable[..., str]) -> Callable[..., str]:
    """time-machine leaves these two alone."""
    return lambda seconds=None, /: plain(time.time() if seconds is None else seconds)


def _asctime(plain: Callable[..., str]) -> Callable[..., str]:
    return lambda *moment: plain(*(moment or (time.localtime(),)))


def _check(traveller: _Traveller, *, alone: bool) -> None:
    """Raises `TypeError` unless the hooks ask the traveller."""
    time.time_ns()
    if alone and not traveller.asked:
        raise TypeError("this version of time-machine asks for the time in another way")


def _time_machine() -> Any:
    """time-machine, without the plug-in for pytest in it: importing that takes ten times as long as the rest,
    and a program would find a pytest loaded that it never asked for."""
    wanted = any(Path(word).name in ("pytest", "py.test") for word in sys.orig_argv)
    if not wanted and "pytest" not in sys.modules and "time_machine" not in sys.modules:
        sys.modules["pytest"] = None  # type: ignore[assignment]  # as the import system has it
        try:
            import time_machine  # noqa: PLC0415  # see above
        finally:
            del sys.modules["pytest"]
    else:
        import time_machine  # noqa: PLC0415  # see above
    return time_machine
