"""Tests with fixed margins, held against published values and against counting every exchange."""

from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.population.exact import (
    Counts,
    Significance,
    corrected,
    difference,
    holm,
    share_changed,
    ways_appeared,
    ways_changed,
)


def row(before: int, after: int) -> Counts:
    return Counts(before, after)


def test_fishers_test_is_that_of_the_lady_tasting_tea() -> None:
    assert share_changed([(row(3, 1), row(1, 3))]).p_value == pytest.approx(34 / 70)


def test_six_of_fifty_after_none_before_is_unlikely_to_be_chance() -> None:
    found = share_changed([(row(0, 6), row(50, 44))])
    assert found.p_value == pytest.approx(2 * math.comb(50, 6) / math.comb(100, 6))


def test_newcombes_interval_is_that_of_the_published_table() -> None:
    found = difference(56, 70, 48, 80)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_holms_p_values_are_those_of_a_step_down_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]
    assert holm([]) == []


def test_tests_that_could_not_succeed_are_not_counted() -> None:
    tests = [Significance(0.02, 0.001), Significance(1.0, 0.5), Significance(0.6, 0.3)]
    assert corrected(tests, 0.05) == [0.02, 1.0, 0.6]


@pytest.mark.parametrize("table", [(row(0, 0), row(3, 4)), (row(2, 0), row(3, 0))])
def test_a_table_that_no_exchange_changes_says_nothing(table) -> None:
    assert share_changed([table]) == ways_changed([table]) == Significance(1.0, 1.0)


def by_every_exchange(tables) -> float:
    """p by brute force: all choices of which runs are "after", in each stratum."""
    weights = {0.0: 1.0}
    for table in tables:
        labels = [number for number, one in enumerate(table) for _ in range(sum(one))]
        after = sum(one.after for one in table)
        here: dict[float, float] = {}
        chosen = list(combinations(range(len(labels)), after))
        for pick in chosen:
            counts = [0] * len(table)
            for at in pick:
                counts[labels[at]] += 1
            weight = math.prod(math.comb(sum(one), x) for one, x in zip(table, counts, strict=True))
            here[weight] = here.get(weight, 0.0) + 1 / len(chosen)
        joined: dict[float, float] = {}
        for one, p in weights.items():
            for other, q in here.items():
                joined[one + math.log(other)] = joined.get(one + math.log(other), 0.0) + p * q
        weights = joined
    observed = sum(math.log(math.prod(math.comb(sum(one), one.after) for one in table)) for table in tables)
    return math.fsum(p for weight, p in weights.items() if weight <= observed + 1e-7)


ROWS = st.lists(st.builds(Counts, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4)


@given(st.lists(ROWS, min_size=1, max_size=2))
def test_the_exact_p_is_that_of_every_exchange(tables) -> None:
    assert ways_changed(tables).p_value == pytest.approx(by_every_exchange(tables))


@given(ROWS, st.randoms())
def test_p_does_not_depend_on_the_order_of_rows_and_is_at_least_the_smallest(table, source) -> None:
    found = ways_changed([table])
    assert found.p_value == pytest.approx(ways_changed([source.sample(table, len(table))]).p_value)
    assert found.smallest <= found.p_value + 1e-12


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=1))
def test_with_two_rows_both_tests_are_fishers(numbers) -> None:
    tables = [(row(a, b), row(c, d)) for a, b, c, d in numbers]
    assert share_changed(tables).p_value == pytest.approx(ways_changed(tables).p_value)


LARGER = [row(10, 0), row(5, 9), row(3, 9), row(30, 33), row(8, 3), row(10, 11)]


def test_drawn_exchanges_agree_with_counted_ones() -> None:
    table = [row(6, 2), row(3, 7), row(4, 4)]
    exact = ways_changed([table])
    from isotrace.population import exact as module

    work, module._WORK = module._WORK, 0
    try:
        drawn = ways_changed([table], seed=1)
    finally:
        module._WORK = work
    assert exact.exact
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.015)


def test_drawn_p_values_are_the_same_for_one_seed_and_never_zero() -> None:
    assert ways_changed([LARGER], seed=5, permutations=99) == ways_changed([LARGER], seed=5, permutations=99)
    apart = [row(20, 0), row(0, 20), row(20, 1), row(1, 20), row(20, 0), row(0, 20), row(9, 9)]
    assert ways_changed([apart], permutations=99).p_value == pytest.approx(0.01)


def test_chi_square_of_large_samples_is_where_exchanges_would_be() -> None:
    table = [row(500, 500)] * 3 + [row(534, 466), row(466, 534)]
    found = 4 * 34**2 / 500
    # The tail of chi-square with four degrees of freedom has this form.
    assert ways_changed([table]).p_value == pytest.approx(math.exp(-found / 2) * (1 + found / 2), abs=1e-3)
    assert ways_changed([[row(1200, 1000), row(1000, 1200), row(2, 1)]]).p_value < 1e-6


@pytest.mark.parametrize("strata", [1, 2])
def test_no_change_is_taken_for_a_change_no_more_often_than_promised(strata) -> None:
    source, wrong, trials = random.Random(strata), 0, 300
    for _ in range(trials):
        tables = []
        for _ in range(strata):
            sides = [source.choices(range(4), [0.5, 0.3, 0.15, 0.05], k=15) for _ in range(2)]
            tables.append([row(sides[0].count(way), sides[1].count(way)) for way in range(4)])
        wrong += ways_changed(tables).p_value <= 0.05
    # 0.05 plus three standard errors.
    assert wrong / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_change_is_seen_where_there_is_one() -> None:
    source, seen, trials = random.Random(4), 0, 200
    for _ in range(trials):
        sides = [source.choices(range(3), law, k=40) for law in ([0.7, 0.3, 0.0], [0.4, 0.3, 0.3])]
        seen += ways_changed([[row(sides[0].count(w), sides[1].count(w)) for w in range(3)]]).p_value <= 0.05
    assert seen / trials > 0.9


def new_by_every_exchange(table) -> float:
    """The same for runs on ways that none took before."""
    labels = [number for number, one in enumerate(table) for _ in range(sum(one))]
    after = sum(one.after for one in table)
    observed = sum(one.after for one in table if not one.before)
    chosen = list(combinations(range(len(labels)), after))
    as_many = 0
    for pick in chosen:
        counts = [0] * len(table)
        for at in pick:
            counts[labels[at]] += 1
        as_many += sum(x for one, x in zip(table, counts, strict=True) if x == sum(one)) >= observed
    return as_many / len(chosen)


@given(ROWS)
def test_the_p_of_new_ways_is_that_of_every_exchange(table) -> None:
    if min(sum(one.before for one in table), sum(one.after for one in table)) > 0:
        assert ways_appeared([table]).p_value == pytest.approx(new_by_every_exchange(table))


def test_thousands_of_lonely_ways_are_nothing_new() -> None:
    lonely = [row(1, 0)] * 3000 + [row(0, 1)] * 3000
    assert ways_changed([lonely]).p_value == 1.0
    assert ways_appeared([lonely]).p_value == pytest.approx(0.5, abs=0.01)
    assert ways_appeared([[*lonely, row(0, 300)]]).p_value < 1e-4


def test_new_ways_of_large_samples_are_where_exchanges_would_be() -> None:
    # One way with 8 runs, all of them after: about 1 in 256.
    assert ways_appeared([[row(3000, 2992), row(0, 8)]]).p_value == pytest.approx(2**-8, rel=0.02)
    assert ways_appeared([[row(500_000, 250_000), row(0, 250_000)]]).p_value < 1e-9
    assert ways_appeared([[row(3000, 3000)]]).p_value == 1.0
    assert ways_appeared([[row(600, 592), row(0, 8)]]).p_value == pytest.approx(2**-8, rel=0.05)
