"""Everything that is said of one group of runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from isotrace.population.behaviour import Behaviour, Tally, sum_tallies
from isotrace.population.statistics import (
    LEVEL,
    Estimate,
    effective_variants,
    pair_agreement,
    same_path,
    success,
    total_agreement,
    unseen_mass,
)
from isotrace.population.tree import paths_of

TAR_RUNS: Final = 5
"""The N of a group's TAR@N; that of groups with fewer runs is all of theirs."""


@dataclass(frozen=True, slots=True)
class Measures:
    """The numbers of one group: `paths` distinct ones in `runs` runs, and what follows from them.

    `same_path`: k of N runs took the most common path. `agreement`: of pairs. `tar`: TAR@5.
    """

    runs: int
    paths: int
    tally: Tally
    same_path: Estimate
    agreement: Estimate
    tar: Estimate
    effective_variants: Estimate
    unseen: Estimate
    success: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the counts, and each estimate with value, interval and words."""
        return {
            "runs": self.runs,
            "paths": self.paths,
            "tally": self.tally.to_dict(),
            "same_path": self.same_path.to_dict(),
            "agreement": self.agreement.to_dict(),
            "tar": self.tar.to_dict(),
            "effective_variants": self.effective_variants.to_dict(),
            "unseen": self.unseen.to_dict(),
            "success": self.success.to_dict(),
        }


def measure(behaviours: Iterable[Behaviour], *, level: float = LEVEL) -> Measures:
    """The numbers of one group of runs, of which each behaviour is one path. Empty groups have none."""
    paths = paths_of(behaviours)
    tally = sum_tallies([path.tally for path in paths])
    counts, runs = [path.tally.runs for path in paths], tally.runs
    return Measures(
        runs=runs,
        paths=len(paths),
        tally=tally,
        same_path=same_path(counts, level=level),
        agreement=pair_agreement(counts),
        tar=total_agreement([counts], max(1, min(runs, TAR_RUNS))),
        effective_variants=effective_variants(counts),
        unseen=unseen_mass(counts, level=level),
        success=success(tally, level=level),
    )
