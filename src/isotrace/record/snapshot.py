"""What a value is at this moment, as the bytes that are kept of it.

The bytes are `canonical.value_bytes(to_plain(value))`, always. Most values are JSON already: for
those one loop over the containers finds out that nothing needs care, and orjson writes them. Whatever
orjson would write differently (an exponent, NaN), can't survive (a DAG of 2^40 nodes) or does not
know goes to `to_plain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from isotrace.canonical import MAX_BYTES, MAX_DEPTH, MAX_NODES, value_bytes
from isotrace.plain import Conversion
from isotrace.plain.fitting import WRAPPER

NOT_JSON: Final = 0
JSON: Final = 1
WITH_TUPLES: Final = 2
"""JSON but for tuples, which are written as lists."""

JSON_OPTIONS: Final = (
    orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
TAG_MARK: Final = ord("$")
_FEW = 100
_LONG = 1_000
_TEXT: Final = frozenset((str,))


class Snapshot:
    """`data`: the value bytes. `losses`: what is not kept, one sentence each. `typed`: whether the value
    held anything beyond exact JSON types, so that serving it again needs a type to go by."""

    __slots__ = ("data", "losses", "typed")

    def __init__(self, data: bytes, losses: tuple[str, ...] = (), typed: bool = False) -> None:
        self.data = data
        self.losses = losses
        self.typed = typed

    def __repr__(self) -> str:
        return f"Snapshot({self.data!r}, losses={self.losses!r}, typed={self.typed})"


def snapshot(value: Any, around: int = 0) -> Snapshot:
    """The value's bytes as it is now. Never raises for what the value holds.

    `around`: how many containers will be put around it, such as a stream's list of chunks and the dict
    that holds this. The value is cut where the whole would not be within the limits.
    """
    try:
        form = json_form(value, around)
        if form != NOT_JSON:
            data = dump_json(value)
            if len(data) <= MAX_BYTES - around * WRAPPER[1] and not has_tag(data):
                return Snapshot(data, (), form == WITH_TUPLES)
    except (TypeError, ValueError, RuntimeError, MemoryError):
        # A key that is no str, a lone surrogate, a large int; or another thread changed it meanwhile.
        pass
    conversion = Conversion(around)
    plain = conversion.run(value)
    return Snapshot(value_bytes(plain), tuple(map(str, conversion.losses)), conversion.typed)


def snapshot_params(params: Mapping[str, Any]) -> Snapshot:
    """The bytes of named params, as `snapshot` gives them; one that can't be kept does not take
    the others with it."""
    return snapshot(params)


def dump_json(value: Any) -> bytes:
    """What orjson writes for a value that `json_form` allows. Raises `TypeError` and `ValueError` for
    what only orjson sees: a key that is no string, a lone surrogate, an integer beyond 2^53."""
    return orjson.dumps(value, None, JSON_OPTIONS)


def has_tag(data: bytes) -> bool:
    """Whether one of our tags may be in there, which a caller's own key may look like."""
    return TAG_MARK in data and b'"$iso:' in data


def json_form(value: Any, around: int = 0) -> int:
    """Whether orjson writes the right bytes for it: `NOT_JSON`, `JSON` or `WITH_TUPLES`.

    It looks at containers, at what kind of things they hold and how long the strings are. A shared
    container counts each time that it would be written. `around` as in `snapshot`. Never raises.
    """
    kind = type(value)
    if kind is dict:
        queue: list[Any] = [value.values()]
    elif kind is list:
        queue = [value]
    else:
        queue = [(value,)]
    push = queue.append
    form = JSON
    chars = 0
    try:
        # Grows while it is walked. So few containers can't be nested too deeply, nor hold too much.
        for node in queue:
            if len(node) > _LONG or len(queue) > _FEW:
                return _form_of_many(value, around)
            for child in node:
                kind = type(child)
                if kind is str:
                    chars += len(child)
                elif kind is dict:
                    push(child.values())
                elif kind is list:
                    push(child)
                elif kind is float:
                    # Beyond these repr and orjson disagree on the exponent, or it is NaN.
                    if not 1e-4 <= child < 1e16 and not (child == 0.0 or -1e16 < child <= -1e-4):
                        return NOT_JSON
                elif kind is int or child is None or kind is bool:
                    pass
                elif kind is tuple:
                    form = WITH_TUPLES
                    push(child)
                else:
                    return NOT_JSON
    except RuntimeError:
        # Another thread changed a dict meanwhile; `to_plain` takes a copy of each.
        return NOT_JSON
    return form if chars <= MAX_BYTES else NOT_JSON


def _form_of_many(value: Any, around: int) -> int:
    """The same for a value of many containers: level by level, so that its depth is known, and with
    the length of keys, which sharing can make as large as that of strings."""
    form = WITH_TUPLES if type(value) is tuple else JSON
    level = [value]
    nodes, chars, depth = 1 + around * WRAPPER[0], 0, 1 + around
    while level:
        deeper: list[Any] = []
        for node in level:
            nodes += len(node)
            if nodes > MAX_NODES or chars > MAX_BYTES:
                return NOT_JSON
            children = node
            if type(node) is dict:
                if not _TEXT.issuperset(map(type, node)):
                    return NOT_JSON
                chars += sum(map(len, node))
                children = node.values()
            for child in children:
                kind = type(child)
                if kind is str:
                    chars += len(child)
                elif kind is int or kind is bool or child is None:
                    pass
                elif kind is dict or kind is list:
                    deeper.append(child)
                elif kind is float:
                    if not (1e-4 <= child < 1e16 or -1e16 < child <= -1e-4 or child == 0.0):
                        return NOT_JSON
                elif kind is tuple:
                    form = WITH_TUPLES
                    deeper.append(child)
                else:
                    return NOT_JSON
        level = deeper
        depth += 1
        if depth > MAX_DEPTH and level:
            return NOT_JSON
    return NOT_JSON if chars > MAX_BYTES else form
