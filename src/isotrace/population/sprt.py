"""Deciding about a share with as few runs as it takes.

A. Wald, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16 (1945): after
each run the likelihood of what was seen, if the share is unacceptable, is divided by that if it is
allowed; the test ends as soon as the ratio leaves (β / (1 − α), (1 − β) / α). No test with
these error rates needs fewer runs on average, at either share (Wald, Wolfowitz 1948).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from isotrace.errors import UsageError


class Decision(StrEnum):
    """What a sequential test comes to."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Whether events happen in a share of at most `allowed` of all runs, or of at least `unacceptable`.

    If the share is `allowed` or smaller, the test rejects with probability about `alpha`; if it is
    `unacceptable` or larger, it accepts with probability about `beta` (at most α / (1 − β) and
    β / (1 − α)). In between either may come out. Raises `UsageError` unless
    0 <= allowed < unacceptable <= 1 and 0 < alpha, beta < 0.5.
    """

    allowed: float
    unacceptable: float
    alpha: float = 0.05
    beta: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.allowed < self.unacceptable <= 1:
            raise UsageError(
                "the unacceptable share must be larger than the allowed one",
                expected="0 <= allowed < unacceptable <= 1",
                got=f"allowed {self.allowed:g}, unacceptable {self.unacceptable:g}",
            )
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise UsageError(
                "error rates lie between 0 and 0.5", got=f"alpha {self.alpha:g}, beta {self.beta:g}"
            )

    @property
    def rejects_at(self) -> float:
        """The log-likelihood ratio from which on the test rejects."""
        return math.log((1 - self.beta) / self.alpha)

    @property
    def accepts_at(self) -> float:
        """The log-likelihood ratio down from which the test accepts."""
        return math.log(self.beta / (1 - self.alpha))

    def ratio(self, events: int, runs: int) -> float:
        """The log-likelihood ratio of so many events in so many runs; infinite if one share rules it out."""
        against = _log_times(events, self.unacceptable) + _log_times(runs - events, 1 - self.unacceptable)
        in_favour = _log_times(events, self.allowed) + _log_times(runs - events, 1 - self.allowed)
        # Neither share gives what was seen only if the one is 0 and the other 1; the allowed one is broken.
        return math.inf if in_favour == -math.inf else against - in_favour

    def decision(self, events: int, runs: int) -> Decision:
        """What so many events in so many runs come to, if nothing was decided before."""
        ratio = self.ratio(events, runs)
        if ratio >= self.rejects_at:
            return Decision.REJECTED
        return Decision.ACCEPTED if ratio <= self.accepts_at else Decision.UNDECIDED

    def to_accept(self, events: int, runs: int) -> int:
        """How many more runs without an event would decide for acceptance; 0 if they have already."""
        ratio = self.ratio(events, runs)
        if ratio <= self.accepts_at:
            return 0
        if self.unacceptable == 1:
            return 1
        step = _log_times(1, 1 - self.allowed) - math.log1p(-self.unacceptable)
        return max(1, math.ceil((ratio - self.accepts_at) / step - 1e-9))

    def mean_runs(self, share: float) -> float:
        """Wald's approximation of how many runs it takes on average, where events have this share.

        At `allowed` and `unacceptable` it is by the error rates; in between the probability of acceptance is
        by his parametrisation. Raises `UsageError` for a share outside 0 to 1.
        """
        if not 0 <= share <= 1:
            raise UsageError("a share lies between 0 and 1", got=share)
        up = math.log(self.unacceptable / self.allowed) if self.allowed else math.inf
        down = math.log1p(-self.unacceptable) if self.unacceptable < 1 else -math.inf
        down -= math.log1p(-self.allowed)
        if share == 0:
            return self.accepts_at / down
        if math.isinf(up) or math.isinf(down):
            raise UsageError("the mean has a closed form only for shares between 0 and 1", got=self.allowed)
        drift = share * up + (1 - share) * down
        accepts = self.accepted_share(share, up, down)
        if abs(drift) < 1e-9:
            return -self.accepts_at * self.rejects_at / (share * up**2 + (1 - share) * down**2)
        return (accepts * self.accepts_at + (1 - accepts) * self.rejects_at) / drift

    def accepted_share(self, share: float, up: float, down: float) -> float:
        """The probability of acceptance: (A^h − 1) / (A^h − B^h), h the root of E[exp(h·step)] = 1."""
        if share == 1:
            return 0.0
        h = _root(share, up, down)
        if abs(h) < 1e-9:
            return self.rejects_at / (self.rejects_at - self.accepts_at)
        above, below = math.expm1(h * self.rejects_at), math.expm1(h * self.accepts_at)
        return above / (above - below)


def _log_times(times: int, chance: float) -> float:
    if not times:
        return 0.0
    return times * math.log(chance) if chance > 0 else -math.inf


def _root(share: float, up: float, down: float) -> float:
    """The h other than 0 for which share·exp(h·up) + (1 − share)·exp(h·down) is 1; 0 if there is none."""

    def over(h: float) -> float:
        return share * math.exp(h * up) + (1 - share) * math.exp(h * down) - 1

    drift = share * up + (1 - share) * down
    if abs(drift) < 1e-9:
        return 0.0
    # The function is convex and 0 at 0: the other root is where the drift leads away from.
    sign = -1.0 if drift > 0 else 1.0
    near, far = sign * 1e-9, sign
    while over(far) < 0:
        far *= 2
    for _ in range(80):
        middle = (near + far) / 2
        if over(middle) < 0:
            near = middle
        else:
            far = middle
    return (near + far) / 2


def fixed_size(allowed: float, unacceptable: float, alpha: float = 0.05, beta: float = 0.05) -> int:
    """How many runs a test of fixed size needs for these error rates: the smallest N for which some
    number of events tells both shares apart. Raises `UsageError` as `SequentialTest` does."""
    SequentialTest(allowed, unacceptable, alpha, beta)
    for runs in count(1):
        most, as_many = -1, 0.0
        # Reject beyond `most` events: the smallest number that keeps alpha.
        while 1 - as_many > alpha + 1e-12:
            most += 1
            as_many += _chance(most, runs, allowed)
        if math.fsum(_chance(k, runs, unacceptable) for k in range(most + 1)) <= beta:
            return runs
    raise AssertionError("unreachable")


def _chance(events: int, runs: int, share: float) -> float:
    return math.comb(runs, events) * share**events * (1 - share) ** (runs - events)
