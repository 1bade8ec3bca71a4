"""Values that a program takes from its surroundings by itself: a clock, a fresh id, entropy.

While a run is recorded the program gets the real value, and the run's driver keeps it; in a replay the
driver gives the recorded one. Values that are read between two steps of a branch are one *gap*, and are
written as one event: a program that logs a thousand lines has one more event, not a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, Final

from isotrace.models import Lineage
from isotrace.record.context import current_branch, current_step, run_opener

MAX_IN_GAP: Final = 20_000
"""How many values are kept of one gap; a replay gives the later ones as it can."""

CLOCK: Final = "clock"
UUID: Final = "uuid"
ENTROPY: Final = "entropy"
EARLY: Final = (CLOCK, UUID, ENTROPY)
"""What is kept of the lines before a program's first run."""
MOVED: Final = "random"
"""States of the global generators, where a step's body has drawn from them."""
PROCESS: Final = "process "
"""How the name of a source begins that the capture of processes notes: no control of sources is needed."""
CONNECTION: Final = "connection "
"""The same for the capture of MCP connections."""

_NS: Final = 1_000_000_000
_MAX_STEP: Final = 2**53 - 1
_MAX_DIGITS: Final = 4096
_HEX: Final = frozenset("0123456789abcdef")


part_of_another: ContextVar[bool] = ContextVar("isotrace_part_of_another", default=False)
"""Set while a value is made that is noted as a whole: what it is made of is not noted once more."""


def noted(source: str, function: Callable[[], Any]) -> Any:
    """`function()`, or what it gave on record where the agent's own code is replayed. The value is plain
    JSON. Inside a step's body it is just called, and outside of a run as well, unless that is replayed."""
    if part_of_another.get():
        return function()
    branch = current_branch.get()
    if branch is not None:
        branch = branch.here()
        return function() if branch.driver.closed else branch.driver.noted(branch, source, function)
    opener = run_opener.get()
    if opener is None or current_step.get() is not None:
        return function()
    return opener.noted(source, function)


def noting() -> bool:
    """Whether `noted` does more than calling its function here."""
    branch = current_branch.get()
    if branch is not None:
        return not branch.driver.closed
    return run_opener.get() is not None and current_step.get() is None


class Notes:
    """What a branch has read in one gap since that was last written. `gap` is the number that the
    branch's next step will have; `left` is how many values more are kept."""

    __slots__ = ("gap", "left", "path", "values")

    def __init__(self, path: Lineage, gap: int) -> None:
        self.path = path
        self.gap = gap
        self.left = MAX_IN_GAP
        self.values: dict[str, list[Any]] = {}


def encoded(source: str, values: list[Any]) -> Any:
    """Values as they are written: moments as the first one and the steps from each to the next, in
    nanoseconds; anything else as it is."""
    if source != CLOCK:
        return values
    steps = [later - earlier for earlier, later in pairwise(values)]
    if any(abs(step) > _MAX_STEP for step in steps):  # somebody set the clock by months
        return [list(divmod(value, _NS)) for value in values]
    return {"first": list(divmod(values[0], _NS)), "steps": steps}


def decoded(source: str, data: Any) -> list[Any]:
    """The values again. Raises `ValueError`, `TypeError` or `KeyError` for what was never written so."""
    if source in (UUID, ENTROPY):
        return _listed(data, _is_hex)
    if source != CLOCK:
        return _listed(data, _is_plain)
    if isinstance(data, list):
        return [_moment(pair) for pair in _listed(data, lambda pair: isinstance(pair, list))]
    values = [_moment(data["first"])]
    for step in _listed(data["steps"], _is_whole):
        values.append(values[-1] + step)
    return values


def _listed(data: Any, fits: Callable[[Any], bool]) -> list[Any]:
    if not isinstance(data, list) or len(data) > MAX_IN_GAP or not all(map(fits, data)):
        raise ValueError("no list of noted values")
    return data


def _moment(pair: Any) -> int:
    second, rest = _listed(pair, _is_whole)
    return int(second * _NS + rest)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MAX_STEP


def _is_hex(value: Any) -> bool:
    return type(value) is str and len(value) <= _MAX_DIGITS and set(value) <= _HEX


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)
