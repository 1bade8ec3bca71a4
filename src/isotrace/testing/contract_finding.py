"""The part of the store contract about finding runs: filters, pages, counts, names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isotrace.contracts import RunQuery, TraceStore
from isotrace.errors import AmbiguousRunError, QueryError, RunNotFoundError
from isotrace.events import datetime_of
from isotrace.testing.runs import START_US, Breach, llm, make_run, make_steps, tool

T = "default"
_HOUR_US = 3_600_000_000


def found(store: TraceStore, **filters: Any) -> list[str]:
    """The ids of the runs that a query lists, in its order; its count must agree."""
    query = RunQuery(**filters)
    ids = [item.summary.run_id for item in store.query(query).runs]
    assert store.count(query) == len(ids)
    return ids


def pages(store: TraceStore, query: RunQuery) -> Iterator[list[str]]:
    """The ids of each page, following the cursors to the end."""
    while True:
        page = store.query(query)
        yield [item.summary.run_id for item in page.runs]
        if page.next is None:
            return
        query = replace(query, after=page.next)


def _at(hours: float) -> datetime:
    return datetime_of(START_US + round(hours * _HOUR_US))


def fill(store: TraceStore) -> dict[str, Any]:
    """Four unlike runs, recorded in another order than they began: a, b, c, d."""
    runs = {
        "a": make_run(
            "a",
            agent_id="support",
            correlation_id="req-1",
            steps=[llm({"p": 1}, {"t": 1}, cost_cents=2.5), tool("search", {"q": 1}, {})],
            metadata={"task": 13, "model": "gpt-4.1", "ok": True, "gone": None, "reward": 1.0},
            started_us=START_US + 2 * _HOUR_US,
        ),
        "b": make_run(
            "b",
            agent_id="support",
            correlation_id="req-1",
            steps=[tool("pay", {"cents": 5}, {}, cost_cents=1.0)],
            metadata={"task": "13", "model": "gpt-4.1-mini", "ok": "true", "version": "1.10"},
            violations=[Breach("budget", 0), Breach("no-refunds", 0)],
            status="failed",
            started_us=START_US + 1 * _HOUR_US,
        ),
        "c": make_run(
            "c",
            agent_id=None,
            correlation_id="req-2",
            metadata={"task": 14, "list": [13], "version": 1.1, "long": "x" * 5000},
            status="aborted",
            started_us=START_US + 3 * _HOUR_US,
        ),
        "d": make_run("d", agent_id="billing", correlation_id="req-3", steps=make_steps(1)),
    }
    for run in runs.values():
        store.put(run)
    return runs


class FindingContract:
    """Tests of `query`, `count` and `resolve`."""

    def test_runs_are_listed_newest_first_by_recording(self, store: TraceStore) -> None:
        fill(store)
        assert found(store) == ["d", "c", "b", "a"]

    def test_a_store_without_runs_lists_none(self, store: TraceStore) -> None:
        page = store.query(RunQuery())
        assert (list(page.runs), page.next, store.count(RunQuery())) == ([], None, 0)

    def test_each_plain_filter_finds_its_runs(self, store: TraceStore) -> None:
        runs = fill(store)
        assert found(store, agent_id="support") == ["b", "a"]
        assert found(store, status="completed") == ["d", "a"]
        assert found(store, correlation_id="req-1") == ["b", "a"]
        assert found(store, skill="chat") == ["d", "a"]
        assert found(store, skill="pay") == ["b"]
        assert found(store, signature=runs["c"].projection.signature) == ["c"]
        assert found(store, root_hash=runs["d"].ledger.root_hash) == ["d"]

    def test_each_filter_finds_nothing_where_nothing_fits(self, store: TraceStore) -> None:
        fill(store)
        zeros = "0" * 64
        filters: list[dict[str, Any]] = [
            {"agent_id": "suppor"},
            {"status": "running"},
            {"correlation_id": "req"},
            {"skill": "cha"},
            {"signature": zeros},
            {"root_hash": zeros},
            {"since": _at(99)},
            {"until": _at(-1)},
            {"min_cost_cents": 99},
            {"max_cost_cents": -1},
            {"violation": "no"},
            {"metadata": {"task": 15}},
            {"metadata": {"other": 13}},
            {"tenant_id": "acme"},
        ]
        assert [found(store, **one) for one in filters] == [[]] * len(filters)

    def test_a_violation_is_found_by_any_policy_or_none(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, violation=True) == ["b"]
        assert found(store, violation=False) == ["d", "c", "a"]
        assert found(store, violation="budget") == found(store, violation="no-refunds") == ["b"]

    def test_a_time_range_includes_its_start_and_not_its_end(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, since=_at(1)) == ["c", "b", "a"]
        assert found(store, until=_at(2)) == ["d", "b"]
        assert found(store, since=_at(1), until=_at(3)) == ["b", "a"]
        assert found(store, since=_at(2) + timedelta(microseconds=1)) == ["c"]

    def test_times_of_other_zones_and_without_zone_mean_the_same_moment(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, since=_at(2).replace(tzinfo=None), status="completed") == ["a"]
        assert found(store, since=_at(2).astimezone(UTC), status="completed") == ["a"]

    def test_a_cost_range_includes_both_ends(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, min_cost_cents=1.0) == ["b", "a"]
        assert found(store, max_cost_cents=1) == ["d", "c", "b"]
        assert found(store, min_cost_cents=1, max_cost_cents=2.4) == ["b"]

    def test_metadata_finds_numbers_and_strings_that_read_alike(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, metadata={"task": 13}) == ["b", "a"]
        assert found(store, metadata={"task": "13"}) == ["b", "a"]
        assert found(store, metadata={"task": 13.0}) == ["b", "a"]
        assert found(store, metadata={"reward": "1"}) == found(store, metadata={"reward": "1.0"}) == ["a"]
        assert found(store, metadata={"ok": True}) == found(store, metadata={"ok": "true"}) == ["b", "a"]
        assert found(store, metadata={"gone": None}) == found(store, metadata={"gone": "null"}) == ["a"]

    def test_metadata_does_not_find_what_reads_otherwise(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, metadata={"version": "1.10"}) == ["c", "b"]  # the number 1.1, the text 1.10
        assert found(store, metadata={"version": "1.1"}) == ["c"]
        assert found(store, metadata={"model": "gpt-4.1"}) == ["a"]
        assert found(store, metadata={"ok": 1}) == found(store, metadata={"ok": "True"}) == []
        assert found(store, metadata={"list": 13}) == found(store, metadata={"list": "[13]"}) == []
        assert found(store, metadata={"missing": None}) == []

    def test_metadata_of_any_length_is_compared_whole(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, metadata={"long": "x" * 5000}) == ["c"]
        assert found(store, metadata={"long": "x" * 4999}) == []

    def test_all_filters_must_hold(self, store: TraceStore) -> None:
        fill(store)
        assert found(store, agent_id="support", status="failed") == ["b"]
        assert found(store, agent_id="support", skill="search", metadata={"task": "13"}) == ["a"]
        assert found(store, agent_id="support", status="aborted") == []
        assert found(store, correlation_id="req-1", since=_at(1.5), min_cost_cents=2) == ["a"]
        assert found(store, metadata={"task": 13, "model": "gpt-4.1-mini"}) == ["b"]
        assert found(store, violation=True, until=_at(1)) == []

    def test_a_filter_is_text_and_no_pattern(self, store: TraceStore) -> None:
        store.put(make_run("x", agent_id="50%_*'\"?", metadata={"k": "a%"}))
        assert found(store, agent_id="50%_*'\"?") == ["x"]
        assert (
            found(store, agent_id="%")
            == found(store, agent_id="*")
            == found(store, metadata={"k": "a"})
            == []
        )

    # --- pages ----------------------------------------------------------------------

    def test_pages_hold_each_run_once_and_end(self, store: TraceStore) -> None:
        ids = [f"run-{number}" for number in range(7)]
        for run_id in ids:
            store.put(make_run(run_id))
        newest_first = ids[::-1]
        for limit in (1, 2, 3, 7, 8, 10_000):
            listed = list(pages(store, RunQuery(limit=limit)))
            assert [run_id for page in listed for run_id in page] == newest_first
            assert [len(page) for page in listed[:-1]] == [limit] * (len(listed) - 1)
            assert listed[-1], "a page without runs must not be promised"

    def test_runs_added_while_paging_shift_nothing(self, store: TraceStore) -> None:
        for number in range(6):
            store.put(make_run(f"old-{number}"))
        seen: list[str] = []
        for number, page in enumerate(pages(store, RunQuery(limit=2))):
            seen.extend(page)
            store.put(make_run(f"new-{number}"))
        assert seen == [f"old-{number}" for number in (5, 4, 3, 2, 1, 0)]

    def test_filters_hold_on_every_page(self, store: TraceStore) -> None:
        for number in range(9):
            store.put(make_run(f"run-{number}", agent_id="even" if number % 2 == 0 else "odd"))
        assert list(pages(store, RunQuery(agent_id="even", limit=2))) == [
            ["run-8", "run-6"],
            ["run-4", "run-2"],
            ["run-0"],
        ]

    def test_the_limit_may_change_between_pages(self, store: TraceStore) -> None:
        for number in range(5):
            store.put(make_run(f"run-{number}"))
        first = store.query(RunQuery(limit=2))
        rest = store.query(RunQuery(limit=50, after=first.next))
        assert [item.summary.run_id for item in rest.runs] == ["run-2", "run-1", "run-0"]

    def test_a_count_is_of_all_runs_whatever_page_is_asked_for(self, store: TraceStore) -> None:
        for number in range(5):
            store.put(make_run(f"run-{number}"))
        cursor = store.query(RunQuery(limit=2)).next
        assert store.count(RunQuery(limit=2)) == store.count(RunQuery(limit=2, after=cursor)) == 5

    def test_a_limit_out_of_range_is_refused(self, store: TraceStore) -> None:
        for limit in (0, -1, 10_001, True, 2.0, "5", None):
            with pytest.raises(QueryError):
                store.query(RunQuery(limit=limit))  # type: ignore[arg-type]  # wrong on purpose

    def test_a_cursor_that_is_not_of_this_store_and_query_is_refused(
        self, store: TraceStore, other_store: TraceStore
    ) -> None:
        for number in range(3):
            store.put(make_run(f"run-{number}"))
            other_store.put(make_run(f"run-{number}"))
        cursor = store.query(RunQuery(limit=1)).next
        assert cursor is not None
        foreign = other_store.query(RunQuery(limit=1)).next
        changed = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
        for after in ("", "2", "run-1", "é", "\ud800", cursor + "x", cursor[1:], changed, foreign):
            with pytest.raises(QueryError):
                store.query(RunQuery(limit=1, after=after))
        with pytest.raises(QueryError):
            store.query(RunQuery(limit=1, after=cursor, status="completed"))
        with pytest.raises(QueryError):
            store.query(RunQuery(limit=1, after=cursor, tenant_id="acme"))

    def test_a_filter_that_can_not_be_served_is_refused(self, store: TraceStore) -> None:
        store.put(make_run("run"))
        wrong: list[dict[str, Any]] = [
            {"signature": "abc"},
            {"root_hash": "G" * 64},
            {"min_cost_cents": float("nan")},
            {"max_cost_cents": "5"},
            {"since": "yesterday"},
            {"violation": 1},
            {"metadata": {"task": [13]}},
            {"metadata": {"task": float("inf")}},
            {"metadata": {13: "task"}},
            {"agent_id": 5},
            {"status": "\ud800"},
        ]
        for one in wrong:
            with pytest.raises(QueryError) as caught:
                store.query(RunQuery(**one))
            assert caught.value.where == next(iter(one))
            with pytest.raises(QueryError):
                store.count(RunQuery(**one))

    # --- names ----------------------------------------------------------------------

    def test_a_run_is_named_by_its_id_or_a_unique_beginning(self, store: TraceStore) -> None:
        for run_id in ("abc", "abcd", "abd", "xyz", "é1"):
            store.put(make_run(run_id))
        names = {"abc": "abc", "abcd": "abcd", "abd": "abd", "x": "xyz", "é": "é1"}
        assert {name: store.resolve(name, tenant_id=T) for name in names} == names

    def test_an_ambiguous_beginning_is_refused_and_says_what_it_could_mean(self, store: TraceStore) -> None:
        for run_id in ("abc", "abd", "b"):
            store.put(make_run(run_id))
        with pytest.raises(AmbiguousRunError) as caught:
            store.resolve("ab", tenant_id=T)
        assert "abc" in str(caught.value)
        assert "abd" in str(caught.value)

    def test_an_unknown_or_empty_beginning_names_no_run(self, store: TraceStore) -> None:
        store.put(make_run("only"))
        for name in ("", "x", "only1", "onlY", "%", "_nly", "onl_", "*", "@first"):
            with pytest.raises(RunNotFoundError):
                store.resolve(name, tenant_id=T)

    def test_last_is_the_run_recorded_last(self, store: TraceStore) -> None:
        with pytest.raises(RunNotFoundError):
            store.resolve("@last", tenant_id=T)
        store.put(make_run("z-late", started_us=START_US + _HOUR_US))
        store.put(make_run("a-early", started_us=START_US))
        store.put(make_run("theirs", tenant_id="acme"))
        assert store.resolve("@last", tenant_id=T) == "a-early"
        store.put(make_run("z-late", started_us=START_US + _HOUR_US))
        assert store.resolve("@last", tenant_id=T) == "a-early"

    def test_a_beginning_is_looked_for_among_the_tenants_own_runs(self, store: TraceStore) -> None:
        store.put(make_run("run-1"))
        store.put(make_run("run-2", tenant_id="acme"))
        assert store.resolve("run", tenant_id=T) == "run-1"
