"""The closed list of reasons why two runs, or a run and its replay, are not the same."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Group(StrEnum):
    """What a code is about. The order is the one in which codes at one step are named."""

    R = "record"
    E = "environment"
    C = "control flow"
    O = "outcome"  # noqa: E741  # the groups go by their letters in reports and docs
    X = "policy"

    @property
    def rank(self) -> int:
        """0 for R, 1 for E, 2 for C, 3 for O, 4 for X."""
        return _RANKS[self]


_RANKS = {group: rank for rank, group in enumerate(Group)}


class Severity(StrEnum):
    """`ERROR` decides the verdict; `WARNING` and `INFO` are reported and decide nothing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(StrEnum):
    """The 25 divergence codes. They print as their bare names."""

    SCHEMA_UNSUPPORTED = "SCHEMA_UNSUPPORTED"
    RECORD_CORRUPT = "RECORD_CORRUPT"
    RECORD_GAP = "RECORD_GAP"
    INDETERMINATE_STEP = "INDETERMINATE_STEP"
    INPUT_CHANGED = "INPUT_CHANGED"
    RUNTIME_MISMATCH = "RUNTIME_MISMATCH"
    UNCONTROLLED_SOURCE = "UNCONTROLLED_SOURCE"
    KIND_CHANGED = "KIND_CHANGED"
    SKILL_CHANGED = "SKILL_CHANGED"
    PARAMS_CHANGED = "PARAMS_CHANGED"
    EXTRA_STEP = "EXTRA_STEP"
    MISSING_STEP = "MISSING_STEP"
    REORDERED = "REORDERED"
    EARLY_END = "EARLY_END"
    LATE_END = "LATE_END"
    SCHEDULE_CHANGED = "SCHEDULE_CHANGED"
    REPLAY_STALLED = "REPLAY_STALLED"
    STATUS_CHANGED = "STATUS_CHANGED"
    OUTPUT_CHANGED = "OUTPUT_CHANGED"
    ERROR_CHANGED = "ERROR_CHANGED"
    RETRIES_CHANGED = "RETRIES_CHANGED"
    STREAM_CHANGED = "STREAM_CHANGED"
    FINAL_RESULT_CHANGED = "FINAL_RESULT_CHANGED"
    BUDGET_CHANGED = "BUDGET_CHANGED"
    EFFECT_BLOCKED = "EFFECT_BLOCKED"

    @property
    def info(self) -> CodeInfo:
        """Group, usual severity and definition."""
        return CODES[self]

    @property
    def group(self) -> Group:
        """What the code is about."""
        return CODES[self].group

    @property
    def severity(self) -> Severity:
        """The code's usual severity; a divergence may carry another one."""
        return CODES[self].severity


class CodeInfo(NamedTuple):
    """What the docs say of a code.

    `pointers`: what the JSON Pointers of such a divergence lead into; empty if it has none.
    """

    group: Group
    severity: Severity
    definition: str
    pointers: str = ""


_R, _E, _C, _O, _X = Group.R, Group.E, Group.C, Group.O, Group.X
_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

CODES: Final[dict[Code, CodeInfo]] = {
    Code.SCHEMA_UNSUPPORTED: CodeInfo(
        _R, _ERROR, "The record's format, or one of its events, is unknown to this version."
    ),
    Code.RECORD_CORRUPT: CodeInfo(
        _R, _ERROR, "A hash, a chain or a sequence of the record is broken.", "the record"
    ),
    Code.RECORD_GAP: CodeInfo(
        _R,
        _ERROR,
        "Content that the comparison rests on is absent: erased, truncated, or kept by type name only.",
        "the step or the record",
    ),
    Code.INDETERMINATE_STEP: CodeInfo(
        _R, _ERROR, "A step was started and never completed, so nobody knows what it did."
    ),
    Code.INPUT_CHANGED: CodeInfo(_E, _ERROR, "The run's input or plan differs.", "the record"),
    Code.RUNTIME_MISMATCH: CodeInfo(
        _E,
        _WARNING,
        "Python, the hash seed or the fingerprint of the packages differs.",
        "the environment",
    ),
    Code.UNCONTROLLED_SOURCE: CodeInfo(
        _E, _ERROR, "The agent used input, output or a clock outside the recorder."
    ),
    Code.KIND_CHANGED: CodeInfo(
        _C, _ERROR, "A step of another kind stands there, such as a model call where a tool call was."
    ),
    Code.SKILL_CHANGED: CodeInfo(_C, _ERROR, "Another skill was called at the same place."),
    Code.PARAMS_CHANGED: CodeInfo(
        _C, _ERROR, "The same skill was called with params that differ at these JSON Pointers.", "params"
    ),
    Code.EXTRA_STEP: CodeInfo(_C, _ERROR, "A step that is not on record; later ones match."),
    Code.MISSING_STEP: CodeInfo(_C, _ERROR, "A step on record was never called; later ones match."),
    Code.REORDERED: CodeInfo(_C, _ERROR, "The same steps came in another order within one branch."),
    Code.EARLY_END: CodeInfo(_C, _ERROR, "The run ended and a recorded suffix remains."),
    Code.LATE_END: CodeInfo(_C, _ERROR, "The record ended and the run goes on."),
    Code.SCHEDULE_CHANGED: CodeInfo(
        _C,
        _WARNING,
        "Parallel branches took the same steps with their starts and ends interleaved otherwise.",
    ),
    Code.REPLAY_STALLED: CodeInfo(_C, _ERROR, "A recorded step's turn never comes."),
    Code.STATUS_CHANGED: CodeInfo(_O, _ERROR, "The step's status differs: success here, failure there."),
    Code.OUTPUT_CHANGED: CodeInfo(
        _O,
        _ERROR,
        "The step succeeded in both runs, and what came back differs.",
        "outcome_data, or the step",
    ),
    Code.ERROR_CHANGED: CodeInfo(
        _O, _ERROR, "The step failed in both runs, with another category or code.", "the step"
    ),
    Code.RETRIES_CHANGED: CodeInfo(_O, _ERROR, "The number or pattern of attempts differs.", "the step"),
    Code.STREAM_CHANGED: CodeInfo(
        _O,
        _INFO,
        "A stream brought the same content in other chunks, or ended otherwise.",
        "outcome_data",
    ),
    Code.FINAL_RESULT_CHANGED: CodeInfo(
        _O, _ERROR, "The run's result differs, its status or the type of its error.", "the record"
    ),
    Code.BUDGET_CHANGED: CodeInfo(
        _O, _WARNING, "Cost, tokens or time differ by more than the tolerance that was asked for."
    ),
    Code.EFFECT_BLOCKED: CodeInfo(_X, _ERROR, "A step that is needed is forbidden by its effect."),
}
"""Every code, in the order of the groups."""
