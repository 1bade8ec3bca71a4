"""Many runs: groups of one path, and what can be said of them. Standard library only; no store."""

from __future__ import annotations

from isotrace.population.behaviour import EXAMPLES, Behaviour, SeenStep, Tally, passed, tally_of
from isotrace.population.branching import (
    Branch,
    BranchingStep,
    Contrast,
    ParamDifference,
    branching_steps,
    differing_params,
)
from isotrace.population.changes import (
    BranchChange,
    Change,
    Comparison,
    Move,
    PathChange,
    StepChange,
    SuccessChange,
)
from isotrace.population.comparing import compare_behaviours
from isotrace.population.exact import ALPHA
from isotrace.population.gate import FlakyStep, GateResult
from isotrace.population.measures import Measures, measure
from isotrace.population.sprt import Decision, SequentialTest, fixed_size
from isotrace.population.statistics import (
    LEVEL,
    Estimate,
    Interval,
    effective_variants,
    k_of_n,
    pair_agreement,
    pass_curve,
    pass_k,
    same_path,
    success,
    total_agreement,
    unseen_mass,
    wilson,
)
from isotrace.population.tree import Node, Tree, tree_of

__all__ = [
    "ALPHA",
    "EXAMPLES",
    "LEVEL",
    "Behaviour",
    "Branch",
    "BranchChange",
    "BranchingStep",
    "Change",
    "Comparison",
    "Contrast",
    "Decision",
    "Estimate",
    "FlakyStep",
    "GateResult",
    "Interval",
    "Measures",
    "Move",
    "Node",
    "ParamDifference",
    "PathChange",
    "SeenStep",
    "SequentialTest",
    "StepChange",
    "SuccessChange",
    "Tally",
    "Tree",
    "branching_steps",
    "compare_behaviours",
    "differing_params",
    "effective_variants",
    "fixed_size",
    "k_of_n",
    "measure",
    "pair_agreement",
    "pass_curve",
    "pass_k",
    "passed",
    "same_path",
    "success",
    "tally_of",
    "total_agreement",
    "tree_of",
    "unseen_mass",
    "wilson",
]
