"""What a comparison of two sets of runs returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isotrace.population.behaviour import SeenStep
from isotrace.population.statistics import Interval
from isotrace.population.tree import Tree


class Change(StrEnum):
    """What a comparison of two sets of runs comes to."""

    CHANGED = "changed"
    NOT_SHOWN = "no change shown"
    TOO_FEW = "too few runs to say"


class Move(StrEnum):
    """What became of a path's share."""

    APPEARED = "appeared"
    VANISHED = "vanished"
    MORE = "more"
    LESS = "less"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class PathChange:
    """One path before and after.

    `before_runs` and `after_runs` are all runs of the strata in which the path occurs; `strata` are these.
    `p_value` is Fisher's, `adjusted` corrected for all paths (Holm; that of the only new path is the
    test's for new paths, where that is smaller); `shown` says that it is small enough.
    """

    signature: str
    steps: tuple[SeenStep, ...]
    move: Move
    before: int
    after: int
    before_runs: int
    after_runs: int
    strata: tuple[str, ...]
    p_value: float
    adjusted: float
    shown: bool
    difference: Interval
    runs: tuple[str, ...]
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a step is `{"skill", "kind", "status"}`."""
        return {
            "signature": self.signature,
            "steps": [_step(step) for step in self.steps],
            "move": self.move.value,
            "before": self.before,
            "after": self.after,
            "before_runs": self.before_runs,
            "after_runs": self.after_runs,
            "strata": list(self.strata),
            "p_value": self.p_value,
            "adjusted": self.adjusted,
            "shown": self.shown,
            "difference": self.difference.to_dict(),
            "runs": list(self.runs),
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class BranchChange:
    """How many runs took one branch; `step` is None for those that end. `label` names it among the others."""

    step: SeenStep | None
    label: str
    before: int
    after: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `step` is `{"skill", "kind", "status"}` or None."""
        return {
            "step": None if self.step is None else _step(self.step),
            "label": self.label,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True)
class StepChange:
    """A step at which runs part, and whether they part otherwise than before.

    `node` is its index in `Comparison.tree`, `index` that of the step. `p_value` is of how the runs that come
    here go on, `adjusted` is corrected (Holm) for all such steps.
    """

    node: int
    index: int
    branches: tuple[BranchChange, ...]
    p_value: float
    adjusted: float
    shown: bool
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "node": self.node,
            "index": self.index,
            "branches": [branch.to_dict() for branch in self.branches],
            "p_value": self.p_value,
            "adjusted": self.adjusted,
            "shown": self.shown,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class SuccessChange:
    """How many runs did well: of judged runs where both sides have some, else completed of all."""

    before: int
    before_runs: int
    after: int
    after_runs: int
    p_value: float
    difference: Interval
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "before": self.before,
            "before_runs": self.before_runs,
            "after": self.after,
            "after_runs": self.after_runs,
            "p_value": self.p_value,
            "difference": self.difference.to_dict(),
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of runs.

    `p_value` is that of two tests together, twice the smaller one: `others`, whether runs are spread
    otherwise over paths, and `new`, whether more of them than by chance take paths that none took
    before. `exact` says that all exchanges were counted; `by_steps` that the verdict rests on the steps,
    because most runs took a path of their own. `paths` are those that changed most surely first, `steps`
    those where runs part, likewise, at most the 200 to which most runs come; `tree` is of both sets
    together. `left_out` are strata that only one set has.
    """

    verdict: Change
    before: int
    after: int
    p_value: float
    others: float
    new: float
    exact: bool
    by_steps: bool
    paths: tuple[PathChange, ...]
    steps: tuple[StepChange, ...]
    success: SuccessChange
    left_out: tuple[str, ...]
    tree: Tree
    words: str

    @property
    def first_moved(self) -> StepChange | None:
        """The earliest step at which runs are shown to part otherwise than before."""
        return min((step for step in self.steps if step.shown), key=lambda one: one.index, default=None)

    @property
    def strongest(self) -> StepChange | None:
        """The step whose move is the surest, if any is shown."""
        return next((step for step in self.steps if step.shown), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields; the tree too."""
        first, strongest = self.first_moved, self.strongest
        return {
            "verdict": self.verdict.value,
            "before": self.before,
            "after": self.after,
            "p_value": self.p_value,
            "others": self.others,
            "new": self.new,
            "exact": self.exact,
            "by_steps": self.by_steps,
            "paths": [path.to_dict() for path in self.paths],
            "steps": [step.to_dict() for step in self.steps],
            "first_moved": None if first is None else first.to_dict(),
            "strongest": None if strongest is None else strongest.to_dict(),
            "success": self.success.to_dict(),
            "left_out": list(self.left_out),
            "tree": self.tree.to_dict(),
            "words": self.words,
        }


def _step(step: SeenStep) -> dict[str, str]:
    return {"skill": step.skill, "kind": step.kind, "status": step.status}
