"""Fresh UUIDs that the agent's own code makes, and those of the libraries that make them in their own way."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.patches import swap_code
from isotrace.record.sources.noted import UUID, noted, part_of_another

ABOUT = About(
    libraries="`uuid`",
    versions="Python 3.11 to 3.13",
    steps=(
        ("`uuid1`, `uuid4`, and in newer Pythons `uuid6`, `uuid7` and `uuid8`", "noted", "the recorded ids"),
    ),
    not_captured=("Ids that a library makes of `os.urandom` by itself.",),
)

_NAMES = ("uuid1", "uuid4", "uuid6", "uuid7", "uuid8")


def control() -> Callable[[], None]:
    """Has fresh UUIDs noted inside runs, and served in replays, also those of functions that were imported
    by name; gives the way back."""
    undo = [swap_code(getattr(uuid, name), fresh) for name in _NAMES if hasattr(uuid, name)]

    def restore() -> None:
        while undo:
            undo.pop()()

    return restore


def fresh(original: Callable[..., uuid.UUID], *args: Any, **kwargs: Any) -> uuid.UUID:
    """What a function that makes fresh UUIDs gives inside a run. For `swap_code`."""
    made: uuid.UUID | None = None

    def make() -> str:
        nonlocal made
        token = part_of_another.set(True)
        try:
            made = original(*args, **kwargs)
        finally:
            part_of_another.reset(token)
        return made.hex

    hex_digits: str = noted(UUID, make)
    # The very object, where it was made now.
    return made if made is not None else uuid.UUID(hex=hex_digits)
