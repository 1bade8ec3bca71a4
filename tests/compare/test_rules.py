"""Rules for single fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.compare import NORMALIZERS, Level, Rules, Target, Tolerance, Verdict, diff_traces
from isotrace.compare.rules import changes_between
from isotrace.compare.text import normalize_text
from isotrace.errors import LimitError, UsageError


def pointers(expected: Any, actual: Any, *, skill: str | None = "search", **rules: list[str]) -> list[str]:
    lens = Rules.parse(**rules).lens(skill)
    return [change.pointer for change in changes_between(expected, actual, lens)]


# --- parsing --------------------------------------------------------------------------


def test_rules_are_read_from_texts() -> None:
    rules = Rules.parse(
        ignore=["/ts", "search:/messages/*/id", "GET http://x:/a~1b"],
        tolerance=["/price=0.01", "fetch:/score=5%", "2%"],
        normalize=["whitespace", "/text=case", "/a=b=uuids"],
        budget=["cost=10%", "duration=250"],
        kinds=["tool"],
    )
    assert rules.ignore == (
        Target(None, ("ts",)),
        Target("search", ("messages", "*", "id")),
        Target("GET http://x", ("a/b",)),
    )
    assert rules.tolerance == (
        (Target(None, ("price",)), Tolerance(absolute=0.01)),
        (Target("fetch", ("score",)), Tolerance(relative=0.05)),
        (Target(None, ()), Tolerance(relative=0.02)),
    )
    assert rules.normalize == (
        (Target(None, ()), "whitespace"),
        (Target(None, ("text",)), "case"),
        (Target(None, ("a=b",)), "uuids"),
    )
    assert rules.budget == {"cost": Tolerance(relative=0.1), "duration": Tolerance(absolute=250)}
    assert rules.kinds == ("tool",)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"ignore": ["ts"]}, "nearest: /ts"),
        ({"ignore": [""]}, "expected /pointer"),
        ({"ignore": [":/a"]}, "expected /pointer"),
        ({"tolerance": ["/a=much"]}, "0.01, 5%"),
        ({"tolerance": ["/a=-1"]}, "0.01, 5%"),
        ({"tolerance": ["/a=nan"]}, "0.01, 5%"),
        ({"tolerance": ["a=1"]}, "nearest: /a"),
        ({"normalize": ["/a=blanks"]}, "uuids, timestamps, numbers, case, whitespace"),
        ({"normalize": ["timestamp"]}, "nearest: timestamps"),
        ({"budget": ["price=1%"]}, "cost, duration, tokens"),
        ({"budget": ["cost"]}, "cost=10%"),
    ],
)
def test_a_wrong_rule_says_what_would_be_right(bad: dict[str, list[str]], says: str) -> None:
    with pytest.raises(UsageError) as raised:
        Rules.parse(**bad)
    assert says in str(raised.value)


def test_an_unknown_level_lists_the_good_ones() -> None:
    with pytest.raises(UsageError, match=r"exact, decisions, skeleton, outcome.*nearest: exact"):
        Level.of("exakt")


# --- ignoring ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("/a", ["/b/c", "/list/1/id"]),
        ("/b", ["/a", "/list/1/id"]),
        ("/*/c", ["/a", "/list/1/id"]),
        ("/list/*/id", ["/a", "/b/c"]),
        ("/list/1", ["/a", "/b/c"]),
        ("/list/0", ["/a", "/b/c", "/list/1/id"]),
        ("search:/a", ["/b/c", "/list/1/id"]),
        ("fetch:/a", ["/a", "/b/c", "/list/1/id"]),
        ("/*", []),
    ],
)
def test_what_is_ignored_and_all_below_it_does_not_differ(rule: str, left: list[str]) -> None:
    one = {"a": 1, "b": {"c": 1}, "list": [{"id": 1}, {"id": 1}]}
    other = {"a": 2, "b": {"c": 2}, "list": [{"id": 1}, {"id": 2}]}
    assert pointers(one, other, ignore=[rule]) == left


def test_an_ignored_key_may_be_there_on_one_side_only() -> None:
    assert pointers({"a": 1}, {"a": 1, "ts": 5}, ignore=["/ts"]) == []


def test_an_ignored_element_does_not_shift_the_others() -> None:
    assert pointers([1, 2, 3], [9, 2, 4], ignore=["/0"]) == ["/2"]


# --- tolerances -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "one", "other", "differs"),
    [
        ("/n=0.5", 1.0, 1.5, False),
        ("/n=0.5", 1.0, 1.51, True),
        ("/n=10%", 90, 100, False),
        ("/n=10%", 89, 100, True),
        ("10%", 90, 100, False),
        ("/n=1", True, False, True),
        ("/n=1", 1, "1", True),
        ("/n=1", 1, None, True),
        ("/m=1", 1, 2, True),
    ],
)
def test_numbers_within_a_tolerance_are_equal(rule: str, one: Any, other: Any, differs: bool) -> None:
    assert pointers({"n": one}, {"n": other}, tolerance=[rule]) == (["/n"] if differs else [])


def test_a_tolerance_covers_all_numbers_below_its_target() -> None:
    one, other = {"p": [1, {"x": 2}], "q": 1}, {"p": [1.1, {"x": 2.1}], "q": 1.1}
    assert pointers(one, other, tolerance=["/p=0.2"]) == ["/q"]


def test_differences_within_a_tolerance_do_not_crowd_out_real_ones() -> None:
    one = {"n": [0.0] * 500, "z": 1}
    other = {"n": [0.1] * 500, "z": 2}
    assert pointers(one, other, tolerance=["/n=1"]) == ["/z"]


def test_rounding_noise_does_not_crowd_out_real_differences() -> None:
    one = {"n": [1.0] * 500, "z": 1}
    other = {"n": [1.0 + 1e-9] * 500, "z": 2}
    assert pointers(one, other) == ["/z"]


# --- texts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("whitespace", " a\n\tb ", "a b"),
        ("case", "Straße", "STRASSE"),
        ("timestamps", "at 2026-01-02T03:04:05.678Z", "at 2025-11-12 13:14:15+01:00"),
        ("timestamps", "on 2026-01-02, 9:04:05", "on 2025-11-12, 10:04:05.25"),
        ("uuids", "6f1c2e9a-0b1d-4c3e-8f5a-1234567890ab", "00000000-0000-0000-0000-000000000000"),
        ("uuids", "id 6f1c2e9a0b1d4c3e8f5a1234567890ab", "id 00000000000000000000000000000000"),
        ("numbers", "took 12.5 s, 3 rows, 1e-9", "took 9 s, 14 rows, 2E5"),
    ],
)
def test_texts_of_one_common_form_are_equal(name: str, one: str, other: str) -> None:
    assert pointers({"t": one}, {"t": other}, normalize=[name]) == []
    assert pointers({"t": one}, {"t": other}, normalize=[f"/t={name}"]) == []
    assert pointers({"t": one}, {"t": other}, normalize=[f"/u={name}"]) == ["/t"]


def test_a_difference_is_shown_with_the_texts_as_they_are() -> None:
    lens = Rules.parse(normalize=["case"]).lens("search")
    (change,) = changes_between({"t": "Hello A"}, {"t": "HELLO B"}, lens)
    assert (change.expected, change.actual) == ("Hello A", "HELLO B")


@given(st.text(), st.permutations(list(NORMALIZERS)))
def test_the_order_in_which_normalisers_are_asked_for_does_not_matter(text: str, names: list[str]) -> None:
    assert normalize_text(text, names) == normalize_text(text, set(NORMALIZERS))


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("piece", ["1", "a", "0-", "1,", "1e", "2026-", "12:", " ", "-", "\n", "f" * 31, "٣"])
def test_a_long_text_of_near_misses_comes_back(name: str, piece: str) -> None:
    # In quadratic time this would not come back within an hour.
    text = piece * (400_000 // len(piece))
    assert NORMALIZERS[name](text) == NORMALIZERS[name](text[:])


# --- in a comparison --------------------------------------------------------------------


def test_ignored_params_make_runs_match_and_leave_the_signatures_alone(run: Any, step: Any) -> None:
    one = run([step("search", {"q": "x", "ts": 1}), step("fetch", {"url": "u"})])
    other = run([step("search", {"q": "x", "ts": 2}), step("fetch", {"url": "u"})])
    diff = diff_traces(one, other, rules=Rules.parse(ignore=["search:/ts"]))
    assert (diff.verdict, diff.parity.is_parity) == (Verdict.MATCH, True)
    assert diff.parity.original_signature == one.determinism_signature()
    assert diff.parity.replay_signature == other.determinism_signature()
    assert diff.parity.original_signature != diff.parity.replay_signature
    assert diff_traces(one, other, rules=Rules.parse(ignore=["fetch:/ts"])).verdict is Verdict.DIVERGED


def test_a_tolerance_decides_pair_by_pair(run: Any, step: Any) -> None:
    one = run([step("search", {"n": 1.0}), step("search", {"n": 5.0})])
    other = run([step("search", {"n": 1.2}), step("search", {"n": 9.0})])
    diff = diff_traces(one, other, rules=Rules.parse(tolerance=["/n=0.5"]))
    assert [(found.index, found.pointers) for found in diff.divergences] == [(1, ["/n"])]
    assert [pair.op for pair in diff.alignment] == ["equal", "changed"]


def test_rules_also_hold_for_outcomes_the_input_and_the_result(run: Any, step: Any) -> None:
    one = run([step("search", outcome={"at": 1, "n": 1})], given={"at": 1}, result={"at": 1})
    other = run([step("search", outcome={"at": 2, "n": 1})], given={"at": 2}, result={"at": 2})
    assert diff_traces(one, other, level="exact").verdict is Verdict.DIVERGED
    rules = Rules.parse(ignore=["/at", "/input/at", "/result/at"])
    assert diff_traces(one, other, level="exact", rules=rules).divergences == []


def test_a_value_beyond_the_depth_limit_is_refused() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(LimitError):
        Rules.parse(normalize=["case"]).lens(None).key(deep)  # type: ignore[union-attr]  # there is a rule


def test_kinds_of_the_rules_restrict_the_comparison(sample: Callable[[str], Any]) -> None:
    one, other = sample("plain"), sample("plain")
    other.steps[0].params = {"model": "other"}
    assert diff_traces(one, other, rules=Rules(kinds=["tool"])).verdict is Verdict.MATCH
    assert diff_traces(one, other, rules=Rules(kinds=["tool"]), kinds=["llm"]).verdict is Verdict.DIVERGED
