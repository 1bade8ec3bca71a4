"""numpy's generators: the entropy of those made without a seed, and the global one of `numpy.random`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.patches import patch
from isotrace.record.sources import generators, seeds
from isotrace.record.sources.noted import ENTROPY, noted, noting

ABOUT = About(
    libraries="`numpy.random`",
    versions="2.0 to 2.4",
    steps=(
        (
            "`default_rng()`, `SeedSequence()`, bit generators and `RandomState()` without a seed",
            "what they begin with is noted",
            "begin the same",
        ),
        (
            "the global generator of a program that `isotrace run` started",
            "seeded when numpy is imported; where a step drew from it, its state is noted",
            "seeded the same; set to that state when the step is served",
        ),
    ),
    not_captured=("The global generator of a process that `isotrace run` did not start.",),
)


def install(module: Any) -> list[Callable[[], None]]:
    """Puts itself in place on `numpy.random`; gives the ways back."""
    if (numbers := seeds.numbers_for("numpy")) is not None:
        module.seed(numbers)
        if (watch := generators.watching()) is not None:
            watch.add(_Global(module))
    return [patch(module.bit_generator, "randbits", _drawing)]


class _Global:
    """The generator behind the functions of `numpy.random`."""

    name = "numpy"

    def __init__(self, module: Any) -> None:
        self._module = module
        get = module.mtrand._rand._bit_generator.ctypes.state_address
        self._words = (ctypes.c_uint32 * _WORDS).from_address(get)

    def peek(self) -> Any:
        """Its position and second word (the first is the same after every seeding). That `normal` has taken
        the number that it had put by is not seen: asking for it takes as long as many steps."""
        return self._words[_WORDS - 1], self._words[1]

    def state(self) -> Any:
        kind, key, *rest = self._module.get_state()
        return [kind, key.tolist(), *rest]

    def restore(self, state: Any) -> None:
        self._module.set_state(tuple(state))


_WORDS = 625


def _drawing(plain: Callable[[int], int]) -> Callable[[int], int]:
    """What a `SeedSequence` draws its entropy by."""

    def randbits(bits: int) -> int:
        return int(noted(ENTROPY, lambda: f"{plain(bits):x}"), 16) if noting() else plain(bits)

    return randbits
