"""Tests that hold at small N: of tables with fixed margins, exact where that is feasible.

Under "nothing has changed" the labels before and after could be exchanged within each stratum.
All probabilities here are over these exchanges, with every margin as it is: R. A. Fisher, "The logic of
inductive inference", JRSS 98 (1935); for more than two rows G. H. Freeman, J. H. Halton, "Note on an
exact treatment of contingency", Biometrika 38 (1951). Where the tables are too many, exchanges are drawn
at random, and p = (b + 1) / (m + 1) (B. Phipson, G. K. Smyth, "Permutation p-values should never be
zero", 2010). Several tests at once: S. Holm, "A simple sequentially rejective multiple test
procedure", Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from isotrace.population.statistics import LEVEL, Interval, wilson

ALPHA: Final = 0.05
"""From which p-value down something is said to be shown, unless another is asked for."""

PERMUTATIONS: Final = 9_999
"""How many random exchanges stand in for all of them."""

_LABELS = 3_000_000
"""How many labels are exchanged in all; of larger samples fewer exchanges are drawn, but at least 999."""

LARGE: Final = 2_000
"""Beyond how many runs in one stratum nothing is drawn: chi-square is good enough, and much quicker."""

_WORK = 200_000
"""How many tables, or partial ones, are enumerated at most."""

_ALIKE = 1e-7
"""Tables whose probabilities are this close (relative) are equally extreme, whatever rounding did."""


class Counts(NamedTuple):
    """A row of a table: runs before, runs after."""

    before: int
    after: int


Table = Sequence[Counts]
"""What the runs of one stratum did: one row for each way."""


@dataclass(frozen=True, slots=True)
class Significance:
    """A p-value; `smallest` is the smallest that these margins allow, 0 where it was not looked for.

    `exact`: every exchange was counted.
    """

    p_value: float
    smallest: float
    exact: bool = True


NOTHING_TO_TEST: Final = Significance(1.0, 1.0)


def share_changed(strata: Iterable[tuple[Counts, Counts]]) -> Significance:
    """Whether a share has changed: Fisher's exact test, two-sided, of (with it, without it) in each stratum.

    Over several strata the runs with it after are summed; their distribution is the convolution of
    the strata's. Where that is too large for counting it is taken as normal (Mantel and Haenszel).
    """
    tables = [(with_it, without) for with_it, without in strata if _informs((with_it, without))]
    if not tables:
        return NOTHING_TO_TEST
    observed = sum(with_it.after for with_it, _ in tables)
    start, chances, work = 0, [1.0], 0
    for with_it, without in tables:
        low, more = _hypergeometric(with_it, without)
        work += len(chances) * len(more)
        if work > _WORK and len(chances) > 1:
            return _mantel_haenszel(tables)
        start, chances = start + low, _convolved(chances, more)
    at = observed - start
    here = chances[at] if 0 <= at < len(chances) else 0.0
    extreme = min(chances)
    return Significance(_as_extreme(chances, here), _as_extreme(chances, extreme))


def _informs(table: Table) -> bool:
    """Whether an exchange can change the table: both sides have runs, and more than one row has."""
    sides = sum(row.before for row in table), sum(row.after for row in table)
    return min(sides) > 0 and sum(sum(row) > 0 for row in table) > 1


def _as_extreme(chances: Iterable[float], chance: float) -> float:
    return min(1.0, math.fsum(one for one in chances if one <= chance * (1 + _ALIKE)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _hypergeometric(with_it: Counts, without: Counts) -> tuple[int, list[float]]:
    """How likely each number of runs with it is to be after; from the smallest possible number on."""
    marked, others, drawn = sum(with_it), sum(without), with_it.after + without.after
    low, high = max(0, drawn - others), min(marked, drawn)
    at = _log_choose(marked, low) + _log_choose(others, drawn - low) - _log_choose(marked + others, drawn)
    # From one number to the next by their ratio: three of Γ for each would be most of the time that it takes
    # to tell where a million runs part.
    chances = [math.exp(at)]
    for x in range(low, high):
        at += math.log((marked - x) * (drawn - x) / ((x + 1) * (others - drawn + x + 1)))
        chances.append(math.exp(at))
    return low, chances


def _convolved(one: Sequence[float], other: Sequence[float]) -> list[float]:
    if len(one) == 1:
        return [one[0] * q for q in other]
    sums = [0.0] * (len(one) + len(other) - 1)
    for i, p in enumerate(one):
        for j, q in enumerate(other):
            sums[i + j] += p * q
    return sums


def _mantel_haenszel(tables: Iterable[tuple[Counts, Counts]]) -> Significance:
    """N. Mantel, W. Haenszel, JNCI 22 (1959), with their correction for continuity."""
    off = spread = 0.0
    for with_it, without in tables:
        marked, others, after = sum(with_it), sum(without), with_it.after + without.after
        runs = marked + others
        off += with_it.after - marked * after / runs
        spread += marked * others * after * (runs - after) / (runs * runs * (runs - 1))
    z = max(0.0, abs(off) - 0.5) / math.sqrt(spread)
    return Significance(math.erfc(z / math.sqrt(2)), 0.0, exact=False)


def ways_changed(
    strata: Iterable[Table], *, seed: int = 0, permutations: int = PERMUTATIONS, large: int = LARGE
) -> Significance:
    """Whether the ways that runs take are others after than before, in any stratum.

    Exchanges are as extreme as what was seen if their tables, all strata together, are at most as
    likely. All of them are counted where they are few enough, else `permutations` are drawn with this
    seed, and p is (b + 1) / (m + 1). In a stratum of more than `large` runs chi-square stands in for both.
    """
    tables = _informing(strata)
    if max(map(_runs, tables), default=0) > large:
        return _chi_square(tables)
    return _exchanged(tables, _log_choose, seed, permutations)


def ways_appeared(
    strata: Iterable[Table], *, seed: int = 0, permutations: int = PERMUTATIONS
) -> Significance:
    """Whether more runs than by chance take ways after that none took before: one-sided, by exchanges as
    `ways_changed`. Of more than 2,000 runs in all the ways are taken as independent."""
    tables = _informing(strata)
    if sum(map(_runs, tables)) > LARGE:
        return _appeared_at_large(tables)
    return _exchanged(tables, _new, seed, permutations)


def _informing(strata: Iterable[Table]) -> list[Table]:
    tables = [[row for row in table if sum(row)] for table in strata]
    return [table for table in tables if _informs(table)]


def _runs(table: Table) -> int:
    return sum(map(sum, table))


def _new(runs: int, after: int) -> float:
    """The score of a way that none took before: lower is more extreme, as with a weight."""
    return -float(runs) if after == runs else 0.0


Score = Callable[[int, int], float]
"""What a row of this many runs, this many of them after, adds to the score of its table."""


def _exchanged(tables: Sequence[Table], score: Score, seed: int, permutations: int) -> Significance:
    """How likely a score as low as that of these tables is, if labels are exchanged."""
    if not tables:
        return NOTHING_TO_TEST
    observed = math.fsum(score(sum(row), row.after) for table in tables for row in table)
    counted = _all_tables(tables, score)
    if counted is not None:
        return Significance(_mass(counted, observed), _mass(counted, min(counted)))
    source = random.Random(seed)
    samplers = [_Sampler(table, score) for table in tables]
    permutations = min(permutations, max(999, _LABELS // sum(map(_runs, tables))))
    as_extreme = 0
    for _ in range(permutations):
        as_extreme += sum(one.draw(source) for one in samplers) <= observed + _ALIKE
    return Significance((as_extreme + 1) / (permutations + 1), 1 / (permutations + 1), exact=False)


def _mass(chances: dict[float, float], score: float) -> float:
    return min(1.0, math.fsum(chance for one, chance in chances.items() if one <= score + _ALIKE))


def _all_tables(tables: Sequence[Table], score: Score) -> dict[float, float] | None:
    """How likely each score is, over all exchanges; None where they are too many."""
    chances, work = {0.0: 1.0}, [_WORK]
    for table in tables:
        more = _one_table(table, score, work)
        if more is None:
            return None
        work[0] -= len(chances) * len(more)
        if work[0] < 0:
            return None
        joined: dict[float, float] = {}
        for one, p in chances.items():
            for other, q in more.items():
                both = round(one + other, 9)
                joined[both] = joined.get(both, 0.0) + p * q
        chances = joined
    return chances


def _one_table(table: Table, score: Score, work: list[int]) -> dict[float, float] | None:
    """As `_all_tables`, of one stratum, row by row: partial tables of one score and one sum are one."""
    after = sum(row.after for row in table)
    left = _runs(table)
    # As if each label were thrown by a fair coin: numbers of exchanges themselves would overflow.
    every = math.exp(_log_choose(left, after) - left * _LOG_2)
    partial: dict[tuple[int, float], float] = {(0, 0.0): 1.0}
    for row in table:
        runs = sum(row)
        left -= runs
        work[0] -= len(partial) * (min(runs, after) + 1)
        if work[0] < 0:
            return None
        chances = [math.exp(_log_choose(runs, x) - runs * _LOG_2) for x in range(runs + 1)]
        scores = [score(runs, x) for x in range(runs + 1)]
        grown: dict[tuple[int, float], float] = {}
        for (used, so_far), chance in partial.items():
            for x in range(max(0, after - used - left), min(runs, after - used) + 1):
                key = (used + x, round(so_far + scores[x], 9))
                grown[key] = grown.get(key, 0.0) + chance * chances[x]
        partial = grown
    return {so_far: chance / every for (_, so_far), chance in partial.items()}


_LOG_2 = math.log(2)


class _Sampler:
    """Draws a table with the margins of another, as exchanging labels at random would."""

    def __init__(self, table: Table, score: Score) -> None:
        rows = [sum(row) for row in table]
        self.rows = len(rows)
        self.after = sum(row.after for row in table)
        self.scores = [[score(n, x) for x in range(n + 1)] for n in rows]
        self.labels = [number for number, n in enumerate(rows) for _ in range(n)]

    def draw(self, source: random.Random) -> float:
        """The score of the table."""
        after = [0] * self.rows
        for number in source.sample(self.labels, self.after):
            after[number] += 1
        return sum(scores[x] for scores, x in zip(self.scores, after, strict=True))


def _appeared_at_large(tables: Sequence[Table]) -> Significance:
    """Each way by itself: how likely all its runs are after, as labels are exchanged in its stratum."""
    observed = sum(row.after for table in tables for row in table if not row.before)
    ways: list[tuple[int, float]] = []
    for table in tables:
        runs, after = _runs(table), sum(row.after for row in table)
        every = _log_choose(runs, after)
        ways += [
            (way, math.exp(_log_choose(runs - way, after - way) - every))
            for way in map(sum, table)
            if way <= after
        ]
    # A large way is never new by chance.
    ways = [(runs, chance) for runs, chance in ways if chance > _NEVER]
    reachable = min(observed, sum(runs for runs, _ in ways))
    if reachable * len(ways) > _WORK:
        return Significance(_normal_tail(ways, observed), 0.0, exact=False)
    chances = {0: 1.0}
    for runs, chance in ways:
        grown = {score: p * (1 - chance) for score, p in chances.items()}
        for score, p in chances.items():
            # What is beyond the observed is as extreme as it; to tell it apart would cost time.
            reached = min(score + runs, observed)
            grown[reached] = grown.get(reached, 0.0) + p * chance
        chances = grown
    p_value = math.fsum(p for score, p in chances.items() if score >= observed)
    return Significance(min(1.0, max(_NEVER, p_value)), 0.0, exact=False)


_NEVER = 1e-15
"""A chance that is as good as none."""


def _normal_tail(ways: Sequence[tuple[int, float]], observed: int) -> float:
    """The chance of as many new runs, of so many ways that their sum is taken as normal."""
    mean = math.fsum(runs * chance for runs, chance in ways)
    spread = math.fsum(runs**2 * chance * (1 - chance) for runs, chance in ways)
    return math.erfc((observed - 0.5 - mean) / math.sqrt(2 * spread)) / 2


def _chi_square(tables: Sequence[Table]) -> Significance:
    """Pearson's test, summed over strata; rows with fewer than 5 runs expected on a side stand together."""
    found, freedom = 0.0, 0
    for table in tables:
        runs = sum(map(sum, table))
        after = sum(row.after for row in table)
        rarer = min(after, runs - after) / runs
        rows = [row for row in table if sum(row) * rarer >= 5]
        rare = [row for row in table if sum(row) * rarer < 5]
        if rare:
            rows.append(Counts(sum(row.before for row in rare), sum(row.after for row in rare)))
        freedom += len(rows) - 1
        for row in rows:
            expected = sum(row) * after / runs
            found += (row.after - expected) ** 2 * (1 / expected + 1 / (sum(row) - expected))
    if not freedom or not found:
        return Significance(1.0, 0.0, exact=False)
    # E. B. Wilson, M. M. Hilferty, "The distribution of chi-square", PNAS 17 (1931).
    spread = 2 / (9 * freedom)
    z = ((found / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return Significance(math.erfc(z / math.sqrt(2)) / 2, 0.0, exact=False)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in the same order, as they stand when all of them were looked at."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = largest
    return adjusted


def corrected(tests: Sequence[Significance], alpha: float = ALPHA) -> list[float]:
    """Holm's p-values. Tests that no exchange of labels could bring to `alpha` are not counted: by their
    margins alone they can't go wrong (R. E. Tarone, Biometrics 46, 1990); their own p stays."""
    able = [at for at, one in enumerate(tests) if one.smallest <= alpha]
    adjusted = [one.p_value for one in tests]
    for at, p_value in zip(able, holm([tests[at].p_value for at in able]), strict=True):
        adjusted[at] = p_value
    return adjusted


def difference(part: int, whole: int, other_part: int, other_whole: int, level: float = LEVEL) -> Interval:
    """The interval of part/whole − other_part/other_whole: R. G. Newcombe, "Interval estimation for the
    difference between independent proportions", Statistics in Medicine 17 (1998), method 10."""
    one, other = wilson(part, whole, level), wilson(other_part, other_whole, level)
    if not whole or not other_whole:
        return Interval(-1.0, 1.0, level)
    p, q = part / whole, other_part / other_whole
    low = p - q - math.hypot(p - one.low, other.high - q)
    high = p - q + math.hypot(one.high - p, q - other.low)
    return Interval(low, high, level)
