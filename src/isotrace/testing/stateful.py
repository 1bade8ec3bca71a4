"""A state machine that holds any store against `MemoryStore`, call by call.

    TestMyStore = store_machine(lambda folder: MyStore(folder)).TestCase

Hypothesis invents runs and calls; both stores must give the same answers, or errors of the same class.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from isotrace.contracts import PathCounts, RunQuery, TraceStore
from isotrace.errors import IsotraceError
from isotrace.events import datetime_of
from isotrace.ledger import SealedRun
from isotrace.stores.memory import MemoryStore
from isotrace.testing.runs import START_US, Breach, Call, llm, make_run, tool

_TENANTS = st.sampled_from(["default", "default", "acme"])
_RUN_IDS = st.sampled_from(["a", "ab", "abc", "b", "ba", "c", "é"])
_AGENTS = st.sampled_from([None, "support", "billing"])
_STATUSES = st.sampled_from(["completed", "failed", "aborted"])
_SKILLS = st.sampled_from(["chat", "search", "pay"])
_KEYS = st.sampled_from(["k", "l", "reward", 'odd "key"'])
_SCALARS = st.sampled_from([13, "13", 13.0, "13.0", 1.5, "1.5", True, "true", None, "null", "x", "", "1.50"])
_HOURS = st.integers(0, 3)
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e3, 1e3) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _calls(draw: st.DrawFn) -> Call:
    params = {"q": draw(_PLAIN), "pad": "x" * draw(st.sampled_from([0, 0, 700, 3000]))}
    outcome = draw(st.none() | st.dictionaries(st.text(max_size=3), _PLAIN, max_size=2))
    cost = draw(st.sampled_from([0.0, 0.5, 1.0]))
    if draw(st.booleans()):
        return llm(params, outcome, cost_cents=cost, finished=draw(st.booleans()))
    return tool(draw(_SKILLS), params, outcome, cost_cents=cost)


@st.composite
def sealed_runs(draw: st.DrawFn) -> SealedRun:
    """Small runs of a few ids and tenants, so that they meet; the same id may stand for different runs."""
    steps = draw(st.lists(_calls(), max_size=4))
    breaches = st.builds(Breach, st.sampled_from(["p", "q"]), st.none() | st.integers(0, 3))
    run = make_run(
        draw(_RUN_IDS),
        tenant_id=draw(_TENANTS),
        agent_id=draw(_AGENTS),
        correlation_id=draw(st.sampled_from(["c1", "c2"])),
        steps=steps,
        metadata=draw(st.dictionaries(_KEYS, _SCALARS | _PLAIN, max_size=3)),
        violations=draw(st.lists(breaches, max_size=2)),
        status=draw(_STATUSES),
        started_us=START_US + draw(_HOURS) * 3_600_000_000,
    )
    return replace(run, local=draw(st.booleans()))


_MOMENTS = st.builds(lambda hours: datetime_of(START_US + hours * 3_600_000_000), _HOURS)
_FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "agent_id": _AGENTS,
    "status": _STATUSES,
    "correlation_id": st.sampled_from(["c1", "c3"]),
    "skill": _SKILLS,
    "since": _MOMENTS,
    "until": _MOMENTS,
    "min_cost_cents": st.sampled_from([0, 0.5, 1.5]),
    "max_cost_cents": st.sampled_from([0, 1.0]),
    "violation": st.sampled_from([True, False, "p", "r"]),
    "metadata": st.dictionaries(st.sampled_from(["k", "l", "m"]), _SCALARS, max_size=2),
}


@st.composite
def run_queries(draw: st.DrawFn) -> RunQuery:
    """Queries with few filters, so that many find something, and small pages."""
    names = draw(st.lists(st.sampled_from(sorted(_FILTERS)), max_size=2, unique=True))
    filters = {name: draw(_FILTERS[name]) for name in names}
    return RunQuery(tenant_id=draw(_TENANTS), limit=draw(st.integers(1, 3)), **filters)


class StoreMachine(RuleBasedStateMachine):
    """See the module. `make_store` is set by `store_machine`."""

    make_store: Callable[[Path], TraceStore]
    open_again: Callable[[TraceStore], TraceStore] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.store = type(self).make_store(Path(self._folder.name))
        self.model = MemoryStore()
        self.runs: list[SealedRun] = []

    def teardown(self) -> None:
        self.store.close()
        self.model.close()
        self._folder.cleanup()

    def both(self, ask: Callable[[TraceStore], Any]) -> Any:
        """Asks both stores; their common answer, or the error they both raised."""
        expected, got = _answer(ask, self.model), _answer(ask, self.store)
        if isinstance(expected, Exception):
            assert type(got) is type(expected), (expected, got)
        else:
            assert got == expected
        return expected

    @rule(run=sealed_runs())
    def put(self, run: SealedRun) -> None:
        if self.both(lambda store: store.put(run)) is True:
            self.runs.append(run)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        assert self.both(lambda store: store.put(run)) is False

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        there = [(event.seq, name) for event in run.ledger.events for name in event.values]
        targets = data.draw(st.lists(st.sampled_from([*there, (0, "nothing")]), min_size=1, max_size=3))
        self.both(lambda store: store.erase(run.run_id, targets, tenant_id=run.tenant_id, reason="test"))

    @rule(run_id=_RUN_IDS | st.just("nowhere"), tenant_id=_TENANTS)
    def read(self, run_id: str, tenant_id: str) -> None:
        self.both(lambda store: store.ledger(run_id, tenant_id=tenant_id))
        self.both(lambda store: store.get(run_id, tenant_id=tenant_id))

    @rule(run_id=_RUN_IDS, tenant_id=_TENANTS, start=st.integers(-1, 5), stop=st.none() | st.integers(0, 5))
    def read_steps(self, run_id: str, tenant_id: str, start: int, stop: int | None) -> None:
        self.both(lambda store: store.steps(run_id, tenant_id=tenant_id, start=start, stop=stop))
        self.both(lambda store: store.path_at(run_id, start, tenant_id=tenant_id))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def read_values(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        names = st.sampled_from(["params", "outcome_data", "metadata", "raw_ids"])
        wanted = data.draw(st.lists(st.tuples(st.integers(0, 12), names), max_size=4))
        self.both(lambda store: store.values(run.run_id, wanted, tenant_id=run.tenant_id))

    @rule(prefix=st.sampled_from(["", "a", "ab", "abc", "b", "é", "x", "@last"]), tenant_id=_TENANTS)
    def resolve(self, prefix: str, tenant_id: str) -> None:
        self.both(lambda store: store.resolve(prefix, tenant_id=tenant_id))

    @rule(query=run_queries())
    def count(self, query: RunQuery) -> None:
        self.both(lambda store: store.count(query))

    @rule(
        queries=st.lists(run_queries(), max_size=2),
        by=st.none() | st.sampled_from(["agent", "correlation", "status", "k", "l", "m", 'odd "key"']),
        tool=st.booleans(),
        newest=st.none() | st.integers(0, 4),
        examples=st.integers(1, 3),
    )
    def behaviours(
        self, queries: list[RunQuery], by: str | None, tool: bool, newest: int | None, examples: int
    ) -> None:
        self.both(
            lambda store: _rounded(
                store.behaviours(queries, by=by, tool=tool, newest=newest, examples=examples)
            )
        )

    @rule(query=run_queries(), late=st.none() | sealed_runs())
    def page_through(self, query: RunQuery, late: SealedRun | None) -> None:
        ours = theirs = query
        while True:
            expected, got = self.model.query(ours), self.store.query(theirs)
            assert list(got.runs) == list(expected.runs)
            assert (got.next is None) == (expected.next is None)
            if expected.next is None:
                return
            if late is not None:
                self.put_late(late)
                late = None
            ours, theirs = replace(query, after=expected.next), replace(query, after=got.next)

    def put_late(self, run: SealedRun) -> None:
        """A run that comes while somebody is paging."""
        if self.both(lambda store: store.put(run)) is True:
            self.runs.append(run)

    @rule()
    def rebuild(self) -> None:
        self.both(lambda store: store.rebuild())

    @precondition(lambda self: type(self).open_again is not None)
    @rule()
    def reopen(self) -> None:
        open_again = type(self).open_again
        assert open_again is not None
        before = self.store
        before.close()
        self.store = open_again(before)


def _rounded(counts: PathCounts) -> PathCounts:
    """Sums are exact to within rounding only."""
    rows = tuple(
        replace(row, cost_cents=float(f"{row.cost_cents:.9g}"), duration_ms=float(f"{row.duration_ms:.9g}"))
        for row in counts.rows
    )
    return replace(counts, rows=rows)


def _answer(ask: Callable[[TraceStore], Any], store: TraceStore) -> Any:
    try:
        return ask(store)
    except (IsotraceError, IndexError) as error:
        return error


def store_machine(
    make_store: Callable[[Path], TraceStore], open_again: Callable[[TraceStore], TraceStore] | None = None
) -> type[StoreMachine]:
    """A machine for one kind of store; its `TestCase` is what pytest collects.

    `make_store` is given an empty folder. `open_again` opens the data of a store that was closed, for
    stores whose runs outlive the object.
    """
    members: dict[str, Any] = {"make_store": staticmethod(make_store)}
    if open_again is not None:
        members["open_again"] = staticmethod(open_again)
    return type("Machine", (StoreMachine,), members)
