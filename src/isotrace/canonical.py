"""Plain values as bytes: RFC 8785 canonical form, value bytes, and the strict reader of JSON.

A *plain value* is `None`, a bool, an int within ±(2^53 − 1), a finite float, a str without lone
surrogates, or a list, exact tuple or dict (str keys) of plain values. Subclasses of int, float
and str count by their content; everything else is refused by name, with a JSON Pointer.

Each writer has two ways to the same bytes. The fast way surveys the value in one loop and leaves
the writing to the standard library's C encoder. Whatever that encoder would write differently,
or could not survive, goes the exact way: a loop of our own, without recursion, which is
also the one place that knows how to complain.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring as _quoted
from typing import Any, Final

from isotrace.errors import (
    CycleError,
    DuplicateKeyError,
    IntegerRangeError,
    InvalidUnicodeError,
    JsonSyntaxError,
    LimitError,
    NonFiniteError,
    NonStringKeyError,
    UnsupportedTypeError,
)

MAX_DEPTH: Final = 128
"""How many containers may enclose each other."""
MAX_NODES: Final = 1_000_000
"""How many values a value may hold, itself included; a shared container counts each time it occurs."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""How long the UTF-8 text of a value may be."""
MAX_INT: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps (RFC 7493 section 2.2)."""


# --- the fast way -------------------------------------------------------------------


class _NotFast(Exception):
    """The C encoder would not write this value as asked."""


def _encoder(*, sort_keys: bool) -> Callable[[Any], str]:
    encoder = json.JSONEncoder(
        ensure_ascii=False,
        check_circular=False,
        allow_nan=False,
        sort_keys=sort_keys,
        separators=(",", ":"),
    )
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # absent from typeshed, None without C
    if make is None:
        return encoder.encode
    # Built once: `JSONEncoder.encode` would build this object anew for each value.
    chunks = make(None, encoder.default, _quoted, None, ":", ",", sort_keys, False, False)

    def encode(value: Any) -> str:
        return "".join(chunks(value, 0))

    return encode


_encode_sorted = _encoder(sort_keys=True)
_encode_in_order = _encoder(sort_keys=False)

_PLAIN, _FLOATS, _EXACT = 0, 1, 2
# Above this a float may be integral without being printed as an integer is, or have an exponent.
_FAST_FLOAT = 1e15


def _survey(value: Any) -> int:
    """How a value can be written: by the C encoder as it is, after its floats were seen to, or exactly.

    Level by level, so that depth costs nothing and no input can exhaust the stack. Lone
    surrogates are not looked for: encoding the text to UTF-8 will find them.
    """
    kind = type(value)
    if kind is not dict and kind is not list and kind is not tuple:
        return _EXACT
    level = [value]
    nodes = depth = 1
    chars = 0
    verdict = _PLAIN
    while level:
        if depth > MAX_DEPTH:
            return _EXACT
        depth += 1
        deeper: list[Any] = []
        for node in level:
            nodes += len(node)
            if nodes > MAX_NODES or chars > MAX_BYTES:
                return _EXACT
            if type(node) is dict:
                for key in node:
                    if type(key) is not str:
                        return _EXACT
                keys = "".join(node)
                # Below the surrogates, code points sort as UTF-16 code units do.
                if not keys.isascii() and max(keys) >= "\ud800":
                    return _EXACT
                chars += len(keys)
                node = node.values()
            for child in node:
                kind = type(child)
                if kind is str:
                    chars += len(child)
                elif kind is int:
                    if not -MAX_INT <= child <= MAX_INT:
                        return _EXACT
                elif kind is dict or kind is list or kind is tuple:
                    deeper.append(child)
                elif kind is float:
                    if not -_FAST_FLOAT < child < _FAST_FLOAT:
                        return _EXACT
                    verdict = _FLOATS
                elif child is not None and kind is not bool:
                    return _EXACT
        level = deeper
    return _EXACT if chars > MAX_BYTES else verdict


_HOLDS_FLOATS = frozenset({float, dict, list, tuple})


def _floats_seen_to(value: Any, digits: int | None) -> Any:
    """A copy in which each float is one that the C encoder writes as ECMAScript does, or an int.

    Raises `_NotFast` for a float whose two forms differ (`1e-05` and `0.00001`).
    """
    kind = type(value)
    if kind is float:
        if digits is not None:
            value = round(value, digits)
        if value.is_integer():
            return int(value)
        if -1e-4 < value < 1e-4:
            raise _NotFast
        return value
    if kind is dict:
        return {
            key: _floats_seen_to(child, digits) if type(child) in _HOLDS_FLOATS else child
            for key, child in value.items()
        }
    return [_floats_seen_to(child, digits) if type(child) in _HOLDS_FLOATS else child for child in value]


def canonical_bytes(value: Any, *, digits: int | None = None) -> bytes:
    """RFC 8785 bytes of a plain value: for hashing, never for serving.

    With `digits`, every float is first rounded to so many decimal places, half to even on its
    exact binary value. Equal bytes mean equal values, up to what JSON can't tell apart: 1 and 1.0,
    0 and −0.0, a list and a tuple, a str and its subclass.

    Raises, with `.pointer`: `UnsupportedTypeError`, `NonStringKeyError`, `NonFiniteError`,
    `IntegerRangeError`, `InvalidUnicodeError`, `CycleError`, `LimitError`, and
    `DuplicateKeyError` for two keys of one content (which takes a subclass of str).
    """
    verdict = _survey(value)
    if verdict != _EXACT:
        try:
            if verdict == _FLOATS:
                value_out = _floats_seen_to(value, digits)
            else:
                value_out = value
            data = _encode_sorted(value_out).encode()
            if len(data) <= MAX_BYTES:
                return data
        except (_NotFast, UnicodeEncodeError, RecursionError):
            pass
    return _written(value, _canonical_pairs, _number, digits)


def canonical_bytes_exact(value: Any, *, digits: int | None = None) -> bytes:
    """The same bytes as `canonical_bytes`, always by the exact writer. Raises the same errors."""
    return _written(value, _canonical_pairs, _number, digits)


def value_bytes(value: Any) -> bytes:
    """Compact UTF-8 JSON in insertion order, floats as Python's `repr`: what is stored and served.

    Raises the same errors as `canonical_bytes`.
    """
    if _survey(value) != _EXACT:
        try:
            data = _encode_in_order(value).encode()
            if len(data) <= MAX_BYTES:
                return data
        except (UnicodeEncodeError, RecursionError):
            pass
    return _written(value, _ordered_pairs, float.__repr__, None)


def check(value: Any) -> None:
    """Returns if the value is plain, else raises what `canonical_bytes` would."""
    if _survey(value) == _EXACT or _has_surrogates(value):
        _written(value, _ordered_pairs, float.__repr__, None)


def _has_surrogates(value: Any) -> bool:
    try:
        _encode_in_order(value).encode()
    except (UnicodeEncodeError, RecursionError):
        return True
    return False


# --- the exact way ------------------------------------------------------------------


def _number(value: float) -> str:
    """ECMAScript's Number::toString (ECMA-262, 6.1.6.1.20), which RFC 8785 section 3.2.2.3 asks for.

    `repr` gives the same shortest digits; only where the point and the exponent go differs.
    """
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # The value is 0.digits × 10^point.
    point = len(whole) + int(exponent or "0") - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _ordered_pairs(node: dict[Any, Any]) -> list[tuple[str, Any]]:
    return [(key, child) for key, child in dict.items(node)]


def _canonical_pairs(node: dict[Any, Any]) -> list[tuple[str, Any]]:
    # Surrogates pass here, so that the writer can complain about them with a pointer.
    return sorted(dict.items(node), key=lambda pair: _utf16(pair[0]))


def _utf16(key: Any) -> bytes:
    return str.encode(key, "utf-16-be", "surrogatepass") if isinstance(key, str) else b""


def _pointer(path: list[Any]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _text(value: str, path: list[Any], what: str) -> str:
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidUnicodeError(
            f"{what} holds a lone surrogate",
            pointer=_pointer(path).encode("utf-8", "backslashreplace").decode(),
            got=f"U+{ord(plain[error.start]):04X} at position {error.start}",
            hint="decode the bytes with the right encoding before recording them",
        ) from None
    return _quoted(plain)


def _int_text(value: int, path: list[Any], largest: int | None) -> str:
    plain = int(value)
    if largest is not None and not -largest <= plain <= largest:
        raise IntegerRangeError(
            "an integer is too large for JSON readers to keep",
            pointer=_pointer(path),
            expected="at most 2^53 − 1 either way",
            got=f"an integer of {plain.bit_length()} bits",
            hint="pass it as a string",
        )
    return int.__repr__(plain)


def _float_text(value: float, path: list[Any], form: Callable[[float], str], digits: int | None) -> str:
    plain = float.__float__(value)
    if not math.isfinite(plain):
        raise NonFiniteError("JSON has no such number", pointer=_pointer(path), got=repr(plain))
    return form(round(plain, digits) if digits is not None else plain)


def _written(
    value: Any,
    pairs: Callable[[dict[Any, Any]], list[tuple[str, Any]]],
    form: Callable[[float], str],
    digits: int | None,
    largest_int: int | None = MAX_INT,
) -> bytes:
    """Writes any plain value without recursion, and finds the fault in any other."""
    out: list[str] = []
    path: list[Any] = []
    # One entry per open container: its id, the text that closes it, its children yet to come.
    open_: list[tuple[int, str, Iterator[tuple[Any, Any]]]] = []
    enclosing: set[int] = set()
    node, nodes, chars = value, 0, 0
    while True:
        nodes += 1
        if nodes > MAX_NODES or chars > MAX_BYTES:
            raise _too_large(path, nodes)
        if isinstance(node, dict | list) or type(node) is tuple:
            if id(node) in enclosing:
                raise CycleError("a container holds itself", pointer=_pointer(path), got=type(node).__name__)
            if len(open_) >= MAX_DEPTH:
                raise _too_deep(node, path, enclosing)
            if nodes + len(node) > MAX_NODES:
                raise _too_large(path, nodes + len(node))
            enclosing.add(id(node))
            open_.append(_opened(node, pairs, out))
            path.append(None)
        else:
            out.append(_scalar(node, path, form, digits, largest_int))
            chars += len(out[-1])
        while open_:
            owner, closing, children = open_[-1]
            pair = next(children, None)
            if pair is not None:
                break
            out.append(closing)
            open_.pop()
            path.pop()
            enclosing.discard(owner)
        else:
            break
        key, node = pair
        separator = "" if path[-1] is None else ","
        path[-1] = key
        if closing == "}":
            separator += _key_text(key, path) + ":"
        out.append(separator)
        chars += len(separator)
    data = "".join(out).encode()
    if len(data) > MAX_BYTES:
        raise LimitError(
            "a value is too long", expected=f"at most {MAX_BYTES} bytes", got=f"{len(data)} bytes"
        )
    return data


def _opened(
    node: Any, pairs: Callable[[dict[Any, Any]], list[tuple[str, Any]]], out: list[str]
) -> tuple[int, str, Iterator[tuple[Any, Any]]]:
    if isinstance(node, dict):
        out.append("{")
        return id(node), "}", _without_duplicates(pairs(node))
    out.append("[")
    elements = list.__iter__(node) if isinstance(node, list) else iter(node)
    return id(node), "]", iter(enumerate(elements))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    # Only subclasses of str can stand twice in one dict.
    seen = {str.__str__(key) for key, _ in pairs if isinstance(key, str)}
    if len(seen) == len(pairs) or any(not isinstance(key, str) for key, _ in pairs):
        return iter(pairs)
    raise DuplicateKeyError("two keys of one dictionary have the same content")


def _key_text(key: Any, path: list[Any]) -> str:
    if not isinstance(key, str):
        raise NonStringKeyError(
            "a dictionary key is not a string", pointer=_pointer(path[:-1]), expected="str", got=repr(key)
        )
    return _text(key, path, "a key")


def _scalar(
    node: Any, path: list[Any], form: Callable[[float], str], digits: int | None, largest_int: int | None
) -> str:
    if isinstance(node, str):
        return _text(node, path, "a string")
    if node is None:
        return "null"
    if isinstance(node, bool):
        return "true" if node else "false"
    if isinstance(node, int):
        return _int_text(node, path, largest_int)
    if isinstance(node, float):
        return _float_text(node, path, form, digits)
    raise UnsupportedTypeError(
        "JSON has no such type",
        pointer=_pointer(path),
        got=f"{type(node).__module__}.{type(node).__qualname__}",
        hint="isotrace.to_plain turns most objects into plain values",
    )


def _too_deep(node: Any, path: list[Any], enclosing: set[int]) -> LimitError:
    return LimitError(
        "a value is nested too deeply",
        pointer=_pointer(path),
        expected=f"at most {MAX_DEPTH} containers inside each other",
    )


def _too_large(path: list[Any], nodes: int) -> LimitError:
    return LimitError(
        "a value is too large",
        pointer=_pointer([part for part in path if part is not None]),
        expected=f"at most {MAX_NODES} nodes and {MAX_BYTES} characters",
        got=f"{nodes} nodes so far",
    )


# --- the strict reader --------------------------------------------------------------

_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
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
    _check_read(value, text)
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
                "an object names a key twice", pointer=_pointer([*path, node.key]), got=node.key
            )
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        stack.extend(reversed([([*path, key], child) for key, child in pairs]))
    return DuplicateKeyError("an object names a key twice")


def _check_read(value: Any, text: str) -> None:
    # Without a surrogate in the text or an escape for one, the survey has seen all there is to see.
    if _survey(value) != _EXACT and "\\u" not in text and text.isascii():
        return
    _written(value, _ordered_pairs, float.__repr__, None, largest_int=None)
