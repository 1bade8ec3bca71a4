"""Two values beside each other: what stands where, and where they begin to differ."""

from __future__ import annotations

from typing import Any

from isotrace.jsondiff import MISSING
from isotrace.report.safe import json_text, visible


def value_at(values: Any, pointer: str) -> Any:
    """One side of a divergence at one of its pointers, `MISSING` where that side has nothing."""
    return values.get(pointer, MISSING) if isinstance(values, dict) else MISSING


def value_text(value: Any) -> str:
    """The value on one line, as JSON."""
    if value is MISSING:
        return "absent"
    return visible(json_text(value, indent=False))


def shared_start(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    ends = min(len(one), len(other))
    return next((at for at in range(ends) if one[at] != other[at]), ends)
