"""What two sets of runs are large enough to show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from isotrace.population.exact import Counts, ways_appeared

POWER: Final = 0.8
"""How likely a change that can be seen is to be seen: four of five cases."""

_SHARES = 1000
"""Shares are looked for in steps of one in so many."""

_LARGE = 2_000
"""From so many runs on a binomial quantile is taken as a normal one."""


def visible_from(sizes: Sequence[Counts], alpha: float, power: float = POWER) -> float | None:
    """The smallest share of runs after which, taking a new path, are seen with this power.

    `sizes` are the runs of each stratum. Supposed is that within each stratum all other runs take one
    path, and the new one has the same share in all of them. None if not even a path that all runs take
    would be seen: where each task has one run before and one after, nothing can be.
    """
    if not _seen(_SHARES, sizes, alpha, power):
        return None
    low, high = 0, _SHARES
    while high - low > 1:
        middle = (low + high) // 2
        if _seen(middle, sizes, alpha, power):
            high = middle
        else:
            low = middle
    return high / _SHARES


def _seen(share: int, sizes: Sequence[Counts], alpha: float, power: float) -> bool:
    took = _quantile(sum(size.after for size in sizes), share / _SHARES, 1 - power)
    tables = [
        [Counts(size.before, size.after - new), Counts(0, new)]
        for size, new in zip(sizes, _spread(took, [size.after for size in sizes]), strict=True)
    ]
    return 2 * ways_appeared(tables).p_value <= alpha


def _quantile(runs: int, share: float, below: float) -> int:
    """The largest number of runs that at least 1 − `below` of all samples reach."""
    if share >= 1:
        return runs
    if runs > _LARGE:
        off = NormalDist().inv_cdf(below) * math.sqrt(runs * share * (1 - share))
        return max(0, math.floor(runs * share + off))
    fewer, k = 0.0, 0
    while True:
        fewer += math.exp(
            math.lgamma(runs + 1)
            - math.lgamma(k + 1)
            - math.lgamma(runs - k + 1)
            + (k * math.log(share) if k else 0.0)
            + (runs - k) * math.log1p(-share)
        )
        # `fewer` is now the chance of at most k.
        if fewer > below or k == runs:
            return k
        k += 1


def _spread(took: int, afters: Sequence[int]) -> list[int]:
    """So many runs, over strata of these sizes, as evenly as whole runs allow."""
    every, so_far, given = sum(afters), 0, []
    for after in afters:
        before = so_far * took // every if every else 0
        so_far += after
        given.append((so_far * took // every if every else 0) - before)
    return given
