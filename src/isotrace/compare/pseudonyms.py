"""Two runs whose pseudonyms were made with two keys: what a key has made can't be held against another's."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from isotrace.models import RunContext, TraceRecord, TraceStep


def keys_differ(original: TraceRecord, replay: TraceRecord) -> bool:
    """Whether redactors have put pseudonyms into one of the runs that the other's key does not make."""
    return _said(original).get("key") != _said(replay).get("key")


def without_pseudonyms(original: TraceRecord, replay: TraceRecord) -> tuple[TraceRecord, TraceRecord]:
    """Both runs with `[email]` for `[email:3f9a1c07be]`; the records themselves stay as they are."""
    pattern = pattern_of(name for record in (original, replay) for name in _names(record))
    return _plain(original, pattern), _plain(replay, pattern)


def pattern_of(names: Iterable[str]) -> re.Pattern[str]:
    """What pseudonyms of the redactors of these names look like; `pattern:order` leaves `[order:…]`."""
    shorts = "|".join(sorted({re.escape(name.rpartition(":")[2]) for name in names}))
    return re.compile(rf"\[({shorts}):[0-9a-f]{{10}}\]")


def _said(record: TraceRecord) -> dict[str, Any]:
    return (record.context.redactors if record.context is not None else None) or {}


def _names(record: TraceRecord) -> list[str]:
    use = _said(record).get("use")
    listed = [one[0] for one in use if isinstance(one, list) and one] if isinstance(use, list) else []
    return [name for name in listed if isinstance(name, str)]


def _plain(record: TraceRecord, pattern: re.Pattern[str]) -> TraceRecord:
    steps = [_step(step, pattern) for step in record.steps]
    context = None if record.context is None else _context(record.context, pattern)
    return replace(record, steps=steps, plan=without(record.plan, pattern), context=context)


def _step(step: TraceStep, pattern: re.Pattern[str]) -> TraceStep:
    return replace(
        step, params=without(step.params, pattern), outcome_data=without(step.outcome_data, pattern)
    )


def _context(context: RunContext, pattern: re.Pattern[str]) -> RunContext:
    return replace(
        context,
        input=without(context.input, pattern),
        result=without(context.result, pattern),
        error=without(context.error, pattern),
    )


def without(value: Any, pattern: re.Pattern[str]) -> Any:
    """Plain JSON with `[email]` for `[email:3f9a1c07be]`, in texts, keys and bytes."""
    match value:
        case str():
            return pattern.sub(r"[\1]", value)
        case list():
            return [without(one, pattern) for one in value]
        case {"$iso:bytes": str(data)} if len(value) == 1:
            try:
                text = base64.b64decode(data, validate=True).decode("latin-1")
            except (binascii.Error, ValueError):
                return value
            return {"$iso:bytes": base64.b64encode(without(text, pattern).encode("latin-1")).decode()}
        case dict():
            return {without(key, pattern): without(one, pattern) for key, one in value.items()}
    return value
