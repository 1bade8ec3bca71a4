"""Stores that count other runs, groups or paths than those asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from isotrace.contracts import PathCount, PathCounts, RunQuery
from isotrace.errors import QueryError
from isotrace.stores.memory import MemoryStore
from isotrace.testing.mutants.base import Mutant


def _wrong(name: str, doc: str, caught_by: str, **changed: Any) -> type[Mutant]:
    """A store that hears another argument than was given."""

    def behaviours(self: Mutant, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        given = {key: change(options.get(key)) for key, change in changed.items()}
        return MemoryStore.behaviours(self, queries, **{**options, **given})

    return type(name, (Mutant,), {"__doc__": doc, "caught_by": caught_by, "behaviours": behaviours})


def _altered(name: str, doc: str, caught_by: str, alter: Any) -> type[Mutant]:
    """A store that gives another answer than it found."""

    def behaviours(self: Mutant, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        return alter(MemoryStore.behaviours(self, queries, **options))  # type: ignore[no-any-return]  # by name

    return type(name, (Mutant,), {"__doc__": doc, "caught_by": caught_by, "behaviours": behaviours})


def _rows(change: Any) -> Any:
    return lambda counts: replace(counts, rows=tuple(change(row) for row in counts.rows))


def _swapped(row: PathCount) -> PathCount:
    return replace(row, completed=row.failed, failed=row.completed)


_COUNTED_WRONG = [
    _wrong(
        "WholePathOnly",
        "Tool paths are whole paths.",
        "test_tool_paths_leave_out_steps_of_other_kinds",
        tool=lambda _: False,
    ),
    _wrong(
        "OneGroup", "Runs are not grouped.", "test_group_is_the_text_of_a_metadata_value", by=lambda _: None
    ),
    _wrong(
        "AllOfThem",
        "Older runs are counted too.",
        "test_newest_are_those_recorded_last",
        newest=lambda _: None,
    ),
    _wrong(
        "FixedThreshold",
        "Any threshold is 1.",
        "test_reward_passes_from_the_threshold_on",
        threshold=lambda _: 1.0,
    ),
    _wrong(
        "ManyExamples",
        "All runs are examples.",
        "test_examples_are_the_newest_runs_of_a_path",
        examples=lambda _: 10**6,
    ),
    _altered(
        "StatusSwapped",
        "What completed has failed.",
        "test_runs_are_counted_by_path_with_their_sums",
        _rows(_swapped),
    ),
    _altered(
        "NoSums",
        "Costs are those of one run.",
        "test_runs_are_counted_by_path_with_their_sums",
        _rows(lambda row: replace(row, cost_cents=row.cost_cents / row.runs)),
    ),
    _altered(
        "NothingJudged",
        "A boolean is no reward.",
        "test_tool_paths_leave_out_steps_of_other_kinds",
        _rows(lambda row: replace(row, judged=row.judged - 1 if row.runs > 3 else row.judged)),
    ),
    _altered(
        "OldestExamples",
        "Ids come in the order of recording.",
        "test_examples_are_the_newest_runs_of_a_path",
        _rows(lambda row: replace(row, examples=row.examples[::-1])),
    ),
    _altered(
        "LeftOutUnsaid",
        "Runs are left out without a word.",
        "test_run_with_an_erased_step_has_no_path",
        lambda counts: PathCounts(counts.rows),
    ),
    _altered(
        "NoOrder",
        "Rows come as they were found.",
        "test_rows_come_by_key_and_the_most_runs_first",
        lambda counts: replace(counts, rows=counts.rows[::-1]),
    ),
    _altered(
        "CommonPathsOnly",
        "What is rare is not told.",
        "test_runs_are_counted_by_path_with_their_sums",
        lambda counts: replace(counts, rows=tuple(row for row in counts.rows if row.runs > 1)),
    ),
]


class CountsTwice(Mutant):
    """A run that two queries match is counted for each."""

    caught_by = "test_run_that_two_queries_match_counts_once"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        rows = [
            row for query in queries for row in super(CountsTwice, self).behaviours([query], **options).rows
        ]
        return PathCounts(tuple(rows))


class FirstQueryOnly(Mutant):
    """Only the first of several queries is asked."""

    caught_by = "test_run_that_two_queries_match_counts_once"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        return super().behaviours(queries[:1], **options)


class OnePage(Mutant):
    """No more runs are counted than a page of the query lists."""

    caught_by = "test_pages_of_a_query_are_no_matter"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        limit = min((query.limit for query in queries), default=None)
        return super().behaviours(queries, **{**options, "newest": options.get("newest") or limit})


class GroupsByMetadataOnly(Mutant):
    """`agent` is looked for in the metadata."""

    caught_by = "test_group_may_be_a_field_of_the_summary"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        if options.get("by") in ("agent", "correlation", "status"):
            options["by"] = "no such key"
        return super().behaviours(queries, **options)


class GroupsBySimpleNamesOnly(Mutant):
    """A key with other than letters is none."""

    caught_by = "test_any_name_of_a_metadata_key_groups"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        if not (options.get("by") or "x").isalpha():
            options["by"] = "no such key"
        return super().behaviours(queries, **options)


class IgnoresFilters(Mutant):
    """All runs of the tenant are counted."""

    caught_by = "test_all_filters_of_the_queries_hold"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        return super().behaviours([RunQuery(tenant_id=one.tenant_id) for one in queries], **options)


class AnswersNothing(Mutant):
    """A grouping that can't be served has no runs."""

    caught_by = "test_grouping_that_can_not_be_served_raises"

    def behaviours(self, queries: Sequence[RunQuery], **options: Any) -> PathCounts:
        try:
            return super().behaviours(queries, **options)
        except QueryError:
            return PathCounts(())
