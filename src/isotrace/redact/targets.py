"""Where a rule applies: the syntax that rules of comparisons have too, `/input/task`, `search:/query`."""

from __future__ import annotations

from typing import NamedTuple

from isotrace.errors import UsageError
from isotrace.jsondiff import pointer_split


class Place(NamedTuple):
    """A JSON Pointer whose parts may be `*`, in one skill's values or (None) in those of all and the run."""

    skill: str | None
    parts: tuple[str, ...]

    def covers(self, skill: str | None, path: tuple[str, ...]) -> bool:
        """Whether this is the place at this path. `skill` is None for the run's own values."""
        if self.skill is not None and self.skill != skill:
            return False
        return len(self.parts) == len(path) and all(
            one in ("*", other) for one, other in zip(self.parts, path, strict=True)
        )


def place_of(text: str, where: str) -> Place:
    """The place that a text names. Raises `UsageError` for one that names none."""
    skill, colon, pointer = text.partition(":/")
    if not colon:
        skill, pointer = "", text.removeprefix("/") if text.startswith("/") else ""
    if not pointer or (colon and not skill):
        raise UsageError(
            "a place is a JSON Pointer, with a skill in front of it if it is in that skill's values only",
            where=where,
            expected="/query, search:/query, /input/task",
            got=text,
        )
    return Place(skill or None, tuple(pointer_split("/" + pointer)))
