"""YAML that nobody vouches for, as plain values: a subset of YAML 1.1 that JSON and `!!binary` fit into.

The text is read event by event, so that every bound is checked before anything is built. An alias counts
as all that it stands for: a file of a few lines whose aliases name each other would be gigabytes once written
out. Tags that make objects of the reader's own language are refused by name. Dates stay text, because no JSON
value is one.

Needs pyyaml, which the extra `vcr` brings; nothing here is loaded before a YAML file is read.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from isotrace.canonical import MAX_NODES
from isotrace.errors import (
    CycleError,
    DuplicateKeyError,
    ImportFormatError,
    LimitError,
    NonFiniteError,
    NonStringKeyError,
    UnsupportedTypeError,
)
from isotrace.jsondiff import pointer_join
from isotrace.plain import to_plain

if TYPE_CHECKING:
    import yaml

MAX_DEPTH: Final = 100
"""How deep a YAML text may nest: what is put around its parts must still be within `canonical.MAX_DEPTH`."""

_MAX_NUMBER: Final = 400
_PREFIX: Final = "tag:yaml.org,2002:"
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_FLAGS: Final = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_TEXTS: Final = frozenset({_PREFIX + name for name in ("str", "timestamp", "value")})


def read_yaml(data: bytes, where: str, *, max_bytes: int) -> Any:
    """The one document of a YAML text, as plain data in the form of `isotrace.plain`.

    `max_bytes` bounds the text and, with aliases written out, all scalars together. Raises
    `ImportFormatError` for what is not YAML, or where pyyaml is absent; and for a value that can't be kept
    a `CanonicalizationError` with its place: `LimitError` (too deep, too many nodes or bytes), `CycleError`,
    `DuplicateKeyError`, `NonStringKeyError`, `NonFiniteError`, `UnsupportedTypeError` (a tag not allowed).
    """
    if len(data) > max_bytes:
        raise LimitError("the text is too large", expected=f"at most {max_bytes} bytes")
    # The extra is optional, and loading it takes longer than to import most files.
    try:
        import yaml  # noqa: PLC0415  # optional
    except ImportError:
        raise ImportFormatError(
            "YAML can't be read without pyyaml",
            where=where,
            pointer="",
            hint="pip install 'isotrace[vcr]'",
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(where, "the file is not UTF-8", f"byte {error.start}") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return to_plain(_Reader(loader, yaml.ScalarNode, max_bytes).document())
    except yaml.YAMLError as error:
        raise _unreadable(where, "the file is not YAML", _complaint(error)) from None
    finally:
        loader.dispose()


def _unreadable(where: str, what: str, got: str) -> ImportFormatError:
    return ImportFormatError(what, where=where, pointer="", got=got)


def _complaint(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return problem if mark is None else f"{problem}, line {mark.line + 1}"


@dataclass(slots=True)
class _Size:
    """What a finished value takes, with its aliases written out."""

    value: Any
    nodes: int
    bytes: int
    depth: int


@dataclass(slots=True)
class _Open:
    """A list or an object that is being read. `key` is that of an object's value that is still to come."""

    value: Any
    anchor: str | None
    nodes: int
    bytes: int
    depth: int = 1
    key: str | None = None


class _Reader:
    """Builds one document from a parser's events."""

    def __init__(self, loader: Any, scalar_node: type[yaml.ScalarNode], max_bytes: int) -> None:
        self._loader = loader
        self._scalar_node = scalar_node
        self._max_bytes = max_bytes
        self._open: list[_Open] = []
        self._anchors: dict[str, _Size | None] = {}
        self._nodes = 0
        self._bytes = 0
        self._root: Any = None

    def document(self) -> Any:
        """The document's value; None of an empty text."""
        documents = 0
        for event in self._events():
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise LimitError("the text holds more than one document", expected="one")
            handler = _HANDLERS.get(kind)
            if handler is not None:
                handler(self, event)
        return self._root

    def _events(self) -> Iterator[Any]:
        while self._loader.check_event():
            yield self._loader.get_event()

    def _pointer(self) -> str:
        places = [len(one.value) if isinstance(one.value, list) else one.key for one in self._open]
        return pointer_join([place for place in places if place is not None])

    # --- what is counted ----------------------------------------------------------------

    def _count(self, nodes: int, size: int, depth: int) -> None:
        """Takes this much in; raises before anything of it is kept."""
        self._nodes += nodes
        self._bytes += size
        for what, found, limit in (
            ("nodes", self._nodes, MAX_NODES),
            ("bytes", self._bytes, self._max_bytes),
            ("levels", len(self._open) + depth, MAX_DEPTH),
        ):
            if found > limit:
                raise LimitError(
                    "a value is too large with its aliases written out",
                    pointer=self._pointer(),
                    expected=f"at most {limit} {what}",
                )

    # --- events -------------------------------------------------------------------------

    def _scalar(self, event: Any) -> None:
        size = len(event.value.encode("utf-8", "surrogatepass"))
        self._count(1, size, 0)
        done = _Size(self._value(event), 1, size, 0)
        self._name(event.anchor, done)
        self._add(done)

    def _begin(self, event: Any) -> None:
        self._count(1, 0, 1)
        self._allow(event.tag, "map" if type(event).__name__ == "MappingStartEvent" else "seq")
        if self._open and isinstance(self._open[-1].value, dict) and self._open[-1].key is None:
            raise NonStringKeyError("a key is not a text", pointer=self._pointer())
        value: Any = {} if type(event).__name__ == "MappingStartEvent" else []
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(value, event.anchor, self._nodes - 1, self._bytes))

    def _end(self, event: Any) -> None:
        one = self._open.pop()
        done = _Size(one.value, self._nodes - one.nodes, self._bytes - one.bytes, one.depth)
        self._name(one.anchor, done)
        self._add(done)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise UnsupportedTypeError(
                "an alias names what is not there", pointer=self._pointer(), got=event.anchor
            )
        done = self._anchors[event.anchor]
        if done is None:
            raise CycleError("an alias names what it stands in", pointer=self._pointer(), got=event.anchor)
        self._count(done.nodes, done.bytes, done.depth)
        self._add(done)

    def _name(self, anchor: str | None, done: _Size) -> None:
        if anchor is not None:
            self._anchors[anchor] = done

    def _add(self, done: _Size) -> None:
        if not self._open:
            self._root = done.value
            return
        one = self._open[-1]
        one.depth = max(one.depth, done.depth + 1)
        if isinstance(one.value, list):
            one.value.append(done.value)
        elif one.key is not None:
            one.value[one.key] = done.value
            one.key = None
        else:
            self._key(one, done.value)

    def _key(self, one: _Open, key: Any) -> None:
        if not isinstance(key, str):
            raise NonStringKeyError("a key is not a text", pointer=self._pointer(), got=type(key).__name__)
        one.key = key
        if key in one.value:
            raise DuplicateKeyError("an object names a key twice", pointer=self._pointer())

    # --- scalars ------------------------------------------------------------------------

    def _allow(self, tag: str | None, name: str) -> None:
        if tag not in (None, "!", _PREFIX + name):
            raise UnsupportedTypeError(
                "a tag is not allowed", pointer=self._pointer(), expected="plain values, !!binary", got=tag
            )

    def _value(self, event: Any) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(self._scalar_node, event.value, event.implicit)
        if tag in _TEXTS:
            return event.value
        make = _SCALARS.get(tag)
        if make is None:
            self._allow(tag, "str")
            return event.value
        try:
            value = make(event.value)
            if isinstance(value, str) and event.tag == tag:
                raise ValueError
        except (ValueError, OverflowError):
            raise UnsupportedTypeError(
                "a value is not what its tag says", pointer=self._pointer(), expected=tag, got=event.value
            ) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise NonFiniteError("a number is not finite", pointer=self._pointer(), got=event.value)
        return value


def _integer(text: str) -> int | str:
    """Decimal digits as JSON has them; YAML's other spellings (octal, base 60, `1_000`) stay text."""
    if len(text) > _MAX_NUMBER:
        raise ValueError
    return int(text) if _INTEGER.fullmatch(text) else text


def _float(text: str) -> float | str:
    lower = text.lower()
    if lower.lstrip("+-") in (".inf", ".nan"):
        return math.inf
    if len(text) > _MAX_NUMBER:
        raise ValueError
    return float(text) if _FLOAT.fullmatch(text) else text


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError from None


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError from None


def _null(text: str) -> None:
    if text.lower() not in ("", "~", "null"):
        raise ValueError


_SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    _PREFIX + "int": _integer,
    _PREFIX + "float": _float,
    _PREFIX + "bool": _flag,
    _PREFIX + "binary": _binary,
    _PREFIX + "null": _null,
}

_HANDLERS: Final[dict[str, Callable[[_Reader, Any], None]]] = {
    "ScalarEvent": _Reader._scalar,
    "MappingStartEvent": _Reader._begin,
    "SequenceStartEvent": _Reader._begin,
    "MappingEndEvent": _Reader._end,
    "SequenceEndEvent": _Reader._end,
    "AliasEvent": _Reader._alias,
}
