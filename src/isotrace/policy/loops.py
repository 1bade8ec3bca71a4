"""The same call again: counting and finding rows that repeat, in constant time for each call."""

from __future__ import annotations

from collections import Counter, deque

from isotrace.policy.rules import Loop

Call = bytes
"""What makes two calls the same: a digest of skill and params."""

KEPT = 100_000
"""How many different calls are counted; of those that came first and never again the count is lost."""


class Calls:
    """The calls of one run, as a loop rule sees them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._counts: Counter[Call] = Counter()
        self._last: deque[Call] = deque(maxlen=loop.window)
        self._recent: deque[Call] = deque(maxlen=loop.cycle or 1)
        self._equal = [0] * ((loop.cycle or 0) + 1)

    def problem(self, call: Call) -> str | None:
        """How this call would break the rule, None if it does not. Nothing is counted yet."""
        loop = self._loop
        if loop.cycle is None:
            count = self._counted_before(call) + 1
            if count <= loop.times:
                return None
            among = "" if loop.window is None else f" among the last {loop.window} calls"
            return f"the same call {count} times{among}, at most {loop.times} are allowed"
        for length in range(1, loop.cycle + 1):
            if self._equals(call, length) and self._equal[length] + 1 >= loop.times * length:
                row = "the same call" if length == 1 else f"the same {length} calls"
                return f"{row} more than {loop.times} times in succession"
        return None

    def _counted_before(self, call: Call) -> int:
        count = self._counts[call]
        if self._loop.window is not None and len(self._last) == self._loop.window and self._last[0] == call:
            count -= 1  # leaves the window when this one comes in
        return count

    def _equals(self, call: Call, length: int) -> bool:
        return len(self._recent) >= length and self._recent[-length] == call

    def add(self, call: Call) -> None:
        """Counts a call that is made."""
        if self._loop.cycle is not None:
            for length in range(1, self._loop.cycle + 1):
                self._equal[length] = self._equal[length] + 1 if self._equals(call, length) else 0
            self._recent.append(call)
            return
        if self._loop.window is not None:
            if len(self._last) == self._loop.window:
                self._forget(self._last[0])
            self._last.append(call)
        elif len(self._counts) >= KEPT and call not in self._counts:
            self._forget(next(iter(self._counts)))
        self._counts[call] += 1

    def _forget(self, call: Call) -> None:
        self._counts[call] -= 1
        if self._counts[call] <= 0:
            del self._counts[call]
