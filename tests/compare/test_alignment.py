"""Which step stands against which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.compare import alignment
from isotrace.compare.alignment import Place, Row, align, alignment_cost, best_pairs
from isotrace.compare.subsequence import common_subsequence


def places(text: str) -> list[Place]:
    """`"a1 b2"`: skill a with params 1, then skill b with params 2, one after the other."""
    return [Place(word[0], word, (number,)) for number, word in enumerate(text.split())]


def sides(rows: Sequence[Row]) -> list[tuple[int | None, int | None]]:
    return [(row.original, row.replay) for row in rows]


def cheapest_by_table(one: Sequence[Place], other: Sequence[Place]) -> int:
    """The plain edit distance: equal 0, one skill 1, two skills 2, alone 1."""
    above = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        line = [i]
        for j, theirs in enumerate(other, 1):
            price = 0 if mine.digest == theirs.digest else 1 if mine.skill == theirs.skill else 2
            line.append(min(above[j] + 1, line[-1] + 1, above[j - 1] + price))
        above = line
    return above[-1]


def longest_by_table(one: str, other: str) -> int:
    above = [0] * (len(other) + 1)
    for mine in one:
        line = [0]
        for j, theirs in enumerate(other, 1):
            line.append(above[j - 1] + 1 if mine == theirs else max(above[j], line[-1]))
        above = line
    return above[-1]


steps = st.lists(
    st.builds(
        lambda skill, params, branch, number: Place(skill, skill + params, (branch, number)),
        st.sampled_from("abc"),
        st.sampled_from("123"),
        st.integers(0, 1),
        st.integers(0, 3),
    ),
    max_size=14,
)


# --- the longest common subsequence ---------------------------------------------------


@given(st.text("abcd", max_size=60), st.text("abcd", max_size=60))
def test_a_common_subsequence_is_common_ascending_and_as_long_as_the_table_says(one: str, other: str) -> None:
    pairs = common_subsequence(one, other)
    assert all(one[i] == other[j] for i, j in pairs)
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(pairs))
    assert len(pairs) == longest_by_table(one, other)


def test_it_crosses_blocks_and_often_repeated_elements() -> None:
    one, other = "xy" * 200, "yyx" * 150
    assert len(common_subsequence(one, other)) == longest_by_table(one, other)


@pytest.mark.parametrize(("one", "other"), [("", ""), ("", "abc"), ("abc", ""), ("abc", "xyz")])
def test_nothing_in_common_is_no_pairs(one: str, other: str) -> None:
    assert common_subsequence(one, other) == []


# --- the cheapest alignment -----------------------------------------------------------


@pytest.mark.parametrize("readable", [40_000, 20, 0])
@given(one=steps, other=steps)
def test_no_alignment_is_cheaper_than_the_one_found(
    readable: int, one: list[Place], other: list[Place]
) -> None:
    before = alignment._READABLE
    alignment._READABLE = readable
    try:
        pairs = best_pairs(one, other)
    finally:
        alignment._READABLE = before
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(pairs))
    assert alignment_cost(one, other, pairs) == cheapest_by_table(one, other)


@given(steps, steps)
def test_every_step_stands_in_exactly_one_row(one: list[Place], other: list[Place]) -> None:
    rows = align(one, other)
    assert sorted(row.original for row in rows if row.original is not None) == list(range(len(one)))
    assert sorted(row.replay for row in rows if row.replay is not None) == list(range(len(other)))
    moved = [row for row in rows if row.moved]
    for row in moved:
        assert row.original is not None
        assert row.replay is not None
        mine, theirs = one[row.original], other[row.replay]
        assert (mine.digest, mine.branch) == (theirs.digest, theirs.branch)


@given(steps, steps)
def test_swapping_the_runs_swaps_the_sides(one: list[Place], other: list[Place]) -> None:
    assert [(row.replay, row.original, row.moved) for row in align(other, one)] == align(one, other)


@given(steps, steps)
def test_the_first_row_that_is_no_pair_of_equals_is_where_the_paths_part(
    one: list[Place], other: list[Place]
) -> None:
    def equal(row: Row) -> bool:
        both = row.original is not None and row.replay is not None and not row.moved
        return both and one[row.original or 0].digest == other[row.replay or 0].digest

    rows = align(one, other)
    first = next((number for number, row in enumerate(rows) if not equal(row)), None)
    digests = [place.digest for place in one], [place.digest for place in other]
    if digests[0] == digests[1]:
        assert first is None
    else:
        assert first == next(k for k in range(15) if digests[0][: k + 1] != digests[1][: k + 1])


@given(steps)
def test_a_run_stands_against_itself_step_by_step(one: list[Place]) -> None:
    assert align(one, one) == [Row(k, k) for k in range(len(one))]


def test_of_repeated_steps_the_last_one_is_the_one_too_many() -> None:
    rows = align(places("w p p p w"), places("w p p p p w"))
    assert sides(rows) == [(0, 0), (1, 1), (2, 2), (3, 3), (None, 4), (4, 5)]


def test_two_skills_stand_against_each_other_where_nothing_else_claims_them() -> None:
    rows = align(places("a b c d"), places("a x c d"))
    assert sides(rows) == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_swapped_neighbours_are_one_move() -> None:
    rows = align(places("a b c d"), places("a c b d"))
    assert [row.moved for row in rows].count(True) == 1
    assert len(rows) == 4


def test_changed_steps_that_turn_up_in_each_others_place_have_moved() -> None:
    rows = align(places("a1 x y z a2"), places("a2 x y z a1"))
    assert [row for row in rows if row.moved] == [Row(0, 4, moved=True), Row(4, 0, moved=True)]


def test_a_changed_step_stays_changed_if_only_one_half_turns_up_elsewhere() -> None:
    rows = align(places("a1 x y"), places("a2 x y a1"))
    assert rows == [Row(0, 0), Row(1, 1), Row(2, 2), Row(None, 3)]


def test_an_equal_step_of_another_branch_has_not_moved() -> None:
    one = [Place("a", "a1", (1, 0)), Place("b", "b1", (2, 0)), Place("c", "c1", (3, 0))]
    other = [Place("b", "b1", (1, 0)), Place("c", "c1", (2, 0)), Place("a", "a1", (3, 0))]
    assert not any(row.moved for row in align(one, other))


def test_steps_that_changed_in_their_own_branches_are_not_paired_across_branches() -> None:
    one = [Place("a", "a1", (1, 0)), Place("a", "a2", (2, 0))]
    other = [Place("a", "a2", (1, 0)), Place("a", "a3", (2, 0))]
    assert sides(align(one, other)) == [(0, 0), (1, 1)]


def test_in_one_branch_an_equal_step_is_worth_more_than_two_changed_ones() -> None:
    rows = align(places("a1 a2"), places("a2 a3"))
    assert sides(rows) == [(0, None), (1, 0), (None, 1)]


# --- long runs ------------------------------------------------------------------------


def long_run(length: int, skills: int, salt: str = "") -> list[Place]:
    return [Place(k % skills, f"{salt}{k}", (k,)) for k in range(length)]


def test_ten_thousand_steps_with_scattered_edits() -> None:
    one = long_run(10_000, 7)
    other = [step for step in one if step.lineage[0] not in range(500, 9_500, 900)]
    rows = align(one, other)
    assert [row.original for row in rows if row.replay is None] == list(range(500, 9_500, 900))


def test_ten_thousand_steps_with_nothing_in_common_pair_by_skill() -> None:
    one, other = long_run(10_000, 1, "one"), long_run(10_000, 1, "other")
    assert sides(align(one, other)) == [(k, k) for k in range(10_000)]


def test_beyond_the_exact_limit_unique_equal_steps_are_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "EXACT", 2_000)
    one, other = long_run(600, 5), [*long_run(300, 5, "new"), *long_run(600, 5)]
    rows = align(one, other)
    assert [row.replay for row in rows if row.original is not None] == list(range(300, 900))


def test_what_is_too_long_for_any_alignment_is_paired_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "EXACT", 0)
    one, other = long_run(300, 1, "one"), long_run(310, 1, "other")
    assert sides(align(one, other))[298:302] == [(298, 298), (299, 299), (None, 300), (None, 301)]
