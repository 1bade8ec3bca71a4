"""Divergences, which of them comes first, and the verdict that follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isotrace.compare.codes import CODES, Code, CodeInfo, Group, Severity
from isotrace.models import Lineage

__all__ = [
    "CODES",
    "Code",
    "CodeInfo",
    "Divergence",
    "Group",
    "Severity",
    "Verdict",
    "first_divergence",
    "in_order",
    "verdict_of",
]


class Verdict(StrEnum):
    """What a comparison comes to. It prints as its bare name."""

    MATCH = "MATCH"
    DIVERGED = "DIVERGED"
    INVALID_RECORD = "INVALID_RECORD"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """What a command that compares exits with: 0 match, 1 diverged, 2 invalid, 125 inconclusive."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Verdict.MATCH: 0,
    Verdict.DIVERGED: 1,
    Verdict.INVALID_RECORD: 2,
    Verdict.INCONCLUSIVE: 125,
}


@dataclass(frozen=True, slots=True)
class Divergence:
    """One place where a run differs from its record or from another run.

    `index` is the position in the compared sequence, counted from 0; in a diff it is the row of
    the alignment. None: it concerns the run as a whole. `original_index` and `replay_index` are the
    `step_index` on each side, None where that side has no such step. `lineage` is the
    step's own, of the original where there is one. `pointers` lead into what
    `code.info.pointers` names. `expected` and `actual`: where there are
    pointers, an object from each pointer to the value there (a side that has nothing there lacks
    the key); else the two names, statuses or steps; None for nothing. `nearest` describes the
    step of the other side that comes closest. `message` is one sentence for people.
    """

    code: Code
    index: int | None = None
    lineage: Lineage = ()
    pointers: list[str] = field(default_factory=list)
    expected: Any = None
    actual: Any = None
    nearest: dict[str, Any] | None = None
    original_index: int | None = None
    replay_index: int | None = None
    message: str = ""
    severity: Severity = Severity.ERROR

    @property
    def group(self) -> Group:
        """What the code is about."""
        return self.code.group

    def __str__(self) -> str:
        place = "" if self.index is None else f" at step {self.index}"
        return f"{self.code}{place}: {self.message}" if self.message else f"{self.code}{place}"

    @property
    def reason(self) -> str:
        """The code and the sentence, without the place, as `ParityResult.divergence_reason` has them."""
        return f"{self.code}: {self.message}" if self.message else str(self.code)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields, and the code's group."""
        return {
            "code": self.code.value,
            "group": self.group.name,
            "severity": self.severity.value,
            "index": self.index,
            "original_index": self.original_index,
            "replay_index": self.replay_index,
            "lineage": list(self.lineage),
            "pointers": list(self.pointers),
            "expected": self.expected,
            "actual": self.actual,
            "nearest": self.nearest,
            "message": self.message,
        }


def _rank(divergence: Divergence) -> tuple[int, int, int]:
    group = divergence.group
    if divergence.index is None:
        # What is wrong with the record or the world stands before every step; the rest is about the end.
        return (0 if group in (Group.R, Group.E) else 2, 0, group.rank)
    return (1, divergence.index, group.rank)


def in_order(divergences: Iterable[Divergence]) -> list[Divergence]:
    """By index; R > E > C > O > X breaks a tie; R and E without an index come first, others last."""
    return sorted(divergences, key=_rank)


def first_divergence(divergences: Iterable[Divergence]) -> Divergence | None:
    """The first one that decides the verdict; without such a one the first warning; None for none."""
    ordered = in_order(divergences)
    errors = [one for one in ordered if one.severity is Severity.ERROR]
    return next(iter(errors or ordered), None)


_INVALID = frozenset({Code.SCHEMA_UNSUPPORTED, Code.RECORD_CORRUPT})
_UNKNOWN = frozenset({Code.RECORD_GAP, Code.INDETERMINATE_STEP})


def verdict_of(divergences: Sequence[Divergence]) -> Verdict:
    """What these divergences come to.

    A broken record is `INVALID_RECORD`; any other error is `DIVERGED`, but what is merely absent
    or unfinished is `INCONCLUSIVE`, with whatever severity: a match that rests on
    it is not proven. A difference that was seen elsewhere stands all the same.
    """
    errors = {one.code for one in divergences if one.severity is Severity.ERROR}
    if errors & _INVALID:
        return Verdict.INVALID_RECORD
    if errors - _UNKNOWN:
        return Verdict.DIVERGED
    if any(one.code in _UNKNOWN for one in divergences):
        return Verdict.INCONCLUSIVE
    return Verdict.MATCH
