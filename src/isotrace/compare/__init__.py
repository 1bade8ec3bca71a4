"""Comparing runs: codes and verdicts, rules, alignment, the full diff."""

from __future__ import annotations

from isotrace.compare.cause import Cause, Why
from isotrace.compare.codes import CODES, Code, CodeInfo, Group, Severity
from isotrace.compare.diff import Pair, TraceDiff, diff_traces
from isotrace.compare.divergence import Divergence, Verdict, first_divergence, in_order, verdict_of
from isotrace.compare.paths import first_path_difference
from isotrace.compare.rules import Level, Rules, Target, Tolerance
from isotrace.compare.text import NORMALIZERS

__all__ = [
    "CODES",
    "NORMALIZERS",
    "Cause",
    "Code",
    "CodeInfo",
    "Divergence",
    "Group",
    "Level",
    "Pair",
    "Rules",
    "Severity",
    "Target",
    "Tolerance",
    "TraceDiff",
    "Verdict",
    "Why",
    "diff_traces",
    "first_divergence",
    "first_path_difference",
    "in_order",
    "verdict_of",
]
