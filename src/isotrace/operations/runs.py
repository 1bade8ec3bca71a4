"""Finding runs: one by name, many by a query, and those that are still running."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from isotrace.contracts import RunItem, RunQuery, Scalar, TraceStore
from isotrace.errors import QueryError, RunNotFoundError, UsageError
from isotrace.models import TraceRecord
from isotrace.operations.live import live_records, live_runs

PAGE = 1000
"""How many runs one page of a longer listing holds."""

_QUERIES = 1000
_LAST = re.compile(r"@last(?:~([0-9]{1,9}))?")
_AGO = re.compile(r"(\d+)(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs a command is about. Like `RunQuery`, but a metadata key or a field may have several
    values, any of which fits, and `limit` may be any positive number or None for all.

    `fields` holds such values by the name of the query's field; what `base` says of it is not asked then.
    """

    base: RunQuery = field(default_factory=RunQuery)
    metadata: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    limit: int | None = 100
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def queries(self) -> list[RunQuery]:
        """The store queries whose answers together are the selection. A run may be in two of them: it may
        have steps of two skills, or a metadata value that reads like two texts.

        Raises `UsageError` where there would be more than 1,000.
        """
        keys = [*self.fields, *self.metadata]
        choices = [list(dict.fromkeys(values)) for values in (*self.fields.values(), *self.metadata.values())]
        if math.prod(map(len, choices)) > _QUERIES:
            raise UsageError("the query has too many combinations of values", expected=f"at most {_QUERIES}")
        split = len(self.fields)
        return [
            replace(
                self.base,
                **dict(zip(keys[:split], chosen[:split], strict=True)),
                metadata={**self.base.metadata, **dict(zip(keys[split:], chosen[split:], strict=True))},
            )
            for chosen in product(*choices)
        ]


def find_run(store: TraceStore, name: str, *, tenant_id: str) -> str:
    """The id of the run that `name` means: an id, a unique prefix, `@last`, or `@last~N`.

    The last two are keywords: a run that was recorded under such an id is not meant by them.
    Raises `RunNotFoundError` and `AmbiguousRunError`.
    """
    match = _LAST.fullmatch(name)
    if match is None:
        return store.resolve(name, tenant_id=tenant_id)
    back = int(match[1] or 0)
    for position, item in enumerate(_pages(store, RunQuery(tenant_id=tenant_id), back + 1)):
        if position == back:
            return item.summary.run_id
    few = "fewer runs than that" if back else "no run yet"
    raise RunNotFoundError(
        f"there is no {name}: the store holds {few}",
        got=name,
        where=f"tenant {tenant_id}",
        hint="`isotrace ls` lists the runs",
    )


def list_runs(store: TraceStore, selection: Selection) -> list[RunItem]:
    """The selected runs that have ended, newest first by recording time. Raises `QueryError`."""
    if selection.limit is not None and selection.limit < 1:
        raise QueryError("a limit must be at least 1", got=selection.limit)
    queries = selection.queries()
    if len(queries) == 1:
        return list(_pages(store, queries[0], selection.limit))
    # Pages of several queries can't be merged by recording time, which a listing does not carry;
    # the start comes nearest to it.
    runs = _once(item for query in queries for item in _pages(store, query, selection.limit))
    runs.sort(key=lambda item: item.summary.started_at, reverse=True)
    return runs[: selection.limit]


def iter_runs(store: TraceStore, selection: Selection) -> Iterator[RunItem]:
    """The selected runs that have ended, each once, a page at a time; of each query newest first."""
    left, queries = selection.limit, selection.queries()
    seen: set[str] = set()
    for query in queries:
        for item in _pages(store, query):
            if left is not None and left <= 0:
                return
            if len(queries) > 1:
                if item.summary.run_id in seen:
                    continue
                seen.add(item.summary.run_id)
            left = None if left is None else left - 1
            yield item


def list_all(store: TraceStore, selection: Selection) -> list[RunItem]:
    """As `list_runs`, runs that are still going on first."""
    live = _once(item for query in selection.queries() for item in live_runs(store, query))[: selection.limit]
    left = None if selection.limit is None else selection.limit - len(live)
    return live if left == 0 else live + list_runs(store, replace(selection, limit=left))


def _once(items: Iterable[RunItem]) -> list[RunItem]:
    """Each run once, where several queries found it."""
    return list({item.summary.run_id: item for item in items}.values())


def _pages(store: TraceStore, query: RunQuery, limit: int | None = None) -> Iterator[RunItem]:
    left = limit
    after = query.after
    while left is None or left > 0:
        page = store.query(replace(query, limit=PAGE if left is None else min(left, PAGE), after=after))
        yield from page.runs
        if page.next is None:
            return
        after = page.next
        if left is not None:
            left -= len(page.runs)


def show(store: TraceStore, name: str, *, tenant_id: str) -> TraceRecord:
    """The run's record, of a live run as far as it has come. Raises as `find_run` does."""
    try:
        return store.ledger(find_run(store, name, tenant_id=tenant_id), tenant_id=tenant_id).record()
    except RunNotFoundError:
        if _LAST.fullmatch(name):
            raise
        live = [one for one in live_records(store, tenant_id=tenant_id) if one.run_id.startswith(name)]
        if len(live) == 1:
            return live[0]
        raise


def moment(text: str, now: datetime) -> datetime:
    """The time that a person means: ISO 8601 (no zone = UTC), a day, or an age such as `2h`, `7d`.

    Raises `UsageError`.
    """
    try:
        if match := _AGO.fullmatch(text.strip()):
            return now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
        parsed = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is not a time",
            expected="ISO 8601 such as 2026-11-22 or 2026-11-22T13:00Z, or an age such as 30m, 2h, 7d",
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def key_values(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`["task=13", "model=a", "model=b"]` as `{"task": ["13"], "model": ["a", "b"]}`.

    Raises `UsageError` for a text without `=`.
    """
    found: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{pair!r} is not KEY=VALUE", expected="for example task=13")
        found.setdefault(key, []).append(value)
    return found
