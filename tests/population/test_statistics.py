"""What a sample says of the agent: vectors by hand and from published tables, and simulations."""

from __future__ import annotations

import math
import random

import pytest
from branching_laws import REFUND, behaviour  # type: ignore[import-not-found]  # conftest finds it
from hypothesis import given
from hypothesis import strategies as st

from isotrace.errors import UsageError
from isotrace.population import (
    Interval,
    Tally,
    effective_variants,
    k_of_n,
    measure,
    pair_agreement,
    pass_curve,
    pass_k,
    same_path,
    success,
    total_agreement,
    unseen_mass,
    wilson,
)


# R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_the_published_table(part, whole, low, high) -> None:
    found = wilson(part, whole)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_the_interval_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == Interval(0.0, 1.0, 0.95)


def test_a_higher_level_makes_a_wider_interval() -> None:
    assert wilson(7, 10, 0.99).low < wilson(7, 10, 0.95).low < wilson(7, 10, 0.5).low < 0.7


@pytest.mark.parametrize(("part", "whole", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0)])
def test_impossible_counts_and_levels_are_refused(part, whole, level) -> None:
    with pytest.raises(UsageError):
        wilson(part, whole, level)


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (10, 10, "10 of 10 equal: at least 72 % with 95 % confidence"),
        (0, 10, "0 of 10 equal: at most 28 % with 95 % confidence"),
        (7, 10, "7 of 10 equal: 70 %, between 39 % and 90 % with 95 % confidence"),
        (1, 1, "1 of 1 equal: at least 20 % with 95 % confidence"),
        (0, 0, "0 of 0 equal: no run, nothing can be said"),
        (1999, 2000, "1,999 of 2,000 equal: 99.95 %, between 99 % and 99.992 % with 95 % confidence"),
    ],
)
def test_a_share_says_what_it_is_worth(part, whole, words) -> None:
    assert k_of_n(part, whole).words == words


def test_what_is_said_of_a_share_is_never_more_than_its_interval() -> None:
    found = k_of_n(10, 10)
    assert found.value == 1.0
    assert found.interval is not None
    assert found.interval.low == pytest.approx(10 / (10 + 1.959963984540054**2))


def test_one_run_is_not_equal_to_any_other() -> None:
    assert same_path([1]).value is None
    assert same_path([]).value is None
    assert same_path([3, 2]).part == 3
    alone = same_path([1, 1, 1])
    assert (alone.part, alone.whole, alone.words) == (1, 3, "each of 3 runs took a path of its own")


def test_pair_agreement_counts_equal_pairs() -> None:
    found = pair_agreement([3, 2])
    assert (found.value, found.part, found.whole) == (0.4, 4, 10)
    assert found.words == "two runs took the same path in 40 % of pairs (4 of 10)"
    assert pair_agreement([1]).value is None
    assert pair_agreement([]).value is None


def test_total_agreement_is_the_share_of_equal_choices_and_a_mean_over_groups() -> None:
    assert [total_agreement([[3, 2]], n).value for n in (1, 2, 3, 4)] == [1.0, 0.4, 0.1, 0.0]
    found = total_agreement([[5], [3, 2], [1, 1]], 3)
    assert found.value == pytest.approx((1 + 0.1) / 2)
    assert found.whole == 2
    expected = (
        "all of 3 runs took the same path with probability 55 % (mean over 2 groups; 1 with fewer than 3 runs"
    )
    assert found.words == f"TAR@3: {expected} left out)"
    assert total_agreement([], 2).value is None
    with pytest.raises(UsageError):
        total_agreement([[1]], 0)


def test_pass_k_is_unbiased_for_each_task_and_a_mean_over_tasks() -> None:
    assert pass_k([(3, 4)], 1).value == 0.75
    assert pass_k([(3, 4)], 2).value == 0.5
    assert pass_k([(3, 4), (4, 4)], 2).value == 0.75
    assert pass_k([(3, 4), (1, 1)], 2).words == (
        "pass^2: 2 runs all pass with probability 50 % (mean over 1 group; 1 with fewer than 2 runs left out)"
    )
    assert pass_k([(1, 1)], 2).value is None
    assert pass_k([], 1).value is None
    with pytest.raises(UsageError):
        pass_k([(3, 2)], 1)


def test_the_curve_of_pass_k_ends_where_a_task_has_no_more_runs() -> None:
    assert {k: one.value for k, one in pass_curve([(2, 3), (4, 4)]).items()} == {
        1: pytest.approx(5 / 6),
        2: pytest.approx(2 / 3),
        3: 0.5,
    }
    assert pass_curve([]) == {}


def test_effective_variants_need_thirty_runs_and_carry_the_correction() -> None:
    assert effective_variants([30]).value == 1.0
    assert effective_variants([15, 15]).value == pytest.approx(2 * math.exp(1 / 60))
    few = effective_variants([15, 14])
    assert (few.value, few.words) == (None, "29 runs, too few for effective variants: they need 30")


def test_unseen_mass_is_the_share_of_paths_seen_once() -> None:
    found = unseen_mass([46, 2, 1, 1])
    assert (found.value, found.part, found.whole) == (0.04, 2, 50)
    assert found.interval is not None
    assert found.words == (
        "2 paths were taken once in 50 runs: the next run takes a new one with probability 4 %, "
        "between 0 % and 14 % with 95 % confidence"
    )


def test_paths_seen_twice_widen_the_interval_of_unseen_mass() -> None:
    # Esty: 0.04 + 1.96·√(2·(1 − 2/50) + 2·4)/50
    found = unseen_mass([40, 2, 2, 2, 2, 1, 1]).interval
    assert found is not None
    assert (found.low, round(found.high, 3)) == (0.0, 0.163)


def test_without_a_path_seen_once_there_is_a_bound_on_unseen_ones() -> None:
    found = unseen_mass([10])
    assert found.interval is not None
    assert found.interval.low == 0.0
    assert found.interval.high == pytest.approx(1 - 0.05**0.1)
    assert found.words == (
        "no path was taken only once: the next run takes a new one with a probability of at most 26 %, "
        "with 95 % confidence"
    )


def test_few_runs_with_paths_seen_once_say_only_roughly_what_is_unseen() -> None:
    found = unseen_mass([8, 1])
    assert found.value == pytest.approx(1 / 9)
    assert found.interval is None
    assert unseen_mass([1]).value is None


def test_success_is_that_of_judged_runs_where_there_are_any() -> None:
    assert success(Tally(runs=5, completed=4, judged=2, passed=1)).words.startswith(
        "1 of 2 judged runs passed"
    )
    assert success(Tally(runs=5, completed=4)).words.startswith("4 of 5 runs completed")


def test_a_group_has_all_its_numbers_and_they_are_plain_data() -> None:
    found = measure([behaviour("ab", 7, passed=7), behaviour("ac", 3, passed=0)])
    assert (found.runs, found.paths, found.success.value) == (10, 2, 0.7)
    assert (
        found.same_path.words
        == "7 of 10 took the same path: 70 %, between 39 % and 90 % with 95 % confidence"
    )
    assert found.tar.words == "TAR@5: all of 5 runs took the same path with probability 8 %"
    assert found.to_dict()["agreement"] == {
        "value": pytest.approx(24 / 45),
        "interval": None,
        "part": 24,
        "whole": 45,
        "words": "two runs took the same path in 53 % of pairs (24 of 45)",
    }
    assert measure([]).same_path.value is None


# --- properties ---------------------------------------------------------------------------

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(COUNTS, st.randoms())
def test_numbers_do_not_depend_on_the_order_of_paths(counts, source) -> None:
    shuffled = source.sample(counts, len(counts))
    for number in (same_path, pair_agreement, unseen_mass):
        assert number(counts) == number(shuffled)
    one, other = effective_variants(counts).value, effective_variants(shuffled).value
    assert one == pytest.approx(other)


@given(COUNTS)
def test_every_number_is_a_probability_inside_its_interval(counts) -> None:
    for found in (
        same_path(counts),
        pair_agreement(counts),
        unseen_mass(counts),
        total_agreement([counts], 1),
    ):
        if found.value is not None:
            assert 0 <= found.value <= 1
        if found.interval is not None and found.value is not None:
            assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1


@given(st.integers(1, 400), st.data())
def test_a_share_of_all_others_is_its_mirror_image(whole, data) -> None:
    part = data.draw(st.integers(0, whole))
    one, other = wilson(part, whole), wilson(whole - part, whole)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))


# --- simulations --------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("runs", [10, 20, 50, 200])
def test_wilsons_interval_covers_the_truth_as_often_as_it_says(share, runs) -> None:
    """Exact, by summing over all outcomes: the coverage oscillates around 95 %, and never falls far."""
    covered = math.fsum(
        math.comb(runs, k) * share**k * (1 - share) ** (runs - k)
        for k in range(runs + 1)
        if wilson(k, runs).low <= share <= wilson(k, runs).high
    )
    assert covered >= 0.91


def test_estimates_of_a_known_branching_law_are_where_they_should_be() -> None:
    truth = REFUND.paths()
    agreement = math.fsum(share**2 for share in truth.values())
    unseen_within, paths_within, agreements, tars = 0, 0, [], []
    samples = 1500
    guessed = left = 0.0
    source = random.Random(20)
    for _ in range(samples):
        drawn = REFUND.sample(30, source)
        found = measure(drawn)
        counts = [one.tally.runs for one in drawn]
        agreements.append(found.agreement.value or 0.0)
        tars.append(found.tar.value or 0.0)
        taken = [bytes.fromhex(one.signature).decode() for one in drawn]
        missing = 1 - math.fsum(truth[path] for path in taken)
        unseen = unseen_mass(counts)
        interval = unseen.interval
        assert interval is not None
        guessed += (unseen.value or 0.0) / samples
        left += missing / samples
        unseen_within += interval.low <= missing + 1e-12 and missing <= interval.high + 1e-12
        share = wilson(sum(one.tally.runs for one in drawn if one.signature == b"lcrm".hex()), 30)
        paths_within += share.low <= truth["lcrm"] <= share.high
    assert math.fsum(agreements) / samples == pytest.approx(agreement, abs=0.005)
    assert math.fsum(tars) / samples == pytest.approx(math.fsum(p**5 for p in truth.values()), abs=0.005)
    # Good and Turing's is off by what one run more would have found: here by less than this.
    assert guessed == pytest.approx(left, abs=0.005)
    assert paths_within / samples >= 0.93
    assert unseen_within / samples >= 0.93


def test_pass_k_of_a_known_rate_is_unbiased_where_the_plain_power_is_not() -> None:
    source = random.Random(3)
    rate, runs, k, tasks = 0.6, 5, 3, 4000
    drawn = [(sum(source.random() < rate for _ in range(runs)), runs) for _ in range(tasks)]
    assert pass_k(drawn, k).value == pytest.approx(rate**k, abs=0.01)
    plain = math.fsum((passed / runs) ** k for passed, runs in drawn) / tasks
    assert abs(plain - rate**k) > 0.05


def test_the_corrected_entropy_is_nearer_to_the_truth_than_the_plain_one() -> None:
    source = random.Random(7)
    found, plain = [], []
    for _ in range(300):
        counts = [0] * 8
        for _ in range(40):
            counts[source.randrange(8)] += 1
        found.append(effective_variants(counts).value or 0.0)
        plain.append(math.exp(-math.fsum(n / 40 * math.log(n / 40) for n in counts if n)))
    assert abs(math.fsum(found) / 300 - 8) < 0.15 < abs(math.fsum(plain) / 300 - 8)
