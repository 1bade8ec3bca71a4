"""Comparing two runs, by name or as records."""

from __future__ import annotations

from collections.abc import Iterable

from isotrace.compare import Level, Rules, TraceDiff, diff_traces
from isotrace.contracts import TraceStore
from isotrace.models import TraceRecord
from isotrace.operations.opening import open_store
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
    opened = store if store is not None and not isinstance(store, str) else open_store(store)
    tenant = tenant_id or default_tenant()
    try:
        pair = [
            run if isinstance(run, TraceRecord) else show(opened, run, tenant_id=tenant)
            for run in (original, replay)
        ]
    finally:
        if opened is not store:
            opened.close()
    return diff_traces(pair[0], pair[1], level=level, rules=rules, kinds=kinds)
