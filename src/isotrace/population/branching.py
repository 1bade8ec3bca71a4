"""Where the runs of a group part, how much of their disagreement that explains, and who fares worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from isotrace.jsondiff import MISSING, diff_values, pointer_get
from isotrace.population.behaviour import SeenStep, Tally
from isotrace.population.exact import Counts, Significance, corrected, difference, share_changed
from isotrace.population.statistics import LEVEL, Estimate, Interval, success
from isotrace.population.tree import Node, Tree
from isotrace.population.wording import listed, percent, plural, probability

_NAMED: Final = 3
"""How many branches a sentence names."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """How often a branch fails, against all its siblings.

    `ratio` is of the two shares (None where no sibling fails), `difference` the interval of the share
    minus theirs, `p_value` Fisher's, corrected (Holm) for all branches that were looked at.
    """

    failed: int
    runs: int
    other_failed: int
    other_runs: int
    ratio: float | None
    difference: Interval
    p_value: float
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "failed": self.failed,
            "runs": self.runs,
            "other_failed": self.other_failed,
            "other_runs": self.other_runs,
            "ratio": self.ratio,
            "difference": self.difference.to_dict(),
            "p_value": self.p_value,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class Branch:
    """One way on from a branching step; `step` is None for the runs that end there.

    `node` is its index in the tree, None for an end. `share` is of the runs that come to the branching
    step, `label` the skill's name, told apart from siblings of the same name. `contrast` holds it against
    all of them.
    """

    node: int | None
    step: SeenStep | None
    tally: Tally
    share: float
    success: Estimate
    runs: tuple[str, ...]
    label: str
    contrast: Contrast | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `step` is `{"skill", "kind", "status"}` or None."""
        step = self.step
        return {
            "node": self.node,
            "step": step and {"skill": step.skill, "kind": step.kind, "status": step.status},
            "count": self.tally.runs,
            "share": self.share,
            "success": self.success.to_dict(),
            "runs": list(self.runs),
            "label": self.label,
            "contrast": None if self.contrast is None else self.contrast.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class BranchingStep:
    """A place in the tree where runs part: behind the last step of `node`, at step `index`.

    `pairs` is how many pairs of runs part here, `explained` their share of all pairs that disagree: over
    all branching steps of a tree these add up to 1, because two runs part exactly once.
    """

    node: int
    index: int
    pairs: int
    explained: float
    branches: tuple[Branch, ...]
    words: str

    @property
    def runs(self) -> int:
        """How many runs come here."""
        return sum(branch.tally.runs for branch in self.branches)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "node": self.node,
            "index": self.index,
            "runs": self.runs,
            "pairs": self.pairs,
            "explained": self.explained,
            "branches": [branch.to_dict() for branch in self.branches],
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class ParamDifference:
    """A place in the params of a skill at which branches differ: `values` has what stands there, by the
    branch's position; a branch of another skill, or without anything there, is not in it."""

    skill: str
    pointer: str
    values: dict[int, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; positions become texts."""
        values = {str(at): value for at, value in self.values.items()}
        return {"skill": self.skill, "pointer": self.pointer, "values": values}


def branching_steps(tree: Tree, *, level: float = LEVEL) -> tuple[BranchingStep, ...]:
    """Where runs part, by how much of the disagreement that explains, most first; none where all agree."""
    found: list[BranchingStep] = []
    for node in tree.nodes:
        if node.branches < 2:
            continue
        sizes = [tree.nodes[child].tally.runs for child in node.children] + [node.ending.runs]
        pairs = (node.tally.runs**2 - sum(size**2 for size in sizes)) // 2
        branches = _branches(tree, node, level)
        found.append(BranchingStep(node.index, node.stop, pairs, 0.0, branches, ""))
    every = sum(step.pairs for step in found)
    found.sort(key=lambda step: (-step.pairs, step.index, step.node))
    contrasted = _contrasted(found, level)
    shared = [replace(step, explained=step.pairs / every) for step in contrasted]
    return tuple(replace(step, words=_words(step)) for step in shared)


def _branches(tree: Tree, node: Node, level: float) -> tuple[Branch, ...]:
    children = [tree.nodes[child] for child in node.children]
    found = []
    for child, label in zip(children, labels([one.steps[0] for one in children]), strict=True):
        step = child.steps[0]
        share = child.tally.runs / node.tally.runs
        found.append(Branch(child.index, step, child.tally, share, child.success, child.runs, label))
    if node.ending.runs:
        tally = node.ending
        share = tally.runs / node.tally.runs
        ends = success(tally, level=level)
        found.append(Branch(None, None, tally, share, ends, node.ending_runs, "the end"))
    return tuple(sorted(found, key=lambda one: -one.tally.runs))


def labels(steps: Sequence[SeenStep]) -> list[str]:
    """The names of the steps that begin branches: the skill, with the status or a number where it
    takes that to tell them apart."""
    found = []
    for step in steps:
        alike = [other for other in steps if other.skill == step.skill]
        label = step.skill
        if len({other.status for other in alike}) > 1:
            label += f" ({step.status})"
            alike = [other for other in alike if other.status == step.status]
        if len(alike) > 1:
            label += f" #{[other.key for other in alike].index(step.key) + 1}"
        found.append(label)
    return found


def _failures(branches: Sequence[Branch]) -> list[tuple[int, int]]:
    """(failed, runs) of each: of judged runs if every branch has some, else runs that did not complete."""
    if all(branch.tally.judged for branch in branches):
        return [(one.tally.judged - one.tally.passed, one.tally.judged) for one in branches]
    return [(one.tally.runs - one.tally.completed, one.tally.runs) for one in branches]


def _contrasted(steps: Sequence[BranchingStep], level: float) -> list[BranchingStep]:
    """The steps with their branches' contrasts, corrected for all of them."""
    tests: list[Significance] = []
    places: dict[tuple[int, int], int] = {}
    for number, step in enumerate(steps):
        counts = _failures(step.branches)
        failed, runs = sum(one for one, _ in counts), sum(one for _, one in counts)
        for at, (bad, of) in enumerate(counts):
            if at == 1 and len(counts) == 2:
                # Two branches are one question, asked twice.
                places[number, at] = places[number, 0]
                continue
            others = Counts(failed - bad, runs - of - failed + bad)
            # Here "before" are the siblings that fail and those that don't; "after" is the branch.
            table = (Counts(others.before, bad), Counts(others.after, of - bad))
            places[number, at] = len(tests)
            tests.append(share_changed([table]))
    p_values = corrected(tests)
    found = []
    for number, step in enumerate(steps):
        counts = _failures(step.branches)
        contrasts = [_contrast(counts, at, p_values[places[number, at]], level) for at in range(len(counts))]
        branches = [
            replace(one, contrast=contrast) for one, contrast in zip(step.branches, contrasts, strict=True)
        ]
        found.append(replace(step, branches=tuple(branches)))
    return found


def _contrast(counts: Sequence[tuple[int, int]], at: int, p_value: float, level: float) -> Contrast:
    bad, of = counts[at]
    other_bad, other_of = sum(one for one, _ in counts) - bad, sum(one for _, one in counts) - of
    ratio = (bad / of) / (other_bad / other_of) if other_bad else None
    of_counts = f"{bad:,} of {of:,} against {other_bad:,} of {other_of:,}, {probability(p_value)}"
    return Contrast(
        failed=bad,
        runs=of,
        other_failed=other_bad,
        other_runs=other_of,
        ratio=ratio,
        difference=difference(bad, of, other_bad, other_of, level),
        p_value=p_value,
        words=f"{_often(bad, ratio)} ({of_counts})",
    )


def _often(bad: int, ratio: float | None) -> str:
    if ratio is None:
        return "fail where the others don't" if bad else "fail no more than the others"
    if ratio == 1:
        return "fail as often as the others"
    if ratio == 0:
        return "never fail"
    times = "twice" if round(ratio, 1) == 2 else f"{ratio:.1f} times"
    return f"fail {times} as often as the others"


def _words(step: BranchingStep) -> str:
    ways = []
    for branch in step.branches[:_NAMED]:
        way = "end" if branch.step is None else f"go on with {branch.label}"
        ways.append(f"{branch.tally.runs:,} of {step.runs:,} {way}")
    if len(step.branches) > _NAMED:
        ways.append(plural(len(step.branches) - _NAMED, "other way"))
    explained = f"that explains {percent(step.explained)} of the disagreement"
    text = f"at step {step.index} they part: {listed(ways)}; {explained}"
    worst = max(step.branches, key=_worse)
    contrast = worst.contrast
    if contrast is not None and contrast.failed and contrast.ratio != 1:
        which = "that end there" if worst.step is None else f"with {worst.label}"
        text += f"; the runs {which} {contrast.words}"
    return text


def _worse(branch: Branch) -> tuple[float, float]:
    if branch.contrast is None:
        return (0.0, 0.0)
    c = branch.contrast
    return (c.failed / c.runs - (c.other_failed / c.other_runs if c.other_runs else 0.0), -c.p_value)


def differing_params(
    step: BranchingStep, params_of: Callable[[str, int], Any], *, limit: int = 64
) -> tuple[ParamDifference, ...]:
    """At which places in the params the branches of a branching step differ, by one run of each.

    `params_of(run_id, index)` returns the params of the step with this index among the compared ones.
    Only branches of one skill are held against each other: params of two skills have nothing in
    common. At most `limit` places for each skill.
    """
    by_skill: dict[str, dict[int, Any]] = {}
    for at, branch in enumerate(step.branches):
        if branch.step is not None and branch.runs:
            params = params_of(branch.runs[0], step.index)
            by_skill.setdefault(branch.step.skill, {})[at] = params
    found = []
    for skill, params in by_skill.items():
        first, *others = params.values()
        pointers: dict[str, None] = {}
        for other in others:
            pointers.update((change.pointer, None) for change in diff_values(first, other, limit=limit))
        for pointer in list(pointers)[:limit]:
            values = {at: pointer_get(value, pointer) for at, value in params.items()}
            there = {at: value for at, value in values.items() if value is not MISSING}
            found.append(ParamDifference(skill, pointer, there))
    return tuple(found)
