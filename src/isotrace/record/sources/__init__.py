"""Sources: what a program takes from its surroundings without making a call that is a step.

One file per source. Each says in its `ABOUT` what of it is noted while a run is recorded, and served in
its replay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from isotrace.record.sources import entropy, files, generators, keys, seeds, uuids, variables, wall_clock
from isotrace.record.sources.noted import CLOCK, ENTROPY, MOVED, UUID
from isotrace.record.sources.surroundings import surroundings


class _State:
    """Who wants the sources controlled, and the ways back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.undo: list[Callable[[], None]] = []


_state = _State()


def control() -> Callable[[], None]:
    """Notes what runs of this process read from now on, and serves it in their replays: the wall clock,
    fresh UUIDs, and the entropy of generators that are made without a seed. Gives the way back; calling
    that twice is fine."""
    with _state.lock:
        _state.users += 1
        if _state.users == 1:
            _state.undo = [
                keys.control(),
                wall_clock.control(),
                uuids.control(),
                entropy.control(),
            ]
    done = False

    def restore() -> None:
        nonlocal done
        with _state.lock:
            if done:
                return
            done = True
            _state.users -= 1
            while _state.undo and not _state.users:
                _state.undo.pop()()

    return restore


def controlled() -> list[str]:
    """The sources that are controlled now, as a run says it of itself."""
    if not _state.undo:
        return []
    return [
        *([CLOCK] if wall_clock.controlled() else []),
        UUID,
        ENTROPY,
        *([MOVED] if generators.watching() is not None else []),
    ]


@contextmanager
def program(entry: Mapping[str, Any]) -> Iterator[None]:
    """Around a program that is recorded in this process: its generators have the seeds of its entry point,
    and what it reads of variables and files is noted."""
    undo = [variables.watch(), files.watch()]
    seeds.plant(entry)
    try:
        yield
    finally:
        seeds.uproot()
        while undo:
            undo.pop()()
        surroundings.clear()
