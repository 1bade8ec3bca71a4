"""What many runs are grouped into: the runs of one path, and sums over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from isotrace.models import META_REWARD

EXAMPLES: Final = 100
"""How many run ids a behaviour keeps at most."""


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One step as a comparison sees it.

    Equal keys are equal steps: `key` is the determinism hash, or a digest of what a level and
    rules leave of the step.
    """

    key: bytes
    skill: str
    kind: str
    status: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over runs; `+` adds. Cost in cents, duration in milliseconds, both over all steps.

    `judged` runs say in their metadata whether they did what they should, `passed` of these did.
    """

    runs: int = 0
    completed: int = 0
    failed: int = 0
    judged: int = 0
    passed: int = 0
    cost_cents: float = 0.0
    duration_ms: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.runs + other.runs,
            self.completed + other.completed,
            self.failed + other.failed,
            self.judged + other.judged,
            self.passed + other.passed,
            self.cost_cents + other.cost_cents,
            self.duration_ms + other.duration_ms,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "runs": self.runs,
            "completed": self.completed,
            "failed": self.failed,
            "judged": self.judged,
            "passed": self.passed,
            "cost_cents": self.cost_cents,
            "duration_ms": self.duration_ms,
        }


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All runs of a group that took one path.

    `signature` is the path's end, in hex. `runs` are ids, newest first, at most `EXAMPLES`;
    `tally.runs` counts all of them.
    """

    signature: str
    steps: tuple[SeenStep, ...]
    tally: Tally
    runs: tuple[str, ...]


def passed(metadata: Mapping[str, Any], threshold: float = 1.0) -> bool | None:
    """Whether a run's reward is at least the threshold; None where it has no numeric or boolean one."""
    reward = metadata.get(META_REWARD)
    if not isinstance(reward, int | float):
        return None
    return reward >= threshold


def tally_of(
    status: str,
    metadata: Mapping[str, Any],
    *,
    cost_cents: float = 0.0,
    duration_ms: float = 0.0,
    threshold: float = 1.0,
) -> Tally:
    """The sums over one run. A run that was aborted or goes on is neither completed nor failed."""
    good = passed(metadata, threshold)
    return Tally(
        runs=1,
        completed=int(status == "completed"),
        failed=int(status == "failed"),
        judged=int(good is not None),
        passed=int(bool(good)),
        cost_cents=cost_cents,
        duration_ms=duration_ms,
    )


def sum_tallies(tallies: Sequence[Tally]) -> Tally:
    """Their sum, the same in whatever order they come."""
    return Tally(
        sum(one.runs for one in tallies),
        sum(one.completed for one in tallies),
        sum(one.failed for one in tallies),
        sum(one.judged for one in tallies),
        sum(one.passed for one in tallies),
        math.fsum(one.cost_cents for one in tallies),
        math.fsum(one.duration_ms for one in tallies),
    )
