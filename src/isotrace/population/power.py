"""What two sets of runs are large enough to show."""

from __future__ import annotations

import math
from typing import Final

from isotrace.population.exact import Counts, share_changed

POWER: Final = 0.8
"""How likely a change that can be seen is to be seen: four of five cases."""

_LARGE = 20_000
"""Beyond this many runs a side, the answer is that of this many."""


def visible_from(before: int, after: int, alpha: float, power: float = POWER) -> float | None:
    """The smallest share of runs after, none before, that Fisher's test at `alpha` sees with this power.

    None if not even a path that all runs take would be seen.
    """
    before, after = min(before, _LARGE), min(after, _LARGE)
    needed = _needed(before, after, alpha)
    if needed is None:
        return None
    low, high = needed / after / 4, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if _at_least(needed, after, middle) >= power:
            high = middle
        else:
            low = middle
    return high


def _needed(before: int, after: int, alpha: float) -> int | None:
    """The smallest number of runs after, of none before, that is significant."""
    low, high = 0, after
    if not before or not after or _p(after, before, after) > alpha:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _p(middle, before, after) <= alpha:
            high = middle
        else:
            low = middle
    return high


def _p(took: int, before: int, after: int) -> float:
    return share_changed([(Counts(0, took), Counts(before, after - took))]).p_value


def _at_least(needed: int, runs: int, share: float) -> float:
    """The probability of at least `needed` of `runs`."""
    if share >= 1:
        return 1.0
    fewer = [
        math.lgamma(runs + 1)
        - math.lgamma(k + 1)
        - math.lgamma(runs - k + 1)
        + k * math.log(share)
        + (runs - k) * math.log1p(-share)
        for k in range(needed)
    ]
    return 1 - math.fsum(map(math.exp, fewer))
