"""The seeds of a program: of `random`, of numpy's global generator, and of the interpreter's hash.

They are chosen before the program's first line, at random as the interpreter itself does, and stand in its
entry point. A replay starts the program with the same.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any, Final

from isotrace.hashing import H
from isotrace.record.capture.about import About
from isotrace.record.sources import generators

ABOUT = About(
    libraries="the interpreter's hash seed",
    versions="Python 3.11 to 3.13",
    steps=(
        (
            "the order of sets of texts, in a program that `isotrace run` started",
            "the interpreter starts with a hash seed of isotrace's choice",
            "the same hash seed",
        ),
    ),
    not_captured=("Orders that follow addresses in memory: sets of objects that have no hash of their own.",),
)

HASH_SEED: Final = "PYTHONHASHSEED"
CHOSEN: Final = "ISOTRACE_HASH_SEED_BEFORE"
"""Set by who started this process with a hash seed of its choice: what stood in its place before."""

MAX_HASH_SEED: Final = 2**32 - 1


class _Seeds:
    """Those of the program that this process is."""

    random: bytes | None = None


_seeds = _Seeds()


def fresh_seeds() -> dict[str, Any]:
    """Seeds for a program that is about to start in this process, as its entry point records them."""
    seeds: dict[str, Any] = {"random": os.urandom(16).hex()}
    if (hash_seed := adopt_hash_seed()) is not None:
        seeds["hash"] = hash_seed
    return seeds


def adopt_hash_seed() -> int | None:
    """The hash seed that this process was started with for isotrace's sake, None if there is none. The
    environment is then as the user had it: what the program starts chooses its own seed."""
    before = os.environ.pop(CHOSEN, None)
    if before is None:
        return None
    given = os.environ.pop(HASH_SEED, "")
    if before:
        os.environ[HASH_SEED] = before
    return hash_seed_of(given)


def hash_seed_of(value: Any) -> int | None:
    """A hash seed as a number, None for what is none."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= MAX_HASH_SEED else None


def chosen_hash_seed(seed: int) -> dict[str, str]:
    """Variables for a process that shall have this hash seed, and calls `adopt_hash_seed`."""
    return {HASH_SEED: str(seed), CHOSEN: ""}


def plant(entry: Mapping[str, Any]) -> None:
    """Seeds the generators as the entry point of the program says that is about to start. One without
    seeds leaves them alone."""
    seeds = entry.get("seeds")
    text = seeds.get("random") if isinstance(seeds, dict) else None
    try:
        _seeds.random = bytes.fromhex(text) if isinstance(text, str) else None
    except ValueError:
        _seeds.random = None
    if _seeds.random is not None:
        random.seed(int.from_bytes(_seed_for("random"), "big"))
        generators.watch()


def uproot() -> None:
    """The program has ended: libraries that are imported from now on are not seeded."""
    _seeds.random = None
    generators.forget()


def numbers_for(library: str) -> list[int] | None:
    """The seed of a library's own global generator, as 32-bit numbers; None outside of a program."""
    if _seeds.random is None:
        return None
    seed = _seed_for(library)
    return [int.from_bytes(seed[at : at + 4], "big") for at in range(0, len(seed), 4)]


def _seed_for(what: str) -> bytes:
    assert _seeds.random is not None
    return H("isotrace/v1/random", _seeds.random, what.encode())
