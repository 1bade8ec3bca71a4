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
`<as step [0] "/params/messages/0/content">`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

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
    """A float that keeps the form in which it was written."""

    text: str

    @staticmethod
    def read(text: str) -> Number:
        number = Number(text)
        number.text = text
        return number


def value_of(data: bytes | str) -> Any:
    """A JSON value, its floats in their own form. What is no JSON raises `ValueError`."""
    return json.loads(data, parse_float=Number.read)


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


def _exact_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


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
    """Lays out values, and remembers where their long texts stand."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def lines(self, head: str, value: Any, indent: str) -> Iterator[str]:
        """A value behind its name, on as many lines as it needs."""
        return self._member(head, value, indent, "")

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

    def _lines(self, value: Any, indent: str, end: str, room: int) -> Iterator[str]:
        inner = indent + INDENT
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
            for number, (key, member) in enumerate(value.items()):
                yield from self._member(f"{quoted(key)}: ", member, inner, "," if number < last else "")
            yield f"{indent}}}{end}"
        elif isinstance(value, list):
            yield "["
            last = len(value) - 1
            for number, member in enumerate(value):
                yield from self._member("", member, inner, "," if number < last else "")
            yield f"{indent}]{end}"
        else:
            yield value_text(value) + end

    def _member(self, head: str, value: Any, indent: str, end: str) -> Iterator[str]:
        lines = self._lines(value, indent, end, WIDTH - len(indent) - len(head))
        yield indent + head + next(lines)
        yield from lines

    def remember(self, label: str, name: str, value: Any) -> None:
        """From now on the long texts of this value are referred to."""
        stack: list[tuple[list[Any], Any]] = [([name], value)]
        while stack:
            path, node = stack.pop()
            if isinstance(node, str):
                if is_long(node):
                    self._places.setdefault(node, f"{label} {quoted(pointer_to(path))}")
            elif isinstance(node, dict | list):
                pairs = node.items() if isinstance(node, dict) else enumerate(node)
                stack.extend(reversed([([*path, key], child) for key, child in pairs]))


def label_of(lineage: Lineage | None) -> str:
    """How a reference names a step, or with None the run."""
    return "run" if lineage is None else f"step {value_text(list(lineage))}"
