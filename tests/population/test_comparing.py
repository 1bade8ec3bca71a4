"""Before and after: what has changed, how sure that is, and what these runs could not show."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from branching_laws import REFUND, Law, behaviour  # type: ignore[import-not-found]  # conftest finds it
from hypothesis import given
from hypothesis import strategies as st

from isotrace.population import Change, Move, compare_behaviours
from isotrace.population.exact import Counts
from isotrace.population.power import visible_from

BEFORE = [behaviour("lcrm", 30), behaviour("lca", 10), behaviour("lrm", 8), behaviour("lr", 2)]
AFTER = [*[behaviour(path, runs) for path, runs in (("lcrm", 28), ("lca", 8), ("lrm", 7), ("lr", 1))]]
NEW = behaviour("lq", 6)


def test_a_path_that_has_appeared_is_told_with_its_counts() -> None:
    found = compare_behaviours(BEFORE, [*AFTER, NEW])
    assert found.verdict is Change.CHANGED
    assert found.words == "changed: a fifth path has appeared: 6 of 50 after, 0 of 50 before (p = 0.03)"
    first = found.paths[0]
    assert (first.move, first.before, first.after, first.shown) == (Move.APPEARED, 0, 6, True)
    assert first.p_value == pytest.approx(2 * math.comb(50, 6) / math.comb(100, 6))
    assert first.runs == NEW.runs[:10]
    # All six of the runs on that path are after: C(94, 44) / C(100, 50), doubled for two tests; paths of
    # one to three runs that may be new by chance as well add a little.
    assert found.p_value == pytest.approx(2 * math.comb(94, 44) / math.comb(100, 50), rel=0.25)


def test_a_path_that_has_vanished_is_told_too() -> None:
    found = compare_behaviours([behaviour("ab", 30), behaviour("ac", 20)], [behaviour("ab", 50)])
    assert found.verdict is Change.CHANGED
    assert "the path a → c has vanished: 0 of 50 after, 20 of 50 before (p < 0.001" in found.words
    assert [one.move for one in found.paths] == [Move.MORE, Move.VANISHED]


def test_the_step_that_moved_is_the_one_whose_branches_did() -> None:
    before = [behaviour("axb", 20), behaviour("axc", 20), behaviour("ayd", 20), behaviour("aye", 20)]
    after = [behaviour("axb", 20), behaviour("axc", 20), behaviour("ayd", 38), behaviour("aye", 2)]
    found = compare_behaviours(before, after)
    moved = found.first_moved
    assert moved is not None
    assert moved is found.strongest
    assert moved.words == (
        "at step 2: 38 of 40 go on with d after, 20 of 40 before (p < 0.001, corrected for 3 steps)"
    )
    assert [(one.index, one.shown) for one in found.steps] == [(2, True), (1, False), (2, False)]


def test_a_step_at_which_runs_now_end_has_moved() -> None:
    found = compare_behaviours([behaviour("ab", 20)], [behaviour("ab", 5), behaviour("a", 15)])
    assert found.first_moved is not None
    assert found.first_moved.words == "at step 1: 15 of 20 end after, 0 of 20 before (p < 0.001)"


def test_equal_sets_show_no_change_and_few_runs_say_so() -> None:
    many = [behaviour("ab", 50)]
    assert compare_behaviours(many, many).words == (
        "no change shown (p = 1.00): with 50 and 50 runs a new path is seen, in four of five cases, "
        "if at least 16 % of runs take it; nothing smaller"
    )
    few = [behaviour("ab", 10)]
    found = compare_behaviours(few, few)
    assert found.verdict is Change.TOO_FEW
    assert "with 10 and 10 runs a new path is seen, in four of five cases, if at least 59 %" in found.words
    none = compare_behaviours([behaviour("ab", 2)], [behaviour("ac", 2)])
    assert none.words == "too few runs to say: with 2 and 2 runs no change at all could be seen"
    for before, after, missing in (
        ([], [], "before and none after"),
        ([], many, "before"),
        (many, {}, "after"),
    ):
        nothing = compare_behaviours(before, after)
        assert nothing.verdict is Change.TOO_FEW
        assert nothing.words == f"too few runs to say: there are no runs {missing}"


def test_three_runs_a_side_can_change_nothing_and_five_can() -> None:
    assert compare_behaviours([behaviour("a", 3)], [behaviour("b", 3)]).verdict is Change.TOO_FEW
    assert compare_behaviours([behaviour("a", 5)], [behaviour("b", 5)]).verdict is Change.CHANGED


def test_another_mixture_of_tasks_is_no_change_of_the_agent() -> None:
    before = {"1": [behaviour("ab", 40)], "2": [behaviour("cd", 10)]}
    after = {"1": [behaviour("ab", 10)], "2": [behaviour("cd", 40)]}
    assert compare_behaviours(before, after).p_value == 1.0
    pooled = [[one for group in side.values() for one in group] for side in (before, after)]
    assert compare_behaviours(*pooled).verdict is Change.CHANGED


def test_a_path_of_one_task_is_counted_among_that_tasks_runs() -> None:
    before = {"1": [behaviour("ab", 20)], "2": [behaviour("cd", 20)]}
    after = {
        "1": [behaviour("ab", 20)],
        "2": [behaviour("cd", 5), behaviour("ce", 15)],
        "3": [behaviour("z", 1)],
    }
    found = compare_behaviours(before, after)
    new = next(one for one in found.paths if one.move is Move.APPEARED)
    assert new.words == "a second path has appeared in group 2: 15 of 20 after, 0 of 20 before (p < 0.001)"
    assert (new.strata, found.left_out, found.after) == (("2",), ("3",), 40)


def test_where_every_run_takes_its_own_path_the_steps_decide() -> None:
    before = [behaviour(["a", "x", f"{number}"], 1) for number in range(20)]
    after = [behaviour(["a", "y", f"{number}"], 1) for number in range(20)]
    found = compare_behaviours(before, after)
    assert found.others == pytest.approx(1.0)
    assert (found.by_steps, found.verdict) == (True, Change.CHANGED)
    assert found.words.startswith("changed: at step 1: ")
    assert compare_behaviours(before, before).verdict is not Change.CHANGED


def test_paths_are_told_apart_by_their_steps_whatever_their_signatures_are() -> None:
    unsigned = [replace(behaviour(path, 20), signature="") for path in ("ab", "ac", "ad")]
    found = compare_behaviours(unsigned[:2], [unsigned[0], unsigned[2]])
    assert sorted((one.move, one.before, one.after) for one in found.paths) == [
        (Move.APPEARED, 0, 20),
        (Move.SAME, 20, 20),
        (Move.VANISHED, 20, 0),
    ]
    assert [(one.label, one.before, one.after) for one in found.steps[0].branches] == [
        ("b", 20, 20),
        ("d", 0, 20),
        ("c", 20, 0),
    ]


def test_no_single_path_is_blamed_where_nothing_is_shown_of_all() -> None:
    shares = {"a": (3, 10), "z": (1, 0)}
    shares |= {f"x{n}": (2, 0) for n in range(5)} | {f"y{n}": (1, 1) for n in range(6)}
    shares |= {f"w{n}": (0, 2) for n in range(2)}
    sides = [[behaviour([path], runs[at]) for path, runs in shares.items()] for at in (0, 1)]
    found = compare_behaviours(*sides)
    one = found.paths[0]
    assert (one.before, one.after, one.shown) == (3, 10, False)
    assert one.adjusted < 0.05 < found.p_value
    assert "may be chance" in one.words


def test_success_is_compared_beside_the_paths() -> None:
    before, after = [behaviour("ab", 50, passed=45)], [behaviour("ab", 50, passed=30)]
    found = compare_behaviours(before, after)
    assert found.verdict is Change.NOT_SHOWN
    assert found.success.words == "30 of 50 judged runs passed after, 45 of 50 before (p < 0.001)"
    assert found.success.difference.high < 0
    unjudged = compare_behaviours(before, [behaviour("ab", 50, completed=49)])
    assert unjudged.success.words == "49 of 50 runs completed after, 50 of 50 before (p = 1.00)"


def test_what_can_be_seen_is_what_the_test_then_sees() -> None:
    share = visible_from([Counts(50, 50)], 0.05)
    assert share is not None
    source, seen = random.Random(2), 0
    for _ in range(300):
        took = sum(source.random() < share for _ in range(50))
        after = [behaviour("ab", 50 - took), behaviour("ac", took)]
        found = compare_behaviours([behaviour("ab", 50)], after)
        seen += found.verdict is Change.CHANGED
    assert seen / 300 == pytest.approx(0.8, abs=0.07)


def test_one_run_of_each_task_a_side_can_show_nothing_and_four_can() -> None:
    assert visible_from([Counts(1, 1)] * 40, 0.05) is None
    assert visible_from([Counts(3, 3)], 0.05) is None
    assert visible_from([], 0.05) is None
    shares = [visible_from([Counts(4, 4)] * tasks, 0.05) or 9.0 for tasks in (2, 10, 40)]
    assert 1 > shares[0] > shares[1] > shares[2]
    sides = [{f"{task}": [behaviour(path + str(task), 1)] for task in range(40)} for path in ("a", "b")]
    found = compare_behaviours(*sides)
    assert (
        found.words == "too few runs to say: with 40 and 40 runs in 40 groups no change at all could be seen"
    )


PATHS = st.dictionaries(st.text("ab", max_size=4), st.integers(1, 6), max_size=5)


@given(PATHS, PATHS, st.randoms())
def test_a_comparison_does_not_depend_on_the_order_of_paths(before, after, source: random.Random) -> None:
    sides = [[behaviour(path, runs) for path, runs in paths.items()] for paths in (before, after)]
    found = compare_behaviours(*sides)
    assert compare_behaviours(*(source.sample(side, len(side)) for side in sides)) == found
    assert sum(one.before for one in found.paths) == found.before == sum(before.values())
    assert sum(one.after for one in found.paths) == found.after == sum(after.values())
    for step in found.steps:
        assert 0 <= step.p_value <= step.adjusted <= 1 + 1e-9
    json.dumps(found.to_dict())


# --- simulations --------------------------------------------------------------------------


def changes(before: Law, after: Law, runs: int, trials: int, seed: int) -> float:
    """How often "changed" is said."""
    source = random.Random(seed)
    said = 0
    for _ in range(trials):
        found = compare_behaviours(before.sample(runs, source), after.sample(runs, source), permutations=199)
        said += found.verdict is Change.CHANGED
    return said / trials


@pytest.mark.parametrize("runs", [10, 40])
def test_an_agent_that_has_not_changed_is_blamed_no_more_often_than_promised(runs) -> None:
    trials = 200
    assert changes(REFUND, REFUND, runs, trials, runs) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_an_agent_that_skips_the_check_more_often_is_seen() -> None:
    skips = Law({**REFUND.next_step, "l": {"c": 0.45, "r": 0.55}}, REFUND.pass_rate)
    assert changes(REFUND, skips, 50, 40, 1) > 0.7


def test_a_new_path_of_a_sixth_of_the_runs_is_seen() -> None:
    new = Law({**REFUND.next_step, "l": {"c": 0.64, "r": 0.16, "q": 0.2}}, REFUND.pass_rate)
    assert changes(REFUND, new, 50, 25, 1) > 0.75
