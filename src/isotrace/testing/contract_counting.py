"""The part of the store contract about many runs: counting them by group and path."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from isotrace.contracts import PathCount, PathCounts, RunQuery, TraceStore
from isotrace.errors import QueryError
from isotrace.ledger import SealedRun
from isotrace.testing.runs import Call, llm, make_run, tool

T = "default"
_ALL = [RunQuery()]

SEARCH = tool("search", {"q": 1}, {}, cost_cents=0.5, duration_ms=2.0)
PAY = tool("pay", {"cents": 5}, {}, cost_cents=1.0, duration_ms=4.0)
CHAT = llm({"p": 1}, {"t": 1}, cost_cents=0.25, duration_ms=8.0)
ASK = llm({"p": 2}, {"t": 2})


def _run(run_id: str, *steps: Call, status: str = "completed", **metadata: Any) -> SealedRun:
    return make_run(
        run_id,
        agent_id="support" if run_id in "abc" else "billing",
        steps=steps,
        status=status,
        metadata=metadata,
        correlation_id="req-1" if run_id in "ab" else "req-2",
    )


def _fill(store: TraceStore) -> dict[str, SealedRun]:
    """Six runs on four paths, of which three are one tool path, and one without a step."""
    runs = {
        "a": _run("a", CHAT, SEARCH, task=13, reward=1.0),
        "b": _run("b", CHAT, SEARCH, task="13", reward=0.5, status="failed"),
        "c": _run("c", ASK, SEARCH, task=13.5, reward=True),
        "d": _run("d", CHAT, PAY, task=True, reward="1.0", status="aborted"),
        "e": _run("e", CHAT, SEARCH, task=13, reward=2),
        "f": _run("f", CHAT, task=[13], reward=[1]),
        "g": _run("g", task=None, reward=False),
    }
    for run in runs.values():
        store.put(run)
    return runs


def _shape(counts: PathCounts) -> dict[str | None, list[tuple[int, tuple[str, ...]]]]:
    """Key to the numbers of runs and their ids, path by path."""
    found: dict[str | None, list[tuple[int, tuple[str, ...]]]] = {}
    for row in counts.rows:
        found.setdefault(row.key, []).append((row.runs, row.examples))
    return found


class CountingContract:
    """Tests of `behaviours`."""

    def test_runs_are_counted_by_path_with_their_sums(self, store: TraceStore) -> None:
        runs = _fill(store)
        counts = store.behaviours(_ALL)
        paths = {name: run.projection.signature or "" for name, run in runs.items()}
        first, *others = counts.rows
        assert first == PathCount(None, paths["a"], 3, 2, 1, 3, 2, 2.25, 30.0, ("e", "b", "a"))
        assert [(row.runs, row.signature) for row in others] == [
            (1, path) for path in sorted([paths["c"], paths["d"], paths["f"]])
        ]
        assert (counts.without_key, counts.empty, counts.erased) == (0, 1, 0)
        assert counts.pathless == (PathCount(None, "", 1, 1, 0, 1, 0, 0.0, 0.0, ("g",)),)

    def test_tool_paths_leave_out_steps_of_other_kinds(self, store: TraceStore) -> None:
        runs = _fill(store)
        counts = store.behaviours(_ALL, tool=True)
        searched, paid = counts.rows
        assert searched == PathCount(
            None, runs["a"].projection.tool_signature or "", 4, 3, 1, 4, 3, 2.75, 33.0, ("e", "c", "b", "a")
        )
        assert (paid.signature, paid.examples) == (runs["d"].projection.tool_signature, ("d",))
        assert (paid.completed, paid.failed, paid.judged, paid.passed) == (0, 0, 0, 0)
        assert counts.empty == 2

    def test_group_is_the_text_of_a_metadata_value(self, store: TraceStore) -> None:
        _fill(store)
        counts = store.behaviours(_ALL, by="task")
        assert _shape(counts) == {
            "13": [(3, ("e", "b", "a"))],
            "13.5": [(1, ("c",))],
            "True": [(1, ("d",))],
        }
        assert (counts.without_key, counts.empty, counts.pathless) == (2, 0, ())

    def test_group_may_be_a_field_of_the_summary(self, store: TraceStore) -> None:
        _fill(store)
        store.put(make_run("h", agent_id=None, steps=[PAY], metadata={"agent": "x", "status": "y"}))
        agents = store.behaviours([RunQuery(skill="search")], by="agent", tool=True)
        assert _shape(agents) == {"billing": [(1, ("e",))], "support": [(3, ("c", "b", "a"))]}
        assert store.behaviours(_ALL, by="agent").without_key == 1
        assert list(_shape(store.behaviours(_ALL, by="correlation"))) == ["h", "req-1", "req-2"]
        assert list(_shape(store.behaviours(_ALL, by="status"))) == ["aborted", "completed", "failed"]

    def test_any_name_of_a_metadata_key_groups(self, store: TraceStore) -> None:
        names = ["a.b", "$", "[0]", "0", "", 'say "x"', "back\\slash", "é\n", "%"]
        for number, name in enumerate(names):
            store.put(make_run(f"r{number}", steps=[PAY], metadata={name: number, "a": {"b": 7}, "é": 1e22}))
        for number, name in enumerate(names):
            assert _shape(store.behaviours(_ALL, by=name)) == {str(number): [(1, (f"r{number}",))]}
        assert list(_shape(store.behaviours(_ALL, by="é"))) == ["1e+22"]

    def test_rows_come_by_key_and_the_most_runs_first(self, store: TraceStore) -> None:
        for number, (key, step) in enumerate([("b", PAY), ("a", PAY), ("a", CHAT), ("a", CHAT), ("B", ASK)]):
            store.put(make_run(f"r{number}", steps=[step], metadata={"k": key}))
        rows = store.behaviours(_ALL, by="k").rows
        assert [(row.key, row.runs) for row in rows] == [("B", 1), ("a", 2), ("a", 1), ("b", 1)]

    def test_all_filters_of_the_queries_hold(self, store: TraceStore) -> None:
        runs = _fill(store)
        for filters, expected in [
            ({"agent_id": "support"}, "cba"),
            ({"status": "failed"}, "b"),
            ({"skill": "pay"}, "d"),
            ({"signature": runs["a"].projection.signature}, "eba"),
            ({"root_hash": runs["c"].ledger.root_hash}, "c"),
            ({"metadata": {"task": 13}}, "eba"),
            ({"min_cost_cents": 1.0}, "d"),
            ({"skill": "search", "metadata": {"task": "13"}, "status": "completed"}, "ea"),
            ({"agent_id": "nobody"}, ""),
            ({"tenant_id": "acme"}, ""),
        ]:
            counts = store.behaviours([RunQuery(**filters)])  # type: ignore[arg-type]  # by name
            assert sorted(name for row in counts.rows for name in row.examples) == sorted(expected)
            assert sum(row.runs for row in counts.rows) == len(expected)

    def test_pages_of_a_query_are_no_matter(self, store: TraceStore) -> None:
        _fill(store)
        query = RunQuery(limit=1)
        after = store.query(query).next
        assert store.behaviours([replace(query, after=after)]) == store.behaviours(_ALL)

    def test_run_that_two_queries_match_counts_once(self, store: TraceStore) -> None:
        _fill(store)
        queries = [RunQuery(skill="search"), RunQuery(skill="chat"), RunQuery(agent_id="nobody")]
        assert _shape(store.behaviours(queries, by="task", tool=True)) == {
            "13": [(3, ("e", "b", "a"))],
            "13.5": [(1, ("c",))],
            "True": [(1, ("d",))],
        }
        assert store.behaviours([]) == PathCounts(())

    def test_newest_are_those_recorded_last(self, store: TraceStore) -> None:
        _fill(store)
        assert store.behaviours(_ALL, newest=2).empty == 1
        assert sorted(_shape(store.behaviours(_ALL, newest=5))[None]) == [(1, (one,)) for one in "cdef"]
        two = [RunQuery(metadata={"task": 13}), RunQuery(skill="pay")]
        assert _shape(store.behaviours(two, newest=3, by="status")) == {
            "aborted": [(1, ("d",))],
            "completed": [(1, ("e",))],
            "failed": [(1, ("b",))],
        }
        assert store.behaviours(_ALL, newest=10**30) == store.behaviours(_ALL)

    def test_examples_are_the_newest_runs_of_a_path(self, store: TraceStore) -> None:
        _fill(store)
        assert store.behaviours(_ALL, examples=2).rows[0].examples == ("e", "b")
        assert store.behaviours(_ALL, by="task", examples=1).rows[0].examples == ("e",)

    def test_reward_passes_from_the_threshold_on(self, store: TraceStore) -> None:
        _fill(store)
        assert [store.behaviours(_ALL, threshold=one).rows[0].passed for one in (0.5, 1, 1.5, 2.5)] == [
            3,
            2,
            1,
            0,
        ]

    def test_run_with_an_erased_step_has_no_path(self, store: TraceStore) -> None:
        _fill(store)
        store.erase("a", [(1, "params")], tenant_id=T, reason="x")
        counts = store.behaviours(_ALL)
        assert (counts.erased, counts.rows[0].examples) == (1, ("e", "b"))
        assert [row.examples for row in counts.pathless] == [("g", "a")]
        counts = store.behaviours(_ALL, tool=True)
        assert (counts.erased, counts.rows[0].examples) == (0, ("e", "c", "b", "a"))
        store.rebuild()
        assert store.behaviours(_ALL).erased == 1

    def test_grouping_that_can_not_be_served_raises(self, store: TraceStore) -> None:
        _fill(store)
        wrong: list[tuple[list[RunQuery], dict[str, Any]]] = [
            ([RunQuery(limit=0)], {}),
            ([RunQuery(), RunQuery(tenant_id="acme")], {}),
            (_ALL, {"by": 3}),
            (_ALL, {"by": "\ud800"}),
            (_ALL, {"newest": 0}),
            (_ALL, {"examples": 0}),
            (_ALL, {"threshold": math.nan}),
        ]
        for queries, options in wrong:
            with pytest.raises(QueryError):
                store.behaviours(queries, **options)
