"""The exact writer: any plain value, without recursion; and the one place that knows how to complain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring as _quoted
from typing import Any, Final

from isotrace.errors import (
    CycleError,
    DuplicateKeyError,
    IntegerRangeError,
    InvalidUnicodeError,
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


def es_number(value: float) -> str:
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


def canonical_bytes_exact(value: Any, *, digits: int | None = None) -> bytes:
    """The same bytes as `canonical_bytes`, always by the exact writer. Raises the same errors."""
    return _Writer(_in_utf16_order, es_number, digits).write(value)


def value_bytes_exact(value: Any, *, largest_int: int | None = MAX_INT) -> bytes:
    """The same bytes as `value_bytes`. With `largest_int` None, integers may be of any size."""
    return _Writer(_in_own_order, float.__repr__, None, largest_int).write(value)


def pointer_to(path: Iterable[Any]) -> str:
    """The JSON Pointer that leads through these keys and indexes; lone surrogates show as `\\udXXX`."""
    text = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return text.encode("utf-8", "backslashreplace").decode()


_Pair = tuple[Any, Any]


def _in_own_order(node: dict[Any, Any]) -> list[_Pair]:
    return list(dict.items(node))


def _in_utf16_order(node: dict[Any, Any]) -> list[_Pair]:
    # What is no text passes here, so that the writer can complain about it with a pointer.
    return sorted(
        dict.items(node),
        key=lambda pair: (
            str.encode(pair[0], "utf-16-be", "surrogatepass") if isinstance(pair[0], str) else b""
        ),
    )


class _Writer:
    """Writes one plain value, and finds the fault in any other."""

    def __init__(
        self,
        pairs: Callable[[dict[Any, Any]], list[_Pair]],
        form: Callable[[float], str],
        digits: int | None,
        largest_int: int | None = MAX_INT,
    ) -> None:
        self.pairs = pairs
        self.form = form
        self.digits = digits
        self.largest_int = largest_int
        self.out: list[str] = []
        self.chars = 0
        self.nodes = 0
        # The key or index that is being written, per open container.
        self.path: list[Any] = []
        # Per open container: its id, the text that closes it, its children yet to come.
        self.open: list[tuple[int, str, Iterator[_Pair]]] = []
        self.enclosing: set[int] = set()

    def write(self, value: Any) -> bytes:
        """The value's UTF-8 text. A loop instead of recursion: depth is the caller's to choose."""
        pair: _Pair | None = (None, value)
        while pair is not None:
            self._node(pair[1])
            pair = self._next()
        data = "".join(self.out).encode()
        if len(data) > MAX_BYTES:
            raise self._too_large()
        return data

    def _put(self, text: str) -> None:
        self.out.append(text)
        self.chars += len(text)
        if self.chars > MAX_BYTES:
            raise self._too_large()

    def _node(self, node: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._too_large()
        if isinstance(node, dict | list) or type(node) is tuple:
            self._open(node)
        else:
            self._put(self._scalar(node))

    def _open(self, node: Any) -> None:
        if id(node) in self.enclosing:
            raise CycleError(
                "a container holds itself", pointer=pointer_to(self.path), got=type(node).__name__
            )
        if len(self.open) >= MAX_DEPTH:
            raise LimitError(
                "a value is nested too deeply",
                pointer=pointer_to(self.path),
                expected=f"at most {MAX_DEPTH} containers inside each other",
            )
        if self.nodes + len(node) > MAX_NODES:
            raise self._too_large()
        if isinstance(node, dict):
            closing, children = "}", iter(self._without_duplicates(self.pairs(node)))
        else:
            closing, children = "]", iter(enumerate(list(node)))
        self._put("{" if closing == "}" else "[")
        self.enclosing.add(id(node))
        self.open.append((id(node), closing, children))
        self.path.append(_FIRST)

    def _next(self) -> _Pair | None:
        """Closes what is finished; the next child, its separator and key written, or None at the end."""
        while self.open:
            owner, closing, children = self.open[-1]
            pair = next(children, None)
            if pair is not None:
                if self.path[-1] is not _FIRST:
                    self._put(",")
                self.path[-1] = pair[0]
                if closing == "}":
                    self._put(self._key(pair[0]) + ":")
                return pair
            self._put(closing)
            self.open.pop()
            self.path.pop()
            self.enclosing.discard(owner)
        return None

    def _without_duplicates(self, pairs: list[_Pair]) -> list[_Pair]:
        # Only subclasses of str can stand twice in one dict.
        seen: set[str] = set()
        for key, _ in pairs:
            if isinstance(key, str):
                text = str.__str__(key)
                if text in seen:
                    raise DuplicateKeyError(
                        "two keys of one dictionary have the same content",
                        pointer=pointer_to([*self.path, text]),
                    )
                seen.add(text)
        return pairs

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return self._text(key, "a key")
        raise NonStringKeyError(
            "a dictionary key is not a string",
            pointer=pointer_to(self.path[:-1]),
            expected="str",
            got=f"{key!r}" if isinstance(key, int | float | bytes | None) else _type_name(key),
            hint="isotrace.to_plain keeps such keys",
        )

    def _scalar(self, node: Any) -> str:
        if isinstance(node, str):
            return self._text(node, "a string")
        if node is None:
            return "null"
        if isinstance(node, bool):
            return "true" if node else "false"
        if isinstance(node, int):
            return self._int(int.__int__(node))
        if isinstance(node, float):
            return self._float(float.__float__(node))
        raise UnsupportedTypeError(
            "JSON has no such type",
            pointer=pointer_to(self.path),
            got=_type_name(node),
            hint="isotrace.to_plain turns most objects into plain values",
        )

    def _text(self, value: str, what: str) -> str:
        plain = str.__str__(value)
        if len(plain) > MAX_BYTES:
            raise self._too_large()
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise InvalidUnicodeError(
                f"{what} holds a lone surrogate",
                pointer=pointer_to(self.path),
                got=f"U+{ord(plain[error.start]):04X} at position {error.start}",
                hint="decode the bytes with their own encoding before recording them",
            ) from None
        return _quoted(plain)

    def _int(self, value: int) -> str:
        if self.largest_int is not None and not -self.largest_int <= value <= self.largest_int:
            raise IntegerRangeError(
                "an integer is too large for JSON readers to keep",
                pointer=pointer_to(self.path),
                expected="at most 2^53 − 1 either way",
                got=f"an integer of {value.bit_length()} bits",
                hint="pass it as a string",
            )
        return int.__repr__(value)

    def _float(self, value: float) -> str:
        if not math.isfinite(value):
            raise NonFiniteError("JSON has no such number", pointer=pointer_to(self.path), got=repr(value))
        return self.form(value if self.digits is None else round(value, self.digits))

    def _too_large(self) -> LimitError:
        return LimitError(
            "a value is too large",
            pointer=pointer_to(part for part in self.path if part is not _FIRST),
            expected=f"at most {MAX_NODES} nodes and {MAX_BYTES} bytes",
            got=f"{self.nodes} nodes and {self.chars} characters up to there",
        )


_FIRST: Final = object()


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
