"""Comparing many runs: all runs of a group by their paths."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from isotrace.contracts import RunItem, TraceStore
from isotrace.ledger import StepRow
from isotrace.operations.runs import Selection, list_runs


@dataclass(frozen=True, slots=True)
class Group:
    """All runs with one value of the grouping key.

    `paths` counts distinct paths among them. `first_divergence` is the smallest index, among
    the compared steps, at which not all runs agree; None where all are equal.
    """

    key: str
    run_ids: tuple[str, ...]
    paths: int
    first_divergence: int | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON: key, runs, paths, first_divergence, run_ids."""
        return {
            "key": self.key,
            "runs": len(self.run_ids),
            "paths": self.paths,
            "first_divergence": self.first_divergence,
            "run_ids": list(self.run_ids),
        }


@dataclass(frozen=True, slots=True)
class Behaviours:
    """Groups of runs by path. `left_out` counts runs that the grouping could not use, by reason."""

    by: str
    kinds: tuple[str, ...]
    groups: tuple[Group, ...]
    left_out: dict[str, int]

    @property
    def identical(self) -> int:
        """How many groups took one path in all their runs."""
        return sum(group.paths == 1 for group in self.groups)

    @property
    def median_divergence(self) -> float | None:
        """The median of the groups' first divergences, None where no group diverges."""
        found = [group.first_divergence for group in self.groups if group.first_divergence is not None]
        return statistics.median(found) if found else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the groups, `identical` over them, and how paths and first divergences spread."""
        return {
            "by": self.by,
            "kinds": list(self.kinds),
            "groups": [group.to_dict() for group in self.groups],
            "identical": self.identical,
            "paths": _spread(group.paths for group in self.groups),
            "first_divergence": _spread(group.first_divergence for group in self.groups),
            "median_first_divergence": self.median_divergence,
            "left_out": self.left_out,
        }


def _spread(numbers: Iterable[int | None]) -> dict[str, int]:
    counted = Counter(number for number in numbers if number is not None)
    return {str(number): counted[number] for number in sorted(counted)}


def behaviours(
    store: TraceStore,
    selection: Selection,
    *,
    by: str,
    kinds: Sequence[str] = (),
    runs_per_group: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Behaviours:
    """Groups the selected runs by a metadata key (or `agent`, `correlation`, `status`) and compares
    the paths in each group: by step hashes, of steps of these kinds only where `kinds` is given.

    Runs without compared steps, runs without the key, groups of one run and, with
    `runs_per_group`, groups of another size are left out and counted. `progress` is told
    (done, total) as runs are read.
    """
    by_key: dict[str, list[tuple[str, tuple[bytes | None, ...]]]] = {}
    left_out: Counter[str] = Counter()
    items = list_runs(store, selection)
    for number, item in enumerate(items):
        if progress is not None:
            progress(number, len(items))
        key = _key_of(item, by)
        path = _path_of(store, item, kinds)
        if key is None:
            left_out[f"runs without {by}"] += 1
        elif not path:
            left_out["runs without a compared step"] += 1
        elif None in path:
            left_out["runs with erased steps"] += 1
        else:
            by_key.setdefault(key, []).append((item.summary.run_id, path))
    groups = []
    for key in sorted(by_key, key=_natural):
        runs = by_key[key]
        if len(runs) < 2 or (runs_per_group is not None and len(runs) != runs_per_group):
            left_out["runs in groups of another size"] += len(runs)
        else:
            groups.append(_group(key, runs))
    return Behaviours(by, tuple(kinds), tuple(groups), dict(left_out))


def _key_of(item: RunItem, by: str) -> str | None:
    if by in ("agent", "correlation", "status"):
        summary = item.summary
        return {"agent": summary.agent_id, "correlation": summary.correlation_id, "status": summary.status}[
            by
        ]
    value = item.metadata.get(by)
    return None if value is None or isinstance(value, dict | list) else str(value)


def _path_of(store: TraceStore, item: RunItem, kinds: Sequence[str]) -> tuple[bytes | None, ...]:
    rows: list[StepRow] = store.steps(item.summary.run_id, tenant_id=item.summary.tenant_id)
    return tuple(row.determinism_hash for row in rows if not kinds or row.kind in kinds)


def _group(key: str, runs: list[tuple[str, tuple[bytes | None, ...]]]) -> Group:
    paths = {path for _, path in runs}
    return Group(
        key=key,
        run_ids=tuple(run_id for run_id, _ in runs),
        paths=len(paths),
        first_divergence=_first_divergence(paths),
    )


def _first_divergence(paths: set[tuple[bytes | None, ...]]) -> int | None:
    if len(paths) < 2:
        return None
    longest = max(map(len, paths))
    for index in range(longest):
        if len({path[index] if index < len(path) else None for path in paths}) > 1:
            return index
    return longest


def _natural(key: str) -> tuple[int, float | str]:
    try:
        return (0, float(key))
    except ValueError:
        return (1, key)
