"""Redaction of whole values: their texts and numbers, and what stands under certain keys or at certain
places.

Values are plain JSON as it is kept of them. Their structure stays: what goes is a text, or replaced by one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from isotrace.canonical import value_bytes
from isotrace.redact.engine import Engine
from isotrace.redact.rules import KeyRule, PlaceRule, bare

_LEAST_DIGITS: Final = 5
_PREFIX: Final = "$iso:"
BYTES: Final = "$iso:bytes"

_KEPT_TAGS: Final = frozenset({"$iso:object", "$iso:id", "$iso:erased", "$iso:float"})
_INNER_TAGS: Final = frozenset({"$iso:set", "$iso:dict", "$iso:str"})
_WRAPPERS: Final = ("value", "return")
"""What stands around an outcome that is no object."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

Path = tuple[str, ...]
Texts = Callable[[Path, str], str]
"""What becomes of the text at a path."""


class Walk:
    """Redacts values by rules for keys and places, and hands each text to `texts`.

    `structure`: how many levels from the top have keys that are the record's own, and stay. `cut`: bytes may
    be cut anywhere, so they are handed on as Latin-1, whatever they are.
    """

    def __init__(
        self,
        engine: Engine,
        keys: Sequence[KeyRule],
        places: Sequence[PlaceRule],
        skill: str | None,
        texts: Texts,
        *,
        structure: int,
        cut: bool = False,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._places = [
            (rule.short, [place for place in rule.places if place.skill in (None, skill)]) for rule in places
        ]
        self._skill = skill
        self._texts = texts
        self._structure = structure
        self._cut = cut

    def value(self, value: Any, path: Path = (), depth: int = 0) -> Any:
        """The value without what has to go."""
        short = self._by_place(path)
        if short is not None:
            return self._removed(short, value)
        match value:
            case str():
                return self._texts(path, value)
            case bool() | None | float():
                return value
            case int():
                return self._number(value)
            case list():
                if path[-2:-1] == ("headers",) and (short := self._of_header(value)):
                    return [value[0], self._removed(short, value[1])]
                return [self.value(one, (*path, str(i)), depth + 1) for i, one in enumerate(value)]
            case dict():
                tag = next(iter(value), "")
                if len(value) == 1 and tag.startswith(_PREFIX):
                    return self._tagged(tag, value, path, depth)
                return self._object(value, path, depth)
        return value

    def _object(self, value: dict[str, Any], path: Path, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        ours = depth < self._structure or (depth == 0 and len(value) == 1 and next(iter(value)) in _WRAPPERS)
        for key, one in value.items():
            name = key if ours else self._name(key, made)
            short = self._by_key(key)
            made[name] = (
                self.value(one, (*path, key), depth + 1) if short is None else self._removed(short, one)
            )
        return made

    def _name(self, key: str, taken: dict[str, Any]) -> str:
        """A key, redacted. Two that become the same are told apart by their number."""
        name = self._engine.text(key)
        if name not in taken:
            return name
        number = 2
        while f"{name}#{number}" in taken:
            number += 1
        return f"{name}#{number}"

    def _number(self, value: int) -> Any:
        digits = str(abs(value))
        if len(digits) < _LEAST_DIGITS:
            return value
        made = self._engine.number(digits)
        return value if made is None else made

    def _by_key(self, key: str) -> str | None:
        if not self._keys:
            return None
        form = bare(key)
        return next((rule.short for rule in self._keys if form in rule.keys), None)

    def _of_header(self, pair: list[Any]) -> str | None:
        """The rule for a header, which stands as its name and its value."""
        return self._by_key(pair[0]) if len(pair) == 2 and isinstance(pair[0], str) else None

    def _by_place(self, path: Path) -> str | None:
        for short, places in self._places:
            if any(place.covers(self._skill, path) for place in places):
                return short
        return None

    def _removed(self, short: str, value: Any) -> Any:
        if value is None or self._engine.is_placeholder(value):
            return value
        return self._engine.placeholder(
            short, value if isinstance(value, str) else value_bytes(value).decode()
        )

    # --- what JSON can't hold ---------------------------------------------------------------

    def _tagged(self, tag: str, value: dict[str, Any], path: Path, depth: int) -> Any:
        content = value[tag]
        if tag in _KEPT_TAGS:
            return value
        if tag == BYTES and isinstance(content, str):
            made = self._base64(content, path)
            return value if made == content else {tag: made}
        if tag in _INNER_TAGS:
            return {tag: self._inner(tag, self.value(content, path, depth + 1))}
        if not isinstance(content, str):
            return value
        # A number or a date that has to go is no number or date afterwards.
        made = self._engine.number(content) or self._texts(path, content)
        return value if made == content else made

    def _inner(self, tag: str, content: Any) -> Any:
        if tag == "$iso:set" and isinstance(content, list):
            return [orjson.loads(data) for data in sorted({value_bytes(one) for one in content})]
        return content

    def _base64(self, content: str, path: Path) -> str:
        """Bytes that are text, redacted as that; others as they are."""
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            return content
        coding = "latin-1" if self._cut else coding_of(data)
        if coding is None:
            return content
        text = data.decode(coding)
        made = self._texts((*path, BYTES), text)
        return content if made == text else base64.b64encode(made.encode(coding)).decode()


def coding_of(data: bytes) -> str | None:
    """How bytes that are text are coded; None for those that are none."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _fitting(data, "utf-16")
    found = _fitting(data, "utf-8")
    if found is not None:
        return found
    return None if _CONTROL.search(data.decode("latin-1")) else "latin-1"


def _fitting(data: bytes, coding: str) -> str | None:
    try:
        # Some bytes decode to what does not encode to them again.
        return coding if data.decode(coding).encode(coding) == data else None
    except UnicodeError:
        return None
