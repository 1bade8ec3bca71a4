"""numpy's generators: the entropy of those made without a seed, and the global one of `numpy.random`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.context import live_branch
from isotrace.record.patches import patch
from isotrace.record.sources import seeds
from isotrace.record.sources.noted import ENTROPY, noted

ABOUT = About(
    libraries="`numpy.random`",
    versions="2.0 to 2.4",
    steps=(
        (
            "`default_rng()`, `SeedSequence()`, bit generators and `RandomState()` without a seed",
            "noted value",
            "read",
        ),
        (
            "the global generator",
            "seeded when numpy is imported by a program that `isotrace run` started",
            "pure",
        ),
    ),
    not_captured=("the global generator of a process that `isotrace run` did not start",),
)


def install(module: Any) -> list[Callable[[], None]]:
    """Puts itself in place on `numpy.random`; gives the ways back."""
    if (numbers := seeds.numbers_for("numpy")) is not None:
        module.seed(numbers)
    return [patch(module.bit_generator, "randbits", _drawing)]


def _drawing(plain: Callable[[int], int]) -> Callable[[int], int]:
    """What a `SeedSequence` draws its entropy by."""

    def randbits(bits: int) -> int:
        return plain(bits) if live_branch() is None else int(noted(ENTROPY, lambda: f"{plain(bits):x}"), 16)

    return randbits
