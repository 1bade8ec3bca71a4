"""Generators that the agent's own code makes without a seed: the entropy that they begin with.

The global generator of `random` is no matter of this: a program is started with a known seed
(`isotrace.record.sources.seeds`). A program that seeds by itself is left alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.patches import patch
from isotrace.record.sources.noted import ENTROPY, noted, noting

ABOUT = About(
    libraries="`random`",
    versions="Python 3.11 to 3.13",
    steps=(
        ("`random.Random()` and `seed()` without a seed", "what they begin with is noted", "begin the same"),
        (
            "the global generator of a program that `isotrace run` started",
            "seeded before the first line; where a step drew from it, its state is noted",
            "seeded the same; set to that state when the step is served",
        ),
    ),
    not_captured=("The global generator of a process that `isotrace run` did not start.",),
)

_BYTES = 32


def control() -> Callable[[], None]:
    """Has the entropy of generators noted that are made without a seed; gives the way back."""
    undo = [patch(random.Random, "seed", _seeding_any), patch(random, "seed", _seeding_global)]

    def restore() -> None:
        while undo:
            undo.pop()()

    return restore


def _seeding_any(plain: Callable[..., None]) -> Callable[..., None]:
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        plain(self, _fresh() if a is None and noting() else a, version)

    return seed


def _seeding_global(plain: Callable[..., None]) -> Callable[..., None]:
    def seed(a: Any = None, version: int = 2) -> None:
        plain(_fresh() if a is None and noting() else a, version)

    return seed


def _fresh() -> int:
    return int(noted(ENTROPY, lambda: os.urandom(_BYTES).hex()), 16)
