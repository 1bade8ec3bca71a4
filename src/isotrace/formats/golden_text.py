"""Values as a golden file shows them: JSON that a person reads, laid out so that a changed sentence is one
changed line.

A value that fits stands on one line. Of a longer one each member has a line of its own, and a long text, or
one of several lines, stands below its place as it reads:

    "content": <text>,
      | You are a support agent.
      | Never refund twice.

`|` begins a line of the text; `>` goes on with it: long lines are parted between sentences. A part that
holds what can't be seen, or ends in a blank, has a backslash behind that mark and is escaped as in JSON.
A long text that an earlier event holds too is not written again:
`<as step [0] "/params/messages/0/content">`. Neither is the beginning of a list that an earlier event has
at the same place: `<first 3 of step [0] "/params/messages">` stands for three elements.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from isotrace.canonical import parse_json, pointer_to
from isotrace.models import Lineage

WIDTH: Final = 100
"""What is longer is laid out over several lines."""
LONG: Final = 72
"""A text of more characters, or of several lines, stands by itself."""
INDENT: Final = "  "

_SENTENCES: Final = re.compile(r"(?<=[.!?;:])(?= )")
_BARE: Final = re.compile(r"(?!(?:true|false|null)\b)[A-Za-z_][A-Za-z0-9_./@+-]*")
_CONTROLS: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class Number(float):
    """A float that is not written as Python would, and keeps the form in which it was."""

    text: str


class Value(NamedTuple):
    """A JSON value. `odd`: there is a `Number` in it."""

    value: Any
    odd: bool

    def text(self, value: Any) -> str:
        """A part of it as value bytes have it."""
        return value_text(value, compact=True) if self.odd else _exact_text(value)


def value_of(data: bytes | str) -> Value:
    """A JSON value, its floats in their own form. What is no JSON raises `ValueError`."""
    odd = False

    def read(text: str) -> float:
        nonlocal odd
        number = float(text)
        if repr(number) == text:
            return number
        odd = True
        kept = Number(number)
        kept.text = text
        return kept

    return Value(json.loads(data, parse_float=read), odd)


def value_text(value: Any, *, compact: bool = False) -> str:
    """The value on one line. `compact`: as value bytes are, without blanks and needless escapes."""
    comma, colon = (",", ":") if compact else (", ", ": ")
    text = _exact_text if compact else quoted
    match value:
        case str():
            return text(value)
        case Number():
            return value.text
        case dict():
            pairs = (
                f"{text(key)}{colon}{value_text(inner, compact=compact)}" for key, inner in value.items()
            )
            return f"{{{comma.join(pairs)}}}"
        case list():
            return f"[{comma.join(value_text(inner, compact=compact) for inner in value)}]"
        case _:
            return json.dumps(value)


def _exact_text(value: Any) -> str:
    return _encode(value)


_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def quoted(text: str) -> str:
    """A JSON string in which everything can be seen."""
    return f'"{escaped(text)}"'


def escaped(text: str) -> str:
    """The inside of a JSON string: whatever can't be seen is escaped."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if text.isprintable() else "".join(map(_escaped_char, text))


def _escaped_char(char: str) -> str:
    if char.isprintable():
        return char
    if char in _CONTROLS:
        return _CONTROLS[char]
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def fact_text(value: Any) -> str:
    """A fact as it stands behind its name: a plain word needs no quotes."""
    return value if isinstance(value, str) and _BARE.fullmatch(value) else value_text(value)


BARE: Final = re.compile(_BARE.pattern)


def is_long(text: str) -> bool:
    """Whether a text stands by itself."""
    return len(text) > LONG or "\n" in text


# --- texts that stand by themselves -------------------------------------------------------


def text_lines(text: str) -> Iterator[str]:
    """The lines below `<text>`, without their indentation."""
    for line in text.split("\n"):
        mark = "|"
        for part in _SENTENCES.split(line) if len(line) > WIDTH else (line,):
            yield mark + _part(part)
            mark = ">"


def _part(part: str) -> str:
    if not part:
        return ""
    if part.replace("\t", "").isprintable() and not part[-1].isspace():
        return f" {part}"
    inside = escaped(part)
    return f"\\{inside[:-1]}\\u0020" if inside.endswith(" ") else f"\\{inside}"


def is_text_line(line: str) -> bool:
    """Whether an indented line, without its indentation, is one of a text."""
    return line.startswith(("|", ">"))


def text_of_line(line: str) -> str:
    """What a line of a text says, with the line break before it where it begins one. Raises
    `CanonicalizationError` or `ValueError` for one that nobody writes so."""
    begin = "\n" if line[0] == "|" else ""
    if len(line) == 1:
        return begin
    if line[1] == "\\":
        part = parse_json(f'"{line[2:]}"')
        if isinstance(part, str):
            return begin + part
    elif line[1] == " ":
        return begin + line[2:]
    raise ValueError(line)


# --- laying out ---------------------------------------------------------------------------


class Layout:
    """Lays out values, and remembers where their long texts, and their lists, stand."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        self._elements: dict[str, int] = {}
        self._lists: dict[str, deque[tuple[str, list[int]]]] = {}

    def lines(self, name: str, value: Value, indent: str) -> Iterator[str]:
        """A value behind its name, on as many lines as it needs."""
        return self._member(f"{name}: ", _Part(value, value.value, (name,)), indent, "")

    def fits(self, value: Any, room: int) -> bool:
        """Whether a value can stand on one line of so many characters."""
        if isinstance(value, str) and is_long(value):
            return False
        if isinstance(value, dict | list):
            # The first part that is too long ends the walk.
            left = room
            for part in value.values() if isinstance(value, dict) else value:
                left -= 3
                if left < 0 or not self.fits(part, left):
                    return False
        return len(value_text(value)) <= room

    def _lines(self, part: _Part, indent: str, end: str, room: int) -> Iterator[str]:
        inner, value = indent + INDENT, part.value
        if isinstance(value, str) and is_long(value):
            if (place := self._places.get(value)) is not None:
                yield f"<as {place}>{end}"
                return
            yield f"<text>{end}"
            yield from (inner + line for line in text_lines(value))
        elif self.fits(value, room) or not value:
            yield value_text(value) + end
        elif isinstance(value, dict):
            yield "{"
            last = len(value) - 1
            for number, key in enumerate(value):
                comma = "," if number < last else ""
                yield from self._member(f"{quoted(key)}: ", part.inside(key), inner, comma)
            yield f"{indent}}}{end}"
        elif isinstance(value, list):
            yield "["
            last = len(value) - 1
            count, place = self._begun(part)
            if count:
                yield f"{inner}<first {count} of {place}>{',' if count <= last else ''}"
            for number in range(count, len(value)):
                yield from self._member("", part.inside(number), inner, "," if number < last else "")
            yield f"{indent}]{end}"
        else:
            yield value_text(value) + end

    def _member(self, head: str, part: _Part, indent: str, end: str) -> Iterator[str]:
        lines = self._lines(part, indent, end, WIDTH - len(indent) - len(head))
        yield indent + head + next(lines)
        yield from lines

    # --- what stands further up ---------------------------------------------------------------

    def _begun(self, part: _Part) -> tuple[int, str]:
        """With how many elements an earlier list at the same pointer begins as this one, and where that is.
        0 where it is not worth a line: a conversation is sent again with each call."""
        count, place = 0, ""
        ids = self._ids(part)
        for label, earlier in self._lists.get(part.pointer, ()):
            same = next(
                (at for at, (a, b) in enumerate(zip(ids, earlier, strict=False)) if a != b),
                min(len(ids), len(earlier)),
            )
            if same >= max(count, 1):
                count, place = same, f"{label} {quoted(part.pointer)}"
        return (0, "") if self.fits(part.value[:count], LONG) else (count, place)

    def _ids(self, part: _Part) -> list[int]:
        texts = map(part.whole.text, part.value)
        return [self._elements.setdefault(text, len(self._elements)) for text in texts]

    def remember(self, label: str, name: str, value: Value) -> None:
        """From now on the long texts of this value, and the beginnings of its lists, are referred to."""
        stack = [_Part(value, value.value, (name,))]
        while stack:
            part = stack.pop()
            node, begin = part.value, 0
            if isinstance(node, str):
                if is_long(node):
                    self._places.setdefault(node, f"{label} {quoted(part.pointer)}")
                continue
            if isinstance(node, list) and not self.fits(node, LONG):
                # What an earlier list begins with is known from there.
                begin, _ = self._begun(part)
                lists = self._lists.setdefault(part.pointer, deque(maxlen=_LISTS))
                lists.append((label, self._ids(part)))
            if isinstance(node, dict | list):
                keys = list(node) if isinstance(node, dict) else range(begin, len(node))
                stack.extend(part.inside(key) for key in reversed(keys))


_LISTS: Final = 8
"""Lists at one pointer that later ones are held against: conversations that go on side by side."""


class _Part(NamedTuple):
    """A part of a value, and where it stands."""

    whole: Value
    value: Any
    path: tuple[Any, ...]

    @property
    def pointer(self) -> str:
        return pointer_to(self.path)

    def inside(self, key: Any) -> _Part:
        return _Part(self.whole, self.value[key], (*self.path, key))


def label_of(lineage: Lineage | None) -> str:
    """How a reference names a step, or with None the run."""
    return "run" if lineage is None else f"step {value_text(list(lineage))}"
