"""Global generators that a step's body has drawn from.

A replay does not run bodies, so what they draw is missing there, and the agent's own code would go on with
other numbers. So where a body has moved a global generator, the generator's state at the step's end is
noted, and set again when the step is served. Whether it has is seen in a few bytes of its state.
"""

from __future__ import annotations

import base64
import ctypes
import random
import struct
from typing import Any, Protocol

from isotrace.record import context

_WORDS = struct.Struct("<625I")


class Generator(Protocol):
    """A global generator. `peek` differs before and after a draw; `state` is plain JSON."""

    name: str

    def peek(self) -> Any: ...

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


class GlobalRandom:
    """The generator behind the functions of `random`."""

    name = "random"

    def __init__(self) -> None:
        functions: Any = random
        self._generator: random.Random = functions._inst
        self._words = _position_and_words(self._generator)

    def peek(self) -> Any:
        """Its position and first words, and the number that `gauss` keeps for later."""
        if self._words is None:
            return hash(self._generator.getstate())
        return self._words[0], self._words[1], self._generator.gauss_next  # type: ignore[attr-defined]  # typeshed has it not

    def state(self) -> Any:
        version, words, gauss = self._generator.getstate()
        return {"version": version, "words": base64.b64encode(_WORDS.pack(*words)).decode(), "gauss": gauss}

    def restore(self, state: Any) -> None:
        words = _WORDS.unpack(base64.b64decode(state["words"]))
        self._generator.setstate((state["version"], words, state["gauss"]))


def _position_and_words(generator: random.Random) -> Any:
    """The position and the first three words of a Mersenne Twister in memory, as two numbers that can be
    looked at in no time; None where this interpreter keeps them elsewhere. The first word alone is the same
    after every seeding."""
    probe = random.Random(1)
    for _ in range(3):
        words = probe.getstate()[1]
        if list(_words_at(probe)) != [words[-1] | words[0] << 32, words[1] | words[2] << 32]:
            return None
        probe.getrandbits(32)
    return _words_at(generator)


def _words_at(generator: random.Random) -> Any:
    place = (ctypes.c_uint64 * 2).from_address(id(generator) + object.__basicsize__)
    return memoryview(place).cast("B").cast("Q")


class Watch:
    """Which generators bodies have moved since their states were last noted."""

    def __init__(self) -> None:
        self._generators: list[Generator] = [GlobalRandom()]
        self.moved: set[str] = set()

    def add(self, generator: Generator) -> None:
        """Another global generator came with a library."""
        self._generators.append(generator)

    def peek(self) -> Any:
        """What the generators look like as a body begins."""
        return [generator.peek() for generator in self._generators]

    def left(self, before: Any) -> None:
        """A body has ended that began like this."""
        now = self.peek()
        if now != before:
            for index, generator in enumerate(self._generators):
                if index >= len(before) or before[index] != now[index]:
                    self.moved.add(generator.name)

    def states(self) -> dict[str, Any]:
        """The states of those that were moved, which are then no news any more."""
        moved, self.moved = self.moved, set()
        return {one.name: one.state() for one in self._generators if one.name in moved}

    def restore(self, states: Any) -> None:
        """Gives generators the states that were noted. Raises `ValueError`, `TypeError` or `KeyError` for
        what is none."""
        for generator in self._generators:
            if generator.name in states:
                generator.restore(states[generator.name])


def watch() -> None:
    """Looks after the global generators from now on, for the program of this process."""
    context.watch_bodies(Watch())


def forget() -> None:
    """The program has ended."""
    context.watch_bodies(None)


def watching() -> Watch | None:
    """The watch over the program of this process."""
    found = context.body_watch()
    return found if isinstance(found, Watch) else None
