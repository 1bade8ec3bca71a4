"""From plain data back to values: the tags undone, and nothing trusted."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from isotrace.canonical import MAX_DEPTH
from isotrace.errors import RestoreError

_PREFIX = "$iso:"
# What they stand for is not in the value: they come back as they are.
_KEPT = frozenset({"$iso:object", "$iso:id", "$iso:erased"})
_MAX_TEXT_DIGITS = 4_000


def from_plain(value: Any) -> Any:
    """The value that a plain value stands for: every tag undone but `$iso:object` and `$iso:id`.

    The argument is not changed. Raises `RestoreError`, with `.pointer`, for an unknown or
    malformed tag and for data that is no tree of at most 128 levels.
    """
    return _restored(value, [], 0)


def _restored(value: Any, path: list[str], depth: int) -> Any:
    kind = type(value)
    if kind is not dict and kind is not list and kind is not tuple:
        return value
    if depth >= MAX_DEPTH:
        raise RestoreError("a plain value is nested too deeply", pointer="".join(path))
    if kind is not dict:
        out = []
        for index, child in enumerate(value):
            path.append(f"/{index}")
            out.append(_restored(child, path, depth + 1))
            path.pop()
        return out
    for key in value:
        if type(key) is str and key.startswith(_PREFIX):
            return _untagged(value, key, path, depth)
    pairs = {}
    for key, child in value.items():
        path.append("/" + str(key).replace("~", "~0").replace("/", "~1"))
        pairs[key] = _restored(child, path, depth + 1)
        path.pop()
    return pairs


def _untagged(value: dict[str, Any], tag: str, path: list[str], depth: int) -> Any:
    if len(value) != 1:
        raise RestoreError("a tag stands beside other keys", pointer="".join(path), expected=f"{tag} alone")
    if tag in _KEPT:
        return value
    content = value[tag]
    path.append("/" + tag)
    if tag == "$iso:set":
        result = _set(content, path, depth)
    elif tag == "$iso:dict":
        result = _dict(content, path, depth)
    else:
        result = _scalar(tag, content, path)
    path.pop()
    return result


def _scalar(tag: str, content: Any, path: list[str]) -> Any:
    read = _READERS.get(tag)
    if read is None:
        raise RestoreError(
            "unknown tag", pointer="".join(path), expected=", ".join(sorted(_READERS)), got=tag
        )
    if type(content) is not str:
        raise RestoreError(
            "a tag's content is not a string", pointer="".join(path), got=type(content).__name__
        )
    try:
        return read(content)
    except (ValueError, OverflowError, InvalidOperation, binascii.Error):
        raise RestoreError(f"a malformed {tag}", pointer="".join(path), got=content) from None


def _list_of(content: Any, path: list[str]) -> list[Any]:
    if type(content) is not list:
        raise RestoreError("a tag's content is not a list", pointer="".join(path), got=type(content).__name__)
    return content


def _set(content: Any, path: list[str], depth: int) -> Any:
    elements = [_hashable(element) for element in _restored(_list_of(content, path), path, depth + 1)]
    try:
        return set(elements)
    except TypeError:
        # Elements were objects that became dicts: a set can't hold them, a list can.
        return elements


def _dict(content: Any, path: list[str], depth: int) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    for index, pair in enumerate(_list_of(content, path)):
        path.append(f"/{index}")
        if type(pair) is not list or len(pair) != 2:
            raise RestoreError("not a pair of key and value", pointer="".join(path))
        key, child = _restored(pair, path, depth + 2)
        try:
            out[_hashable(key)] = child
        except TypeError:
            raise RestoreError("a key that no dictionary can have", pointer="".join(path) + "/0") from None
        path.pop()
    return out


def _hashable(value: Any) -> Any:
    """Lists as tuples and sets as frozensets, because only those stand in sets and among keys."""
    if type(value) is list:
        return tuple(_hashable(child) for child in value)
    return frozenset(value) if type(value) is set else value


# --- texts ----------------------------------------------------------------------------


def _matching(pattern: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader that lets only texts of one form through: the constructors take far more than they give."""
    compiled = re.compile(pattern, re.ASCII)

    def checked(text: str) -> Any:
        if compiled.fullmatch(text) is None:
            raise ValueError(text)
        return read(text)

    return checked


def _int(text: str) -> int:
    return int(text, 16) if "x" in text else int(text)


_ESCAPE = re.compile(r"\\(?:\\|u(d[89a-f][0-9a-f]{2}))")


def _str(text: str) -> str:
    if "\\" in _ESCAPE.sub("", text):
        raise ValueError(text)
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else "\\", text)


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_CLOCK = r"\d\d:\d\d:\d\d\.\d{6}"
_OFFSET = r"[+-]\d\d:\d\d(:\d\d(\.\d{6})?)?"

_READERS: dict[str, Callable[[str], Any]] = {
    "$iso:int": _matching(rf"-?(\d{{1,{_MAX_TEXT_DIGITS}}}|0x[0-9a-f]+)", _int),
    "$iso:float": _matching(r"nan|-?inf", float),
    "$iso:str": _str,
    "$iso:bytes": _base64,
    "$iso:decimal": _matching(r"-?(\d+(\.\d*)?|\.\d+)(E[+-]?\d+)?|-?Infinity|-?s?NaN\d*", Decimal),
    "$iso:datetime": _matching(rf"\d{{4}}-\d\d-\d\dT{_CLOCK}(Z|{_OFFSET})?", datetime.fromisoformat),
    "$iso:date": _matching(r"\d{4}-\d\d-\d\d", date.fromisoformat),
    "$iso:time": _matching(rf"{_CLOCK}({_OFFSET})?", time.fromisoformat),
    "$iso:timedelta": _matching(r"-?\d{1,21}", lambda text: timedelta(microseconds=int(text))),
}
