"""Where runs part, how much of the disagreement that explains, and who fares worse."""

from __future__ import annotations

import json
import math
import random
from itertools import combinations

import pytest
from branching_laws import REFUND, behaviour  # type: ignore[import-not-found]  # conftest finds it
from hypothesis import given
from hypothesis import strategies as st

from isotrace.population import branching_steps, differing_params, tree_of
from isotrace.population.branching import labels

GROUP = [
    behaviour("lcrm", 30, passed=27),
    behaviour("lca", 10, passed=8),
    behaviour("lrm", 9, passed=3),
    behaviour("lr", 1, passed=0),
]


def test_branching_steps_are_ranked_by_the_pairs_that_part_there() -> None:
    first, second, third = branching_steps(tree_of(GROUP))
    assert [(one.index, one.pairs, one.runs) for one in (first, second, third)] == [
        (1, 40 * 10, 50),
        (2, 30 * 10, 40),
        (2, 9, 10),
    ]
    assert [one.explained for one in (first, second, third)] == [400 / 709, 300 / 709, 9 / 709]


def test_a_branch_that_fails_more_often_is_named() -> None:
    first = branching_steps(tree_of(GROUP))[0]
    assert first.words == (
        "at step 1 they part: 40 of 50 go on with c and 10 of 50 go on with r; "
        "that explains 56 % of the disagreement; "
        "the runs with r fail 5.6 times as often as the others (7 of 10 against 5 of 40, p = 0.001)"
    )
    contrast = first.branches[1].contrast
    assert contrast is not None
    assert contrast.ratio == pytest.approx((7 / 10) / (5 / 40))
    assert contrast.difference.low > 0
    # The other branch is the same question from the other side.
    assert first.branches[0].contrast is not None
    assert first.branches[0].contrast.p_value == contrast.p_value


def test_to_end_is_a_branch() -> None:
    third = branching_steps(tree_of(GROUP))[2]
    assert [(one.label, one.node, one.tally.runs) for one in third.branches] == [
        ("m", 5, 9),
        ("the end", None, 1),
    ]
    assert third.branches[1].runs == ("run-lr-0",)


def test_equal_runs_part_nowhere() -> None:
    assert branching_steps(tree_of([behaviour("abc", 9)])) == ()
    assert branching_steps(tree_of([])) == ()


def test_unjudged_runs_fail_where_they_do_not_complete() -> None:
    group = [behaviour("ab", 8, completed=8), behaviour("ac", 8, completed=4)]
    (step,) = branching_steps(tree_of(group))
    assert step.words.endswith(
        "the runs with c fail where the others don't (4 of 8 against 0 of 8, p = 0.08)"
    )


def test_branches_of_one_skill_are_told_apart() -> None:
    one, other = behaviour("ab", 2), behaviour("aB", 1)
    renamed = type(other)(
        other.signature,
        (other.steps[0], type(other.steps[1])(b"other", "b", "tool", "success")),
        other.tally,
        other.runs,
    )
    (step,) = branching_steps(tree_of([one, renamed]))
    assert [branch.label for branch in step.branches] == ["b #1", "b #2"]
    statuses = [type(one.steps[0])(key, "b", "tool", key.decode()) for key in (b"success", b"failure")]
    assert labels([*statuses, one.steps[0]]) == ["b (success)", "b (failure)", "a"]


def test_the_params_that_differ_are_looked_up_in_one_run_of_each_branch() -> None:
    one = behaviour("ab", 2)
    step = type(one.steps[1])
    other = type(one)("ff", (one.steps[0], step(b"x", "b", "tool", "success")), one.tally, ("other",))
    third = type(one)("fe", (one.steps[0], step(b"y", "c", "tool", "success")), one.tally, ("third",))
    asked = []

    def params_of(run_id: str, index: int):
        asked.append((run_id, index))
        return {"q": "refund", "top": 3} if run_id == "run-ab-0" else {"q": "order", "top": 3, "lang": "en"}

    (branching,) = branching_steps(tree_of([one, other, third]))
    found = differing_params(branching, params_of)
    assert sorted(asked) == [("other", 1), ("run-ab-0", 1), ("third", 1)]
    position = {branch.runs[0]: at for at, branch in enumerate(branching.branches)}
    mine, theirs = position["run-ab-0"], position["other"]
    assert sorted((one.skill, one.pointer, one.values) for one in found) == [
        ("b", "/lang", {theirs: "en"}),
        ("b", "/q", {mine: "refund", theirs: "order"}),
    ]


PATHS = st.dictionaries(st.text("abc", max_size=6), st.integers(1, 6), min_size=2, max_size=8)


@given(PATHS, st.randoms())
def test_the_disagreement_is_shared_out_completely(paths, source: random.Random) -> None:
    """Pair by pair: every pair of runs that took two paths parts at exactly one branching step."""
    group = [behaviour(path, runs) for path, runs in paths.items()]
    steps = branching_steps(tree_of(group))
    assert math.fsum(step.explained for step in steps) == pytest.approx(1)
    assert sum(step.pairs for step in steps) == sum(
        one * other for one, other in combinations(paths.values(), 2)
    )
    for step in steps:
        assert math.fsum(branch.share for branch in step.branches) == pytest.approx(1)
    assert branching_steps(tree_of(source.sample(group, len(group)))) == steps
    json.dumps([step.to_dict() for step in steps])


def test_the_largest_branching_step_of_a_known_law_is_found() -> None:
    source = random.Random(11)
    # Two runs part at step 1 with probability 2 × 0.8 × 0.2; at step 2 with 0.8² × 2 × 0.75 × 0.25 behind
    # one branch, and 0.2² × 2 × 0.9 × 0.1 behind the other.
    shares = {1: 0.0, 2: 0.0}
    for _ in range(200):
        for step in branching_steps(tree_of(REFUND.sample(50, source))):
            shares[step.index] += step.explained / 200
    at_two = 0.24 + 0.0072
    every = 0.32 + at_two
    assert shares == {1: pytest.approx(0.32 / every, abs=0.02), 2: pytest.approx(at_two / every, abs=0.02)}
