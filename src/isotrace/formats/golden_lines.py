"""The lines of a golden file, put together to events and their parts, which are plain JSON."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from isotrace.canonical import parse_json
from isotrace.errors import (
    CanonicalizationError,
    ImportFormatError,
    IsotraceError,
    SchemaUnsupportedError,
)
from isotrace.events import EVENT_TYPES
from isotrace.formats.golden_shape import (
    HEAD,
    RECORDED,
    VERSION,
)
from isotrace.formats.golden_text import BARE, value_of
from isotrace.hashing import SCHEME
from isotrace.models import Erased

_PIECE: Final = re.compile(
    r'[^"<]+|"(?:[^"\\]|\\.)*"'
    r'|<(?P<token>text|(?:as|first) (?:[^<>"]|"(?:[^"\\]|\\.)*")*|erased [0-9a-f]{64})>'
)
_ITEM: Final = re.compile(r"\s+(?:(?P<seq>[0-9]{1,9})\.)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<is>=|:\s+)")
_BLANKS: Final = re.compile(r"\s*")
_ERASED: Final = re.compile(r"<erased ([0-9a-f]{64})>")
_MERGE_MARKS: Final = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
_WORD: Final = re.compile(r"[A-Za-z_]+")
_HEADER: Final = re.compile(rf"{HEAD}([0-9]{{1,9}}) (\S+)")
SHOWN: Final = 80

_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Fail:
    """Makes the errors of one file; they name it and the line."""

    where: str

    def __call__(self, what: str, line: int, **data: Any) -> ImportFormatError:
        return ImportFormatError(what, where=f"{self.where}:{line}", **data)

    def because(self, cause: IsotraceError, line: int) -> ImportFormatError:
        found = self(
            cause.what,
            line,
            pointer=cause.pointer,
            expected=cause.expected,
            got=cause.got,
            hint=cause.hint,
        )
        found.__cause__ = cause
        return found


@dataclass(slots=True)
class Block:
    """A line that is not indented, with the indented ones below it: its text as plain JSON, texts and
    references put in, and where each line of the file begins in it."""

    word: str
    line: int
    text: str = ""
    starts: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def line_at(self, position: int) -> int:
        return self.lines[bisect_right(self.starts, position) - 1]


@dataclass(slots=True)
class Item:
    """`name=fact` or `name: value`; in `recorded` of an event by number."""

    name: str
    seq: int | None
    is_value: bool
    value: Any
    line: int

    @property
    def data(self) -> bytes | Erased:
        """The value bytes."""
        value = self.value
        return value if isinstance(value, Erased) else value.text(value.value).encode()


def lines_of(data: bytes, fail: Fail) -> list[str]:
    """The lines without their ends. Raises `ImportFormatError` for what is not UTF-8, and for the marks of
    a merge, wherever they stand: they would cut a value in two, and be told as what is left of it."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise fail("the file is not UTF-8", line, got=repr(data[error.start : error.start + 4])) from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    for number, one in enumerate(lines, 1):
        if one.startswith(_MERGE_MARKS):
            raise fail(
                "a merge left its marks",
                number,
                got=one[:SHOWN],
                hint="resolve the conflict, or record again",
            )
    return lines


def scheme_of(first: str, fail: Fail) -> str:
    """What the file's first line says, where this version can read the file."""
    expected = f"{HEAD}{VERSION} {SCHEME}"
    header = _HEADER.fullmatch(first)
    if header is None:
        raise fail(
            "not a golden file",
            1,
            expected=expected,
            got=repr(first[:SHOWN]),
            hint="`isotrace export RUN --format golden` writes one",
        )
    if int(header[1]) > VERSION or header[2] != SCHEME:
        cause = SchemaUnsupportedError(
            "the file was written by a newer isotrace",
            expected=expected,
            got=first[:SHOWN],
            hint="upgrade isotrace to read it",
        )
        raise fail.because(cause, 1)
    return header[2]


@dataclass(slots=True)
class Raw:
    """A block as it stands in the file."""

    word: str
    lines: list[tuple[int, str]]


def blocks_of(lines: list[str], fail: Fail) -> Iterator[Raw]:
    """The events, and what stands behind them. Raises `ImportFormatError` for a line that is neither."""
    block: Raw | None = None
    for number, line in enumerate(lines[1:], 2):
        if not line.strip(" \t"):
            continue
        if line.startswith(" "):
            if block is None:
                raise fail("an indented line goes on with an event, and there is none above it", number)
            block.lines.append((number, line.lstrip(" ")))
            continue
        if block is not None:
            yield block
        word = _WORD.match(line)
        if word is None or (word[0] != RECORDED and word[0] not in EVENT_TYPES):
            raise _unknown_line(line, number, fail)
        block = Raw(word[0], [(number, line[word.end() :])])
    if block is not None:
        yield block


def _unknown_line(line: str, number: int, fail: Fail) -> ImportFormatError:
    cause = SchemaUnsupportedError(
        "a line that is neither an event of a run nor indented",
        expected=", ".join(sorted((*EVENT_TYPES, RECORDED))),
        got=repr(line[:SHOWN]),
    )
    return fail.because(cause, number)


def pieces_of(line: str, number: int, fail: Fail) -> Iterator[tuple[str, str | None]]:
    """A line in parts, each with its mark where it is one: `text`, `as …`, `first …`, `erased …`. Raises
    `ImportFormatError` for another one, and for a string without an end."""
    position = 0
    while position < len(line):
        piece = _PIECE.match(line, position)
        if piece is None:
            at = line[position : position + SHOWN]
            if at.startswith('"'):
                raise fail("a string has no end on its line", number, expected='"…"', got=at)
            raise fail("an unknown mark", number, expected="<text>, <as …>, <first …> or <erased …>", got=at)
        yield piece[0], piece["token"]
        position = piece.end()


# --- items ------------------------------------------------------------------------------


def items_of(block: Block, fail: Fail) -> Iterator[Item]:
    """The facts and values of a block. Raises `ImportFormatError` for what is none or is named twice."""
    text, position = block.text, 0
    seen: set[tuple[int | None, str]] = set()
    while (begin := _BLANKS.match(text, position).end()) < len(text):  # type: ignore[union-attr]  # matches anywhere
        found = _ITEM.match(text, position)
        line = block.line_at(begin)
        if found is None:
            raise fail(
                "neither a fact nor a value",
                line,
                expected="name=fact or name: value",
                got=repr(text[position : position + SHOWN].strip()),
            )
        line = block.line_at(found.start("name"))
        value, position = _value(block, found, fail)
        seq = None if found["seq"] is None else int(found["seq"])
        if (seq, found["name"]) in seen:
            raise fail("an event names something twice", line, got=found["name"])
        seen.add((seq, found["name"]))
        yield Item(found["name"], seq, found["is"] != "=", value, line)


def _value(block: Block, found: re.Match[str], fail: Fail) -> tuple[Any, int]:
    """What stands behind a name, and where it ends."""
    text, start, is_value = block.text, found.end(), found["is"] != "="
    if is_value and (erased := _ERASED.match(text, start)) is not None:
        return Erased(erased[1]), erased.end()
    if not is_value and (bare := BARE.match(text, start)) is not None:
        _check_end(block, bare.end(), fail)
        return bare[0], bare.end()
    line = block.line_at(start)
    try:
        _, end = _decoder.raw_decode(text, start)
        _check_end(block, end, fail)
        plain = parse_json(text[start:end])
        return (value_of(text[start:end]) if is_value else plain), end
    except json.JSONDecodeError as error:
        at = min(error.pos, len(text) - 1)
        raise fail(
            f"the value of {found['name']} is not JSON: {error.msg}",
            block.line_at(at),
            got=repr(text[at : at + SHOWN].strip()),
        ) from None
    except CanonicalizationError as error:
        raise fail.because(error, line) from error
    except RecursionError:
        raise fail("a value is nested too deeply", line, expected="at most 128 levels") from None
    except ValueError as error:
        raise fail("a number has too many digits", line, got=str(error)) from None


def _check_end(block: Block, end: int, fail: Fail) -> None:
    if end < len(block.text) and not block.text[end].isspace():
        raise fail(
            "something follows a value without a blank",
            block.line_at(end),
            got=repr(block.text[end : end + SHOWN].strip()),
        )
