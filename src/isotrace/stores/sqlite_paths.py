"""Many runs by group and path, counted by the database."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from isotrace.contracts import PathCount, PathCounts
from isotrace.hashing import path_start
from isotrace.stores.queries import FIELDS, in_order, key_text
from isotrace.stores.sqlite_pool import rows
from isotrace.stores.sqlite_query import Chosen

# What a JSON path of SQLite can name in quotes: it knows no escapes.
_NAMEABLE = re.compile(r'[^"\\\x00-\x1f]*')
_METADATA = "CAST(r.metadata AS TEXT)"
_REWARD = f"json_extract({_METADATA}, '$.reward')"
_IDS_AT_ONCE = 500
_EMPTY = path_start()


def count_paths(
    con: apsw.Connection, chosen: Chosen, by: str | None, tool: bool, threshold: float, examples: int
) -> PathCounts:
    """What `TraceStore.behaviours` returns, of chosen runs, in the caller's transaction."""
    key, key_values = _key_column(by)
    # The keys of all runs of a group are put into one text, from which the newest are taken here: a window
    # function would sort all runs once more. Conditions come last, so that bound values keep their order.
    statement = f"""
SELECT key, path, count(*), sum(status = 'completed'), sum(status = 'failed'),
  sum(typeof(reward) IN ('integer', 'real')), sum(typeof(reward) IN ('integer', 'real') AND reward >= ?),
  sum(cost), sum(duration), group_concat(pk)
FROM (
  SELECT {key} AS key, r.{"tool_signature" if tool else "signature"} AS path, r.pk AS pk, r.status AS status,
    {_REWARD} AS reward, r.total_cost_cents AS cost, r.total_duration_ms AS duration
  FROM {chosen.source} WHERE {chosen.condition})
GROUP BY key, path"""  # noqa: S608  # all parts are constants of the rooms' modules
    groups: dict[tuple[str | None, bytes], _Sums] = {}
    left_out = {"without_key": 0, "empty": 0, "erased": 0}
    for found, path, runs, *sums, keys in con.execute(statement, (threshold, *key_values, *chosen.values)):
        text = None if found is None else _text_of(found, by)
        if by is not None and text is None:
            left_out["without_key"] += runs
        else:
            if path is None or path == _EMPTY:
                left_out["erased" if path is None else "empty"] += runs
                path = b""  # noqa: PLW2901  # one row for both
            # Values of several types may be one key: 13 and "13".
            one = groups.setdefault((text, path), _Sums())
            one.add((runs, *sums), sorted(map(int, keys.split(",")), reverse=True)[:examples], examples)
    names = _run_ids(con, [pk for one in groups.values() for pk in one.newest])
    counted = (
        PathCount(
            key,
            path.hex(),
            *one.counts,
            math.fsum(one.costs),
            math.fsum(one.durations),
            tuple(names[pk] for pk in one.newest),
        )
        for (key, path), one in groups.items()
    )
    ordered = in_order(counted)
    paths, pathless = (tuple(one for one in ordered if bool(one.signature) is has) for has in (True, False))
    return PathCounts(paths, pathless, **left_out)


@dataclass(slots=True)
class _Sums:
    """Sums over runs, and the keys of the newest."""

    counts: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    costs: tuple[float, ...] = ()
    durations: tuple[float, ...] = ()
    newest: tuple[int, ...] = ()

    def add(self, sums: tuple[Any, ...], newest: list[int], examples: int) -> None:
        *counts, cost, duration = sums
        runs, completed, failed, judged, passed = (a + b for a, b in zip(self.counts, counts, strict=True))
        self.counts = (runs, completed, failed, judged, passed)
        self.costs += (cost,)
        self.durations += (duration,)
        self.newest = tuple(sorted((*self.newest, *newest), reverse=True)[:examples])


def _key_column(by: str | None) -> tuple[str, list[Any]]:
    """The expression of the grouping key, and what is bound to it. A metadata value is given as JSON text:
    its type says how it reads."""
    if by is None:
        return "NULL", []
    if by in FIELDS:
        return f"r.{FIELDS[by]}", []
    if _NAMEABLE.fullmatch(by):
        return f"{_METADATA} -> ?", [f'$."{by}"']
    one = f"SELECT json_quote(value) FROM json_each({_METADATA}) AS one WHERE one.key = ?"  # noqa: S608  # constants
    return f"({one} AND one.type NOT IN ('array', 'object'))", [by]


def _text_of(found: str, by: str | None) -> str | None:
    return found if by in FIELDS else key_text(json.loads(found))


def _run_ids(con: apsw.Connection, keys: list[int]) -> dict[int, str]:
    return dict(pair for part in _parts(keys) for pair in rows(con, *part))


def _parts(keys: list[int]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(keys), _IDS_AT_ONCE):
        part = keys[start : start + _IDS_AT_ONCE]
        yield f"SELECT pk, run_id FROM runs WHERE pk IN ({', '.join('?' * len(part))})", *part  # noqa: S608  # marks
