"""Where the parts of a JSON text begin and end, without reading them.

A results file holds many runs in one array. Finding their bounds first means that each can be
read on its own: a run that is not JSON is reported and the next one is read, and of a file that
was cut off the whole runs before the cut are kept.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterator
from mmap import mmap
from typing import Final, NamedTuple

from isotrace.canonical import parse_json
from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.node import Node, as_import_error, plain_json
from isotrace.jsondiff import pointer_escape

# What opens, closes or hides brackets. A string always matches, an unfinished one without its end, so
# that no byte is looked at twice however the text is made.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{}]', re.DOTALL)
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_SCALAR: Final = re.compile(rb"[^ \t\r\n,:\[\]{}\"]+")
_CLOSING: Final = {ord("["): ord("]"), ord("{"): ord("}")}
_BOM: Final = b"\xef\xbb\xbf"


class Span(NamedTuple):
    """A value in a text: its JSON Pointer, and the bytes `begin:end`."""

    pointer: str
    begin: int
    end: int


class JsonText:
    """A JSON text, looked at from outside. Methods raise `ImportFormatError` with a pointer.

    `base` is the pointer to the text itself where it is part of a larger file.
    """

    def __init__(self, data: bytes | mmap, where: str, base: str = "") -> None:
        self.data = data
        self.base = base
        self.where = where
        self.walked = 0
        self.begin = self._skip(len(_BOM) if data[: len(_BOM)] == _BOM else 0)

    def kind(self, at: int | None = None) -> str:
        """`[`, `{`, the first character of another value, or `""` at the end of the text."""
        at = self.begin if at is None else at
        return chr(self.data[at]) if at < len(self.data) else ""

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self.data, at)
        return match.end() if match else at

    def _cut(self, pointer: str) -> ImportFormatError:
        return ImportFormatError(
            "the file is cut off",
            where=self.where,
            pointer=self.base + pointer,
            got=f"its end at byte {len(self.data)}",
            hint="what is whole before this place is kept",
        )

    def _bad(self, at: int, expected: str, pointer: str) -> ImportFormatError:
        if at >= len(self.data):
            return self._cut(pointer)
        return ImportFormatError(
            "not JSON",
            where=self.where,
            pointer=self.base + pointer,
            expected=expected,
            got=f"{self.data[at : at + 12]!r} at byte {at}",
        )

    def end_of(self, begin: int, pointer: str) -> int:
        """Where a value inside an array or object ends. Its brackets are known to fit, nothing else."""
        if self.kind(begin) not in ('"', "[", "{"):
            match = _SCALAR.match(self.data, begin)
            if match is None:
                raise self._bad(begin, "a value", pointer)
            if match.end() == len(self.data):
                # `12` may be the beginning of `123`.
                raise self._cut(pointer)
            return match.end()
        open_ = bytearray()
        for token in _TOKEN.finditer(self.data, begin):
            text = token.group()
            if text[0] == 0x22:
                if not token.group(1):
                    raise self._cut(pointer)
            elif text[0] in _CLOSING:
                open_.append(_CLOSING[text[0]])
            elif open_.pop() != text[0]:
                raise self._bad(token.start(), "the other bracket", pointer)
            if not open_:
                return token.end()
        raise self._cut(pointer)

    def elements(self, begin: int, pointer: str = "") -> Iterator[Span]:
        """The elements of the array that begins here, each as soon as its end is known."""
        at = self._first(begin, "]")
        for index in itertools.count():
            if at < 0:
                return
            inner = f"{pointer}/{index}"
            end = self.end_of(at, inner)
            yield Span(inner, at, end)
            at = self._next(end, "]", inner)

    def members(self, begin: int, pointer: str = "") -> Iterator[tuple[str, int]]:
        """Each key of the object that begins here, and where its value begins.

        A member's value is passed over only when the next one is asked for.
        """
        at = self._first(begin, "}")
        while at >= 0:
            if self.kind(at) != '"':
                raise self._bad(at, "a key", pointer)
            end = self.end_of(at, pointer)
            key = self._key(at, end, pointer)
            at = self._skip(end)
            if self.kind(at) != ":":
                raise self._bad(at, "':'", pointer)
            at = self._skip(at + 1)
            yield key, at
            at = self._next(self.end_of(at, f"{pointer}/{pointer_escape(key)}"), "}", pointer)

    def _first(self, begin: int, closing: str) -> int:
        """Where the first part of the array or object that begins here begins; −1 if it is empty."""
        at = self._skip(begin + 1)
        if self.kind(at) != closing:
            return at
        self.walked = at + 1
        return -1

    def _next(self, end: int, closing: str, pointer: str) -> int:
        """Where the next part begins after one has ended; −1 if there is none."""
        at = self._skip(end)
        if self.kind(at) == closing:
            self.walked = at + 1
            return -1
        if self.kind(at) != ",":
            raise self._bad(at, f"',' or '{closing}'", pointer)
        return self._skip(at + 1)

    def _key(self, begin: int, end: int, pointer: str) -> str:
        try:
            return str(parse_json(self.data[begin:end]))
        except CanonicalizationError as error:
            raise self._bad(begin, "a key", pointer) from error

    def unexpected(self, expected: str) -> ImportFormatError:
        """The error for a text that begins with something else."""
        if not self.kind():
            return ImportFormatError(
                "the file is empty", where=self.where, pointer=self.base, expected=expected
            )
        return ImportFormatError(
            "unknown layout",
            where=self.where,
            pointer=self.base,
            expected=expected,
            got=f"{self.kind()!r} first",
        )

    def check_end(self) -> None:
        """Raises if anything but white space follows the array or object that was walked last."""
        at = self._skip(self.walked)
        if at < len(self.data):
            raise self._bad(at, "the end of the file", "")


def text_start(head: bytes) -> bytes:
    """The beginning of a file without what may stand before its JSON: a byte order mark and white space."""
    return head.lstrip(_BOM + b" \t\r\n")


def parts_of(text: JsonText) -> tuple[dict[str, int], ImportFormatError | None]:
    """Where each member of the file's object begins, and the error that ended the search, if one did."""
    parts: dict[str, int] = {}
    try:
        for key, begin in text.members(text.begin):
            if key in parts:
                raise ImportFormatError("an object names a key twice", where=text.where, pointer=f"/{key}")
            parts[key] = begin
        text.check_end()
    except ImportFormatError as error:
        return parts, error
    return parts, None


def runs_of(
    text: JsonText,
    begin: int,
    pointer: str,
    limit: int,
    read: Callable[[Node], ImportedRun],
    *,
    failure: ImportFormatError | None = None,
) -> Generator[ImportedRun | ImportFormatError, None, bool]:
    """What `read` makes of each element of the array at `begin`; a bad one becomes its error.

    An element is at most `limit` bytes long. Where the array itself breaks off, the last item is the
    error, or `failure` if that is given: the reason why there is no more text. Returns whether the
    array was whole.
    """
    place = pointer
    try:
        for span in text.elements(begin, pointer):
            place = span.pointer
            try:
                yield read(_node(text, span, limit))
            except ImportFormatError as error:
                yield error
            except CanonicalizationError as error:
                yield as_import_error(error, text.where, place)
        if begin == text.begin:
            text.check_end()
        if failure is None:
            return True
    except ImportFormatError as error:
        if failure is None:
            yield error
            return False
        place = error.pointer or place
    failure.pointer = failure.pointer or place
    yield failure
    return False


def _node(text: JsonText, span: Span, limit: int) -> Node:
    if span.end - span.begin > limit:
        raise ImportFormatError(
            "a run is too large",
            where=text.where,
            pointer=span.pointer,
            expected=f"at most {limit} bytes",
            got=f"{span.end - span.begin}",
        )
    data = text.data[span.begin : span.end]
    return Node(plain_json(data, text.where, span.pointer, max_bytes=limit), text.where, span.pointer)
