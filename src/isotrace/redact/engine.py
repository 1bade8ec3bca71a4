"""What redactors find in one text, and what stands there afterwards.

Redactors only find. What is put in place of it is decided here, so that it holds for all of them: a text that
was redacted is not changed by being redacted again, whatever was found in it and whoever found it.
"""

from __future__ import annotations

import hmac
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from isotrace.contracts import Redactor

_LABEL: Final = b"isotrace/v1/pseudonym\0"
_DIGITS: Final = 10
_ROUNDS: Final = 16
_SMALL: Final = 4096
_REMEMBERED: Final = 1024


class Region(NamedTuple):
    """A part of a text, and what stands in its place."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Named:
    """A redactor under the short name that stands in texts. `numbers`: it is asked about numbers too.
    `quote`: what stands around a placeholder where a span begins, for values of JSON that are no strings."""

    short: str
    redactor: Redactor
    numbers: bool = False
    quote: Callable[[str, int], str] | None = None


class _Failed(Exception):
    """A redactor raised, or gave what is no part of its text."""

    def __init__(self, short: str) -> None:
        super().__init__(short)
        self.short = short


class Engine:
    """Several redactors at work on texts. `key`: what pseudonyms are made with, None for none.

    `problems` are told once each: sentences about redactors that failed.
    """

    def __init__(self, redactors: Sequence[Named], shorts: Iterable[str], key: bytes | None) -> None:
        self._redactors = tuple(redactors)
        self._key = key
        names = "|".join(sorted(map(re.escape, shorts)))
        self._ours = re.compile(
            rf"\[(?:{names})(?::[0-9a-f]{{{_DIGITS}}})?\]|\[redactor (?:{names}) failed\]"
        )
        self._known: dict[str, str] = {}
        self.problems: dict[str, None] = {}

    def placeholder(self, short: str, removed: str) -> str:
        """What stands in place of a text that was removed."""
        if self._key is None:
            return f"[{short}]"
        data = _LABEL + short.encode() + b"\0" + removed.encode(errors="surrogatepass")
        return f"[{short}:{hmac.new(self._key, data, sha256).hexdigest()[:_DIGITS]}]"

    def is_placeholder(self, value: Any) -> bool:
        """Whether this is a text that one of these redactors has left, and nothing else."""
        return isinstance(value, str) and self._ours.fullmatch(value) is not None

    def text(self, text: str) -> str:
        """The text, redacted. Never raises."""
        known = self._known.get(text)
        if known is not None:
            return known
        regions = self.regions(text)
        made = applied(text, regions) if regions else text
        if len(text) < _SMALL:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[text] = made
        return made

    def number(self, digits: str) -> str | None:
        """What stands in place of a number, None where it stays."""
        for named in self._redactors:
            if named.numbers and (0, len(digits)) in self._found(named, digits):
                return self.placeholder(named.short, digits)
        return None

    def regions(self, text: str, covered: Sequence[Region] = ()) -> list[Region]:
        """All that is to be removed of a text, in order and apart from each other, `covered` included. Where
        a redactor fails that is the whole text."""
        try:
            return self._regions(text, covered)
        except _Failed as failed:
            self.problems.setdefault(f"redactor {failed.short} failed: texts that it was given were withheld")
            return [Region(0, len(text), f"[redactor {failed.short} failed]")]

    def _regions(self, text: str, covered: Sequence[Region]) -> list[Region]:
        regions = [Region(*match.span(), match[0]) for match in self._ours.finditer(text)]
        if covered:
            regions = sorted([*covered, *(one for one in regions if not _meets(one, covered))])
        clean: set[tuple[int, int]] = set()
        for _ in range(_ROUNDS):
            left = [gap for gap in _gaps(regions, len(text)) if gap not in clean]
            if not left:
                return regions
            found = list[Region]()
            for gap in left:
                # What is left between two parts is looked at by itself, as it will be the next time.
                more = self._find_all(text[gap[0] : gap[1]], gap[0])
                found += more
                if not more:
                    clean.add(gap)
            regions = sorted([*regions, *found])
        raise _Failed(self._redactors[0].short)

    def _find_all(self, text: str, offset: int) -> list[Region]:
        spans: list[tuple[int, int, int]] = []
        for number, named in enumerate(self._redactors):
            spans += [(start, end, number) for start, end in self._found(named, text)]
        merged: list[tuple[int, int, int]] = []
        for start, end, number in sorted(spans, key=lambda one: (one[0], -one[1], one[2])):
            if merged and start < merged[-1][1]:
                first = merged[-1]
                merged[-1] = (first[0], max(first[1], end), first[2])
            else:
                merged.append((start, end, number))
        return [
            Region(offset + start, offset + end, self._stands_in(self._redactors[number], text, start, end))
            for start, end, number in merged
        ]

    def _stands_in(self, named: Named, text: str, start: int, end: int) -> str:
        quote = "" if named.quote is None else named.quote(text, start)
        return quote + self.placeholder(named.short, text[start:end]) + quote

    def _found(self, named: Named, text: str) -> list[tuple[int, int]]:
        try:
            spans = []
            for start, end in named.redactor.find(text):
                if not 0 <= start < end <= len(text):
                    raise _Failed(named.short)
                spans.append(beside_escapes(text, start, end))
        except Exception as error:  # what an extension raises must never let its text through
            raise _Failed(named.short) from error
        return [(start, end) for start, end in spans if start < end]


def beside_escapes(text: str, start: int, end: int) -> tuple[int, int]:
    r"""The span without half an escape at its edges: in JSON within a text, `\nann@…` begins after the n."""
    if start and _odd_backslash(text, start - 1):
        start += 5 if text[start] == "u" else 1
    if end and end < len(text) and _odd_backslash(text, end - 1):
        end -= 1
    return min(start, end), end


def _odd_backslash(text: str, place: int) -> bool:
    """Whether the backslash here, if it is one, begins an escape."""
    count = 0
    while place >= 0 and text[place] == "\\":
        count += 1
        place -= 1
    return count % 2 == 1


def _meets(one: Region, others: Sequence[Region]) -> bool:
    """Whether this lies in part within one of the others."""
    return any(one.start < other.end and other.start < one.end for other in others)


def _gaps(regions: Sequence[Region], length: int) -> list[tuple[int, int]]:
    """What lies between the regions."""
    edges = [0, *(edge for region in regions for edge in (region.start, region.end)), length]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def applied(text: str, regions: Iterable[Region]) -> str:
    """The text with what stands in place of each region."""
    parts, done = [], 0
    for region in regions:
        parts += [text[done : region.start], region.text]
        done = region.end
    return "".join((*parts, text[done:]))


def recut(texts: Sequence[str], regions: Sequence[Region]) -> list[str]:
    """These pieces of one text without the regions of the whole: what stands for a part stands in the piece
    in which that begins, and the other pieces keep the rest."""
    starts, pieces, offset = [region.start for region in regions], list[str](), 0
    for text in texts:
        end = offset + len(text)
        first = bisect_left(starts, offset)
        inside, done = list[str](), offset
        if first and regions[first - 1].end > offset:
            done = min(end, regions[first - 1].end)
        for region in regions[first:]:
            if region.start >= end:
                break
            inside.append(text[done - offset : region.start - offset])
            inside.append(region.text)
            done = min(end, region.end)
        pieces.append("".join((*inside, text[done - offset :])))
        offset = end
    return pieces
