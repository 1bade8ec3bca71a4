"""Sums over runs, and which runs are judged."""

from __future__ import annotations

import pytest

from isotrace.population import Tally, passed, tally_of


@pytest.mark.parametrize(
    ("reward", "expected"),
    [(1, True), (1.0, True), (0.5, False), (True, True), (False, False), ("1", None), (None, None)],
)
def test_a_run_is_judged_by_a_numeric_or_boolean_reward(reward, expected) -> None:
    assert passed({"reward": reward}) is expected
    assert passed({}) is None


def test_the_threshold_of_passing_can_be_given() -> None:
    assert passed({"reward": 0.5}, threshold=0.5) is True


def test_tallies_add_up() -> None:
    one = tally_of("completed", {"reward": 1.0}, cost_cents=2.0, duration_ms=10.0)
    other = tally_of("failed", {"reward": 0}, cost_cents=1.0, duration_ms=5.0)
    unjudged = tally_of("aborted", {})
    assert one + other + unjudged == Tally(3, 1, 1, 2, 1, 3.0, 15.0)
    assert (one + other).to_dict() == {
        "runs": 2,
        "completed": 1,
        "failed": 1,
        "judged": 2,
        "passed": 1,
        "cost_cents": 3.0,
        "duration_ms": 15.0,
    }
