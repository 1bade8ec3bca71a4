"""Comparing many runs: all runs of a group by their paths."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isotrace.contracts import TraceStore
from isotrace.models import Erased, TraceRecord, TraceSummary
from isotrace.operations.opening import using
from isotrace.operations.runs import Selection, list_runs, show
from isotrace.record.home import default_tenant


@dataclass(frozen=True, slots=True)
class Group:
    """All runs with one value of the grouping key.

    `variants` holds the ids of the runs that took one path, for each distinct path, the most
    common one first. `first_divergence` is the smallest index, among the compared steps, at
    which not all runs agree; None where all are equal.
    """

    key: str
    variants: tuple[tuple[str, ...], ...]
    first_divergence: int | None

    @property
    def runs(self) -> int:
        """How many runs."""
        return sum(map(len, self.variants))

    @property
    def paths(self) -> int:
        """How many distinct paths."""
        return len(self.variants)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: key, runs, paths, first_divergence, variants."""
        return {
            "key": self.key,
            "runs": self.runs,
            "paths": self.paths,
            "first_divergence": self.first_divergence,
            "variants": [list(variant) for variant in self.variants],
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


Path = tuple[bytes | None, ...]
"""The hashes of a run's compared steps; None for a step whose params were erased."""

EVERY_RUN = "all runs"


def behaviours(
    runs: Iterable[TraceRecord | str],
    *,
    by: str | None = None,
    kinds: Sequence[str] = (),
    runs_per_group: int | None = None,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
) -> Behaviours:
    """Says of each group of runs whether all took the same path: by step hashes, of steps of these
    kinds only where `kinds` is given.

    A run is a record, or a name that the store knows. They are grouped by a metadata key, by
    `agent`, `correlation` or `status`, or all together. Left out and counted are runs without the
    key, without compared steps or with erased ones, groups of one run and, with `runs_per_group`,
    groups of another size. Raises as `find_run` does.
    """
    records = list(runs)
    if any(isinstance(run, str) for run in records):
        tenant = tenant_id or default_tenant()
        with using(store) as opened:
            records = [
                show(opened, run, tenant_id=tenant) if isinstance(run, str) else run for run in records
            ]
    entries = [
        (run.run_id, _key_of(run.to_summary(), run.metadata, by), _path_of_record(run, kinds))
        for run in records
        if isinstance(run, TraceRecord)
    ]
    return _grouped(entries, by, kinds, runs_per_group)


def stored_behaviours(
    store: TraceStore,
    selection: Selection,
    *,
    by: str | None,
    kinds: Sequence[str] = (),
    runs_per_group: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Behaviours:
    """As `behaviours`, of the selected runs, from the rows that the store keeps: no ledger is read.

    `progress` is told (done, total) as runs are read.
    """
    items = list_runs(store, selection)
    entries = []
    for number, item in enumerate(items):
        if progress is not None:
            progress(number, len(items))
        summary = item.summary
        rows = store.steps(summary.run_id, tenant_id=summary.tenant_id)
        path = tuple(row.determinism_hash for row in rows if not kinds or row.kind in kinds)
        entries.append((summary.run_id, _key_of(summary, item.metadata, by), path))
    return _grouped(entries, by, kinds, runs_per_group)


def _path_of_record(record: TraceRecord, kinds: Sequence[str]) -> Path:
    return tuple(
        None if isinstance(step.params, Erased) else bytes.fromhex(step.determinism_hash())
        for step in record.steps
        if not kinds or (step.context.kind if step.context else "tool") in kinds
    )


def _key_of(summary: TraceSummary, metadata: Mapping[str, Any], by: str | None) -> str | None:
    if by is None:
        return EVERY_RUN
    if by in ("agent", "correlation", "status"):
        known = {"agent": summary.agent_id, "correlation": summary.correlation_id, "status": summary.status}
        return known[by]
    value = metadata.get(by)
    return None if value is None or isinstance(value, dict | list) else str(value)


def _grouped(
    entries: Iterable[tuple[str, str | None, Path]],
    by: str | None,
    kinds: Sequence[str],
    runs_per_group: int | None,
) -> Behaviours:
    by_key: dict[str, list[tuple[str, Path]]] = {}
    left_out: Counter[str] = Counter()
    for run_id, key, path in entries:
        if key is None:
            left_out[f"without {by}"] += 1
        elif not path:
            left_out["without a compared step"] += 1
        elif None in path:
            left_out["with erased steps"] += 1
        else:
            by_key.setdefault(key, []).append((run_id, path))
    groups = []
    for key in sorted(by_key, key=_natural):
        runs = by_key[key]
        if len(runs) < 2 or (runs_per_group is not None and len(runs) != runs_per_group):
            left_out["in groups of another size"] += len(runs)
        else:
            groups.append(_group(key, runs))
    return Behaviours(by or "", tuple(kinds), tuple(groups), dict(left_out))


def _group(key: str, runs: list[tuple[str, Path]]) -> Group:
    by_path: dict[Path, list[str]] = {}
    for run_id, path in runs:
        by_path.setdefault(path, []).append(run_id)
    variants = sorted(by_path.values(), key=lambda ids: (-len(ids), ids))
    return Group(key, tuple(map(tuple, variants)), _first_divergence(set(by_path)))


def _first_divergence(paths: set[Path]) -> int | None:
    if len(paths) < 2:
        return None
    longest = max(map(len, paths))
    for index in range(longest):
        if len({path[index] if index < len(path) else None for path in paths}) > 1:
            return index
    return longest


def _natural(key: str) -> tuple[int, float, str]:
    """Numbers as numbers, and before other texts."""
    return (0, float(key), key) if key.isdecimal() else (1, 0.0, key)
