"""Typed access to JSON that nobody vouches for: every wrong type is an error that says where."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from isotrace.canonical import MAX_BYTES, MAX_INT, parse_json
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.events import microseconds_of
from isotrace.jsondiff import MISSING, pointer_escape
from isotrace.plain import to_plain

_YEAR_3000: Final = 32_503_680_000


class Moment(NamedTuple):
    """A point in time: microseconds since 1970 UTC, and whether the source named its zone."""

    us: int
    zoned: bool


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON value, the file it came from and the JSON Pointer that leads to it.

    `value` is `MISSING` where the file has nothing. Methods that return a value raise
    `ImportFormatError` unless it is of their type; those named `…_or_none` take null and
    nothing for None.
    """

    value: Any
    where: str
    pointer: str = ""

    def fail(self, what: str, *, expected: str | None = None, hint: str | None = None) -> ImportFormatError:
        """An error about this place, to be raised."""
        got = None if expected is None else "nothing" if self.value is MISSING else _shown(self.value)
        return ImportFormatError(
            what, where=self.where, pointer=self.pointer, expected=expected, got=got, hint=hint
        )

    def _wrong(self, expected: str) -> ImportFormatError:
        what = "a field is missing" if self.value is MISSING else "a field has the wrong type"
        return self.fail(what, expected=expected)

    @property
    def absent(self) -> bool:
        """Whether there is null or nothing here."""
        return self.value is MISSING or self.value is None

    def __getitem__(self, key: str) -> Node:
        """The member of an object; of anything else too, as `MISSING`, if it is null or absent."""
        pointer = f"{self.pointer}/{pointer_escape(key)}"
        if self.absent:
            return Node(MISSING, self.where, pointer)
        return Node(self.object().get(key, MISSING), self.where, pointer)

    def value_or_none(self) -> Any:
        """Any JSON value."""
        return None if self.value is MISSING else self.value

    def object(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self._wrong("an object")
        return self.value

    def object_or_none(self) -> dict[str, Any] | None:
        return None if self.absent else self.object()

    def items(self) -> Iterator[Node]:
        """The elements of an array, in order."""
        if not isinstance(self.value, list):
            raise self._wrong("an array")
        for index, child in enumerate(self.value):
            yield Node(child, self.where, f"{self.pointer}/{index}")

    def items_or_none(self) -> Iterator[Node]:
        """The elements of an array; none of null or nothing."""
        return iter(()) if self.absent else self.items()

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self._wrong("a string")
        return self.value

    def text_or_none(self) -> str | None:
        return None if self.absent else self.text()

    def whole_or_none(self) -> int | None:
        if self.absent:
            return None
        if not isinstance(self.value, int) or isinstance(self.value, bool) or abs(self.value) > MAX_INT:
            raise self._wrong("an integer")
        return self.value

    def number_or_none(self) -> float | None:
        if self.absent:
            return None
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            raise self._wrong("a number")
        if abs(self.value) > MAX_INT or not math.isfinite(self.value):
            raise self.fail("a number is out of range", expected="at most 2^53 − 1 either way")
        return self.value

    def flag_or_none(self) -> bool | None:
        if self.absent:
            return None
        if not isinstance(self.value, bool):
            raise self._wrong("true or false")
        return self.value

    def name_or_none(self) -> str | None:
        """A string, or an integer as a string: ids are written both ways."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return str(self.whole_or_none())
        return self.text_or_none()

    def unix_us_or_none(self) -> int | None:
        """Seconds since 1970 (a number) as microseconds."""
        seconds = self.number_or_none()
        if seconds is None:
            return None
        if not 0 <= seconds < _YEAR_3000:
            raise self.fail("a time is out of range", expected="seconds since 1970")
        return round(seconds * 1_000_000)

    def moment_or_none(self) -> Moment | None:
        """A time as ISO 8601 writes it; without a zone it is taken as UTC."""
        text = self.text_or_none()
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
            us = microseconds_of(moment.astimezone(UTC) if moment.tzinfo else moment)
        except (ValueError, OverflowError):
            raise self.fail("a time can't be read", expected="a time as ISO 8601 has it") from None
        if not 0 <= us < _YEAR_3000 * 1_000_000:
            raise self.fail("a time is out of range", expected="a time since 1970")
        return Moment(us, moment.tzinfo is not None)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else repr(value)


# `"$iso:…"` keys are isotrace's own, also where the text hides their first character in an escape;
# a number of 16 digits may be beyond 2^53.
_SUSPECT_TEXT: Final = re.compile(r"\$iso:|\\u0024|[0-9]{16}")
_SUSPECT: Final = re.compile(_SUSPECT_TEXT.pattern.encode())


def foreign_json(text: bytes | str, *, max_bytes: int = MAX_BYTES) -> Any:
    """The plain value of a JSON text that isotrace did not write.

    Integers beyond 2^53 − 1 and keys that isotrace keeps for itself come back under the tags of
    `isotrace.plain`. Raises `CanonicalizationError` for what is not JSON.
    """
    value = parse_json(text, max_bytes=max_bytes)
    suspect = _SUSPECT.search(text) if isinstance(text, bytes) else _SUSPECT_TEXT.search(text)
    return to_plain(value) if suspect else value


def plain_json(data: bytes, where: str, pointer: str = "", *, max_bytes: int) -> Any:
    """As `foreign_json`, for a part of a file: raises `ImportFormatError`, whose cause says more."""
    try:
        return foreign_json(data, max_bytes=max_bytes)
    except CanonicalizationError as error:
        raise as_import_error(error, where, pointer) from error


def as_import_error(error: CanonicalizationError, where: str, pointer: str) -> ImportFormatError:
    """The same complaint about a place in a file; the first error is its cause."""
    found = ImportFormatError(
        error.what,
        where=where,
        pointer=pointer + (error.pointer or ""),
        expected=error.expected,
        got=error.got or error.where,
    )
    found.__cause__ = error
    return found
