"""How values and places read in the one sentence that a divergence has for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isotrace.canonical import value_bytes
from isotrace.errors import CanonicalizationError
from isotrace.jsondiff import MISSING, Change
from isotrace.models import Erased

LISTED = 3
"""How many pointers a sentence names; the divergence itself has all."""

_SHOWN = 60
_BEFORE = 20


def plain(value: Any) -> Any:
    """The value as JSON data: what stands for an erased value in its plain form."""
    return value.to_dict() if isinstance(value, Erased) else value


def value_text(value: Any) -> str:
    """The value as JSON on one line, shortened."""
    if value is MISSING:
        return "absent"
    if isinstance(value, Erased):
        return "erased"
    if isinstance(value, str) and len(value) > _SHOWN:
        value = value[:_SHOWN]
        return _quoted(value)[:-1] + "…"
    text = _quoted(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _quoted(value: Any) -> str:
    try:
        return value_bytes(value).decode()
    except CanonicalizationError:
        return type(value).__name__


def change_text(expected: Any, actual: Any) -> str:
    """`"Paris" → "Rome"`. Of two long texts, the part where they begin to differ."""
    if isinstance(expected, str) and isinstance(actual, str) and min(len(expected), len(actual)) > _BEFORE:
        shared = next(
            (at for at, (one, other) in enumerate(zip(expected, actual, strict=False)) if one != other),
            min(len(expected), len(actual)),
        )
        if shared > _BEFORE and max(len(expected), len(actual)) > _SHOWN:
            start = shared - _BEFORE
            return f"{_tail_text(expected[start:])} → {_tail_text(actual[start:])}"
    return f"{value_text(expected)} → {value_text(actual)}"


def _tail_text(text: str) -> str:
    return '"…' + value_text(text)[1:]


def changes_text(changes: Sequence[Change]) -> str:
    """The first few changes, `/city ("Paris" → "Rome"), /days (3 → 5) and 2 more`."""
    shown = [
        f"{change.pointer or 'the root'} ({change_text(change.expected, change.actual)})"
        for change in changes[:LISTED]
    ]
    more = len(changes) - LISTED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def names_text(names: Sequence[str]) -> str:
    """One name as it is; of more, how many steps there are and a few of the different names."""
    shown = list(dict.fromkeys(names))
    more = len(shown) - LISTED
    text = ", ".join(shown[:LISTED]) + (f" and {more} others" if more > 0 else "")
    return text if len(names) == 1 else f"{len(names)} steps ({text})"
