"""Listings: which index drives a query, and the statement that follows from it.

Every filter is an equality (a term, see `sqlite_terms`) or a range of the run's start or cost. How
many runs fit each one is counted up to a small bound; the rarest filter drives, the others are
looked up for each of its runs. So a filter that nothing fits answers at once, whatever stands
beside it. SQLite's own planner can't know: its statistics are of the past, and of the average value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apsw

from isotrace.contracts import RunQuery
from isotrace.events import microseconds_of
from isotrace.stores.sqlite_pool import rows, scalar
from isotrace.stores.sqlite_rows import ITEM_COLUMNS
from isotrace.stores.sqlite_terms import Term, terms_asked

# Beyond so many runs a filter is "common", and it does not matter how common.
_COUNTED = 1000
# SQLite's own limit on a LIMIT.
_MOST = 2**63 - 1

_COUNT_TERM = """
SELECT count(*) FROM (
  SELECT 1 FROM terms WHERE tenant = ? AND field = ? AND value = ? LIMIT ?)"""


@dataclass(slots=True)
class _Range:
    """Bounds on one column of runs."""

    column: str
    index: str
    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def bound(self, operator: str, value: Any) -> None:
        if value is not None:
            self.conditions.append(f"r.{self.column} {operator} ?")
            self.values.append(value)


@dataclass(slots=True)
class _Plan:
    """Where a query begins, and what else must hold: `driver` alone, or joined with runs as `source`."""

    driver: str
    source: str
    order: str
    conditions: list[str]
    values: list[Any]


def find(
    con: apsw.Connection, tenant: int, query: RunQuery, below: int | None, limit: int
) -> list[tuple[Any, ...]]:
    """Rows of `ITEM_COLUMNS`, newest first, of runs whose key is less than `below`."""
    plan = _plan(con, tenant, query)
    if plan is None:
        return []
    if below is not None:
        plan.conditions.append(f"{plan.order} < ?")
        plan.values.append(below)
    statement = f"""
SELECT {ITEM_COLUMNS} FROM {plan.source} WHERE {" AND ".join(plan.conditions)}
ORDER BY {plan.order} DESC LIMIT ?"""  # noqa: S608  # all parts are constants of this module
    return rows(con, statement, *plan.values, limit)


def count(con: apsw.Connection, tenant: int, query: RunQuery) -> int:
    """How many runs the query matches."""
    plan = _plan(con, tenant, query)
    if plan is None:
        return 0
    conditions = " AND ".join(plan.conditions)
    source = plan.source if _needs_run(plan) else plan.driver
    statement = f"SELECT count(*) FROM {source} WHERE {conditions}"  # noqa: S608  # as above
    return int(scalar(con, statement, *plan.values))


class Chosen(NamedTuple):
    """Runs as a FROM clause in which `r` is their table, the condition on them, and what is bound to it."""

    source: str
    condition: str
    values: list[Any]


def choose(
    con: apsw.Connection, tenant: int, queries: Sequence[RunQuery], newest: int | None
) -> Chosen | None:
    """The runs that any of the queries matches, the newest of them if so asked; None where there are none."""
    plans = [plan for query in queries if (plan := _plan(con, tenant, query)) is not None]
    if not plans:
        return None
    if len(plans) == 1 and newest is None:
        plan = plans[0]
        if plan.conditions == ["r.tenant = ?"]:
            # All runs of a tenant: the index would only be a way round to each row of the table.
            return Chosen("runs AS r NOT INDEXED", plan.conditions[0], plan.values)
        return Chosen(plan.source, " AND ".join(plan.conditions), plan.values)
    union = " UNION ".join(
        f"SELECT {plan.order} AS pk FROM {plan.source if _needs_run(plan) else plan.driver}"  # noqa: S608  # constants
        f" WHERE {' AND '.join(plan.conditions)}"
        for plan in plans
    )
    values = [value for plan in plans for value in plan.values]
    if newest is not None:
        union = f"{union} ORDER BY pk DESC LIMIT ?"
        values.append(min(newest, _MOST))
    return Chosen(f"({union}) AS chosen CROSS JOIN runs AS r ON r.pk = chosen.pk", "TRUE", values)


def _needs_run(plan: _Plan) -> bool:
    return any("r." in condition for condition in plan.conditions)


def _plan(con: apsw.Connection, tenant: int, query: RunQuery) -> _Plan | None:
    """The cheapest way to the answer; None where a filter fits no run at all."""
    groups: list[tuple[int, list[Term]]] = []
    for terms in terms_asked(query):
        sizes = [(_size_of_term(con, tenant, term), term) for term in terms]
        there = [term for size, term in sizes if size]
        if not there:
            return None
        groups.append((sum(size for size, _ in sizes), there))
    groups.sort(key=lambda group: group[0])
    ranges = _ranges(query)
    rarest: tuple[int, _Range] | None = None
    for one in ranges:
        size = _size_of_range(con, tenant, one)
        if not size:
            return None
        if size < _COUNTED and (rarest is None or size < rarest[0]):
            rarest = (size, one)
    if groups and (rarest is None or groups[0][0] <= rarest[0]):
        return _by_term(tenant, groups[0][1], [terms for _, terms in groups[1:]], ranges)
    index = "runs_newest" if rarest is None else rarest[1].index
    return _by_run(tenant, index, [terms for _, terms in groups], ranges)


def _ranges(query: RunQuery) -> list[_Range]:
    started = _Range("started_us", "runs_started")
    started.bound(">=", None if query.since is None else microseconds_of(query.since))
    started.bound("<", None if query.until is None else microseconds_of(query.until))
    cost = _Range("total_cost_cents", "runs_cost")
    cost.bound(">=", query.min_cost_cents)
    cost.bound("<=", query.max_cost_cents)
    return [one for one in (started, cost) if one.conditions]


def _size_of_term(con: apsw.Connection, tenant: int, term: Term) -> int:
    return int(scalar(con, _COUNT_TERM, tenant, int(term.field), term.value, _COUNTED))


def _size_of_range(con: apsw.Connection, tenant: int, one: _Range) -> int:
    statement = f"""
SELECT count(*) FROM (
  SELECT 1 FROM runs AS r INDEXED BY {one.index}
  WHERE r.tenant = ? AND {" AND ".join(one.conditions)} LIMIT ?)"""  # noqa: S608  # constants
    return int(scalar(con, statement, tenant, *one.values, _COUNTED))


def _by_term(tenant: int, driver: list[Term], others: list[list[Term]], ranges: list[_Range]) -> _Plan:
    conditions, values = _fits("d", tenant, driver)
    # CROSS JOIN keeps SQLite from turning the order round.
    plan = _Plan(
        "terms AS d", "terms AS d CROSS JOIN runs AS r ON r.pk = d.run", "d.run", [conditions], values
    )
    _restrict(plan, tenant, others, ranges)
    return plan


def _by_run(tenant: int, index: str, others: list[list[Term]], ranges: list[_Range]) -> _Plan:
    driver = f"runs AS r INDEXED BY {index}"
    plan = _Plan(driver, driver, "r.pk", ["r.tenant = ?"], [tenant])
    _restrict(plan, tenant, others, ranges)
    return plan


def _restrict(plan: _Plan, tenant: int, others: list[list[Term]], ranges: list[_Range]) -> None:
    for terms in others:
        condition, values = _fits("e", tenant, terms)
        plan.conditions.append(
            f"EXISTS (SELECT 1 FROM terms AS e WHERE {condition} AND e.run = {plan.order})"  # noqa: S608  # constants
        )
        plan.values.extend(values)
    for one in ranges:
        plan.conditions.extend(one.conditions)
        plan.values.extend(one.values)


def _fits(alias: str, tenant: int, terms: list[Term]) -> tuple[str, list[Any]]:
    """The condition that a row of `terms` is one of these, which are all of one field."""
    marks = "= ?" if len(terms) == 1 else f"IN ({', '.join('?' * len(terms))})"
    condition = f"{alias}.tenant = ? AND {alias}.field = ? AND {alias}.value {marks}"
    return condition, [tenant, int(terms[0].field), *(term.value for term in terms)]
