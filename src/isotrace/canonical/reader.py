"""The strict reader of JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from isotrace.canonical.exact import MAX_BYTES, MAX_DEPTH, MAX_NODES, pointer_to, value_bytes_exact
from isotrace.canonical.fast import NotFast, survey
from isotrace.errors import (
    DuplicateKeyError,
    InvalidUnicodeError,
    JsonSyntaxError,
    LimitError,
)

_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BRACKETS = re.compile(r"[\[\]{}]")


class _Twice:
    """Stands, in a second reading, where an object named a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    node = dict(pairs)
    if len(node) != len(pairs):
        raise DuplicateKeyError("an object names a key twice")
    return node


def _marked(pairs: list[tuple[str, Any]]) -> Any:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return _Twice(key)
        seen.add(key)
    return dict(pairs)


_decode = json.JSONDecoder(object_pairs_hook=_unique).decode
_decode_marked = json.JSONDecoder(object_pairs_hook=_marked).decode


def parse_json(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Any:
    """The plain value that a JSON text stands for.

    Integers are kept exactly, also beyond 2^53. Raises `LimitError` (longer than `max_bytes`,
    deeper or larger than a plain value may be, an integer of thousands of digits),
    `InvalidUnicodeError` (not UTF-8, a lone surrogate, also as an escape), `NonFiniteError`
    (`NaN`, `Infinity`, `1e400`), `DuplicateKeyError`, `JsonSyntaxError`.
    """
    if len(data) > max_bytes:
        raise LimitError("a JSON text is too long", expected=f"at most {max_bytes} bytes", got=f"{len(data)}")
    text = _decoded(data) if not isinstance(data, str) else data
    if text.count(",") + text.count("[") + text.count("{") >= MAX_NODES:
        _refuse_many_nodes(text)
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        raise JsonSyntaxError(
            f"not JSON: {error.msg}", where=f"line {error.lineno}, column {error.colno}"
        ) from None
    except DuplicateKeyError:
        raise _duplicate(text) from None
    except RecursionError:
        raise _deep(text) from None
    except ValueError as error:
        raise LimitError("a number has too many digits", got=str(error)) from None
    _check_read(value, text, is_utf8=not isinstance(data, str))
    return value


def _decoded(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidUnicodeError(
            "not UTF-8", where=f"byte {error.start}", got=repr(data[error.start : error.start + 4])
        ) from None


def _refuse_many_nodes(text: str) -> None:
    # Commas within strings are no nodes; looking closely is worth it only where they could be many.
    bare = _STRINGS.sub("", text)
    nodes = bare.count(",") + bare.count("[") + bare.count("{") + 1
    if nodes > 2 * MAX_NODES:
        raise LimitError("a value is too large", expected=f"at most {MAX_NODES} nodes", got=f"about {nodes}")


def _deep(text: str) -> LimitError:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return LimitError(
            "a value is nested too deeply",
            expected=f"at most {MAX_DEPTH} containers inside each other",
            got=f"{deepest}",
        )
    return LimitError(
        "the interpreter's stack has no room left to read a nested value", got=f"depth {deepest}"
    )


def _duplicate(text: str) -> DuplicateKeyError:
    """The error for the first object (in document order, outermost first) that names a key twice."""
    stack: list[tuple[list[Any], Any]] = [([], _decode_marked(text))]
    while stack:
        path, node = stack.pop()
        if isinstance(node, _Twice):
            return DuplicateKeyError(
                "an object names a key twice", pointer=pointer_to([*path, node.key]), got=node.key
            )
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        stack.extend(reversed([([*path, key], child) for key, child in pairs]))
    return DuplicateKeyError("an object names a key twice")


def _check_read(value: Any, text: str, *, is_utf8: bool) -> None:
    # Lone surrogates come from escapes, or stand in a text that was not decoded here.
    try:
        survey(value)
        if is_utf8 and not ("\\u" in text and _SURROGATE.search(text)):
            return
    except NotFast:
        pass
    value_bytes_exact(value, largest_int=None)
