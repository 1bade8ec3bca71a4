"""Recorded steps by what they asked for, for whoever asks for the same."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from isotrace.models import Lineage
from isotrace.replay.recorded import RecordedStep


class Requests:
    """Steps that were not served yet."""

    def __init__(self, steps: list[RecordedStep]) -> None:
        self._steps: dict[tuple[str, str], deque[RecordedStep]] = defaultdict(deque)
        for step in steps:
            if not step.params_erased:
                self._steps[step.kind, step.skill_name].append(step)

    def take(self, name: tuple[str, str], params: Any, lineage: Lineage) -> RecordedStep | None:
        left = self._steps[name]
        equal = [step for step in left if step.asks(params)]
        if not equal:
            return None
        found = next((step for step in equal if step.lineage == lineage), equal[0])
        left.remove(found)
        return found
