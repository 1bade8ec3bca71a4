"""What the program of this process has read of its surroundings since it began: variables and files.

They are the process's, not a run's: what a module reads when it is imported matters to every run after it.
Each run writes all that is known by its next step, once. Only a process that `isotrace run` has started
keeps this.
"""

from __future__ import annotations

from typing import Any, Final

from isotrace.record.sources.noted import MAX_IN_GAP

VARIABLES: Final = "environment"
FILES: Final = "files"

GAP: Final = -1
"""Where these stand: before all gaps of the run's root."""

EARLY_GAP: Final = -2
"""Where noted values stand that were read before the run began, by the lines that led to it."""


class Surroundings:
    """The readings so far, in order; `count` grows with each."""

    def __init__(self) -> None:
        self.count = 0
        self._readings: list[tuple[str, str, Any]] = []
        self._early: dict[str, list[Any]] | None = {}

    def early(self, source: str, value: Any) -> None:
        """The program has read a value before its first run; it is that run's, too."""
        if self._early is not None and len(kept := self._early.setdefault(source, [])) < MAX_IN_GAP:
            kept.append(value)

    def take_early(self) -> dict[str, list[Any]]:
        """What the program has read before its first run, which begins now; later ones get nothing."""
        taken, self._early = self._early, None
        return taken or {}

    def add(self, source: str, name: str, value: Any) -> None:
        """A variable or a file was read for the first time. Safe to call from anywhere."""
        self._readings.append((source, name, value))
        self.count = len(self._readings)

    def since(self, mark: int) -> dict[str, dict[str, Any]]:
        """What was read after the first `mark` readings, by source and name."""
        found: dict[str, dict[str, Any]] = {}
        for source, name, value in self._readings[mark : self.count]:
            found.setdefault(source, {})[name] = value
        return found

    def names(self, source: str) -> list[str]:
        """The names that were read of a source."""
        return [name for one, name, _ in self._readings if one == source]

    def clear(self) -> None:
        """The program has ended."""
        self._readings = []
        self._early = {}
        self.count = 0


surroundings: Final = Surroundings()
