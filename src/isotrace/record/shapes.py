"""The two events that nearly every step has, in the form in which a journal writes them in one go.

A step's start and its success have the same few facts each time. So their lines hold no names, only
what differs: `[type, seq, time in µs, facts…, value]`, which orjson writes at once, value and all.
The events that are read back have their facts by name, as all others do.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from isotrace.events import Event

STARTED: Final = "step_started"
SUCCEEDED: Final = "step_finished"

# What the success of a step may say beyond the usual, as bits.
PLAIN: Final = 1
"""Its annotation names a type, but the value is plain JSON and comes back as that."""
WRAPPED: Final = 2
"""The value was no dict, and stands in one."""
AT_ONCE: Final = 4
"""It was awaited, and did not wait for anything."""

_NAMES: Final = {PLAIN: "plain", WRAPPED: "wrapped", AT_ONCE: "at_once"}

StartedFacts = tuple[tuple[int | str, ...], dict[str, str]]
"""Lineage; what the skill says of itself."""
SucceededFacts = tuple[tuple[int | str, ...], int, float, int]
"""Lineage; bits; cost in cents; duration in ns."""
Facts = StartedFacts | SucceededFacts


class Started(msgspec.Struct, array_like=True, tag=STARTED, forbid_unknown_fields=True):
    """A step's start, as it is read."""

    seq: int
    time_us: int
    lineage: list[int | str]
    skill: dict[str, str]
    value: msgspec.Raw

    def event(self) -> Event:
        facts = {"lineage": self.lineage, **self.skill}
        return Event(self.seq, STARTED, self.time_us, facts, {VALUE_NAMES[STARTED]: bytes(self.value)})


class Succeeded(msgspec.Struct, array_like=True, tag=SUCCEEDED, forbid_unknown_fields=True):
    """A step's success, as it is read."""

    seq: int
    time_us: int
    lineage: list[int | str]
    bits: Annotated[int, msgspec.Meta(ge=0, le=PLAIN | WRAPPED | AT_ONCE)]
    cost_cents: float | int
    took_ns: int
    value: msgspec.Raw

    def event(self) -> Event:
        facts = succeeded_facts(self.lineage, self.bits, self.cost_cents, self.took_ns)
        return Event(self.seq, SUCCEEDED, self.time_us, facts, {VALUE_NAMES[SUCCEEDED]: bytes(self.value)})


VALUE_NAMES: Final = {STARTED: "params", SUCCEEDED: "outcome_data"}
decode: Final = msgspec.json.Decoder(Started | Succeeded).decode


def succeeded_facts(lineage: Any, bits: int, cost_cents: float, took_ns: int) -> dict[str, Any]:
    """The facts of a success by name."""
    facts = {
        "lineage": lineage,
        "status": "success",
        "outcome_category": "SUCCESS",
        "outcome_code": None,
    }
    if bits:
        facts |= {name: True for bit, name in _NAMES.items() if bits & bit}
    return facts | {"cost_cents": cost_cents, "duration_ms": round(took_ns / 1e6, 3), "retry_count": 0}


def named_facts(facts: Facts) -> dict[str, Any]:
    """The facts of such an event by name, where it can't be written in this form."""
    if len(facts) == 2:
        lineage, skill = facts
        return {"lineage": lineage, **skill}
    return succeeded_facts(*facts)
