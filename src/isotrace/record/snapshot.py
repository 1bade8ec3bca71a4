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

_OPTIONS: Final = (
    orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


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


def snapshot(value: Any) -> Snapshot:
    """The value's bytes as it is now. Never raises for what the value holds."""
    try:
        typed = _guard(value)
        if typed is not None:
            data = orjson.dumps(value, None, _OPTIONS)
            if len(data) <= MAX_BYTES:
                return Snapshot(data, (), typed)
    except (TypeError, ValueError, RuntimeError, MemoryError):
        # A key that is no str, a lone surrogate, a large int; or another thread changed it meanwhile.
        pass
    conversion = Conversion()
    plain = conversion.run(value)
    return Snapshot(value_bytes(plain), tuple(map(str, conversion.losses)), conversion.typed)


def snapshot_params(params: Mapping[str, Any]) -> Snapshot:
    """The bytes of named params, as `snapshot` gives them; one that can't be kept does not take
    the others with it."""
    return snapshot(params)


def _guard(value: Any) -> bool | None:
    """Whether orjson writes the right bytes: None for no, else whether a tuple is among the values.

    It looks at containers, at what kind of things they hold and how long the strings are. A shared
    container counts each time that it would be written, so that neither depth nor sharing cost much.
    """
    kind = type(value)
    typed = kind is tuple
    if kind is dict or kind is list or typed:
        queue, depths = [value], [1]
    else:
        queue, depths = [(value,)], [0]
    nodes, chars = 1, 0
    # Both lists grow while they are walked.
    for node, depth in zip(queue, depths, strict=False):
        nodes += len(node)
        if nodes > MAX_NODES or chars > MAX_BYTES or depth > MAX_DEPTH:
            return None
        children = node
        if type(node) is dict:
            keys = "".join(node)
            if "$" in keys and "$iso:" in keys:
                return None
            chars += len(keys)
            children = node.values()
        for child in children:
            kind = type(child)
            if kind is str:
                chars += len(child)
            elif kind is int or kind is bool or child is None:
                pass
            elif kind is dict or kind is list:
                queue.append(child)
                depths.append(depth + 1)
            elif kind is float:
                # Beyond these repr and orjson disagree on the exponent, or it is NaN.
                if not (1e-4 <= child < 1e16 or -1e16 < child <= -1e-4 or child == 0.0):
                    return None
            elif kind is tuple:
                typed = True
                queue.append(child)
                depths.append(depth + 1)
            else:
                return None
    return None if chars > MAX_BYTES else typed
