"""The longest common subsequence of two long sequences, exactly, in a little memory.

One row of the dynamic programme is one Python integer with a bit per element of the other
sequence, so that a row costs a handful of operations on it however wide it is (H. Hyyrö,
"Bit-parallel LCS-length computation revisited", 2004). To find the pairs, and not only how many
there are, rows have to be looked at again from the last to the first: every √n-th one is kept, and
those between are computed a second time. 20,000 × 20,000 elements take some tenths of a second
and a megabyte.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import isqrt

_OFTEN = 32
"""Elements that stand at more places than this have their mask kept; the others' is built when needed."""


class _Masks:
    """For each element: an integer whose bit `p` says that the element stands at place `p`."""

    def __init__(self, sequence: Sequence[Hashable]) -> None:
        self._places: dict[Hashable, list[int]] = {}
        for place, element in enumerate(sequence):
            self._places.setdefault(element, []).append(place)
        # All masks at once would take (different elements) × (length) bits: gigabytes for a long
        # run of steps that are all different.
        self._kept: dict[Hashable, int] = {
            element: _mask(places) for element, places in self._places.items() if len(places) > _OFTEN
        }

    def of(self, element: Hashable) -> int:
        mask = self._kept.get(element)
        return _mask(self._places.get(element, ())) if mask is None else mask


def _mask(places: Sequence[int]) -> int:
    if len(places) <= _OFTEN:
        mask = 0
        for place in places:
            mask |= 1 << place
        return mask
    octets = bytearray((places[-1] >> 3) + 1)
    for place in places:
        octets[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(octets, "little")


def _rows(start: int, elements: Sequence[Hashable], masks: _Masks, full: int) -> list[int]:
    """The rows after each of these elements. In a row, bit `p` is 0 where taking in place `p` of
    the other sequence makes the common subsequence longer."""
    row, rows = start, []
    for element in elements:
        if shared := row & masks.of(element):
            row = ((row + shared) | (row - shared)) & full
        rows.append(row)
    return rows


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The places `(in one, in other)` of a longest common subsequence, ascending in both.

    Of several longest ones it is always the same, the one furthest left. Time is
    O(len(one) · len(other) / 64), memory O(√len(one) · len(other)) bits: `one` should be the shorter.
    """
    width = len(other)
    if not one or not width:
        return []
    masks, full = _Masks(other), (1 << width) - 1
    size = isqrt(len(one)) + 1
    # starts[k] is the row before element k * size.
    starts = [full]
    for first in range(0, len(one), size):
        starts.append(_rows(starts[-1], one[first : first + size], masks, full)[-1])
    pairs: list[tuple[int, int]] = []
    column = width
    for block in range((len(one) - 1) // size, -1, -1):
        first = block * size
        rows = [starts[block], *_rows(starts[block], one[first : first + size], masks, full)]
        column = _walk_back(rows, first, column, (width + 7) // 8, pairs)
    pairs.reverse()
    return pairs


def _walk_back(rows: list[int], first: int, column: int, octets: int, pairs: list[tuple[int, int]]) -> int:
    """Collects the pairs of one block, last to first; the column that is left over."""
    # Bytes, because looking at one bit of a long integer costs as much as a whole row operation.
    below = rows[-1].to_bytes(octets, "little")
    for place in range(len(rows) - 1, 0, -1):
        above = rows[place - 1].to_bytes(octets, "little")
        while column and below[(column - 1) >> 3] >> ((column - 1) & 7) & 1:
            column -= 1
        if not column:
            return 0
        if above[(column - 1) >> 3] >> ((column - 1) & 7) & 1:
            column -= 1
            pairs.append((first + place - 1, column))
        below = above
    return column
