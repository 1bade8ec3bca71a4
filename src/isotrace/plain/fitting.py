"""Cutting a value that is too large down to the limits, at the part that is to blame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from json.encoder import encode_basestring as _quoted
from typing import Any, Final

from isotrace.canonical import MAX_BYTES, MAX_NODES

_MAX_CUTS = 64
# What stands in place of a part that was cut: an object of two nodes with a type's name in it.
_STUMP = (2, 300)
WRAPPER: Final = (4, 64)
"""Nodes and bytes set aside for one container around a value: itself, its key, an empty neighbour."""


class Fitting:
    """Cuts a plain value, whose parts may be shared, until it is within the limits of `canonical`.

    What is cut is the smallest part that holds all of the excess: from the top down, as long as
    exactly one child is too large by itself, or the whole is too large for its heaviest child alone.
    `cut` is told the pointer and the type of the part, and gives what stands in its place. Room is left
    for as many containers `around` the value.
    """

    def __init__(
        self,
        plain: Any,
        kind: type,
        cut: Callable[[str, type], Any],
        kind_of: Callable[[Any], type],
        around: int = 0,
    ) -> None:
        self._most = MAX_NODES - around * WRAPPER[0], MAX_BYTES - around * WRAPPER[1]
        self._plain = plain
        self._kind = kind
        self._cut = cut
        self._kind_of = kind_of
        self._sizes: dict[int, tuple[int, int]] = {}

    def run(self) -> Any:
        """The value within the limits."""
        for _ in range(_MAX_CUTS):
            if self._fits(*self._size(self._plain)):
                return self._plain
            if not self._cut_one():
                break
            self._sizes.clear()
        return self._cut("", self._kind)

    def _size(self, node: Any) -> tuple[int, int]:
        """How many values a node is, and how many bytes long, with what it shares counted each time."""
        kind = type(node)
        if kind is str:
            return 1, len(_quoted(node).encode())
        if kind is not dict and kind is not list:
            return 1, 5 if node is None or kind is bool else len(repr(node))
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        nodes, length = 1, 2
        for key, child in _children(node):
            more, longer = self._size(child)
            nodes += more
            length += longer + 1 + (len(_quoted(key).encode()) + 1 if kind is dict else 0)
        self._sizes[id(node)] = (nodes, length)
        return nodes, length

    def _fits(self, nodes: int, length: int) -> bool:
        return nodes <= self._most[0] and length <= self._most[1]

    def _cut_one(self) -> bool:
        """Cuts one part; False where only the whole is left to be cut."""
        parent, path, node = None, [], self._plain
        while type(node) in (dict, list) and not _is_tag(node):
            key = self._culprit(node)
            if key is None:
                break
            path.append(key)
            parent, node = node, node[key]
            if self._fits(*self._size(node)):
                break
        if parent is None:
            return False
        pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
        parent[path[-1]] = self._cut(pointer, self._kind_of(node))
        return True

    def _culprit(self, node: Any) -> Any:
        """The key of the one child without which the rest would do, or None where there is none such."""
        sizes = [(key, self._size(child)) for key, child in _children(node)]
        if not sizes:
            return None
        key, (nodes, length) = max(sizes, key=lambda pair: _share(*pair[1]))
        whole_nodes, whole_length = self._size(node)
        fits_without = self._fits(whole_nodes - nodes + _STUMP[0], whole_length - length + _STUMP[1])
        return key if fits_without else None


def _share(nodes: int, length: int) -> float:
    return max(nodes / MAX_NODES, length / MAX_BYTES)


def _is_tag(node: Any) -> bool:
    return type(node) is dict and len(node) == 1 and next(iter(node)).startswith("$iso:")


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    return iter(node.items()) if type(node) is dict else iter(enumerate(node))
