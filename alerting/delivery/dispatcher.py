"""Deliveries from pending over in flight to closed. Every step is in the log before the next is taken."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import get_args

from msgspec.structs import replace

from alerting.dedup import is_over, outranks
from alerting.delivery.backlog import Backlog
from alerting.delivery.log import Delivery, DeliveryLog, Status
from alerting.delivery.retry import QUIET_GIVEN_UP_MS, retry_at_ms
from alerting.delivery.throttle import OWN_FAULTS, SET_BACK_MS, Throttle
from alerting.effects import Effect, Failed, Record, Send, Sent
from alerting.errors import Reason
from alerting.grouping import LISTED, Message
from alerting.notice import Kind, Notice, Receipt
from alerting.receivers.registry import KINDS
from schemas.alert import PAGING, Alert

PATIENCE_MS = 60_000
"""How long what pages waits for its own receiver before the fallback is sent it as well."""
TRIED_AFTER_ONE = 2
"""Refused pages that are tried again as soon as their receiver has taken another: it may take one of three, and each
would wait twice as long with every refusal. More at once would be too many for one that counts requests.
"""
FEW_REFUSED = 50
"""Of so few pages that a receiver did not accept each is tried at short intervals while it accepts others."""
SHORT_FOR = 4
"""The wait after so many attempts is the longest of those."""
IN_FLIGHT_MS = 600_000
"""After so long without an outcome a message counts as lost on its way."""

_REASONS: dict[str, Reason] = {reason: reason for reason in get_args(Reason)}


@dataclass(frozen=True, slots=True)
class Pending:
    """What has still to be sent to a receiver, for whoever watches."""

    count: int
    overdue_pages: int
    """Alerts among it that page somebody and should have been sent by now."""
    oldest_due_s: float
    """How long the oldest has been due, 0 if nothing is. What is muted is not due."""


@dataclass(frozen=True, slots=True)
class _Flight:
    message: Message
    attempt: int
    since_ms: int


class Dispatcher:
    """Sends deliveries, and follows each until it is closed."""

    def __init__(self, log: DeliveryLog, throttle: Throttle) -> None:
        self._log = log
        self._throttle = throttle
        self.backlog = Backlog()
        self._flights: dict[str, _Flight] = {}
        self._in_flight: dict[tuple[str, str], Delivery] = {}
        self._left_out: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        """What became a number since the start, by receiver."""
        self._latest_ms = 0
        """The latest time at which something became what it is."""

    def restore(self, pending: Iterable[Delivery]) -> list[Effect]:
        """Go on with what was pending, oldest first. Of what was in flight nobody knows whether it arrived."""
        effects: list[Effect] = []
        for delivery in pending:
            unknown = delivery.attempts > 0 and delivery.failure is None
            restored = replace(delivery, maybe_sent=delivery.maybe_sent or unknown)
            self._latest_ms = max(self._latest_ms, delivery.at_ms)
            if self.backlog.waiting(delivery.subject) is None:
                self.backlog.add(restored)
            else:
                effects += self.enqueue(restored)
        return effects

    def see(self, now_ms: int) -> None:
        """Take note of the time. After a clock that was set back, by this process or before its start, what waits is
        due as long from now as it was to wait: it would wait for a day because a broker's clock was once a day ahead.
        """
        if self._latest_ms - now_ms < SET_BACK_MS:
            self._latest_ms = max(self._latest_ms, now_ms)
            return
        self._latest_ms = now_ms
        for each in [each for each in self.backlog if each.at_ms > now_ms]:
            self.backlog.add(replace(each, due_ms=now_ms + max(0, each.due_ms - each.at_ms), at_ms=now_ms))
        for name, flight in self._flights.items():
            self._flights[name] = dataclasses.replace(flight, since_ms=min(flight.since_ms, now_ms))

    def last(self, subject: tuple[str, str]) -> Delivery | None:
        """What the receiver was last sent of the incident, or is being sent."""
        return self._in_flight.get(subject) or self._log.last_sent(subject)

    def enqueue(self, delivery: Delivery) -> list[Effect]:
        """Add a pending delivery, in place of what was pending of the same incident."""
        earlier = self.backlog.waiting(delivery.subject)
        if earlier is None:
            return [self._enter(delivery)]
        records: list[Effect] = [self._enter(_heir(delivery, earlier))]
        return [*records, self._log.record(replace(earlier, status="superseded", at_ms=delivery.at_ms))]

    def close(self, delivery: Delivery, status: Status, now_ms: int) -> Record:
        """It will not be sent; its status says why."""
        self.backlog.remove(delivery)
        return self._log.record(replace(delivery, status=status, at_ms=now_ms))

    def leave_out(self, delivery: Delivery) -> Record:
        """There is too much: it becomes a number in the receiver's next message about several."""
        for counts in (self._left_out, self.dropped):
            counts[delivery.receiver] = counts.get(delivery.receiver, 0) + 1
        return self._log.record(replace(delivery, status="given_up"))

    def defer(self, delivery: Delivery, deferred: Delivery) -> list[Effect]:
        """Look again later. Entered only if the reason is another one."""
        if deferred.muted != delivery.muted:
            return [self._enter(deferred)]
        self.backlog.add(deferred)
        return []

    def due(self, receiver: str, now_ms: int) -> list[Delivery]:
        """What may be sent; a later alert waits for the outcome of an earlier one of its incident."""
        return [each for each in self.backlog.due(receiver, now_ms) if each.subject not in self._in_flight]

    def held_up(self, receiver: str, now_ms: int) -> list[Delivery]:
        """What pages and cannot reach its receiver within `PATIENCE_MS`: it was tried and is tried again later than
        that, or it is due while nothing goes there.
        """
        gate = self._throttle[receiver]
        opens_ms = gate.opens_ms(now_ms)
        is_away = gate.is_broken or opens_ms > now_ms + PATIENCE_MS
        late = [
            each
            for each in self.backlog.refused(receiver)
            if max(each.due_ms, opens_ms) > each.alert.ts_ms + PATIENCE_MS
        ]
        held_up = {each.key: each for each in (*late, *(self.due(receiver, now_ms) if is_away else ()))}
        return [each for each in held_up.values() if each.pages and each.subject not in self._in_flight]

    def reaches_nobody(self, now_ms: int) -> bool:
        """Whether something that pages waits at a receiver that takes nothing, and nobody was sent it elsewhere."""
        stuck = (
            each
            for each in (*self.backlog, *self._in_flight.values())
            if each.pages and not is_over(each.alert) and self._throttle[each.receiver].is_unreachable(now_ms)
        )
        return any(_should_have_been_sent(each, now_ms) and not self._is_known(each.alert) for each in stuck)

    def _is_known(self, alert: Alert) -> bool:
        """Whether some receiver was sent as much of the incident."""
        sent = (self._log.last_sent((alert.incident_id, name)) for name in self._log.notified(alert.incident_id))
        return any(last is not None and not outranks(alert, last.alert) for last in sent)

    def place_of(self, delivery: Delivery) -> Receipt | None:
        """Where the incident's own message stands at this receiver."""
        last = self._log.last_sent(delivery.subject)
        return last.receipt if last is not None else None

    def start(self, message: Message, now_ms: int) -> list[Effect]:
        """Send a message. First it is recorded that an attempt is made, so that a crash cannot hide one."""
        receiver = message[0].receiver
        notice = self._notice(message)
        in_flight = tuple(
            replace(each, attempts=each.attempts + 1, failure=None, muted=None, at_ms=now_ms) for each in message
        )
        effects: list[Effect] = []
        for before, after in zip(message, in_flight, strict=True):
            self.backlog.remove(before)
            self._in_flight[after.subject] = after
            effects.append(self._log.record(after))
        attempt = max(each.attempts for each in in_flight)
        name = delivery_id(receiver, [each.alert.alert_id for each in in_flight])
        self._flights[name] = _Flight(in_flight, attempt, now_ms)
        self._throttle[receiver].started(now_ms)
        return [*effects, Send(name, receiver, notice, attempt)]

    def sent(self, outcome: Sent) -> tuple[list[Effect], list[Delivery]]:
        """It was sent. Also gives the deliveries; none for an outcome that nobody waits for."""
        flight = self._land(outcome.delivery_id)
        if flight is None:
            return [], []
        receiver = flight.message[0].receiver
        self._throttle[receiver].succeeded()
        self._try_sooner(receiver, outcome.at_ms)
        place = outcome.receipt.place if len(flight.message) == 1 else {}
        deliveries = [
            replace(each, status="sent", place=place, maybe_sent=False, maybe_levels=(), at_ms=outcome.at_ms)
            for each in flight.message
        ]
        return [self._log.record(each) for each in deliveries], deliveries

    def _try_sooner(self, receiver: str, now_ms: int) -> None:
        """The receiver has taken something: refused pages need not wait until what they waited for may be over."""
        soon_ms = now_ms + KINDS[self._throttle[receiver].receiver.type].limits.first_retry_ms
        refused = [
            each
            for each in self.backlog.refused(receiver)
            if each.pages and each.failure not in OWN_FAULTS and each.due_ms > soon_ms
        ]
        for each in sorted(refused, key=lambda each: each.alert.ts_ms)[:TRIED_AFTER_ONE]:
            self.backlog.add(replace(each, due_ms=soon_ms))

    def failed(self, outcome: Failed) -> tuple[list[Effect], list[Delivery]]:
        """It was not sent, or nobody knows. Also gives what is now for the fallback."""
        flight = self._land(outcome.delivery_id)
        if flight is None:
            return [], []
        self._throttle[flight.message[0].receiver].failed(outcome)
        effects: list[Effect] = []
        lost: list[Delivery] = []
        for each in flight.message:
            failure = _REASONS.get(outcome.reason, "unknown")
            tried = replace(each, failure=failure, maybe_sent=each.maybe_sent or outcome.ambiguous)
            again_ms = self._again_ms(tried, outcome, flight.attempt)
            if again_ms is None:
                effects.append(self._log.record(replace(tried, status="given_up", at_ms=outcome.at_ms)))
                lost.append(tried)
            else:
                effects += self._retry(replace(tried, due_ms=again_ms, at_ms=outcome.at_ms))
        return effects, lost

    def overdue(self, now_ms: int) -> list[Failed]:
        """Failures of messages whose outcome never came."""
        return [
            Failed(name, "timeout", True, True, None, now_ms, detail="its outcome never came")
            for name, flight in self._flights.items()
            if flight.since_ms + IN_FLIGHT_MS <= now_ms
        ]

    def next_ms(self, now_ms: int) -> int | None:
        """When something is to be done again, if nothing happens before."""
        times = [flight.since_ms + IN_FLIGHT_MS for flight in self._flights.values()]
        for receiver in self.backlog.receivers():
            opens_ms = self._throttle[receiver].opens_ms(now_ms)
            if any(each.subject not in self._in_flight for each in self.backlog.due(receiver, now_ms)):
                times.append(max(opens_ms, now_ms + 1))
            elif (next_ms := self.backlog.next_ms(receiver)) is not None:
                times.append(max(next_ms, opens_ms))
        return min(times, default=None)

    def pending(self, now_ms: int) -> dict[str, Pending]:
        """What has still to be sent to every receiver, in flight or not."""
        found: dict[str, list[Delivery]] = {}
        for each in (*self.backlog, *self._in_flight.values()):
            found.setdefault(each.receiver, []).append(each)
        return {receiver: _pending(deliveries, now_ms) for receiver, deliveries in found.items()}

    def _enter(self, delivery: Delivery) -> Record:
        self.backlog.add(delivery)
        return self._log.record(delivery)

    def _land(self, delivery_id: str) -> _Flight | None:
        flight = self._flights.pop(delivery_id, None)
        for each in flight.message if flight else ():
            del self._in_flight[each.subject]
        return flight

    def _again_ms(self, delivery: Delivery, outcome: Failed, attempt: int) -> int | None:
        """When to try again; None for never. What pages is never given up unless there is a fallback."""
        gate = self._throttle[delivery.receiver]
        receiver, pages = gate.receiver, delivery.pages
        limits = KINDS[receiver.type].limits
        if pages and not gate.is_broken and len(self.backlog.refused(delivery.receiver)) < FEW_REFUSED:
            attempt = min(attempt, SHORT_FOR)
        if outcome.retryable and (pages or outcome.at_ms < delivery.alert.ts_ms + QUIET_GIVEN_UP_MS):
            return retry_at_ms(
                limits,
                outcome.delivery_id,
                attempt=attempt,
                retry_after_ms=outcome.retry_after_ms,
                failed_ms=outcome.at_ms,
            )
        return outcome.at_ms + limits.most_retry_ms if pages and receiver.fallback is None else None

    def _retry(self, delivery: Delivery) -> list[Effect]:
        """Make it pending again, unless a newer alert of the incident takes its place, or makes it needless."""
        newer = self.backlog.waiting(delivery.subject)
        if newer is None:
            return [self._enter(delivery)]
        superseded = self._log.record(replace(delivery, status="superseded"))
        never_sent = self._log.last_sent(delivery.subject) is None and not delivery.maybe_sent
        if is_over(newer.alert) and never_sent and newer.alert.severity not in PAGING:
            return [superseded, self.close(newer, "not_news", delivery.at_ms)]
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
            maybe_repeated=any(each.maybe_sent for each in message),
            maybe_levels=message[0].maybe_levels if len(message) == 1 else (),
            note=message[0].note if len(message) == 1 else "",
        )


def delivery_id(receiver: str, about: Iterable[str]) -> str:
    """What a message is known by, the same after a restart: it follows from the ids of what it is about."""
    return sha256("/".join([receiver, *about]).encode()).hexdigest()[:32]


def _heir(newer: Delivery, earlier: Delivery) -> Delivery:
    """The newer alert of an incident, with what must not be forgotten of the one that it replaces."""
    left_open = (earlier.alert.level,) if earlier.maybe_sent and earlier.kind != "acknowledged" else ()
    return replace(
        newer,
        due_ms=min(newer.due_ms, earlier.due_ms) if earlier.muted is None else newer.due_ms,
        kind="flapping" if "flapping" in (earlier.kind, newer.kind) else newer.kind,
        maybe_sent=newer.maybe_sent or earlier.maybe_sent,
        maybe_levels=tuple(sorted({*newer.maybe_levels, *earlier.maybe_levels, *left_open} - {newer.alert.level})),
    )


def _should_have_been_sent(delivery: Delivery, now_ms: int) -> bool:
    """What is due; and what failed, however long its receiver makes it wait for the next attempt."""
    return delivery.due_ms <= now_ms or (delivery.failure is not None and delivery.muted is None)


def _pending(deliveries: list[Delivery], now_ms: int) -> Pending:
    due = [each for each in deliveries if _should_have_been_sent(each, now_ms)]
    waits_ms = [now_ms - each.alert.ts_ms for each in due]
    return Pending(len(deliveries), sum(each.pages for each in due), max([0, *waits_ms]) / 1000)
