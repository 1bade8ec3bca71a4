"""Groups of runs by path, as data: what `isotrace behaviours` prints and draws."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from isotrace.population import (
    Behaviour,
    BranchingStep,
    Estimate,
    Measures,
    ParamDifference,
    Tally,
    Tree,
    branching_steps,
    differing_params,
    measure,
    pair_agreement,
    pass_curve,
    same_path,
    total_agreement,
    tree_of,
)
from isotrace.population.seeing import signature_of

if TYPE_CHECKING:
    from isotrace.operations.grouping import Collected, Looking

EVERY_RUN = "all runs"

_CACHED = frozenset({"tally", "tree", "branching", "measures"})
_TOLD = 5
_BRANCHES = 8
"""Of so many branching steps, and so many branches of each, the params are read."""


@dataclass(frozen=True)
class Group:
    """All runs with one value of the grouping key, by path, the most common path first.

    `pathless` sums over its runs of which nothing is compared: they count where success is told.
    """

    key: str
    behaviours: tuple[Behaviour, ...]
    pathless: Tally = field(default_factory=Tally)
    differences: tuple[tuple[ParamDifference, ...], ...] = ()
    """In which params the branches differ, of the first steps of `branching`."""

    @cached_property
    def tally(self) -> Tally:
        """Sums over the runs that have a path."""
        total = Tally()
        for one in self.behaviours:
            total += one.tally
        return total

    @property
    def runs(self) -> int:
        """How many runs."""
        return self.tally.runs

    @property
    def paths(self) -> int:
        """How many distinct paths."""
        return len(self.behaviours)

    @property
    def variants(self) -> tuple[tuple[str, ...], ...]:
        """Ids of the runs of each path, at most 100, newest first."""
        return tuple(one.runs for one in self.behaviours)

    @property
    def counts(self) -> list[int]:
        """How many runs took each path."""
        return [one.tally.runs for one in self.behaviours]

    @cached_property
    def first_divergence(self) -> int | None:
        """The smallest index, among the compared steps, at which not all runs agree; None where all do."""
        paths = [one.steps for one in self.read]
        if self.paths < 2 or len(paths) < 2:
            return None
        shortest = min(map(len, paths))
        for index in range(shortest):
            if len({steps[index].key for steps in paths}) > 1:
                return index
        return shortest

    @property
    def read(self) -> tuple[Behaviour, ...]:
        """The paths whose steps were read: all, or the most common ones where there are very many."""
        return tuple(one for one in self.behaviours if one.steps[0].kind)

    @cached_property
    def same_path(self) -> Estimate:
        """How many of the runs took the most common path, with its interval."""
        return same_path(self.counts)

    @cached_property
    def agreement(self) -> Estimate:
        """How likely two of the runs took the same path."""
        return pair_agreement(self.counts)

    @cached_property
    def measures(self) -> Measures:
        """All numbers of the group."""
        return measure(self.behaviours)

    @cached_property
    def tree(self) -> Tree:
        """The tree of its paths."""
        return tree_of(self.read)

    @cached_property
    def branching(self) -> tuple[BranchingStep, ...]:
        """Where its runs part, by how much of the disagreement that explains."""
        return branching_steps(self.tree)

    def with_differences(self, params_of: Callable[[str, int], Any]) -> Group:
        """The group, knowing in which params its most telling branches differ; `params_of(run_id, index)`
        gives the params of a compared step."""
        told = [
            differing_params(replace(one, branches=one.branches[:_BRANCHES]), params_of)
            for one in self.branching[:_TOLD]
        ]
        group = replace(self, differences=tuple(told))
        # What was worked out already: the tree of a million runs takes seconds.
        vars(group).update({name: value for name, value in vars(self).items() if name in _CACHED})
        return group

    def params_at(self, number: int) -> tuple[ParamDifference, ...]:
        """In which params the branches of this branching step differ, as far as they were read."""
        return self.differences[number] if number < len(self.differences) else ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON: key, runs, paths, first_divergence, agreement, interval (of the share of the most common
        path), variants."""
        interval = self.same_path.interval
        return {
            "key": self.key,
            "runs": self.runs,
            "paths": self.paths,
            "first_divergence": self.first_divergence,
            "agreement": self.agreement.value,
            "interval": None if interval is None else interval.to_dict(),
            "variants": [list(variant) for variant in self.variants],
        }

    def to_whole_dict(self) -> dict[str, Any]:
        """As JSON, with the sums of each path, the measures, the tree, and where runs part in it."""
        return {
            **self.to_dict(),
            "behaviours": [
                {"signature": one.signature, "tally": one.tally.to_dict(), "runs": list(one.runs)}
                for one in self.behaviours
            ],
            "measures": self.measures.to_dict(),
            "tree": self.tree.to_dict(),
            "branching": [
                {**step.to_dict(), "params": [one.to_dict() for one in self.params_at(number)]}
                for number, step in enumerate(self.branching)
            ],
        }


@dataclass(frozen=True)
class Behaviours:
    """Groups of runs by path. `left_out` counts runs that the grouping could not use, by reason;
    `unread` paths whose steps were not read, because there are very many."""

    by: str
    kinds: tuple[str, ...]
    groups: tuple[Group, ...]
    left_out: dict[str, int]
    level: str = "decisions"
    unread: int = 0
    outcomes: tuple[tuple[int, int], ...] = ()
    """(passed, judged) of each group that has judged runs, those without a path among them."""

    @property
    def identical(self) -> int:
        """How many groups took one path in all their runs."""
        return sum(group.paths == 1 for group in self.groups)

    @property
    def median_divergence(self) -> float | None:
        """The median of the groups' first divergences, None where no group diverges."""
        found = [group.first_divergence for group in self.groups if group.first_divergence is not None]
        return statistics.median(found) if found else None

    @cached_property
    def agreement(self) -> Estimate:
        """How likely two runs of a group took the same path, the mean over groups."""
        return total_agreement([group.counts for group in self.groups], 2)

    @cached_property
    def pass_k(self) -> dict[int, Estimate]:
        """pass^k for each k that all groups have judged runs for; empty where none are judged."""
        return pass_curve(self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the groups, `identical`, `agreement` and `pass_k` over them, how paths and first
        divergences spread, and what the numbers say in `words`. One group comes with its tree."""
        whole = len(self.groups) == 1 and not self.by
        return {
            "by": self.by,
            "level": self.level,
            "kinds": list(self.kinds),
            "groups": [group.to_whole_dict() if whole else group.to_dict() for group in self.groups],
            "identical": self.identical,
            "agreement": self.agreement.value,
            "pass_k": {str(k): one.value for k, one in self.pass_k.items()},
            "paths": _spread(group.paths for group in self.groups),
            "first_divergence": _spread(group.first_divergence for group in self.groups),
            "median_first_divergence": self.median_divergence,
            "left_out": self.left_out,
            "unread": self.unread,
            "words": [self.agreement.words, *(one.words for one in self.pass_k.values())],
        }


def grouped(
    collected: Collected, looking: Looking, runs_per_group: int | None, *, least: int = 2
) -> Behaviours:
    """The result, of what was collected: groups of `least` or more runs, in natural order of their keys."""
    left_out: Counter[str] = Counter(collected.left_out)
    groups = []
    for key in sorted(collected.found, key=_natural):
        group = _group(key, collected.found[key].values(), collected.pathless.get(key, Tally()))
        if runs_per_group is not None and group.runs != runs_per_group:
            left_out["in groups of another size"] += group.runs
        elif group.runs < least:
            left_out["alone in a group" if looking.by else "alone"] += group.runs
        else:
            groups.append(group)
    keys = {group.key for group in groups}
    if runs_per_group is None:
        keys = {*collected.found, *collected.pathless}
    return Behaviours(
        looking.by or "",
        looking.kinds,
        tuple(groups),
        dict(left_out),
        looking.level.value,
        collected.unread,
        _outcomes(collected, keys),
    )


def by_group(collected: Collected) -> dict[str, tuple[Behaviour, ...]]:
    """The behaviours of each group, however few its runs are."""
    return {key: _group(key, found.values(), Tally()).behaviours for key, found in collected.found.items()}


def _outcomes(collected: Collected, keys: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """(passed, judged) by group. A run without a step has an outcome all the same."""
    outcomes = []
    for key in sorted(keys, key=_natural):
        total = collected.pathless.get(key, Tally())
        for one in collected.found.get(key, {}).values():
            total += one.tally
        if total.runs > 1 and total.judged:
            outcomes.append((total.passed, total.judged))
    return tuple(outcomes)


def _group(key: str, found: Iterable[Behaviour], pathless: Tally) -> Group:
    signed = [
        Behaviour(
            signature_of(one.steps) if one.steps[0].kind else one.steps[0].key.hex(),
            one.steps,
            one.tally,
            one.runs,
        )
        for one in found
    ]
    return Group(key, tuple(sorted(signed, key=lambda one: (-one.tally.runs, one.runs))), pathless)


def _spread(numbers: Iterable[int | None]) -> dict[str, int]:
    counted = Counter(number for number in numbers if number is not None)
    return {str(number): counted[number] for number in sorted(counted)}


def _natural(key: str) -> tuple[int, float, str]:
    """Numbers as numbers, and before other texts."""
    return (0, float(key), key) if key.isdecimal() else (1, 0.0, key)
