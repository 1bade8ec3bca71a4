"""A gate over runs that a store keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from isotrace.compare import Level, Rules
from isotrace.contracts import TraceStore
from isotrace.errors import UsageError
from isotrace.models import TraceRecord
from isotrace.operations.opening import using
from isotrace.operations.runs import show
from isotrace.population import gate
from isotrace.population.gate import MOST_RUNS, GateResult
from isotrace.record import Run, flush
from isotrace.record.home import default_tenant

AnyRun = TraceRecord | Run | str
"""A run: its record, or an id, prefix, `@last` or run that a store knows."""


def assert_parity(
    runs: Iterable[AnyRun] | Callable[[], AnyRun],
    *,
    at_least: float = 0.95,
    level: Level | str = Level.DECISIONS,
    expected: AnyRun | None = None,
    kinds: Iterable[str] = (),
    rules: Rules | None = None,
    unacceptable: float | None = None,
    alpha: float = 0.05,
    beta: float = 0.05,
    most: int = MOST_RUNS,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
) -> GateResult:
    """Passes if at least this share of runs is like the expected one, as far as they tell.

    A run is a record, the `Run` of a `with` block that has ended, or an id, a unique prefix, `@last` or
    `@last~N` that the store knows. They are held against `expected`, one after the other, at this level
    and under these rules, until Wald's sequential test has decided; no further run is asked for. Without
    `expected` the first run is that, and isn't counted. A callable makes one run each time. At
    most `most` runs are looked at. A run that can't be compared counts as another one.

    An agent with `at_least` equal runs fails with probability `alpha`; one with only `unacceptable`
    passes with probability `beta`. By default that allows three times as many others: 0.85 for 0.95,
    and 0.95 for 1, where the first other run decides.

    Raises `ParityNotReached` and `ParityUndecided`, both `AssertionError`s with the `GateResult` as
    `.result` and the flaky steps in their sentences; `UsageError` for shares, rates or a level that can't be;
    `RunNotFoundError` and `AmbiguousRunError`.
    """
    if isinstance(runs, str | TraceRecord | Run):
        raise UsageError("one run is no sample", got=type(runs).__name__, expected="runs, or a callable")
    with ExitStack() as stack:
        read = _Reading(stack, store, tenant_id or default_tenant())
        return gate.assert_parity(
            map(read.record, gate.each_of(runs)),
            at_least=at_least,
            level=level,
            expected=None if expected is None else read.record(expected),
            kinds=kinds,
            rules=rules,
            unacceptable=unacceptable,
            alpha=alpha,
            beta=beta,
            most=most,
        )


class _Reading:
    """Records of runs; the store is opened for the first that is named."""

    def __init__(self, stack: ExitStack, store: TraceStore | str | None, tenant_id: str) -> None:
        self._stack = stack
        self._store = store
        self._tenant_id = tenant_id
        self._opened: TraceStore | None = None

    def record(self, run: object) -> TraceRecord:
        """The run's record. Raises as `show` does, and `UsageError` for what is no run."""
        if isinstance(run, TraceRecord):
            return run
        if not isinstance(run, str | Run):
            what = "an awaitable: wrap it in asyncio.run" if inspect.isawaitable(run) else type(run).__name__
            raise UsageError("this is no run", got=what, expected="a record, a Run or a name")
        if self._opened is None:
            self._opened = self._stack.enter_context(using(self._store))
        # It may have ended in this process since the store was opened.
        flush()
        name = run.run_id if isinstance(run, Run) else run
        return show(self._opened, name, tenant_id=self._tenant_id)
