"""What every back-end makes of a `RunQuery` in the same way: which ones it refuses, and its cursors."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from isotrace.canonical import MAX_INT, value_bytes
from isotrace.contracts import PathCount, RunQuery
from isotrace.errors import QueryError
from isotrace.events import microseconds_of

MAX_LIMIT = 10_000

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("agent_id", "status", "correlation_id", "skill", "after")
_DIGESTS = ("signature", "root_hash")
_COSTS = ("min_cost_cents", "max_cost_cents")
_TIMES = ("since", "until")


def check_query(query: RunQuery) -> None:
    """Raises `QueryError` for a query that can't be served as asked; `.where` names its field."""
    if type(query.limit) is not int or not 1 <= query.limit <= MAX_LIMIT:
        raise _wrong("limit", f"1 to {MAX_LIMIT}", query.limit)
    if not is_text(query.tenant_id):
        raise _wrong("tenant_id", "a string", query.tenant_id)
    for name in _TEXTS:
        if getattr(query, name) is not None and not is_text(getattr(query, name)):
            raise _wrong(name, "a string", getattr(query, name))
    for name in _DIGESTS:
        digest = getattr(query, name)
        if digest is not None and (not isinstance(digest, str) or not _DIGEST.fullmatch(digest)):
            raise _wrong(name, "64 lower-case hex digits", digest)
    for name in _COSTS:
        cost = getattr(query, name)
        if cost is not None and not _is_number(cost):
            raise _wrong(name, "a finite number", cost)
    for name in _TIMES:
        if not isinstance(getattr(query, name), datetime | None):
            raise _wrong(name, "a datetime", getattr(query, name))
    if not (isinstance(query.violation, bool | None) or is_text(query.violation)):
        raise _wrong("violation", "True, False or a policy id", query.violation)
    for key, value in query.metadata.items():
        if not is_text(key) or not (isinstance(value, bool | None) or _is_number(value) or is_text(value)):
            raise _wrong("metadata", "a string, number, bool or None under each key", {key: value})


FIELDS = {"agent": "agent_id", "correlation": "correlation_id", "status": "status"}
"""What runs are grouped by beside their metadata, and the field of a summary that it is."""


def check_grouping(
    queries: Sequence[RunQuery], by: str | None, newest: int | None, threshold: float, examples: int
) -> None:
    """Raises `QueryError` for what `TraceStore.behaviours` can't serve."""
    for query in queries:
        check_query(query)
        if query.tenant_id != queries[0].tenant_id:
            raise _wrong("tenant_id", f"one tenant, {queries[0].tenant_id}", query.tenant_id)
    if by is not None and not is_text(by):
        raise _wrong("by", "a field or a metadata key", by)
    if newest is not None and (type(newest) is not int or newest < 1):
        raise _wrong("newest", "at least 1", newest)
    if type(examples) is not int or examples < 1:
        raise _wrong("examples", "at least 1", examples)
    if not _is_number(threshold):
        raise _wrong("threshold", "a finite number", threshold)


def key_text(value: Any) -> str | None:
    """The key of a run's group, from the value it is grouped by; None where it has none."""
    return None if value is None or isinstance(value, dict | list) else str(value)


def in_order(rows: Iterable[PathCount]) -> tuple[PathCount, ...]:
    """Rows as `TraceStore.behaviours` gives them: by key, the most runs first."""
    return tuple(sorted(rows, key=lambda row: (row.key or "", -row.runs, row.signature)))


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INT


def is_text(value: Any) -> bool:
    """Whether it is a string that a store can hold: one without lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(name: str, expected: str, got: Any) -> QueryError:
    return QueryError("the query has a field that can't be served", where=name, expected=expected, got=got)


class Cursors:
    """Makes and reads the cursors of one store.

    A cursor is a position in the order of recording, with a check that ties it to the store and
    to the query it came from: a page of another query would skip runs without a word.
    """

    _POSITION = 8
    _CHECK = 12

    def __init__(self, store_id: bytes) -> None:
        self._store_id = store_id

    def make(self, query: RunQuery, position: int) -> str:
        """The cursor of the page that begins below this position."""
        data = position.to_bytes(self._POSITION, "big")
        return base64.urlsafe_b64encode(data + self._check(query, data)).decode()

    def read(self, query: RunQuery) -> int | None:
        """The position that `query.after` stands for, None for the first page.

        Raises `QueryError` for a cursor of another store or query, or none at all.
        """
        if query.after is None:
            return None
        try:
            raw = base64.b64decode(query.after, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        data, check = raw[: self._POSITION], raw[self._POSITION :]
        if len(data) < self._POSITION or check != self._check(query, data):
            raise QueryError(
                "the cursor is not from a page of this query in this store",
                where="after",
                got=query.after,
                hint="begin again without a cursor",
            )
        return int.from_bytes(data, "big")

    def _check(self, query: RunQuery, data: bytes) -> bytes:
        asked = [_plain(getattr(query, one.name)) for one in fields(query) if one.name not in _NOT_ASKED]
        return hashlib.sha256(self._store_id + data + value_bytes(asked)).digest()[: self._CHECK]


_NOT_ASKED = ("limit", "after")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return microseconds_of(value)
    if isinstance(value, str | bool | int | float | None):
        return value
    return sorted(value.items())
