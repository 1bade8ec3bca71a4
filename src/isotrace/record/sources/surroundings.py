"""What the program of this process has read of its surroundings since it began: variables and files.

They are the process's, not a run's: what a module reads when it is imported matters to every run after it.
Each run writes all that is known by its next step, once. Only a process that `isotrace run` has started
keeps this.
"""

from __future__ import annotations

from typing import Any, Final

VARIABLES: Final = "environment"
FILES: Final = "files"

GAP: Final = -1
"""Where these stand: before all gaps of the run's root."""


class Surroundings:
    """The readings so far, in order; `count` grows with each."""

    def __init__(self) -> None:
        self.count = 0
        self._readings: list[tuple[str, str, Any]] = []

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
        self.count = 0


surroundings: Final = Surroundings()
