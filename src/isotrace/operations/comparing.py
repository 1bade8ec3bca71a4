"""Comparing two runs, by name or as records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from isotrace.compare import Level, Rules, TraceDiff, diff_traces, first_path_difference
from isotrace.contracts import TraceStore
from isotrace.errors import StoreCorruptError
from isotrace.events import datetime_of
from isotrace.ledger import StepRow
from isotrace.models import ParityResult, StepContext, TraceRecord, TraceStatus, TraceStep
from isotrace.models.parity import GAP_REASON, end_reason, step_reason
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


def compare_stored(store: TraceStore, original: str, replay: str, *, tenant_id: str) -> ParityResult:
    """Whether two stored runs, by id, took the same path: `compare_traces` without reading them.

    Verdict, signatures and step are those of `compare_traces`, found by bisecting the stored paths,
    so the length of the runs hardly matters. The reason is what is to be seen at that one step;
    that a step was added, left out or moved shows only in what follows: `diff` says so.

    Raises `RunNotFoundError`, and `StoreCorruptError` where hashes differ that should not.
    """
    runs = [store.get(run_id, tenant_id=tenant_id) for run_id in (original, replay)]
    signatures = (runs[0].signature or "", runs[1].signature or "")
    lengths = (runs[0].summary.total_steps, runs[1].summary.total_steps)

    if signatures[0] == signatures[1] != "" and lengths[0] == lengths[1]:
        return ParityResult(True, *signatures)
    step = _first_difference(store, (original, replay), lengths, tenant_id)
    if step is None:
        return ParityResult(True, *signatures)
    reason = end_reason(*lengths, step) or _reason_at(store, (original, replay), step, tenant_id)
    return ParityResult(False, *signatures, step, reason)


def _first_difference(
    store: TraceStore, run_ids: tuple[str, str], lengths: tuple[int, int], tenant_id: str
) -> int | None:
    # No part of the protocol: a store may know how to bisect its paths without being asked for each one.
    common_steps: Callable[..., int] | None = getattr(store, "common_steps", None)
    if common_steps is not None:
        same = common_steps(*run_ids, min(lengths), tenant_id=tenant_id)
        return None if same == lengths[0] == lengths[1] else same
    original, replay = run_ids
    return first_path_difference(
        *lengths,
        lambda k: store.path_at(original, k, tenant_id=tenant_id),
        lambda k: store.path_at(replay, k, tenant_id=tenant_id),
    )


def _reason_at(store: TraceStore, run_ids: tuple[str, str], step: int, tenant_id: str) -> str:
    rows = [store.steps(run_id, tenant_id=tenant_id, start=step, stop=step + 1)[0] for run_id in run_ids]
    if any(row.determinism_hash is None for row in rows):
        return GAP_REASON
    before, after = map(_step_of, rows)
    if rows[0].kind == rows[1].kind and before.skill_name == after.skill_name:
        before.params, after.params = (
            _params(store, run_id, row, tenant_id) for run_id, row in zip(run_ids, rows, strict=True)
        )
    reason = step_reason(before, after)
    if reason is None:
        # What is left (category, code, retries) stands in the ledgers alone.
        before, after = (store.ledger(run_id, tenant_id=tenant_id).record().steps[step] for run_id in run_ids)
        reason = step_reason(before, after)
    if reason is None:
        raise StoreCorruptError(
            "two steps have different hashes in the store, but not in their ledgers",
            run_id=run_ids[1],
            step=step,
            hint="`isotrace rebuild` recomputes the hashes from the ledgers",
        )
    return reason


def _params(store: TraceStore, run_id: str, row: StepRow, tenant_id: str) -> dict[str, Any]:
    key = (row.start_seq, "params")
    found: dict[str, Any] = orjson.loads(store.values(run_id, [key], tenant_id=tenant_id).get(key, b"{}"))
    return found


_ANY_TIME = datetime_of(0)


def _step_of(row: StepRow) -> TraceStep:
    """As much of a step as its row tells."""
    return TraceStep(
        step_index=row.step_index,
        skill_name=row.skill_name,
        params={},
        status=TraceStatus(row.status),
        outcome_category="",
        outcome_code=None,
        outcome_data=None,
        cost_cents=row.cost_cents,
        duration_ms=row.duration_ms,
        retry_count=0,
        timestamp=_ANY_TIME,
        context=StepContext(kind=row.kind),
    )
