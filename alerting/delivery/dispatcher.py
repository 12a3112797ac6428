"""What is owed, what is on its way, and what became of it. Every step is in the log before the next is taken."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import get_args

from msgspec.structs import replace

from alerting.dedup import is_over
from alerting.delivery.backlog import Backlog
from alerting.delivery.log import Delivery, Log, Status
from alerting.delivery.retry import MOST_MS, QUIET_FOR_MS, retry_at_ms
from alerting.delivery.throttle import Lanes
from alerting.effects import Effect, Failed, Record, Send, Sent
from alerting.errors import Reason
from alerting.grouping import LISTED, Message
from alerting.notice import Kind, Notice, Receipt
from schemas.alert import PAGING

IN_FLIGHT_MS = 600_000
"""After so long without an outcome a message counts as lost on its way."""

_REASONS: dict[str, Reason] = {reason: reason for reason in get_args(Reason)}


@dataclass(frozen=True, slots=True)
class Owed:
    """What a receiver has still to be told, for whoever watches."""

    count: int
    due_pages: int
    """Alerts among it that page somebody and should have been told by now."""
    oldest_due_s: float
    """How long the oldest has been due, 0 if nothing is. What is muted is not due."""


@dataclass(frozen=True, slots=True)
class _Flight:
    message: Message
    attempt: int
    since_ms: int


class Outbox:
    """Deliveries from owed to settled."""

    def __init__(self, log: Log, lanes: Lanes) -> None:
        self._log = log
        self._lanes = lanes
        self.backlog = Backlog()
        self._flights: dict[str, _Flight] = {}
        self._flying: dict[tuple[str, str], Delivery] = {}
        self._left_out: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        """What became a number since the start, by receiver."""

    def restore(self, owed: Iterable[Delivery]) -> list[Effect]:
        """Take up what was owed, oldest first. Of what was on its way nobody knows whether it arrived."""
        effects: list[Effect] = []
        for delivery in owed:
            unknown = delivery.attempts > 0 and delivery.failure is None
            restored = replace(delivery, maybe_said=delivery.maybe_said or unknown)
            if self.backlog.waiting(delivery.subject) is None:
                self.backlog.add(restored)
            else:
                effects += self.owe(restored)
        return effects

    def last(self, subject: tuple[str, str]) -> Delivery | None:
        """What the receiver was last told of the incident, or is being told."""
        return self._flying.get(subject) or self._log.said(subject)

    def owe(self, delivery: Delivery) -> list[Effect]:
        """Take on a delivery; what was owed of the same incident is told by it."""
        earlier = self.backlog.waiting(delivery.subject)
        if earlier is None:
            return [self._enter(delivery)]
        records: list[Effect] = [self._enter(_heir(delivery, earlier))]
        return [*records, self._log.put(replace(earlier, status="superseded", at_ms=delivery.at_ms))]

    def settle(self, delivery: Delivery, status: Status, now_ms: int) -> Record:
        """It will not be told, and why is its status."""
        self.backlog.remove(delivery)
        return self._log.put(replace(delivery, status=status, at_ms=now_ms))

    def leave_out(self, delivery: Delivery) -> Record:
        """There is too much: it becomes a number in the receiver's next message of several."""
        for counts in (self._left_out, self.dropped):
            counts[delivery.receiver] = counts.get(delivery.receiver, 0) + 1
        return self._log.put(replace(delivery, status="given_up"))

    def defer(self, delivery: Delivery, deferred: Delivery) -> list[Effect]:
        """Look again later. Entered only if the reason is another one."""
        if deferred.muted != delivery.muted:
            return [self._enter(deferred)]
        self.backlog.add(deferred)
        return []

    def due(self, receiver: str, now_ms: int) -> list[Delivery]:
        """What may be sent; a later alert waits for the outcome of an earlier one of its incident."""
        return [each for each in self.backlog.due(receiver, now_ms) if each.subject not in self._flying]

    def place_of(self, delivery: Delivery) -> Receipt | None:
        """Where the incident's own message stands at this receiver."""
        last = self._log.said(delivery.subject)
        return last.receipt if last is not None else None

    def start(self, message: Message, now_ms: int) -> list[Effect]:
        """Have it sent. First it is entered that an attempt is made, so that a crash cannot hide one."""
        receiver = message[0].receiver
        notice = self._notice(message)
        flying = tuple(
            replace(each, attempts=each.attempts + 1, failure=None, muted=None, at_ms=now_ms) for each in message
        )
        effects: list[Effect] = []
        for before, after in zip(message, flying, strict=True):
            self.backlog.remove(before)
            self._flying[after.subject] = after
            effects.append(self._log.put(after))
        attempt = max(each.attempts for each in flying)
        name = delivery_id(receiver, [each.alert.alert_id for each in flying])
        self._flights[name] = _Flight(flying, attempt, now_ms)
        self._lanes[receiver].started(now_ms)
        return [*effects, Send(name, receiver, notice, attempt)]

    def sent(self, outcome: Sent) -> list[Effect]:
        """It was said. An outcome that nobody waits for changes nothing."""
        flight = self._land(outcome.delivery_id)
        if flight is None:
            return []
        self._lanes[flight.message[0].receiver].succeeded()
        place = outcome.receipt.place if len(flight.message) == 1 else {}
        return [
            self._log.put(replace(each, status="said", place=place, maybe_said=False, at_ms=outcome.at_ms))
            for each in flight.message
        ]

    def failed(self, outcome: Failed) -> tuple[list[Effect], list[Delivery]]:
        """It was not said, or nobody knows. Also gives what is now for the fallback to tell."""
        flight = self._land(outcome.delivery_id)
        if flight is None:
            return [], []
        lane = self._lanes[flight.message[0].receiver]
        lane.failed(outcome.reason, outcome.retry_after_ms, outcome.at_ms)
        effects: list[Effect] = []
        lost: list[Delivery] = []
        for each in flight.message:
            failure = _REASONS.get(outcome.reason, "unknown")
            tried = replace(each, failure=failure, maybe_said=each.maybe_said or outcome.ambiguous)
            again_ms = self._again_ms(tried, outcome, flight.attempt)
            if again_ms is None:
                effects.append(self._log.put(replace(tried, status="given_up", at_ms=outcome.at_ms)))
                lost.append(tried)
            else:
                effects += self._retry(replace(tried, due_ms=again_ms, at_ms=outcome.at_ms))
        return effects, lost

    def overdue(self, now_ms: int) -> list[Failed]:
        """Failures of messages whose outcome never came."""
        return [
            Failed(name, "timeout", retryable=True, ambiguous=True, retry_after_ms=None, at_ms=now_ms)
            for name, flight in self._flights.items()
            if flight.since_ms + IN_FLIGHT_MS <= now_ms
        ]

    def next_ms(self, now_ms: int) -> int | None:
        """When something is to be done again, if nothing happens before."""
        times = [flight.since_ms + IN_FLIGHT_MS for flight in self._flights.values()]
        for receiver in self.backlog.receivers():
            opens_ms = self._lanes[receiver].opens_ms(now_ms)
            if any(each.subject not in self._flying for each in self.backlog.due(receiver, now_ms)):
                times.append(max(opens_ms, now_ms + 1))
            elif (next_ms := self.backlog.next_ms(receiver)) is not None:
                times.append(max(next_ms, opens_ms))
        return min(times, default=None)

    def owed(self, now_ms: int) -> dict[str, Owed]:
        """What every receiver has still to be told, on its way or not."""
        found: dict[str, list[Delivery]] = {}
        for each in (*self.backlog, *self._flying.values()):
            found.setdefault(each.receiver, []).append(each)
        return {receiver: _owed(deliveries, now_ms) for receiver, deliveries in found.items()}

    def _enter(self, delivery: Delivery) -> Record:
        self.backlog.add(delivery)
        return self._log.put(delivery)

    def _land(self, delivery_id: str) -> _Flight | None:
        flight = self._flights.pop(delivery_id, None)
        for each in flight.message if flight else ():
            del self._flying[each.subject]
        return flight

    def _again_ms(self, delivery: Delivery, outcome: Failed, attempt: int) -> int | None:
        """When to try again; None for never. What pages is never given up unless somebody stands in."""
        receiver = self._lanes[delivery.receiver].receiver
        pages = delivery.wakes
        if outcome.retryable and (pages or outcome.at_ms < delivery.alert.ts_ms + QUIET_FOR_MS):
            return retry_at_ms(
                receiver.type,
                outcome.delivery_id,
                attempt=attempt,
                retry_after_ms=outcome.retry_after_ms,
                failed_ms=outcome.at_ms,
            )
        return outcome.at_ms + MOST_MS[receiver.type] if pages and receiver.fallback is None else None

    def _retry(self, delivery: Delivery) -> list[Effect]:
        """Owe it again, unless a newer alert of the incident tells it, or says that it need not be told."""
        newer = self.backlog.waiting(delivery.subject)
        if newer is None:
            return [self._enter(delivery)]
        superseded = self._log.put(replace(delivery, status="superseded"))
        never_said = self._log.said(delivery.subject) is None and not delivery.maybe_said
        if is_over(newer.alert) and never_said and newer.alert.severity not in PAGING:
            return [superseded, self.settle(newer, "not_news", delivery.at_ms)]
        return [self._enter(_heir(newer, delivery)), superseded]

    def _notice(self, message: Message) -> Notice:
        more = self._left_out.pop(message[0].receiver, 0) if len(message) > 1 else 0
        listed = message[:LISTED]
        kind: Kind = message[0].kind if len(message) == 1 else "digest"
        return Notice(
            kind=kind,
            alerts=tuple(each.alert for each in listed),
            more=more + len(message) - len(listed),
            first=self.place_of(message[0]) if len(message) == 1 else None,
            maybe_repeated=any(each.maybe_said for each in message),
            note=message[0].note if len(message) == 1 else "",
        )


def delivery_id(receiver: str, about: Iterable[str]) -> str:
    """What a message is known by, the same after a restart: it follows from the ids of what it is about."""
    return sha256("/".join([receiver, *about]).encode()).hexdigest()[:32]


def _heir(newer: Delivery, earlier: Delivery) -> Delivery:
    """The newer alert of an incident, with what must not be forgotten of the one that it replaces."""
    return replace(
        newer,
        due_ms=min(newer.due_ms, earlier.due_ms) if earlier.muted is None else newer.due_ms,
        kind="flapping" if "flapping" in (earlier.kind, newer.kind) else newer.kind,
        maybe_said=newer.maybe_said or earlier.maybe_said,
    )


def _owed(deliveries: list[Delivery], now_ms: int) -> Owed:
    due = [each for each in deliveries if each.due_ms <= now_ms]
    waits_ms = [now_ms - each.alert.ts_ms for each in due]
    return Owed(len(deliveries), sum(each.wakes for each in due), max([0, *waits_ms]) / 1000)
