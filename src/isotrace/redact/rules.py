"""Rules of a project's own: patterns, keys and places, each under a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, NamedTuple

import re2

from isotrace.errors import UsageError
from isotrace.redact.finders import compiled
from isotrace.redact.targets import Place

MAX_PATTERN: Final = 10_000
"""How many characters a pattern has at most."""


class KeyRule(NamedTuple):
    """What stands under one of these keys goes. Keys are compared without case, hyphens and underscores."""

    short: str
    keys: frozenset[str]


class PlaceRule(NamedTuple):
    """What stands at one of these places goes."""

    short: str
    places: tuple[Place, ...]


def bare(key: str) -> str:
    """A key as keys are compared."""
    return key.replace("-", "").replace("_", "").casefold()


class PatternRedactor:
    """Finds what an RE2 pattern matches: its group 1 where it has one, else all of it."""

    def __init__(self, name: str, pattern: str, where: str) -> None:
        self.name = name
        self.version = sha256(pattern.encode()).hexdigest()[:16]
        self._pattern = _checked(pattern, where)
        self._group = min(1, self._pattern.groups)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._pattern.finditer(text):
            start, end = match.span(self._group)
            if 0 <= start < end:
                yield start, end


def _checked(pattern: str, where: str) -> Any:
    if len(pattern) > MAX_PATTERN:
        raise UsageError("a pattern is too long", where=where, expected=f"{MAX_PATTERN} characters")
    try:
        return compiled(pattern)
    except re2.error as error:
        raise UsageError(
            "a pattern can't be compiled",
            where=where,
            got=pattern,
            expected="RE2 (https://github.com/google/re2/wiki/Syntax): no looking around, no back-references",
            hint=_said(error),
        ) from error


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


class KeyFinder:
    """Finds what stands under keys in JSON and forms that are texts themselves."""

    def __init__(self, rule: KeyRule) -> None:
        self.version = "1"
        self.name = rule.short
        self._keys = rule.keys

    @cached_property
    def _patterns(self) -> list[Any]:
        names = "|".join(_loose(key) for key in sorted(self._keys))
        # JSON; JSON as a text within JSON, whose quotes are escaped, and so on; no strings; a form's field.
        return [
            compiled(pattern)
            for pattern in (
                rf'(?i:"(?:{names})"\s*:\s*")((?:[^"\\]|\\.)+)',
                rf'(?i:\\"(?:{names})\\"\s*:\s*\\")((?:[^"\\]|\\\\(?:\\"|\\\\|[^"\\]))+)',
                rf'(?i:\\\\+"(?:{names})\\+"\s*:\s*\\+")((?:[^"\\]|\\+[^"\\])+)',
                rf'(?i:"(?:{names})\\*"\s*:\s*)(-?[0-9][0-9.eE+-]*|true|false)',
                rf"(?i:(?:^|[?&;\s])(?:{names})=)([^&;\s\"'\\]+)",
            )
        ]

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        for pattern in self._patterns:
            for match in pattern.finditer(text):
                yield match.span(1)


_AFTER_KEY = re.compile(r'(\\*")\s*:\s*$')


def quote_of(text: str, start: int) -> str:
    """The quotes that a text needs in the place of a value of JSON that is none; empty within quotes."""
    found = _AFTER_KEY.search(text, max(0, start - 64), start)
    return "" if found is None else found[1]


def _loose(key: str) -> str:
    return "[-_]?".join(re2.escape(letter) for letter in key)


def named_texts(value: Any, what: str, where: str) -> Iterator[tuple[str, list[str]]]:
    """The rules of one table: names with a text or texts. Raises `UsageError` for anything else."""
    if not isinstance(value, dict):
        raise UsageError(f"{what} is a table of names", where=where, got=type(value).__name__)
    for name, texts in value.items():
        listed = [texts] if isinstance(texts, str) else texts
        if (
            not isinstance(listed, list)
            or not listed
            or not all(isinstance(one, str) and one for one in listed)
        ):
            raise UsageError(
                f"a rule of {what} is a text, or a list of texts", where=f"{where}, {name}", got=texts
            )
        yield checked_name(name, f"{where}, {name}"), listed


_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def checked_name(name: str, where: str) -> str:
    """The name, which stands in records. Raises `UsageError` for one that can't."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise UsageError(
            "the name of a redactor", where=where, got=name, expected="lower-case letters, digits, hyphens"
        )
    return name


def digest_of(texts: Iterable[str]) -> str:
    """16 hex digits that are others wherever a rule is another."""
    return sha256("\0".join(sorted(texts)).encode()).hexdigest()[:16]
