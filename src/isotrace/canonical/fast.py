"""The writers' fast way: what agents usually pass around, in one loop.

Nothing is decided here. What is unusual in any way (a subclass, a number out of range, a value too
deep) raises `NotFast` and goes to the exact writer, which writes it or says what is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from json.encoder import encode_basestring as _quoted
from typing import Any, Final

from isotrace.canonical.exact import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INT,
    MAX_NODES,
    canonical_bytes_exact,
    es_number,
    value_bytes_exact,
)


class NotFast(Exception):
    """The exact writer has to look at this value."""


# --- canonical form -----------------------------------------------------------------


def canonical_bytes(value: Any, *, digits: int | None = None) -> bytes:
    """RFC 8785 bytes of a plain value: for hashing, never for serving.

    With `digits` (1 to 14), every float is first rounded to so many decimal places, half to even
    on its exact binary value. Equal bytes mean equal values, up to what JSON can't tell apart:
    1 and 1.0, 0 and −0.0, a list and a tuple, a str and its subclass.

    Raises, with `.pointer`: `UnsupportedTypeError`, `NonStringKeyError`, `NonFiniteError`,
    `IntegerRangeError`, `InvalidUnicodeError`, `CycleError`, `LimitError`, and
    `DuplicateKeyError` for two keys of one content (which takes a subclass of str).
    """
    try:
        if type(value) not in _CONTAINERS:
            raise NotFast
        text = _written(value, 1, [MAX_NODES, MAX_BYTES], float_form(digits))
        data = text.encode()
        if len(data) <= MAX_BYTES and (len(data) == len(text) or _keys_sort_alike(text, value)):
            return data
    except (NotFast, TypeError, UnicodeEncodeError, RecursionError):
        # TypeError: keys of several types can't be sorted. RecursionError: the caller's stack is nearly full.
        pass
    return canonical_bytes_exact(value, digits=digits)


def _shortest(value: float) -> str:
    """A float as ECMAScript writes it."""
    if value.is_integer() and -1e15 < value < 1e15:
        return int.__repr__(int(value))
    # Here Python's form and ECMAScript's are the same.
    if 1e-4 <= value < 1e15:
        return float.__repr__(value)
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise NotFast
    return es_number(value)


@cache
def float_form(digits: int | None) -> Callable[[float], str]:
    """How canonical form writes a float, rounded first if `digits` says to how many places.

    What comes back raises `NotFast` for a float that is not finite.

    A decimal of at most 15 significant digits survives the way through a float and back (IEEE
    754's DBL_DIG), so below `limit` the rounded text itself is the shortest form.
    """
    if digits is None:
        return _shortest
    if not 1 <= digits <= 14:
        raise ValueError(f"floats are rounded to 1 to 14 places, not {digits}")
    form = f".{digits}f"
    limit = 10.0 ** (15 - digits)

    def rounded(value: float) -> str:
        if value.is_integer():
            return _shortest(value)
        if -limit < value < limit:
            text = format(value, form).rstrip("0")
            if text[-1] == ".":
                text = text[:-1]
            # ECMAScript writes small numbers with an exponent, but only from 1e-7 down.
            if digits <= 6 or not -1e-6 < value < 1e-6:
                return "0" if text == "-0" else text
        return _shortest(round(value, digits))

    return rounded


# What is left of the limits while one value is written: [nodes, characters].
_Budget = list[int]
_Form = Callable[[float], str]


def _written(node: Any, depth: int, budget: _Budget, form: _Form) -> str:
    """The text of a container. Written out rather than split up: calls are what costs here."""
    budget[0] -= len(node)
    if depth > MAX_DEPTH or budget[0] <= 0 or budget[1] < 0:
        raise NotFast
    parts: list[str] = []
    chars = 0
    if type(node) is dict:
        for key, label in _SHAPES.get(tuple(node)) or _shape(node):
            child = node[key]
            kind = type(child)
            if kind is str:
                # One long string may stand here many times: counted before it is copied.
                chars += len(child)
                if chars > MAX_BYTES:
                    raise NotFast
                parts.append(label + _quoted(child))
            elif kind is int:
                if not -MAX_INT <= child <= MAX_INT:
                    raise NotFast
                parts.append(f"{label}{child}")
            elif kind is dict or kind is list or kind is tuple:
                budget[1] -= chars
                chars = 0
                parts.append(label + _written(child, depth + 1, budget, form))
            else:
                parts.append(label + _atom(child, kind, form))
        text = f"{{{','.join(parts)}}}"
    else:
        for child in node:
            kind = type(child)
            if kind is str:
                chars += len(child)
                if chars > MAX_BYTES:
                    raise NotFast
                parts.append(_quoted(child))
            elif kind is dict or kind is list or kind is tuple:
                budget[1] -= chars
                chars = 0
                parts.append(_written(child, depth + 1, budget, form))
            else:
                parts.append(_atom(child, kind, form))
        text = f"[{','.join(parts)}]"
    budget[1] -= len(text)
    return text


def _atom(value: Any, kind: type, form: _Form) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if kind is float:
        return form(value)
    if kind is int and -MAX_INT <= value <= MAX_INT:
        return int.__repr__(value)
    raise NotFast


# Objects of one shape come again and again: their keys are sorted and quoted once.
_SHAPES: dict[tuple[str, ...], list[tuple[str, str]]] = {}
_SHAPES_KEPT = 2000
_SHAPE_KEYS = 32
_SHAPE_CHARS = 1000


def _shape(node: dict[str, Any]) -> list[tuple[str, str]]:
    """The keys in order, each with the text that stands before its value."""
    shape: list[tuple[str, str]] = []
    for key in sorted(node):
        if type(key) is not str:
            raise NotFast
        shape.append((key, _quoted(key) + ":"))
    if len(shape) <= _SHAPE_KEYS and sum(len(label) for _, label in shape) <= _SHAPE_CHARS:
        # Keys that are data (ids, names) would fill the memory: starting over costs little.
        if len(_SHAPES) >= _SHAPES_KEPT:
            _SHAPES.clear()
        _SHAPES[tuple(node)] = shape
    return shape


def _keys_sort_alike(text: str, value: Any) -> bool:
    """Whether code points and UTF-16 code units give all keys of the value the same order.

    They do below U+10000, whose characters take two units (RFC 8785 section 3.2.3).
    """
    if len(text.encode("utf-16-le")) == 2 * len(text):
        return True
    pending = [value]
    while pending:
        node = pending.pop()
        if type(node) is dict:
            if any(key > "\uffff" for key in "".join(node)):
                return False
            node = node.values()
        pending.extend(child for child in node if type(child) in _CONTAINERS)
    return True


_CONTAINERS = frozenset({dict, list, tuple})


# --- value bytes --------------------------------------------------------------------


def value_bytes(value: Any) -> bytes:
    """Compact UTF-8 JSON in insertion order, floats as Python's `repr`: what is stored and served.

    Raises the same errors as `canonical_bytes`.
    """
    try:
        survey(value)
        data = _encode_in_order(value).encode()
        if len(data) <= MAX_BYTES:
            return data
    except (NotFast, UnicodeEncodeError, RecursionError):
        pass
    return value_bytes_exact(value)


def check(value: Any) -> None:
    """Returns if the value is plain, else raises what `canonical_bytes` would."""
    value_bytes(value)


def _encoder() -> Callable[[Any], str]:
    encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # not in typeshed, None without C
    if make is None:
        return encoder.encode
    # Built once: `JSONEncoder.encode` would build this object anew for each value.
    chunks = make(None, encoder.default, _quoted, None, ":", ",", False, False, True)
    return lambda value: "".join(chunks(value, 0))


_encode_in_order = _encoder()
_MAX_FLOAT: Final = sys.float_info.max


def survey(value: Any) -> None:
    """Returns if the value is plain, of exact types and within the limits, else raises `NotFast`.

    Level by level, so that no input can exhaust the stack. Lone surrogates are not looked for:
    encoding the text to UTF-8 will find them.
    """
    level = [value]
    nodes, chars, depth = 1, 0, 0
    while level:
        depth += 1
        deeper: list[Any] = []
        for node in level:
            kind = type(node)
            if kind is dict:
                for key in node:
                    if type(key) is not str:
                        raise NotFast
                chars += len("".join(node))
                children: Any = node.values()
            elif kind is list or kind is tuple:
                children = node
            else:
                raise NotFast
            nodes += len(node)
            if nodes > MAX_NODES or depth > MAX_DEPTH or chars > MAX_BYTES:
                raise NotFast
            for child in children:
                kind = type(child)
                if kind is str:
                    chars += len(child)
                elif kind is int:
                    if not -MAX_INT <= child <= MAX_INT:
                        raise NotFast
                elif kind is dict or kind is list or kind is tuple:
                    deeper.append(child)
                elif kind is float:
                    if not -_MAX_FLOAT <= child <= _MAX_FLOAT:
                        raise NotFast
                elif child is not None and kind is not bool:
                    raise NotFast
        level = deeper
    if chars > MAX_BYTES:
        raise NotFast
