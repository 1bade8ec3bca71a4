"""The contract: what a run is, as plain dataclasses that need nothing but the standard library.

A `TraceRecord` is one run, its `TraceStep`s are the skill calls in it, a `TraceSummary` is its line
in a listing, and a `ParityResult` says whether two runs took the same path. Fields named after
the ones that every system of this schema shares come first; what isotrace adds is optional and last.

Dictionaries are read strictly: a missing field or a wrong type is a `FieldError` with a JSON Pointer.
Keys that this version does not know are left out of account, so that a newer minor version can be read.
"""

from __future__ import annotations

from isotrace.models.fields import Erased
from isotrace.models.parity import ParityResult, _normalize_for_determinism, compare_traces
from isotrace.models.records import (
    META_MODEL,
    META_PARENT_RUN,
    META_REPLAY_OF,
    META_REPLAYABILITY,
    META_REWARD,
    META_SOURCE,
    META_TASK,
    META_TIME,
    META_TRIAL,
    TraceRecord,
    TraceSummary,
    Violation,
)
from isotrace.models.runs import RunContext
from isotrace.models.steps import Lineage, StepContext, TraceStatus, TraceStep
from isotrace.models.usage import Usage

__all__ = [
    "META_MODEL",
    "META_PARENT_RUN",
    "META_REPLAYABILITY",
    "META_REPLAY_OF",
    "META_REWARD",
    "META_SOURCE",
    "META_TASK",
    "META_TIME",
    "META_TRIAL",
    "Erased",
    "Lineage",
    "ParityResult",
    "RunContext",
    "StepContext",
    "TraceRecord",
    "TraceStatus",
    "TraceStep",
    "TraceSummary",
    "Usage",
    "Violation",
    "_normalize_for_determinism",
    "compare_traces",
]
