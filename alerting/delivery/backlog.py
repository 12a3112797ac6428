"""What is pending at each receiver, by the time at which it is due. At most one delivery of each incident."""

from collections.abc import Collection, Iterable, Iterator
from heapq import heappop, heappush

from alerting.delivery.log import Delivery

MOST_QUIET_PENDING = 10_000
"""Pending deliveries that page nobody, per receiver: more become a number. What pages is never left out."""

Subject = tuple[str, str]


class Backlog:
    """Deliveries that wait: those with a time to come, and those that are due."""

    def __init__(self) -> None:
        self._waiting: dict[Subject, Delivery] = {}
        self._ready: dict[str, dict[Subject, Delivery]] = {}
        self._later: dict[str, list[tuple[int, str, Subject]]] = {}
        self._refused: dict[str, dict[Subject, Delivery]] = {}

    def waiting(self, subject: Subject) -> Delivery | None:
        """What is pending of an incident at a receiver and not in flight."""
        return self._waiting.get(subject)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._waiting.values())

    def receivers(self) -> list[str]:
        """Those at which something may be pending."""
        return list(self._later)

    def size(self, receiver: str) -> int:
        """About how much is pending at a receiver."""
        return len(self._later.get(receiver, ())) + len(self._ready.get(receiver, ()))

    def refused(self, receiver: str) -> Collection[Delivery]:
        """What a receiver did not accept when it was last tried, due or not."""
        return self._refused.get(receiver, {}).values()

    def add(self, delivery: Delivery) -> None:
        """Add it, in place of what was pending of the same incident."""
        self._waiting[delivery.subject] = delivery
        self._ready.setdefault(delivery.receiver, {}).pop(delivery.subject, None)
        refused = self._refused.setdefault(delivery.receiver, {})
        refused.pop(delivery.subject, None)
        if delivery.failure is not None:
            refused[delivery.subject] = delivery
        later = self._later.setdefault(delivery.receiver, [])
        heappush(later, (delivery.due_ms, delivery.alert.alert_id, delivery.subject))

    def remove(self, delivery: Delivery) -> None:
        """It is in flight, or closed."""
        found = self._waiting.get(delivery.subject)
        if found is not None and found.key == delivery.key:
            del self._waiting[delivery.subject]
            self._ready[delivery.receiver].pop(delivery.subject, None)
            self._refused[delivery.receiver].pop(delivery.subject, None)

    def due(self, receiver: str, now_ms: int) -> Iterable[Delivery]:
        """What is due at a receiver."""
        later, ready = self._later.get(receiver, []), self._ready.setdefault(receiver, {})
        while (found := self._head(later)) is not None and found.due_ms <= now_ms:
            heappop(later)
            ready[found.subject] = found
        return ready.values()

    def next_ms(self, receiver: str) -> int | None:
        """When the next of what is not yet due is due."""
        found = self._head(self._later.get(receiver, []))
        return found.due_ms if found else None

    def _head(self, later: list[tuple[int, str, Subject]]) -> Delivery | None:
        """The next that still waits for its time: others were overtaken or closed since they were queued."""
        while later:
            due_ms, alert_id, subject = later[0]
            found = self._waiting.get(subject)
            if found is not None and (found.due_ms, found.alert.alert_id) == (due_ms, alert_id):
                return found
            heappop(later)
        return None
