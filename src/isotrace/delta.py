"""Byte strings coded against the one before them: a growing message history is written once.

Encoder and decoder each keep a few slots with the last byte string in them. A new string is a
`Delta`: so many bytes that its slot's string begins with, a middle of its own, so many bytes that the
slot's string ends with. Both sides then put the new string in the slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Literal, NamedTuple

from isotrace.errors import RecordCorruptError

# A shared run shorter than this, at both ends, is not looked for: the coding would cost more than it saves.
_PROBE = 128
_SLOTS_OF_A_KEY = 4
# So many bytes are compared as numbers, at once.
_SHORT = 256


class Delta(NamedTuple):
    """`slot[:prefix] + middle + slot[len(slot) − suffix:]`; prefix and suffix 0 set the slot to `middle`."""

    slot: int
    prefix: int
    suffix: int
    middle: bytes


def common_prefix(a: bytes, b: bytes) -> int:
    """How many leading bytes two strings share, in time linear in that number."""
    shorter, longer = (a, b) if len(a) <= len(b) else (b, a)
    limit = len(shorter)
    if longer.startswith(shorter):
        return limit
    # Grows in doubling steps first, so that a difference near the start is found without
    # comparing all; then bisects the last step, while it is long. Slices compare as memcmp does.
    low, step = 0, 64
    while a[low : low + step] == b[low : low + step]:
        low += step
        step *= 2
    high = min(low + step, limit)
    while high - low > _SHORT:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low + _equal_bytes(a[low:high], b[low:high], "big")


def _equal_bytes(a: bytes, b: bytes, first: Literal["big", "little"]) -> int:
    """How many bytes of two short strings of one length are equal, from the front ("big") or from the
    end ("little") up to where they differ."""
    # As numbers, they differ up from the bit that differs first.
    difference = int.from_bytes(a, first) ^ int.from_bytes(b, first)
    return len(a) - (difference.bit_length() + 7) // 8


def common_suffix(a: bytes, b: bytes, limit: int) -> int:
    """How many trailing bytes two strings share, at most `limit`."""
    if not limit or a[-limit:] == b[-limit:]:
        return limit
    end_a, end_b = len(a), len(b)
    low, step = 0, 64
    while low + step <= limit and a[end_a - low - step : end_a - low] == b[end_b - low - step : end_b - low]:
        low += step
        step *= 2
    high = min(low + step, limit)
    while high - low > _SHORT:
        middle = (low + high) // 2
        if a[end_a - middle : end_a - low] == b[end_b - middle : end_b - low]:
            low = middle
        else:
            high = middle
    return low + _equal_bytes(a[end_a - high : end_a - low], b[end_b - high : end_b - low], "little")


class DeltaEncoder:
    """Codes byte strings; `key` says which of them resemble each other (a skill's params, say).

    A key has up to four slots, so that histories which grow side by side under it each have one. At
    most `slots` strings and `max_kept` bytes are kept; what was used longest ago goes first.
    """

    def __init__(self, slots: int = 64, min_size: int = 512, max_kept: int = 128 * 1024 * 1024) -> None:
        self._min_size = min_size
        self._max_kept = max_kept
        self._free = list(range(slots - 1, -1, -1))
        # Slots by last use, and each key's own by last use.
        self._kept: OrderedDict[int, tuple[Hashable, bytes]] = OrderedDict()
        self._slots_of: dict[Hashable, list[int]] = {}
        self._size = 0

    def encode(self, key: Hashable, data: bytes) -> Delta | None:
        """The coded form, or None for a string under `min_size` bytes, which changes no slot."""
        if len(data) < self._min_size:
            return None
        slots = self._slots_of.get(key, [])
        prefix = suffix = 0
        best_slot = -1
        for slot in reversed(slots):
            front, back = _common_ends(self._kept[slot][1], data)
            if front + back > prefix + suffix:
                prefix, suffix, best_slot = front, back, slot
            if (front + back) * 4 >= len(data) * 3:
                break
        if (prefix + suffix) * 2 < len(data):
            # Another string than those before: it gets a slot of its own, or the key's oldest.
            best_slot = slots[0] if len(slots) == _SLOTS_OF_A_KEY else -1
            prefix = suffix = 0
        slot = self._keep(best_slot, key, data)
        return Delta(slot, prefix, suffix, data[prefix : len(data) - suffix])

    def _keep(self, slot: int, key: Hashable, data: bytes) -> int:
        """Puts a string into a slot (any for −1) as the last one used; which slot it is."""
        if slot >= 0:
            size = self._size + len(data) - len(self._kept[slot][1])
            if size <= self._max_kept and self._slots_of[key][-1] == slot:
                # The key's last string again, and room for it: nearly always.
                self._kept[slot] = (key, data)
                self._kept.move_to_end(slot)
                self._size = size
                return slot
            self._forget(slot)
        while self._kept and (not self._free or self._size + len(data) > self._max_kept):
            self._forget(next(iter(self._kept)))
        if slot >= 0:
            self._free.remove(slot)
        else:
            slot = self._free.pop()
        self._kept[slot] = (key, data)
        self._slots_of.setdefault(key, []).append(slot)
        self._size += len(data)
        return slot

    def _forget(self, slot: int) -> None:
        key, data = self._kept.pop(slot)
        self._size -= len(data)
        self._slots_of[key].remove(slot)
        if not self._slots_of[key]:
            del self._slots_of[key]
        self._free.append(slot)


def _common_ends(before: bytes, data: bytes) -> tuple[int, int]:
    """How much of its beginning and of its end a string shares with the one before it."""
    prefix = common_prefix(before, data) if before[:_PROBE] == data[:_PROBE] else 0
    suffix = 0
    if before[-_PROBE:] == data[-_PROBE:]:
        suffix = common_suffix(before, data, min(len(before), len(data)) - prefix)
    return prefix, suffix


class DeltaDecoder:
    """The inverse of `DeltaEncoder`, for input that nobody vouches for: no string becomes longer than
    `max_size` bytes."""

    def __init__(self, slots: int = 64, max_size: int = 128 * 1024 * 1024) -> None:
        self._slots = slots
        self._max_size = max_size
        self._kept: dict[int, bytes] = {}

    def decode(self, slot: int, prefix: int, suffix: int, middle: bytes) -> bytes:
        """The byte string. Raises `RecordCorruptError` for a slot out of range, for lengths that the
        string in it does not have, and for a result beyond `max_size`."""
        if not 0 <= slot < self._slots or prefix < 0 or suffix < 0:
            raise RecordCorruptError("a delta names no slot", got=f"slot {slot}, {prefix} + {suffix} bytes")
        before = self._kept.get(slot, b"")
        if prefix + suffix > len(before):
            raise RecordCorruptError(
                "a delta reaches beyond the string before it",
                expected=f"at most {len(before)} bytes",
                got=f"{prefix} + {suffix} bytes of slot {slot}",
            )
        size = prefix + len(middle) + suffix
        if size > self._max_size:
            raise RecordCorruptError(
                "a delta grows too large", expected=f"at most {self._max_size} bytes", got=f"{size} bytes"
            )
        data = before[:prefix] + middle + before[len(before) - suffix :]
        self._kept[slot] = data
        return data
