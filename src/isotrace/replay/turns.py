"""Whose turn it is in a replay: the completions of the record, in their recorded order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from isotrace.record.scheduler import Waiter
from isotrace.replay.recorded import DeliveryKey


class RecordedOrder:
    """Hands out waiters in the order of the record.

    What was served without waiting (a plain function returns at once), or will never be, is crossed
    out by `served`.
    """

    def __init__(self, deliveries: Iterable[DeliveryKey]) -> None:
        self._order = deque(deliveries)
        self._served: set[DeliveryKey] = set()
        self._waiting: dict[DeliveryKey, Waiter] = {}

    def add(self, waiter: Waiter) -> None:
        self._waiting[waiter.key] = waiter

    def remove(self, waiter: Waiter) -> None:
        if self._waiting.get(waiter.key) is waiter:
            del self._waiting[waiter.key]

    def served(self, key: DeliveryKey) -> None:
        if self._order and self._order[0] == key:
            self._order.popleft()
        else:
            self._served.add(key)

    def head(self) -> DeliveryKey | None:
        """The delivery that is next, None at the record's end."""
        order, served = self._order, self._served
        while order and order[0] in served:
            served.discard(order.popleft())
        return order[0] if order else None

    def next(self) -> Waiter | None:
        head = self.head()
        return None if head is None else self._waiting.get(head)

    def taken(self, waiter: Waiter) -> None:
        self.remove(waiter)
        self.served(waiter.key)

    def overtaking(self) -> Waiter | None:
        """None: the record has the order, also where it was forced."""
        return None

    def waiting(self) -> list[Waiter]:
        return list(self._waiting.values())
