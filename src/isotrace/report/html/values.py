"""Recorded values on a page: as text, whole where there is room, and else cut with their length said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from isotrace.jsondiff import MISSING
from isotrace.models import Erased
from isotrace.report.safe import json_text, visible_lines

FOLDED = 2_000
"""Characters of a value that stand open; what is longer is folded."""

PER_VALUE = 100_000
"""Characters of one value that a page holds at most."""

PER_PAGE = 6_000_000
"""Characters of all values of a page together. A browser opens that in a second or two."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a page holds it. `head` is its HTML, the first lines of it where there is `rest`, or why
    there is none (`absent`). `length` are the characters it has, `kept` those that the page holds."""

    head: str
    rest: str = ""
    length: int = 0
    kept: int = 0
    absent: bool = False

    @property
    def cut(self) -> bool:
        """Whether the page lacks a part of it."""
        return self.kept < self.length


def text_of(value: Any) -> str | None:
    """The value as harmless lines, a bare text without quotes; None for what is not there."""
    if value is MISSING or value is None or isinstance(value, Erased):
        return None
    return "\n".join(visible_lines(value)) if isinstance(value, str) else json_text(value)


def shown(value: Any, limit: int = PER_VALUE) -> Shown:
    """The value, of which the page may hold `limit` characters."""
    if isinstance(value, Erased):
        return Shown(f"erased; its commitment is {escape(value.commit)}", absent=True)
    text = text_of(value)
    if text is None:
        return Shown("not recorded" if value is MISSING else "none", absent=True)
    kept = text[:limit]
    mark = _plain if isinstance(value, str) else _json
    if len(kept) <= FOLDED:
        return Shown(mark(kept), length=len(text), kept=len(kept))
    fold = _fold(kept)
    return Shown(mark(kept[:fold]), mark(kept[fold:]), len(text), len(kept))


def _fold(text: str) -> int:
    """Where the open part ends: behind the last whole line that fits."""
    return text.rfind("\n", FOLDED // 2, FOLDED) + 1 or FOLDED


def _plain(text: str) -> str:
    return escape(text, quote=False)


# A key, or the start of a line, or a line break inside a string. A cut text may end inside of any.
_PARTS = re.compile(r'(?m)^(?P<indent> *)(?:"(?P<key>(?:[^"\\\n]|\\.)*)":)?|(?P<break>\\[n])|(?P<other>\\.)')


def _json(text: str) -> str:
    """Indented JSON with its keys marked. Where a string has line breaks, lines are broken there."""
    parts: list[str] = []
    indent = ""
    at = 0
    for match in _PARTS.finditer(text):
        parts.append(escape(text[at : match.start()], quote=False))
        at = match.end()
        if match["break"]:
            parts.append(f"<i>\\n</i>\n{indent}  ")
        elif match["other"]:
            parts.append(escape(match[0], quote=False))
        else:
            indent = match["indent"]
            parts.append(indent)
            if match["key"] is not None:
                parts.append(f'<b>"{escape(match["key"], quote=False)}"</b>:')
    parts.append(escape(text[at:], quote=False))
    return "".join(parts)


def fair_limit(lengths: Iterable[int], total: int = PER_PAGE) -> int:
    """The most characters that each value may have, so that all together stay within `total`: short
    ones stay whole, and only the longest are cut."""
    left = total
    ascending = sorted(min(length, PER_VALUE) for length in lengths)
    for done, length in enumerate(ascending):
        share = left // (len(ascending) - done)
        if length > share:
            return share
        left -= length
    return PER_VALUE


def lengths_of(values: Iterable[Any]) -> Iterator[int]:
    """How many characters each value has on a page."""
    for value in values:
        text = text_of(value)
        yield 0 if text is None else len(text)
