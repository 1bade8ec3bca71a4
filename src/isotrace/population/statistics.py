"""What a sample of runs says of the agent behind it: each number with its interval and its sentence.

Sources:

- Interval of a share: E. B. Wilson, "Probable inference, the law of succession, and statistical
  inference", JASA 22 (1927). It holds at small N and at 0 and N of N, where the textbook one
  (p ± z·√(p(1 − p)/N)) has no width: L. D. Brown, T. T. Cai, A. DasGupta, "Interval estimation for a
  binomial proportion", Statistical Science 16 (2001).
- Pair agreement: E. H. Simpson, "Measurement of diversity", Nature 163 (1949), in its unbiased form.
- TAR@N: B. Atil et al., "LLM stability: a detailed analysis with some surprises", arXiv:2408.04667.
- pass^k: S. Yao et al., "τ-bench: a benchmark for tool-agent-user interaction in real-world domains",
  arXiv:2406.12045.
- Effective variants: 2^H is a Hill number (M. O. Hill, "Diversity and evenness", Ecology 54, 1973); H is
  corrected for its bias (G. A. Miller, "Note on the bias of information estimates", 1955).
- Unseen mass: I. J. Good, "The population frequencies of species and the estimation of population
  parameters", Biometrika 40 (1953); its interval: W. W. Esty, "A normal limit law for a nonparametric
  estimator of the coverage of a random sample", Annals of Statistics 11 (1983).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from statistics import NormalDist
from typing import Any, Final

from isotrace.errors import UsageError
from isotrace.population.behaviour import Tally
from isotrace.population.wording import at_least, at_most, percent, plural

LEVEL: Final = 0.95
"""How sure an interval is, unless another level is asked for."""

ENTROPY_FROM: Final = 30
"""From how many runs on effective variants are given: of fewer, entropy is mostly bias."""

UNSEEN_FROM: Final = 20
"""From how many runs on the unseen mass has an interval that simulations bear out."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number lies at this level of confidence, both ends included."""

    low: float
    high: float
    level: float = LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {"low": self.low, "high": self.high, "level": self.level}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its interval where there is one, and what it says in words.

    `value` is None where the runs don't allow the number; `words` say why. `part` of `whole` are
    the counts that it stands on, None where it is no share of something counted.
    """

    value: float | None
    words: str
    interval: Interval | None = None
    part: int | None = None
    whole: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "value": self.value,
            "interval": None if self.interval is None else self.interval.to_dict(),
            "part": self.part,
            "whole": self.whole,
            "words": self.words,
        }


def wilson(part: int, whole: int, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share, `part` of `whole`; of nothing it is everything, 0 to 1.

    Raises `UsageError` for counts that are no part of a whole, and for a level outside 0 to 1.
    """
    _check_counts(part, whole)
    z = _z(level)
    if whole == 0:
        return Interval(0.0, 1.0, level)
    share, square = part / whole, z * z / whole
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square * square / 4) / (1 + square)
    # Rounding must not leave a speck beyond the ends, which are exact.
    low = 0.0 if part == 0 else max(0.0, middle - half)
    high = 1.0 if part == whole else min(1.0, middle + half)
    return Interval(low, high, level)


def k_of_n(part: int, whole: int, *, what: str = "equal", level: float = LEVEL) -> Estimate:
    """A share with Wilson's interval: "10 of 10 equal: at least 72 % with 95 % confidence".

    Raises as `wilson` does.
    """
    interval = wilson(part, whole, level)
    if whole == 0:
        return Estimate(None, f"0 of 0 {what}: no run, nothing can be said", None, 0, 0)
    sure = f"with {percent(level)} confidence"
    if part == whole:
        said = f"at least {at_least(interval.low)} {sure}"
    elif part == 0:
        said = f"at most {at_most(interval.high)} {sure}"
    else:
        said = (
            f"{percent(part / whole)}, between {at_least(interval.low)} and {at_most(interval.high)} {sure}"
        )
    return Estimate(part / whole, f"{part:,} of {whole:,} {what}: {said}", interval, part, whole)


def same_path(counts: Sequence[int], *, level: float = LEVEL) -> Estimate:
    """How many of N runs took the most common path; `counts` are the runs of each path.

    One run has no other to be equal to: no value. Raises as `wilson` does.
    """
    total = sum(counts)
    if total == 1:
        return Estimate(None, "1 run: there is no other to compare it with", None, 1, 1)
    found = k_of_n(max(counts, default=0), total, what="took the same path", level=level)
    if found.part == 1:
        return replace(found, words=f"each of {total:,} runs took a path of its own")
    return found


def pair_agreement(counts: Sequence[int]) -> Estimate:
    """How likely two different runs, drawn at random, took the same path: Σ C(n_v, 2) / C(N, 2).

    An unbiased estimate of Σ p_v², whatever N is. No value for fewer than two runs.
    """
    total = sum(counts)
    equal, pairs = sum(math.comb(n, 2) for n in counts), math.comb(total, 2)
    if not pairs:
        return Estimate(None, f"{plural(total, 'run')}: no pair to compare", None, 0, 0)
    words = f"two runs took the same path in {percent(equal / pairs)} of pairs ({equal:,} of {pairs:,})"
    return Estimate(equal / pairs, words, None, equal, pairs)


def total_agreement(groups: Iterable[Sequence[int]], n: int) -> Estimate:
    """TAR@n: how likely n runs of one group all took the same path, the mean over groups.

    For each group the share of all choices of n of its runs that are alike, Σ C(n_v, n) / C(N, n), which
    is TAR@n itself where a group has just n runs. Groups with fewer runs are left out; `whole`
    counts the others. Raises `UsageError` for n < 1.
    """
    _check_k(n)
    sized = [(counts, sum(counts)) for counts in groups]
    rates = [
        Fraction(sum(math.comb(one, n) for one in counts), math.comb(total, n))
        for counts, total in sized
        if total >= n
    ]
    name, what = f"TAR@{n}", f"all of {n} runs took the same path"
    return _mean(name, what, rates, len(sized) - len(rates), n)


def pass_k(groups: Iterable[tuple[int, int]], k: int) -> Estimate:
    """pass^k: how likely k runs of one task all pass, the mean over tasks.

    A task is (passed, runs); for each the unbiased C(passed, k) / C(runs, k). Tasks with fewer than k
    runs are left out; `whole` counts the others. Raises `UsageError` for k < 1, or more passed than run.
    """
    _check_k(k)
    pairs = list(groups)
    for passed, runs in pairs:
        _check_counts(passed, runs)
    rates = [Fraction(math.comb(passed, k), math.comb(runs, k)) for passed, runs in pairs if runs >= k]
    what = "a run passes" if k == 1 else f"{k} runs all pass"
    return _mean(f"pass^{k}", what, rates, len(pairs) - len(rates), k)


def pass_curve(groups: Iterable[tuple[int, int]], *, most: int = 8) -> dict[int, Estimate]:
    """pass^k for k = 1 up to the runs that every task has, at most `most`. Empty without tasks."""
    pairs = [pair for pair in groups if pair[1]]
    fewest = min((runs for _, runs in pairs), default=0)
    return {k: pass_k(pairs, k) for k in range(1, min(fewest, most) + 1)}


def _mean(name: str, what: str, rates: Sequence[Fraction], left_out: int, needed: int) -> Estimate:
    without = f"; {left_out:,} with fewer than {plural(needed, 'run')} left out" if left_out else ""
    if not rates:
        return Estimate(None, f"{name}: no group has {plural(needed, 'run')}", None, None, 0)
    value = float(sum(rates) / len(rates))
    over = "" if len(rates) == 1 and not without else f" (mean over {plural(len(rates), 'group')}{without})"
    return Estimate(value, f"{name}: {what} with probability {percent(value)}{over}", None, None, len(rates))


def effective_variants(counts: Sequence[int]) -> Estimate:
    """2^H: how many equally common paths would be as diverse as these; None below 30 runs.

    H is the entropy of the shares with Miller and Madow's correction, + (paths − 1) / (2N) nats,
    because the plain one is too small by about that.
    """
    total = sum(counts)
    if total < ENTROPY_FROM:
        few = f"{plural(total, 'run')}, too few for effective variants: they need {ENTROPY_FROM}"
        return Estimate(None, few, None, None, total)
    seen = [n for n in counts if n]
    nats = -math.fsum(n / total * math.log(n / total) for n in seen) + (len(seen) - 1) / (2 * total)
    value = math.exp(nats)
    words = f"as diverse as {value:.1f} equally common paths ({plural(len(seen), 'path')} seen)"
    return Estimate(value, words, None, None, total)


def unseen_mass(counts: Sequence[int], *, level: float = LEVEL) -> Estimate:
    """How likely the next run takes a path that none has taken yet: Good and Turing's f1 / N.

    f1 is how many paths were taken once; `part` of `whole` is f1 of N. The interval is Esty's, widened
    to Wilson's of f1 of N and to the bound for "never seen in N", 1 − (1 − level)^(1/N): each alone is
    too narrow for some laws. Below 20 runs there is an interval only where f1 is 0.
    """
    total = sum(counts)
    if total < 2:
        return Estimate(None, f"{plural(total, 'run')}: nothing can be said of unseen paths", None, 0, total)
    once, twice = sum(n == 1 for n in counts), sum(n == 2 for n in counts)
    never = 1 - (1 - level) ** (1 / total)
    sure = f"with {percent(level)} confidence"
    if once == 0:
        interval = Interval(0.0, max(never, _esty(0, twice, total, level).high), level)
        new = f"the next run takes a new one with a probability of at most {at_most(interval.high)}"
        return Estimate(0.0, f"no path was taken only once: {new}, {sure}", interval, 0, total)
    taken = f"{plural(once, 'path was', 'paths were')} taken once in {plural(total, 'run')}"
    words = f"{taken}: the next run takes a new one with probability {percent(once / total)}"
    if total < UNSEEN_FROM:
        few = f"{words}, very roughly: an interval needs {UNSEEN_FROM} runs"
        return Estimate(once / total, few, None, once, total)
    esty, share = _esty(once, twice, total, level), wilson(once, total, level)
    wide = Interval(min(esty.low, share.low), max(esty.high, share.high, never), level)
    words += f", between {at_least(wide.low)} and {at_most(wide.high)} {sure}"
    return Estimate(once / total, words, wide, once, total)


def _esty(once: int, twice: int, total: int, level: float) -> Interval:
    half = _z(level) * math.sqrt(once * (1 - once / total) + 2 * twice) / total
    return Interval(max(0.0, once / total - half), min(1.0, once / total + half), level)


def success(tally: Tally, *, level: float = LEVEL) -> Estimate:
    """The share of runs that did well: passed of judged where any are judged, else completed of all.

    The words say which: "18 of 20 judged runs passed", "18 of 20 runs completed".
    """
    if tally.judged:
        return k_of_n(tally.passed, tally.judged, what="judged runs passed", level=level)
    return k_of_n(tally.completed, tally.runs, what="runs completed", level=level)


def _check_counts(part: int, whole: int) -> None:
    if not 0 <= part <= whole:
        raise UsageError("these counts are no part of a whole", got=f"{part} of {whole}")


def _check_k(k: int) -> None:
    if k < 1:
        raise UsageError("a number of runs must be at least 1", got=k)


@cache
def _z(level: float) -> float:
    if not 0 < level < 1:
        raise UsageError("a level of confidence lies between 0 and 1", got=level, expected="for example 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)
