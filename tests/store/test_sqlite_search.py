"""How SQLite finds runs: each filter through an index, the rarest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.contracts import RunQuery
from isotrace.events import datetime_of
from isotrace.stores.memory import read_alike
from isotrace.stores.sqlite import TERMS_OF, SqliteStore
from isotrace.stores.sqlite_query import _plan
from isotrace.stores.sqlite_rows import DROP_TERMS
from isotrace.stores.sqlite_terms import Field, _metadata_asked, _metadata_terms, terms_asked, terms_of
from isotrace.testing.runs import START_US, Breach, make_run, tool


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    """1,200 runs: more than are counted before a filter is called common."""
    with SqliteStore(tmp_path_factory.mktemp("search") / "traces.db") as store:
        with store._pool.borrow() as con:
            con.pragma(
                "synchronous", "OFF"
            )  # the one connection, lent again and again: no disk is waited for
        for number in range(1200):
            store.put(
                make_run(
                    f"run-{number:04}",
                    agent_id="rare" if number == 700 else "common",
                    metadata={"task": number % 3},
                    started_us=START_US + number * 1_000_000,
                )
            )
        yield store


def _queries() -> list[RunQuery]:
    late, moment = datetime_of(START_US + 1195 * 1_000_000), datetime_of(START_US)
    zeros = "0" * 64
    filters: list[dict[str, Any]] = [
        {},
        {"agent_id": "rare"},
        {"agent_id": "common"},
        {"status": "completed"},
        {"correlation_id": "run-0001"},
        {"skill": "search"},
        {"signature": zeros},
        {"root_hash": zeros},
        {"since": late},
        {"since": moment},
        {"until": moment},
        {"min_cost_cents": 0},
        {"min_cost_cents": 1},
        {"max_cost_cents": 0},
        {"violation": True},
        {"violation": False},
        {"violation": "p"},
        {"metadata": {"task": 1}},
        {"metadata": {"task": "1"}},
        {"agent_id": "rare", "since": moment, "metadata": {"task": 1}},
        {"agent_id": "common", "since": late, "violation": False},
    ]
    return [RunQuery(**one) for one in filters]


@pytest.mark.parametrize("query", _queries(), ids=str)
def test_no_query_reads_a_table_from_end_to_end(store: SqliteStore, query: RunQuery) -> None:
    with store._pool.borrow() as con:
        tenant = store._names.find(con, "default")
        assert tenant is not None
        plan = _plan(con, tenant, query)
        if plan is None:
            return  # a filter fits nothing: there is no statement at all
        statement = (
            f"SELECT * FROM {plan.source} WHERE {' AND '.join(plan.conditions)} ORDER BY {plan.order} DESC"
        )
        lines = [row[3] for row in con.execute(f"EXPLAIN QUERY PLAN {statement}", tuple(plan.values))]
    assert [line for line in lines if str(line).startswith("SCAN")] == []


@pytest.mark.parametrize("statement", [TERMS_OF, DROP_TERMS])
def test_what_one_run_is_found_by_is_read_without_the_other_runs(store: SqliteStore, statement: str) -> None:
    with store._pool.borrow() as con:
        lines = [row[3] for row in con.execute(f"EXPLAIN QUERY PLAN {statement}", (1,))]
    assert lines
    assert [line for line in lines if "terms_of_run (run=?)" not in line] == []


def _driver(store: SqliteStore, **filters: Any) -> str:
    with store._pool.borrow() as con:
        tenant = store._names.find(con, "default")
        assert tenant is not None
        plan = _plan(con, tenant, RunQuery(**filters))
    return "nothing" if plan is None else plan.driver


def test_the_rarest_filter_drives(store: SqliteStore) -> None:
    late, early = datetime_of(START_US + 1195 * 1_000_000), datetime_of(START_US)
    terms, newest, started = (
        "terms AS d",
        "runs AS r INDEXED BY runs_newest",
        "runs AS r INDEXED BY runs_started",
    )
    assert _driver(store) == newest
    assert _driver(store, agent_id="common", since=late) == started
    assert _driver(store, agent_id="rare", since=late) == terms
    assert _driver(store, agent_id="common", since=early) == terms
    assert _driver(store, since=early) == newest
    assert _driver(store, agent_id="nobody", since=early) == "nothing"
    assert _driver(store, agent_id="common", until=early) == "nothing"


def test_answers_do_not_depend_on_which_filter_drives(store: SqliteStore) -> None:
    late = datetime_of(START_US + 1190 * 1_000_000)
    page = store.query(RunQuery(agent_id="common", since=late, metadata={"task": "1"}))
    assert [item.summary.run_id for item in page.runs] == ["run-1198", "run-1195", "run-1192"]
    assert store.count(RunQuery(agent_id="common", until=late, metadata={"task": "1"})) == 396
    assert store.count(RunQuery(agent_id="rare", until=late, min_cost_cents=0)) == 1


def test_a_query_asks_only_for_terms_that_a_matching_run_has() -> None:
    run = make_run(
        "run",
        agent_id="a" * 500,
        steps=[tool("s" * 500)],
        metadata={"k" * 500: "v"},
        violations=[Breach("p")],
    )
    query = RunQuery(
        agent_id="a" * 500,
        status="completed",
        correlation_id="run",
        skill="s" * 500,
        signature=run.projection.signature,
        root_hash=run.ledger.root_hash,
        violation="p",
        metadata={"k" * 500: "v"},
    )
    asked = terms_asked(query)
    assert [terms[0].field for terms in asked] == [
        Field.AGENT,
        Field.STATUS,
        Field.CORRELATION,
        Field.SKILL,
        Field.SIGNATURE,
        Field.ROOT,
        Field.POLICY,
        Field.METADATA,
    ]
    assert all(terms_of(run) & set(terms) for terms in asked)
    assert max(len(term.value) for term in terms_of(run) if not isinstance(term.value, int)) <= 96


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from(
        ["1", "1.0", "1.50", "-0", "1e3", "true", "null", " 1", "01", "1e999", "NaN", "[1]", '"1"']
    )
    | st.integers(-20, 20).map(str)
    | st.floats(-10, 10).map(repr)
)


@settings(deadline=None)
@given(held=_SCALARS, asked=_SCALARS)
def test_the_index_and_the_plain_comparison_of_metadata_agree(held: Any, asked: Any) -> None:
    indexed = bool(set(_metadata_terms("k", held)) & set(_metadata_asked("k", asked)))
    assert indexed == read_alike(held, asked)


@settings(deadline=None)
@given(held=_SCALARS)
def test_every_value_reads_like_itself(held: Any) -> None:
    assert set(_metadata_terms("k", held)) & set(_metadata_asked("k", held))
