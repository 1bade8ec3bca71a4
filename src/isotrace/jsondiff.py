"""Differences between two plain JSON values, as JSON Pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from isotrace.canonical import MAX_DEPTH, MAX_NODES, pointer_to
from isotrace.errors import FieldError, LimitError


class _Missing:
    """The type of `MISSING`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __copy__(self) -> _Missing:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Missing:
        return self

    def __reduce__(self) -> str:
        # Read back as the one object of this name, so that `is` keeps working.
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
    return pointer_to(parts)


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
    Other objects are compared by type and `==`. Raises `LimitError` for values beyond the limits
    of `isotrace.canonical`.
    """
    changes: list[Change] = []
    # Per open pair of containers, what is still to be compared; and the key that led to each but the first.
    open_: list[Iterator[_Pair]] = [iter([(None, expected, actual)])]
    path: list[Any] = []
    nodes = 0
    while open_ and len(changes) < limit:
        pair = next(open_[-1], None)
        if pair is None:
            open_.pop()
            if path:
                path.pop()
            continue
        key, one, other = pair
        if one is other:
            continue
        nodes += 1
        if nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise LimitError(
                "values are too deep or too large to compare",
                pointer=_place(path, key),
                expected=f"at most {MAX_DEPTH} levels and {MAX_NODES} nodes",
            )
        children = _children(one, other)
        if children is not None:
            path.append(key)
            open_.append(children)
        elif not _equal(one, other):
            changes.append(Change(_place(path, key), one, other))
    return changes


def _place(path: list[Any], key: Any) -> str:
    # The first key belongs to the two values themselves, which have none.
    return pointer_to([*path, key][1:])


_Pair = tuple[Any, Any, Any]


def _children(one: Any, other: Any) -> Iterator[_Pair] | None:
    """Pairs to compare next where both sides are containers of one kind, else None."""
    if isinstance(one, dict) and isinstance(other, dict):
        return _dict_pairs(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return _list_pairs(one, other)
    return None


def _dict_pairs(one: dict[str, Any], other: dict[str, Any]) -> Iterator[_Pair]:
    for key, value in one.items():
        yield key, value, other.get(key, MISSING)
    for key, value in other.items():
        if key not in one:
            yield key, MISSING, value


def _list_pairs(one: Sequence[Any], other: Sequence[Any]) -> Iterator[_Pair]:
    for index, (value, counterpart) in enumerate(zip_longest(one, other, fillvalue=MISSING)):
        yield index, value, counterpart


def _equal(one: Any, other: Any) -> bool:
    """Equality of two values that are not both dicts or both lists."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, str) and isinstance(other, str):
        return str.__eq__(one, other)
    return type(one) is type(other) and bool(one == other)
