"""Violations of policies that only one of two runs has. They are no divergence: what a run did is its path,
and a step that a policy stopped differs there by its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from isotrace.models import Erased, TraceRecord, Violation


@dataclass(frozen=True, slots=True)
class OneSided:
    """A violation that the other run has not at the same step. `side` says whose it is."""

    side: Literal["original", "replay"]
    step_index: int | None
    policy_id: str
    reason: str | Erased

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        reason = self.reason.to_dict() if isinstance(self.reason, Erased) else self.reason
        return {
            "side": self.side,
            "step_index": self.step_index,
            "policy_id": self.policy_id,
            "reason": reason,
        }


def one_sided_violations(
    original: TraceRecord, replay: TraceRecord, rows: Sequence[tuple[int | None, int | None]]
) -> list[OneSided]:
    """The violations that one run has and the other has not, the original's first. `rows` are the aligned
    steps, by `step_index`; a step that is in no row stands beside that of the same index."""
    if not (original.violations or replay.violations):
        return []
    across = {before: after for before, after in rows if before is not None}
    before = [
        (None if one.step_index is None else across.get(one.step_index, one.step_index), one)
        for one in original.violations
    ]
    after = [(one.step_index, one) for one in replay.violations]
    return [*_only("original", before, after), *_only("replay", after, before)]


def _only(
    side: Literal["original", "replay"],
    here: list[tuple[int | None, Violation]],
    there: list[tuple[int | None, Violation]],
) -> list[OneSided]:
    matched = Counter((index, one.policy_id) for index, one in there)
    found = []
    for index, one in here:
        if matched[index, one.policy_id]:
            matched[index, one.policy_id] -= 1
        else:
            found.append(OneSided(side, one.step_index, one.policy_id, one.reason))
    return found
