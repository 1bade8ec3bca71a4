"""Whose turn it is in a replay: the completions of the record, in their recorded order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from isotrace.models import Lineage
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


class MixedOrder(RecordedOrder):
    """The recorded order for what is on record, and that of arrival for what is not, or not any more."""

    def __init__(self, deliveries: Iterable[DeliveryKey]) -> None:
        recorded = list(deliveries)
        super().__init__(recorded)
        self._known = set(recorded)
        self._nevers: set[DeliveryKey] = set()
        self._arrived: dict[int, Waiter] = {}

    def add(self, waiter: Waiter) -> None:
        if waiter.key in self._known or waiter.key in self._nevers:
            super().add(waiter)
        else:
            self._arrived[id(waiter)] = waiter

    def remove(self, waiter: Waiter) -> None:
        self._arrived.pop(id(waiter), None)
        super().remove(waiter)

    def served(self, key: DeliveryKey) -> None:
        if key in self._known:
            super().served(key)

    def next(self) -> Waiter | None:
        for waiter in self._arrived.values():
            if waiter.loop is None or waiter.loop.is_running():
                return waiter
        return super().next()

    def overtaking(self) -> Waiter | None:
        return next((waiter for waiter in self._arrived.values() if waiter.loop is None), None)

    def waiting(self) -> list[Waiter]:
        return [*self._arrived.values(), *super().waiting()]

    def never(self, key: DeliveryKey) -> None:
        """This one was not delivered on record, and will not be."""
        self._nevers.add(key)

    def forget(self, lineage: Lineage) -> None:
        """What becomes of this step is not the record's business: it is executed."""
        self._drop({key for key in self._known if key[0] == lineage})

    def forget_all(self) -> None:
        """From here on the run goes its own way."""
        self._drop(set(self._known))

    def _drop(self, keys: set[DeliveryKey]) -> None:
        self._known -= keys
        self._order = deque(key for key in self._order if key not in keys)
        for key in [key for key in self._waiting if key in keys]:
            waiter = self._waiting.pop(key)
            self._arrived[id(waiter)] = waiter
