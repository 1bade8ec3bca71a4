"""The tree of a group's paths: what all runs do first, where they part, and how each branch fares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from isotrace.population.behaviour import Behaviour, SeenStep, Tally, sum_tallies
from isotrace.population.statistics import LEVEL, Estimate, success

_EXAMPLES: Final = 10
"""How many run ids a node keeps at most."""


@dataclass(frozen=True, slots=True)
class Node:
    """A stretch of steps that the same runs take: from where they part from others to where they part
    themselves, or some of them end.

    `start` is the index of its first step among the compared ones; the root's is 0, and the root has no
    step where runs differ from the first on. `tally` sums over all runs that come through,
    `ending` over those that end behind its last step. `parent` and `children` are indexes into
    `Tree.nodes`, children largest first. `share` is of all runs, `of_parent` of the parent's.
    `runs` and `ending_runs` are examples, at most ten; `signature` is that of the path that ends here.
    """

    index: int
    parent: int | None
    children: tuple[int, ...]
    depth: int
    start: int
    steps: tuple[SeenStep, ...]
    tally: Tally
    ending: Tally
    share: float
    of_parent: float
    success: Estimate
    runs: tuple[str, ...]
    ending_runs: tuple[str, ...]
    signature: str | None

    @property
    def stop(self) -> int:
        """The index behind its last step: where its runs part, or end."""
        return self.start + len(self.steps)

    @property
    def branches(self) -> int:
        """How many ways its runs go on; to end, while others go on, is one."""
        return len(self.children) + bool(self.ending.runs)

    @property
    def mean_cost_cents(self) -> float:
        """The mean cost of the whole runs that come through, in cents."""
        return self.tally.cost_cents / self.tally.runs if self.tally.runs else 0.0

    @property
    def mean_duration_ms(self) -> float:
        """The mean duration of the whole runs that come through, in milliseconds."""
        return self.tally.duration_ms / self.tally.runs if self.tally.runs else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a step is `{"skill", "kind", "status"}`."""
        return {
            "index": self.index,
            "parent": self.parent,
            "children": list(self.children),
            "depth": self.depth,
            "start": self.start,
            "steps": [{"skill": s.skill, "kind": s.kind, "status": s.status} for s in self.steps],
            "count": self.tally.runs,
            "share": self.share,
            "of_parent": self.of_parent,
            "success": self.success.to_dict(),
            "mean_cost_cents": self.mean_cost_cents,
            "mean_duration_ms": self.mean_duration_ms,
            "ending": self.ending.runs,
            "signature": self.signature,
            "runs": list(self.runs),
        }


@dataclass(frozen=True, slots=True)
class Tree:
    """All paths of a group. `nodes[0]` is the root; a node stands before its children, each subtree is
    one stretch of `nodes`, larger branches first. Flat, so that no length of path is too deep to walk.

    `paths` counts the distinct ones.
    """

    nodes: tuple[Node, ...]
    paths: int

    @property
    def root(self) -> Node:
        """What all runs have in common."""
        return self.nodes[0]

    @property
    def runs(self) -> int:
        """How many runs."""
        return self.root.tally.runs

    @property
    def first_divergence(self) -> int | None:
        """The smallest index, among the compared steps, at which not all runs agree; None where all
        are equal."""
        return self.root.stop if self.paths > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the counts, and the nodes as a flat list in the order of drawing."""
        return {
            "runs": self.runs,
            "paths": self.paths,
            "first_divergence": self.first_divergence,
            "nodes": [node.to_dict() for node in self.nodes],
        }


@dataclass(slots=True)
class _Draft:
    """A node that is not finished. What comes through are the paths from `low` up to `high` in
    lexicographic order; `ending` is the number of the one that ends here."""

    parent: int | None
    depth: int
    start: int
    low: int
    high: int
    stop: int = 0
    ending: int | None = None
    children: list[int] = field(default_factory=list)


def paths_of(behaviours: Iterable[Behaviour]) -> list[Behaviour]:
    """One behaviour for each distinct path, whatever groups or sets they come from, most runs first."""
    by_path: dict[tuple[bytes, ...], list[Behaviour]] = {}
    for one in behaviours:
        if one.tally.runs:
            by_path.setdefault(keys_of(one), []).append(one)
    merged = [(keys, _merged(found)) for keys, found in by_path.items()]
    merged.sort(key=lambda item: (-item[1].tally.runs, item[0]))
    return [behaviour for _, behaviour in merged]


def keys_of(behaviour: Behaviour) -> tuple[bytes, ...]:
    """What says that two behaviours are one path."""
    return tuple(step.key for step in behaviour.steps)


def tree_of(behaviours: Iterable[Behaviour], *, level: float = LEVEL) -> Tree:
    """The tree of these paths. The order in which they come makes no difference."""
    paths = paths_of(behaviours)
    order = sorted(range(len(paths)), key=[keys_of(path) for path in paths].__getitem__)
    total = sum(path.tally.runs for path in paths)
    nodes: list[Node] = []
    for index, draft in enumerate(_drafted(paths, order)):
        through = [paths[number] for number in sorted(order[draft.low : draft.high])]
        tally = sum_tallies([path.tally for path in through])
        ends = None if draft.ending is None else paths[draft.ending]
        above = total if draft.parent is None else nodes[draft.parent].tally.runs
        nodes.append(
            Node(
                index=index,
                parent=draft.parent,
                children=tuple(draft.children),
                depth=draft.depth,
                start=draft.start,
                steps=through[0].steps[draft.start : draft.stop] if through else (),
                tally=tally,
                ending=Tally() if ends is None else ends.tally,
                share=tally.runs / total if total else 0.0,
                of_parent=tally.runs / above if above else 0.0,
                success=success(tally, level=level),
                runs=_examples(through),
                ending_runs=() if ends is None else ends.runs[:_EXAMPLES],
                signature=None if ends is None else ends.signature,
            )
        )
    return Tree(tuple(nodes), len(paths))


def _drafted(paths: Sequence[Behaviour], order: Sequence[int]) -> list[_Draft]:
    """The nodes in the order of drawing.

    In lexicographic order the paths through a node are neighbours, and part where two of them have no
    more in common than the node's steps: each step of each path is looked at once.
    """
    common = [0, *(_common(paths[one], paths[other]) for one, other in pairwise(order))]
    drafts: list[_Draft] = []
    waiting = [_Draft(None, 0, 0, 0, len(order))]
    while waiting:
        draft = waiting.pop()
        index = len(drafts)
        drafts.append(draft)
        if draft.parent is not None:
            drafts[draft.parent].children.append(index)
        if draft.low == draft.high:
            continue
        first = order[draft.low]
        draft.stop = min(common[draft.low + 1 : draft.high], default=len(paths[first].steps))
        if len(paths[first].steps) == draft.stop:
            draft.ending = first
        low = draft.low + (draft.ending is not None)
        cuts = [low, *(at for at in range(low + 1, draft.high) if common[at] == draft.stop), draft.high]
        children = [
            _Draft(index, draft.depth + 1, draft.stop, *cut) for cut in pairwise(cuts) if cut[0] < cut[1]
        ]
        # The last that is put on the stack is the next to be drawn.
        children.sort(key=lambda one: sum(paths[n].tally.runs for n in order[one.low : one.high]))
        waiting += children
    return drafts


def _common(one: Behaviour, other: Behaviour) -> int:
    """How many steps two paths have in common before they part."""
    both = zip(one.steps, other.steps, strict=False)
    alike = next((at for at, (a, b) in enumerate(both) if a.key != b.key), None)
    return min(len(one.steps), len(other.steps)) if alike is None else alike


def _merged(found: Sequence[Behaviour]) -> Behaviour:
    if len(found) == 1:
        return found[0]
    ordered = sorted(found, key=lambda one: (one.signature, one.runs))
    return Behaviour(
        ordered[0].signature,
        ordered[0].steps,
        sum_tallies([one.tally for one in ordered]),
        _examples(ordered),
    )


def _examples(behaviours: Sequence[Behaviour]) -> tuple[str, ...]:
    """Run ids of these, from each in turn, so that no path is hidden behind a larger one."""
    longest = max((len(one.runs) for one in behaviours), default=0)
    found: list[str] = []
    for position in range(longest):
        found += [one.runs[position] for one in behaviours if position < len(one.runs)]
        if len(found) >= _EXAMPLES:
            break
    return tuple(found[:_EXAMPLES])
