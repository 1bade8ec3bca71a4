"""Before and after: two sets of runs, and what has changed in what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from isotrace import population
from isotrace.compare import Level, Rules
from isotrace.contracts import TraceStore
from isotrace.models import TraceRecord
from isotrace.operations.grouping import Collected, Looking, collect, collect_stored, reading
from isotrace.operations.groups import by_group
from isotrace.operations.opening import using
from isotrace.operations.queries import select
from isotrace.operations.runs import Selection
from isotrace.population import Comparison
from isotrace.record.home import default_tenant

Side = str | Iterable[TraceRecord | str]
"""One set of runs: a query such as `model=a since=2d`, or runs."""


def compare_behaviours(
    before: Side,
    after: Side,
    *,
    by: str | None = None,
    kinds: Sequence[str] = (),
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    threshold: float = 1.0,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
    **options: Any,
) -> Comparison:
    """Says which paths appeared, vanished or changed their share between two sets of runs, which step
    moved, and how sure that is.

    A set is the text of a query, which the store answers (`commit=abc`, see `isotrace ls`), or runs as in
    `behaviours`. With `by` runs are only held against runs of the same group, a task for example, so that
    another mixture of tasks is no change. `options` are those of `population.compare_behaviours`: `alpha`,
    `smallest`, `seed`, `permutations`. Raises as `behaviours` does, and `UsageError` for a query that
    means nothing.
    """
    looking = Looking.of(by, kinds, level, rules, threshold)
    sides = [_collected(one, looking, store, tenant_id) for one in (before, after)]
    return _compared(sides, options)


def stored_comparison(
    store: TraceStore,
    before: Selection,
    after: Selection,
    *,
    by: str | None = None,
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """As `compare_behaviours`, of two selections of stored runs."""
    looking = Looking.of(by, (), level, rules, 1.0)
    return _compared([collect_stored(store, one, looking, progress) for one in (before, after)], {})


def _collected(
    side: Side, looking: Looking, store: TraceStore | str | None, tenant_id: str | None
) -> Collected:
    if isinstance(side, str):
        with using(store) as opened:
            selection = select(side, tenant_id=tenant_id or default_tenant())
            return collect_stored(opened, selection, looking)
    with reading(side, store, tenant_id) as (named, read):
        return collect(map(read, named), looking)


def _compared(sides: Sequence[Collected], options: dict[str, Any]) -> Comparison:
    return population.compare_behaviours(*(by_group(one) for one in sides), **options)
