"""Joining the pieces of one value: texts are appended, objects merged, entries of lists found by index."""

from __future__ import annotations

from typing import Any, Final

# What comes whole, though a server may send it with every piece.
_WHOLE: Final = frozenset({"id", "name", "role", "type"})
_INDEX: Final = "index"


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds the fields of one piece to those of the pieces before it. Nulls add nothing."""
    for key, value in more.items():
        before = into.get(key)
        if before is None:
            into[key] = merged_list(key, [], value) if isinstance(value, list) else value
        elif value is None:
            continue
        elif isinstance(value, list) or isinstance(before, list):
            into[key] = merged_list(key, _items(before), _items(value))
        elif isinstance(before, str) and isinstance(value, str):
            into[key] = before if key in _WHOLE and value == before else before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            merge(before, value)
        else:
            into[key] = value


def _items(value: Any) -> list[Any]:
    """A list; a text that stands where others have a list is one part of it."""
    if isinstance(value, list):
        return value
    return [{"type": "text", "text": value}] if value else []


def merged_list(key: str, into: list[Any], more: list[Any]) -> list[Any]:
    """The list with the entries of one piece added: each to the entry that it continues, else at the end."""
    for entry in more:
        place = _continued(key, into, entry) if isinstance(entry, dict) else None
        if place is not None:
            merge(place, entry)
        elif isinstance(entry, dict):
            copy: dict[str, Any] = {}
            merge(copy, entry)
            into.append(copy)
        else:
            into.append(entry)
    return into


def _continued(key: str, into: list[Any], entry: dict[str, Any]) -> dict[str, Any] | None:
    """The entry before that this one goes on with."""
    dicts = [one for one in into if isinstance(one, dict)]
    if _INDEX in entry:
        return next((one for one in dicts if one.get(_INDEX) == entry[_INDEX]), None)
    if key == "tool_calls":
        # Servers that number nothing send each call with its id, and go on with it without one.
        if entry.get("id"):
            return next((one for one in dicts if one.get("id") == entry["id"]), None)
        return dicts[-1] if dicts and not entry.get("function", {}).get("name") else None
    last = dicts[-1] if dicts else None
    if (
        last is not None
        and last.get("type") == entry.get("type")
        and entry.get("type") in ("text", "thinking")
    ):
        return last
    return None


def latest(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Takes the fields of one piece in place of those before. What says nothing replaces nothing."""
    for key, value in more.items():
        if value not in (None, "") or key not in into:
            into[key] = value


def in_order(entries: list[Any]) -> list[Any]:
    """The entries by their index, which is left out: whole answers do not have it."""
    entries = sorted(entries, key=lambda one: one.get(_INDEX, 0) if isinstance(one, dict) else 0)
    return [
        {key: value for key, value in one.items() if key != _INDEX} if isinstance(one, dict) else one
        for one in entries
    ]
