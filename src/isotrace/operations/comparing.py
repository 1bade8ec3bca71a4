"""Comparing two runs, by name or as records."""

from __future__ import annotations

from collections.abc import Iterable

from isotrace.compare import Level, Rules, TraceDiff, diff_traces
from isotrace.contracts import TraceStore
from isotrace.models import TraceRecord
from isotrace.operations.opening import using
from isotrace.operations.runs import show
from isotrace.record.home import default_tenant


def diff(
    original: str | TraceRecord,
    replay: str | TraceRecord,
    *,
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    kinds: Iterable[str] | None = None,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
) -> TraceDiff:
    """Two runs, aligned and compared: `diff_traces` for runs that a store keeps.

    A run is an id, a unique prefix, `@last`, `@last~N`, or a record. Raises `RunNotFoundError`,
    `AmbiguousRunError`, and `UsageError` for an unknown level.
    """
    tenant = tenant_id or default_tenant()
    with using(store) as opened:
        first, second = (
            run if isinstance(run, TraceRecord) else show(opened, run, tenant_id=tenant)
            for run in (original, replay)
        )
    return diff_traces(first, second, level=level, rules=rules, kinds=kinds)
