"""Differences between two plain JSON values, as JSON Pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from isotrace.canonical import MAX_DEPTH, MAX_NODES
from isotrace.errors import FieldError, LimitError


class _Missing:
    """The type of `MISSING`."""

    _instance: _Missing | None = None

    def __new__(cls) -> _Missing:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""Stands in a `Change` for the side that has nothing at the pointer (`None` is a value)."""


class Change(NamedTuple):
    """One place where two values differ; a side that has nothing there is `MISSING`."""

    pointer: str
    expected: Any
    actual: Any


def pointer_escape(part: str | int) -> str:
    """One reference token, escaped by RFC 6901 section 3."""
    return str(part).replace("~", "~0").replace("/", "~1")


def pointer_join(parts: Iterable[str | int]) -> str:
    """The pointer that leads through these keys and indexes; `""` is the whole value."""
    return "".join("/" + pointer_escape(part) for part in parts)


def pointer_split(pointer: str) -> list[str]:
    """The unescaped reference tokens. Raises `FieldError` if the text is not a pointer."""
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise FieldError("a JSON Pointer is empty or starts with '/'", got=pointer)
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def pointer_get(value: Any, pointer: str) -> Any:
    """What stands at the pointer, or `MISSING`. Raises `FieldError` if the text is not a pointer."""
    for part in pointer_split(pointer):
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list | tuple):
            # RFC 6901 section 4: no sign, no leading zeros.
            plain = part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")
            value = value[int(part)] if plain and len(part) < 10 and int(part) < len(value) else MISSING
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


def diff_values(expected: Any, actual: Any, *, limit: int = 64) -> list[Change]:
    """Where two plain values differ: at most `limit` changes, in the order of `expected`.

    Keys that only `actual` has follow those of `expected`. Lists are compared by position, so
    that a pointer means the same on both sides; an element more or less at the front shows as
    changes from there on. Numbers are equal as JSON has them (`1` and `1.0`; `true` is no number).
    Raises `LimitError` for values beyond the limits of `isotrace.canonical`.
    """
    changes: list[Change] = []
    path: list[str | int] = []
    stack: list[Iterator[tuple[str | int, Any, Any]]] = [iter([("", expected, actual)])]
    left = MAX_NODES
    while stack and len(changes) < limit:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            if path:
                path.pop()
            continue
        part, one, other = item
        if one is other:
            continue
        left -= 1
        if left < 0 or len(stack) > MAX_DEPTH + 1:
            raise LimitError("values are too deep or too large to compare", pointer=_at(path, part, stack))
        if (children := _children(one, other)) is None:
            if not _equal_scalars(one, other):
                changes.append(Change(_at(path, part, stack), one, other))
        else:
            if len(stack) > 1:
                path.append(part)
            else:
                path.append("")
            stack.append(children)
    return changes


def _at(path: list[str | int], part: str | int, stack: list[Any]) -> str:
    # The first entry of `path` is the root itself, which has no token.
    return pointer_join([*path[1:], part]) if len(stack) > 1 else ""


def _children(one: Any, other: Any) -> Iterator[tuple[str | int, Any, Any]] | None:
    """Pairs to compare next where both sides are containers of one kind, else None."""
    if isinstance(one, dict) and isinstance(other, dict):
        return _dict_pairs(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return _list_pairs(one, other)
    return None


def _dict_pairs(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str | int, Any, Any]]:
    for key, value in one.items():
        yield key, value, other.get(key, MISSING)
    for key, value in other.items():
        if key not in one:
            yield key, MISSING, value


def _list_pairs(
    one: list[Any] | tuple[Any, ...], other: list[Any] | tuple[Any, ...]
) -> Iterator[tuple[str | int, Any, Any]]:
    for index in range(max(len(one), len(other))):
        yield (
            index,
            one[index] if index < len(one) else MISSING,
            other[index] if index < len(other) else MISSING,
        )


def _equal_scalars(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and bool(one == other) or _both_text(one, other)


def _both_text(one: Any, other: Any) -> bool:
    return isinstance(one, str) and isinstance(other, str) and str.__eq__(one, other)
