"""What stands where in a golden file."""

from __future__ import annotations

from typing import Any, Final

from isotrace.events import Event
from isotrace.formats.golden_text import label_of
from isotrace.formats.source import Bounds

FORMAT: Final = "golden"
VERSION: Final = 1
HEAD: Final = f"isotrace {FORMAT} "
RECORDED: Final = "recorded"
"""The last section: what another recording of the same behaviour would have otherwise."""

BOUNDS: Final = Bounds(total=64 * 1024 * 1024, ledger=256 * 1024 * 1024)
"""A golden file is one that people read."""

LEFT_OUT: Final[dict[str, dict[str, Any]]] = {
    "run_started": {"agent_id": None, "frozen_timestamp": None, "parent": None},
    "step_finished": {"outcome_code": None, "cost_cents": 0.0, "retry_count": 0},
}
"""Facts that are not written where they are these, and are put back."""

RECORDED_FACTS: Final[dict[str, tuple[str, ...]]] = {
    "run_started": ("origin_run_id", "correlation_id", "tenant_id", "seed", "parent", "entry_point"),
    "step_finished": ("child_run_id", "usage"),
}
"""Facts that stand in `recorded`."""

RECORDED_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "run_started": ("environment",),
    "step_started": ("raw_ids",),
    "step_finished": ("transport",),
}
"""Values that stand in `recorded`; so does what is noted of a gap, as clocks and fresh ids are."""

ELSEWHERE: Final[dict[str, tuple[str, ...]]] = {
    "run_started": ("scheme", "run_id"),
    "step_finished": ("duration_ms",),
}
"""Facts that follow from the file, stand in its first line, or have a list of their own."""


def is_recorded_value(event: Event, name: str) -> bool:
    """Whether a value stands in `recorded`."""
    noted = event.type == "value_read" and "gap" in event.facts
    return noted or name in RECORDED_VALUES.get(event.type, ())


def reference_label(event: Event) -> str | None:
    """How references name what an event says, None where nothing refers to it."""
    if event.type == "run_started":
        return label_of(None)
    return label_of(event.lineage) if event.type in ("step_started", "step_finished") else None
