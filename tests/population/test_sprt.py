"""Deciding about a share with as few runs as it takes: error rates and sizes, by simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.errors import UsageError
from isotrace.population import Decision, SequentialTest, fixed_size


def run(test: SequentialTest, share: float, source: random.Random) -> tuple[Decision, int]:
    events = runs = 0
    while True:
        runs += 1
        events += source.random() < share
        decision = test.decision(events, runs)
        if decision is not Decision.UNDECIDED:
            return decision, runs


def test_runs_without_an_event_decide_where_the_ratio_leaves_its_bounds() -> None:
    test = SequentialTest(0.05, 0.15)
    needed = test.to_accept(0, 0)
    assert needed == math.ceil(math.log(0.95 / 0.05) / math.log(0.95 / 0.85)) == 27
    assert test.decision(0, 26) is Decision.UNDECIDED
    assert test.decision(0, 27) is Decision.ACCEPTED
    # Each of the first runs an event: ln(19) / ln(3) is 2.7.
    assert [test.decision(n, n) for n in (1, 2, 3)] == [Decision.UNDECIDED] * 2 + [Decision.REJECTED]


def test_what_is_not_allowed_at_all_rejects_at_once() -> None:
    test = SequentialTest(0.0, 0.05)
    assert test.decision(1, 50) is Decision.REJECTED
    assert test.to_accept(0, 0) == 58
    assert SequentialTest(0.0, 1.0).decision(0, 1) is Decision.ACCEPTED
    assert SequentialTest(0.0, 1.0).decision(1, 2) is Decision.REJECTED


@given(st.integers(0, 40), st.integers(0, 200))
def test_that_many_more_runs_without_an_event_do_decide(events, others) -> None:
    test = SequentialTest(0.05, 0.2)
    more = test.to_accept(events, events + others)
    assert test.decision(events, events + others + more) is Decision.ACCEPTED
    if more:
        assert test.decision(events, events + others + more - 1) is not Decision.ACCEPTED


@pytest.mark.parametrize(
    ("allowed", "unacceptable", "alpha"),
    [(0.2, 0.1, 0.05), (0.1, 0.1, 0.05), (-0.1, 0.1, 0.05), (0.1, 0.2, 0.6)],
)
def test_a_test_that_can_not_be_is_refused(allowed, unacceptable, alpha) -> None:
    with pytest.raises(UsageError):
        SequentialTest(allowed, unacceptable, alpha)


def test_a_fixed_size_is_the_smallest_that_keeps_both_error_rates() -> None:
    # Of 59 runs without an event, 0.95^59 = 0.0485: the rule of three.
    assert fixed_size(0.0, 0.05) == 59
    runs = fixed_size(0.1, 0.3)

    def errors(size: int, most: int) -> tuple[float, float]:
        def up_to(share: float) -> float:
            return math.fsum(
                math.comb(size, k) * share**k * (1 - share) ** (size - k) for k in range(most + 1)
            )

        return 1 - up_to(0.1), up_to(0.3)

    assert any(max(errors(runs, most)) <= 0.05 for most in range(runs))
    assert not any(max(errors(runs - 1, most)) <= 0.05 for most in range(runs - 1))


@pytest.mark.parametrize(("allowed", "unacceptable"), [(0.05, 0.15), (0.1, 0.3)])
def test_error_rates_are_those_promised_and_fewer_runs_are_needed_than_of_a_fixed_size(
    allowed, unacceptable
) -> None:
    test, source, trials = SequentialTest(allowed, unacceptable), random.Random(8), 1500
    fixed = fixed_size(allowed, unacceptable)
    noise = 3 * math.sqrt(0.05 * 0.95 / trials)
    for share, wrong in ((allowed, Decision.REJECTED), (unacceptable, Decision.ACCEPTED)):
        found = [run(test, share, source) for _ in range(trials)]
        assert sum(decision is wrong for decision, _ in found) / trials <= 0.05 / 0.95 + noise
        mean = sum(runs for _, runs in found) / trials
        assert mean < 0.75 * fixed
        # Wald's mean leaves out how far the last run steps over the bound.
        assert test.mean_runs(share) <= mean <= 1.35 * test.mean_runs(share)


def test_between_the_shares_a_decision_takes_longest() -> None:
    test = SequentialTest(0.05, 0.2)
    assert test.mean_runs(0.0) == pytest.approx(math.log(0.05 / 0.95) / math.log(0.8 / 0.95))
    middle = test.mean_runs(0.11)
    assert middle > test.mean_runs(0.05) > test.mean_runs(0.2) > test.mean_runs(1.0)
    found = [run(test, 0.11, random.Random(seed))[1] for seed in range(800)]
    assert sum(found) / 800 == pytest.approx(middle, rel=0.3)
