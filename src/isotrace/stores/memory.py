"""The store that others are held against: as plain as the words of `TraceStore`, gone with the process."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isotrace import ledger as ledgers
from isotrace.clock import SYSTEM, Clock
from isotrace.contracts import Page, PathCount, PathCounts, RunItem, RunQuery, Scalar, Tombstone
from isotrace.errors import AmbiguousRunError, ConflictError, RunNotFoundError, StoreError
from isotrace.events import datetime_of, microseconds_of
from isotrace.hashing import path_start
from isotrace.ledger import Ledger, Projection, SealedRun, StepRow
from isotrace.models import META_REWARD
from isotrace.stores.queries import FIELDS, Cursors, check_grouping, check_query, in_order, key_text

ValueKey = tuple[int, str]


@dataclass(slots=True)
class Kept:
    """A run, its place in the order of recording, and what was erased from it."""

    position: int
    run: SealedRun
    tombstones: list[Tombstone] = field(default_factory=list)


class MemoryStore:
    """A `TraceStore` in this process's memory. What goes in and comes out is copied, never shared."""

    url = "memory:"

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._kept: dict[tuple[str, str], Kept] = {}
        self._cursors = Cursors(clock.random_bytes(16))
        self._closed = False

    # --- writing --------------------------------------------------------------------

    def put(self, run: SealedRun) -> bool:
        with self._lock:
            self._check_open()
            key = (run.tenant_id, run.run_id)
            kept = self._kept.get(key)
            if kept is None:
                self._kept[key] = Kept(len(self._kept) + 1, _copy(run))
                return True
            if kept.run.ledger.root_hash != run.ledger.root_hash:
                raise ConflictError(
                    "another run stands under this id; it stays as it is",
                    run_id=run.run_id,
                    expected=f"root {kept.run.ledger.root_hash}",
                    got=f"root {run.ledger.root_hash}",
                )
            return False

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        wanted = set(targets)
        with self._lock:
            kept = self._find(run_id, tenant_id)
            if not wanted:
                return
            ledger = ledgers.erase(kept.run.ledger, wanted)
            kept.run = replace(kept.run, ledger=ledger, projection=ledgers.project(ledger))
            erased_at = datetime_of(self._clock.now_us())
            kept.tombstones.append(Tombstone(tuple(sorted(wanted)), erased_at, reason))

    def tombstones(self, run_id: str, *, tenant_id: str) -> list[Tombstone]:
        with self._lock:
            return list(self._find(run_id, tenant_id).tombstones)

    def rebuild(self) -> int:
        with self._lock:
            self._check_open()
            for kept in self._kept.values():
                kept.run = replace(kept.run, projection=ledgers.project(kept.run.ledger))
            return len(self._kept)

    # --- one run --------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", where=self.url)

    def _find(self, run_id: str, tenant_id: str) -> Kept:
        self._check_open()
        kept = self._kept.get((tenant_id, run_id))
        if kept is None:
            raise RunNotFoundError("there is no such run", run_id=run_id, where=f"tenant {tenant_id}")
        return kept

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        with self._lock:
            return _copy_ledger(self._find(run_id, tenant_id).run.ledger)

    def get(self, run_id: str, *, tenant_id: str) -> RunItem:
        with self._lock:
            return _item(self._find(run_id, tenant_id).run)

    def steps(self, run_id: str, *, tenant_id: str, start: int = 0, stop: int | None = None) -> list[StepRow]:
        with self._lock:
            rows = self._find(run_id, tenant_id).run.projection.steps
            return [
                copy.copy(row)
                for row in rows
                if start <= row.step_index and (stop is None or row.step_index < stop)
            ]

    def path_at(self, run_id: str, k: int, *, tenant_id: str) -> bytes | None:
        with self._lock:
            rows = self._find(run_id, tenant_id).run.projection.steps
            if not 0 <= k <= len(rows):
                raise IndexError(f"the run has {len(rows)} steps, so there is no path of {k}")
            return rows[k - 1].path if k else path_start()

    def values(self, run_id: str, wanted: Sequence[ValueKey], *, tenant_id: str) -> dict[ValueKey, bytes]:
        with self._lock:
            events = self._find(run_id, tenant_id).run.ledger.events
            found: dict[ValueKey, bytes] = {}
            for seq, name in wanted:
                value = events[seq].values.get(name) if 0 <= seq < len(events) else None
                if isinstance(value, bytes):
                    found[seq, name] = value
            return found

    # --- many runs ------------------------------------------------------------------

    def query(self, query: RunQuery) -> Page:
        check_query(query)
        below = self._cursors.read(query)
        with self._lock:
            matching = [kept for kept in self._matching(query) if below is None or kept.position < below]
            shown = matching[: query.limit]
            more = len(matching) > len(shown)
            return Page(
                [_item(kept.run) for kept in shown],
                self._cursors.make(query, shown[-1].position) if more else None,
            )

    def count(self, query: RunQuery) -> int:
        check_query(query)
        with self._lock:
            return len(self._matching(query))

    def behaviours(
        self,
        queries: Sequence[RunQuery],
        *,
        by: str | None = None,
        tool: bool = False,
        newest: int | None = None,
        threshold: float = 1.0,
        examples: int = 100,
    ) -> PathCounts:
        check_grouping(queries, by, newest, threshold, examples)
        with self._lock:
            self._check_open()
            matching = {kept.position: kept for query in queries for kept in self._matching(query)}
            chosen = [matching[position] for position in sorted(matching, reverse=True)][:newest]
            paths: dict[tuple[str | None, str], list[SealedRun]] = {}
            pathless: dict[tuple[str | None, str], list[SealedRun]] = {}
            left_out: Counter[str] = Counter()
            for run in (kept.run for kept in chosen):
                key = None if by is None else _group_key(run.projection, by)
                path = run.projection.tool_signature if tool else run.projection.signature
                if by is not None and key is None:
                    left_out["without_key"] += 1
                elif path is None or path == path_start().hex():
                    left_out["erased" if path is None else "empty"] += 1
                    pathless.setdefault((key, ""), []).append(run)
                else:
                    paths.setdefault((key, path), []).append(run)
            rows, rest = (
                in_order(_counted(*path, runs, threshold, examples) for path, runs in one.items())
                for one in (paths, pathless)
            )
            return PathCounts(rows, rest, **left_out)

    def _matching(self, query: RunQuery) -> list[Kept]:
        self._check_open()
        found = [kept for kept in self._kept.values() if matches(kept.run, query)]
        return sorted(found, key=lambda kept: kept.position, reverse=True)

    def resolve(self, prefix: str, *, tenant_id: str) -> str:
        with self._lock:
            self._check_open()
            newest_first = sorted(self._kept.values(), key=lambda kept: kept.position, reverse=True)
            ids = [kept.run.run_id for kept in newest_first if kept.run.tenant_id == tenant_id]
        if prefix in ids:
            return prefix
        if prefix == "@last":
            if not ids:
                raise RunNotFoundError("the store holds no run yet", where=f"tenant {tenant_id}")
            return ids[0]
        found = sorted(run_id for run_id in ids if prefix and run_id.startswith(prefix))
        if not found:
            raise RunNotFoundError("there is no such run", run_id=prefix, where=f"tenant {tenant_id}")
        if len(found) > 1:
            raise AmbiguousRunError(
                f"several runs begin with {prefix!r}",
                nearest=", ".join(found[:5]) + (" and more" if len(found) > 5 else ""),
                hint="give more of the id",
            )
        return found[0]

    def close(self) -> None:
        """Drops everything."""
        with self._lock:
            self._closed = True
            self._kept.clear()


def _group_key(projection: Projection, by: str) -> str | None:
    if by in FIELDS:
        return key_text(getattr(projection.summary, FIELDS[by]))
    return key_text(projection.metadata.get(by))


def _counted(
    key: str | None, signature: str, runs: Sequence[SealedRun], threshold: float, examples: int
) -> PathCount:
    """Sums over runs, given newest first."""
    summaries = [run.projection.summary for run in runs]
    rewards = [run.projection.metadata.get(META_REWARD) for run in runs]
    judged = [reward for reward in rewards if isinstance(reward, int | float)]
    return PathCount(
        key,
        signature,
        len(runs),
        sum(summary.status == "completed" for summary in summaries),
        sum(summary.status == "failed" for summary in summaries),
        len(judged),
        sum(reward >= threshold for reward in judged),
        math.fsum(summary.total_cost_cents for summary in summaries),
        math.fsum(summary.total_duration_ms for summary in summaries),
        tuple(run.run_id for run in runs[:examples]),
    )


def matches(run: SealedRun, query: RunQuery) -> bool:
    """Whether a run fits every filter of a query: the words of `RunQuery`, one line each."""
    summary, projection = run.projection.summary, run.projection
    started = microseconds_of(summary.started_at)
    policies = [event.facts["policy_id"] for event in run.ledger.events if event.type == "violation"]
    asked = query.violation
    return (
        summary.tenant_id == query.tenant_id
        and query.agent_id in (None, summary.agent_id)
        and query.status in (None, summary.status)
        and query.correlation_id in (None, summary.correlation_id)
        and (query.skill is None or any(row.skill_name == query.skill for row in projection.steps))
        and query.signature in (None, projection.signature)
        and query.root_hash in (None, run.ledger.root_hash)
        and (query.since is None or started >= microseconds_of(query.since))
        and (query.until is None or started < microseconds_of(query.until))
        and (query.min_cost_cents is None or summary.total_cost_cents >= query.min_cost_cents)
        and (query.max_cost_cents is None or summary.total_cost_cents <= query.max_cost_cents)
        and (asked is None or (bool(policies) is asked if isinstance(asked, bool) else asked in policies))
        and all(
            key in projection.metadata and read_alike(projection.metadata[key], value)
            for key, value in query.metadata.items()
        )
    )


def read_alike(held: Any, asked: Scalar) -> bool:
    """Whether a metadata value is what was asked for: equal, or one a string that reads like the other."""
    if isinstance(held, str) and not isinstance(asked, str):
        return read_alike(asked, held)
    if isinstance(asked, str) and not isinstance(held, str):
        try:
            asked = json.loads(asked, parse_constant=str) if asked == asked.strip() else asked
        except (ValueError, RecursionError):
            return False
        if isinstance(asked, str):
            return False
    if isinstance(held, bool | None) or isinstance(asked, bool | None):
        return held is asked
    return type(held) in (str, int, float) and held == asked


# --- copies -------------------------------------------------------------------------


def _copy_ledger(ledger: Ledger) -> Ledger:
    events = [
        replace(event, facts=copy.deepcopy(event.facts), values=dict(event.values)) for event in ledger.events
    ]
    # As in a file: while the seed is there, it alone gives the salts.
    return replace(ledger, events=events, salts={} if ledger.seed is not None else dict(ledger.salts))


def _copy_projection(projection: Projection) -> Projection:
    return replace(
        projection,
        summary=copy.copy(projection.summary),
        metadata=copy.deepcopy(projection.metadata),
        steps=[copy.copy(row) for row in projection.steps],
    )


def _copy(run: SealedRun) -> SealedRun:
    ledger = _copy_ledger(run.ledger).owned_by(run.tenant_id)
    return SealedRun(ledger, _copy_projection(run.projection), run.local)


def _item(run: SealedRun) -> RunItem:
    projection = _copy_projection(run.projection)
    return RunItem(
        projection.summary,
        projection.signature,
        projection.tool_signature,
        run.ledger.root_hash,
        projection.metadata,
        run.local,
    )
