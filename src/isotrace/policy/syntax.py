"""The syntax tree of a compiled CEL expression, as far as its bounds depend on it.

The library hands its trees out as protocol buffers (`cel.expr.CheckedExpr`, field numbers as in
https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto). A reader of the wire format
is some lines, and needs no other library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Fields = dict[int, list[Any]]


@dataclass(slots=True)
class Node:
    """One expression: `what` is const, ident, select, call, list, struct or comprehension.

    `name`: of an identifier, a selected field, a called function, a loop's variable. `value`: of a
    constant. `parts` are its operands, a call's target first. `id` leads to its place.
    """

    what: str
    id: int = 0
    name: str = ""
    value: Any = None
    parts: list[Node] = field(default_factory=list)
    has_target: bool = False

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.parts)


def tree_of(serialized: bytes) -> tuple[Node, dict[int, int]]:
    """The tree, and the offset in the text of each node. Macros stand expanded."""
    checked = _fields(_fields(serialized)[2][0])
    offsets: dict[int, int] = {}
    for source in checked.get(5, ()):
        for entry in _fields(source).get(4, ()):
            pair = _fields(entry)
            offsets[_number(pair, 1)] = _number(pair, 2)
    return _node(checked[4][0]), offsets


def _number(fields: Fields, number: int) -> int:
    return int(fields.get(number, [0])[0])


def _string(fields: Fields, number: int) -> str:
    return bytes(fields.get(number, [b""])[0]).decode("utf-8", "replace")


def _node(data: bytes) -> Node:
    fields = _fields(data)
    for number, (what, read) in _KINDS.items():
        if number in fields:
            node: Node = read(what, fields[number][0])
            node.id = _number(fields, 2)
            return node
    return Node("const", _number(fields, 2))


def _constant(what: str, data: bytes) -> Node:
    fields = _fields(data)
    if 6 in fields:
        return Node(what, value=_string(fields, 6))
    return Node(what, value=next((values[0] for values in fields.values()), None))


def _ident(what: str, data: bytes) -> Node:
    return Node(what, name=_string(_fields(data), 1))


def _select(what: str, data: bytes) -> Node:
    fields = _fields(data)
    return Node(what, name=_string(fields, 2), parts=[_node(one) for one in fields.get(1, ())])


def _call(what: str, data: bytes) -> Node:
    fields = _fields(data)
    parts = [_node(one) for number in (1, 3) for one in fields.get(number, ())]
    return Node(what, name=_string(fields, 2), parts=parts, has_target=1 in fields)


def _list(what: str, data: bytes) -> Node:
    return Node(what, parts=[_node(one) for one in _fields(data).get(1, ())])


def _struct(what: str, data: bytes) -> Node:
    fields = _fields(data)
    parts = []
    for entry in fields.get(2, ()):
        found = _fields(entry)
        parts += [_node(one) for number in (3, 4) for one in found.get(number, ())]
    return Node(what, name=_string(fields, 1), parts=parts)


def _comprehension(what: str, data: bytes) -> Node:
    fields = _fields(data)
    # Range, first value, condition, step, result: as the specification orders them.
    parts = [_node(fields.get(number, [b""])[0]) for number in (2, 4, 5, 6, 7)]
    return Node(what, name=_string(fields, 1), parts=parts)


_KINDS: dict[int, tuple[str, Any]] = {
    3: ("const", _constant),
    4: ("ident", _ident),
    5: ("select", _select),
    6: ("call", _call),
    7: ("list", _list),
    8: ("struct", _struct),
    9: ("comprehension", _comprehension),
}


def _fields(data: bytes) -> Fields:
    """The fields of one message: numbers for varints, bytes for all else."""
    found: Fields = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            length = 8 if wire == 1 else 4
            value, at = data[at : at + length], at + length
        found.setdefault(number, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
