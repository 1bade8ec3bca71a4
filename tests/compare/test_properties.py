"""What holds of the comparison of any two runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isotrace.compare import Code, Level, TraceDiff, Verdict, diff_traces
from isotrace.models import TraceRecord, compare_traces

# (skill, params, branch, what happened): few of each, so that steps repeat and runs share much.
drafts = st.lists(
    st.tuples(
        st.sampled_from(["search", "fetch", "score"]),
        st.integers(0, 2),
        st.sampled_from([None, 0, 1]),
        st.sampled_from(["ok", "ok", "ok", "fails", "retries"]),
    ),
    max_size=12,
)
levels = st.sampled_from(list(Level))

_OTHER_SIDE = {
    Code.EXTRA_STEP: Code.MISSING_STEP,
    Code.MISSING_STEP: Code.EXTRA_STEP,
    Code.EARLY_END: Code.LATE_END,
    Code.LATE_END: Code.EARLY_END,
}


def record(run: Any, step: Any, draft: list[tuple[str, int, int | None, str]]) -> TraceRecord:
    counters: dict[tuple[int, ...], int] = {}
    steps = []
    for skill, params, branch, ending in draft:
        # Branches 0 and 1 are opened by the first two numbers of the root branch.
        parent = () if branch is None else (branch,)
        number = counters.get(parent, 2 if branch is None else 0)
        counters[parent] = number + 1
        made = step(skill, {"n": params}, lineage=(*parent, number))
        made.error = "Boom" if ending == "fails" else None
        made.attempts = ["503"] if ending == "retries" else []
        steps.append(made)
    return run(steps)


def told(diff: TraceDiff) -> list[tuple[Any, ...]]:
    return [
        (one.code, one.index, one.original_index, one.replay_index, set(one.pointers))
        for one in diff.divergences
    ]


@given(draft=drafts, level=levels)
def test_a_run_matches_itself(run: Any, step: Any, draft: list[Any], level: Level) -> None:
    one = record(run, step, draft)
    diff = diff_traces(one, copy.deepcopy(one), level=level)
    assert (diff.verdict, diff.divergences, diff.cause) == (Verdict.MATCH, [], None)
    assert diff.counts == {"equal": len(one.steps), "changed": 0, "inserted": 0, "removed": 0, "moved": 0}


@given(draft=drafts, data=st.data(), count=st.integers(1, 4))
def test_added_steps_show_where_they_were_added(
    run: Any, step: Any, draft: list[Any], data: st.DataObject, count: int
) -> None:
    draft = [(skill, params, None, ending) for skill, params, _, ending in draft]
    at = data.draw(st.integers(0, len(draft)))
    added = [("novel", number, None, "ok") for number in range(count)]
    diff = diff_traces(record(run, step, draft), record(run, step, draft[:at] + added + draft[at:]))
    if at == len(draft):
        assert told(diff) == [(Code.LATE_END, at, None, at, set())]
    else:
        assert told(diff) == [(Code.EXTRA_STEP, k, None, k, set()) for k in range(at, at + count)]
    assert diff.counts["inserted"] == count


@given(one=drafts, other=drafts, level=levels)
def test_swapping_the_runs_swaps_the_sides_of_every_divergence(
    run: Any, step: Any, one: list[Any], other: list[Any], level: Level
) -> None:
    first, second = record(run, step, one), record(run, step, other)
    there, back = diff_traces(first, second, level=level), diff_traces(second, first, level=level)
    swapped = [
        (_OTHER_SIDE.get(code, code), index, replay, original, pointers)
        for code, index, original, replay, pointers in told(back)
    ]
    assert told(there) == swapped
    assert there.verdict is back.verdict


@given(one=drafts, other=drafts)
def test_the_contract_and_the_full_diff_agree_on_the_first_step(
    run: Any, step: Any, one: list[Any], other: list[Any]
) -> None:
    first, second = record(run, step, one), record(run, step, other)
    parity, diff = compare_traces(first, second), diff_traces(first, second)
    assert (diff.parity.is_parity, diff.parity.divergence_step) == (parity.is_parity, parity.divergence_step)
    assert (diff.verdict is Verdict.MATCH) == parity.is_parity
    if diff.first is not None:
        assert diff.first.index == parity.divergence_step


@given(one=drafts, other=drafts, level=levels)
def test_every_index_is_a_row_that_is_not_equal(
    run: Any, step: Any, one: list[Any], other: list[Any], level: Level
) -> None:
    diff = diff_traces(record(run, step, one), record(run, step, other), level=level)
    rows = [*(pair.op for pair in diff.alignment), "the end of the run"]
    assert all(rows[found.index or 0] != "equal" for found in diff.divergences)


@given(one=drafts, other=drafts)
def test_what_matches_more_closely_matches_less_closely(
    run: Any, step: Any, one: list[Any], other: list[Any]
) -> None:
    first, second = record(run, step, one), record(run, step, other)
    matches = [
        diff_traces(first, second, level=level).verdict is Verdict.MATCH
        for level in (Level.EXACT, Level.DECISIONS, Level.SKELETON)
    ]
    assert matches == sorted(matches)


def test_the_sample_runs_match_themselves_at_every_level(recorded: Callable[[], TraceRecord]) -> None:
    for level in Level:
        assert diff_traces(recorded(), recorded(), level=level).divergences == []
