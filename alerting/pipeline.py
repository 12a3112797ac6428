"""From alerts to messages: the stages in their order.

alert -> whose? (routing) -> is it news? (dedup) -> told when, with what? (lifecycle, grouping) -> owed, in the log
tick  -> what is due? -> may we? (muting) -> may the receiver be spoken to? (lanes) -> messages (grouping) -> Send
sent  -> said, in the log          failed -> owed again (retry), or given up and told by the fallback

Time comes in with every call. Whatever a call returns is to be performed in its order; once the records among it are
kept, what was handed in may be acknowledged. A pipeline made from the log alone goes on where another was stopped.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from alerting.dedup import is_over, news, outranks, overtakes
from alerting.delivery.backlog import MOST_QUIET
from alerting.delivery.dispatcher import Outbox, Owed, delivery_id
from alerting.delivery.log import Delivery, Log, Order, Reviewed
from alerting.delivery.throttle import Lanes
from alerting.effects import Effect, Failed, Send, Sent, WaitUntil
from alerting.grouping import Groups, group_key, messages
from alerting.muting.flapping import Flaps
from alerting.muting.inhibition import Standing
from alerting.muting.mutes import Mute, muted
from alerting.muting.orders import Orders, concerns_telling, incident_of
from alerting.notice import Kind, Notice
from alerting.rendering.meaning import taken_in_hand
from alerting.routing.router import Destination, Router
from schemas.alert import PAGING, WATCHDOG, Alert
from schemas.operator import OperatorMessage
from schemas.routing import Routing


class Pipeline:
    """Tells people about the incidents of some tenants. `lanes` is shared by the pipelines of a process."""

    def __init__(self, routing: Routing, log: Log, lanes: Lanes | None = None) -> None:
        self._router = Router(routing)
        self._quiet = routing.quiet
        self._log = log
        self._lanes = lanes or Lanes(routing.all_receivers)
        self._outbox = Outbox(log, self._lanes)
        self._groups = Groups()
        self._flaps = Flaps()
        self._standing = Standing()
        self._orders = Orders()
        self._homeless: list[Delivery] = []
        self._first = self._restore()

    def alert(self, alert: Alert, now_ms: int) -> list[Effect]:
        """Take in an alert. The same one twice is one; one of a rule in shadow mode reaches nobody."""
        if alert.mode == "shadow":
            return []
        if alert.detector == WATCHDOG:
            return self._beat(alert, now_ms) + self.tick(now_ms)
        self._orders.observe(alert)
        self._flaps.observe(alert)
        effects = [each for to in self._destinations(alert) for each in self._take_in(alert, to, now_ms)]
        if is_over(alert):
            self._orders.over(alert)
        return effects + self.tick(now_ms)

    def operator(self, message: OperatorMessage, now_ms: int) -> list[Effect]:
        """Obey what somebody ordered about telling; other orders are for the worker. The signature has been checked."""
        effects: list[Effect] = []
        if concerns_telling(message):
            self._orders.obey(message)
            effects.append(self._log.put(Order(message=message)))
        return effects + self._pass_on(message, now_ms) + self.tick(now_ms)

    def reviewed(self, entry: Reviewed) -> list[Effect]:
        """A receiver has been sent the review of a week."""
        return [self._log.put(entry)]

    def has_reviewed(self, week: str, receiver: str) -> bool:
        """Whether a receiver has been sent the review of a week."""
        return self._log.has_reviewed(week, receiver)

    def tick(self, now_ms: int) -> list[Effect]:
        """Tell what is due."""
        effects = self._begin(now_ms)
        for overdue in self._outbox.overdue(now_ms):
            effects += self._fail(overdue)
        effects += self._stand_in(now_ms)
        for receiver in self._outbox.backlog.receivers():
            effects += self._tell(receiver, now_ms)
        if forgotten := list(self._log.forget(now_ms)):
            effects += forgotten
            for memory in (self._groups, self._flaps, self._orders):
                memory.forget(now_ms)
        next_ms = self._outbox.next_ms(now_ms)
        return [*effects, WaitUntil(next_ms)] if next_ms is not None else effects

    def sent(self, outcome: Sent) -> list[Effect]:
        """A receiver has said it: only now does it count as said."""
        return self._outbox.sent(outcome) + self.tick(outcome.at_ms)

    def failed(self, outcome: Failed) -> list[Effect]:
        """A receiver has not said it, or nobody knows."""
        return self._fail(outcome) + self.tick(outcome.at_ms)

    def owed(self, now_ms: int) -> dict[str, Owed]:
        """What each receiver has still to be told."""
        return self._outbox.owed(now_ms)

    @property
    def dropped(self) -> dict[str, int]:
        """How many alerts became a number, by receiver."""
        return self._outbox.dropped

    def _beat(self, alert: Alert, now_ms: int) -> list[Effect]:
        """A sign of life is said at once and once. It is never owed: said late, or again, it would be untrue."""
        if alert.window_end_ms is not None and alert.window_end_ms <= now_ms:
            return []
        notice = Notice("watchdog", (alert,))
        receivers = [to.receiver for to in self._router.destinations(alert)]
        return [Send(delivery_id(receiver, [alert.alert_id]), receiver, notice, 1) for receiver in receivers]

    def _pass_on(self, message: OperatorMessage, now_ms: int) -> list[Effect]:
        """Tell those who were told of an incident that somebody has taken it in hand."""
        if (incident_id := incident_of(message)) is None:
            return []
        effects: list[Effect] = []
        for receiver in self._log.told(incident_id):
            last = self._outbox.last((incident_id, receiver))
            if last is None or last.receipt is None or receiver not in self._lanes:
                continue  # it was one of many in a message: there is none of its own to change
            alert = replace(last.alert, alert_id=message.message_id, ts_ms=message.ts_ms)
            settled = is_over(alert) or self._outbox.backlog.waiting(last.subject) is not None
            if settled or alert.tenant_id != message.tenant_id or self._log.has(alert.alert_id, receiver):
                continue
            effects += self._outbox.owe(
                Delivery(
                    alert=alert, receiver=receiver, status="owed", news="repeat", group=last.group,
                    kind="acknowledged", due_ms=now_ms, at_ms=now_ms, note=taken_in_hand(message),
                )
            )  # fmt: skip
        return effects

    def _destinations(self, alert: Alert) -> list[Destination]:
        """Who is told: whom the tree names, and of what changes also who was told of the incident before."""
        named = self._router.destinations(alert)
        if alert.state == "reminder":
            return list(named)
        told = set(self._log.told(alert.incident_id)) - {destination.receiver for destination in named}
        return [*named, *(Destination(name, group_wait_ms=0) for name in sorted(told) if name in self._lanes)]

    def _take_in(self, alert: Alert, destination: Destination, now_ms: int) -> list[Effect]:
        """Owe the alert to a receiver if it is news there, and enter in either case that it was dealt with."""
        receiver = destination.receiver
        if self._log.has(alert.alert_id, receiver):
            return []
        self._standing.observe(alert, receiver)
        delivery = self._delivery(alert, destination, now_ms)
        owed = self._outbox.backlog.waiting(delivery.subject)
        if delivery.news == "nothing":
            settled = self._log.put(replace(delivery, status="not_news"))
            if owed is None or not overtakes(alert, owed.alert):
                return [settled]
            return [self._outbox.settle(owed, "superseded", now_ms), settled]  # a crash between has it asked again
        droppable = alert.severity not in PAGING and not is_over(alert)
        if droppable and self._outbox.backlog.size(receiver) >= MOST_QUIET:
            return [self._outbox.leave_out(delivery)]
        if delivery.kind == "flapping":
            self._flaps.announce(alert, receiver)
        return self._outbox.owe(delivery)

    def _delivery(self, alert: Alert, to: Destination, now_ms: int) -> Delivery:
        subject = (alert.incident_id, to.receiver)
        last, owed = self._outbox.last(subject), self._outbox.backlog.waiting(subject)
        flaps = self._flaps.until_ms(alert, now_ms) is not None and not self._flaps.is_announced(alert, to.receiver)
        takes_in_hand = owed is not None and owed.kind == "acknowledged" and alert.state == "reminder"
        what = "nothing" if takes_in_hand else "flapping" if flaps else news(
            alert,
            said=last.alert if last else None,
            said_ms=last.at_ms if last else 0,
            owed=owed.alert if owed else None,
            owed_binds=owed is not None and (owed.maybe_said or owed.kind == "flapping"),
            owed_is_muted=owed is not None and owed.muted is not None,
            renotify_ms=to.renotify_ms,
            now_ms=now_ms,
        )  # fmt: skip
        kind: Kind = "flapping" if flaps else "incident"
        group = group_key(alert, to)
        when_ms = now_ms if what == "nothing" else self._groups.when_ms(alert, to, group, now_ms)
        return Delivery(
            alert=alert, receiver=to.receiver, status="owed", news=what, group=group, kind=kind, due_ms=when_ms,
            at_ms=now_ms,
        )  # fmt: skip

    def _tell(self, receiver: str, now_ms: int) -> list[Effect]:
        """Send what is due at a receiver, as far as it may be sent now."""
        lane = self._lanes[receiver]
        if lane.opens_ms(now_ms) > now_ms:
            return []
        effects: list[Effect] = []
        allowed = []
        for delivery in self._outbox.due(receiver, now_ms):
            if (mute := self._mute(delivery, now_ms)) is None:
                allowed.append(delivery)
            elif mute.until_ms is None or (is_over(delivery.alert) and self._outbox.last(delivery.subject) is None):
                effects.append(self._outbox.settle(replace(delivery, muted=mute.reason), "muted", now_ms))
            else:
                effects += self._outbox.defer(delivery, replace(delivery, muted=mute.reason, due_ms=mute.until_ms))
        for message in messages(allowed, joins=lane.receiver.joins_incidents, place_of=self._outbox.place_of):
            if lane.opens_ms(now_ms) > now_ms:
                break
            effects += self._outbox.start(message, now_ms)
        return effects

    def _mute(self, delivery: Delivery, now_ms: int) -> Mute | None:
        """Why not now. What has been told is always told to be over; what got worse is not held for flapping."""
        alert, last = delivery.alert, self._outbox.last(delivery.subject)
        if delivery.kind == "acknowledged":
            return None
        worse = alert.severity == "critical" and not is_over(alert) and (last is None or outranks(alert, last.alert))
        until_ms = self._flaps.until_ms(alert, now_ms)
        if until_ms is not None and delivery.kind != "flapping" and not worse:
            return Mute("flapping", f"{alert.rule} comes and goes", until_ms)
        if is_over(alert) and (last is not None or delivery.maybe_said):
            return None
        return muted(
            alert, delivery.receiver, orders=self._orders, standing=self._standing, quiet=self._quiet, now_ms=now_ms
        )

    def _fail(self, outcome: Failed) -> list[Effect]:
        effects, lost = self._outbox.failed(outcome)
        return self._to_fallback(lost, outcome.at_ms) + effects  # never given up before somebody else is to tell it

    def _stand_in(self, now_ms: int) -> list[Effect]:
        """While a receiver cannot be reached, its fallback is told too of what pages. It stays owed to the receiver."""
        effects: list[Effect] = []
        for receiver in self._outbox.backlog.receivers():
            fallback = self._lanes[receiver].receiver.fallback
            if fallback is None or not self._lanes[receiver].is_broken:
                continue
            pages = [
                each
                for each in self._outbox.due(receiver, now_ms)
                if each.wakes and not self._log.has(each.alert.alert_id, fallback) and self._mute(each, now_ms) is None
            ]
            effects += self._to_fallback(pages, now_ms)
        return effects

    def _to_fallback(self, deliveries: Iterable[Delivery], now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for each in deliveries:
            fallback = self._lanes[each.receiver].receiver.fallback
            if fallback is not None and each.kind != "acknowledged":
                effects += self._take_in(each.alert, Destination(fallback, group_wait_ms=0), now_ms)
        return effects

    def _begin(self, now_ms: int) -> list[Effect]:
        """After a restart: enter what it changed, and tell elsewhere what is owed to receivers that are no more."""
        effects, homeless = self._first, self._homeless
        self._first, self._homeless = [], []
        for each in homeless:
            for to in self._router.destinations(each.alert):
                effects += self._take_in(each.alert, to, now_ms)
            effects.append(self._outbox.settle(each, "given_up", now_ms))
        return effects

    def _restore(self) -> list[Effect]:
        entries = self._log.take_restored()
        deliveries = [entry for entry in entries if isinstance(entry, Delivery)]
        for entry in entries:
            if isinstance(entry, Order):
                self._orders.obey(entry.message)
        for each in sorted(deliveries, key=lambda each: (each.alert.ts_ms, is_over(each.alert), each.at_ms)):
            if each.kind != "acknowledged":  # its alert is one that was observed before
                self._orders.observe(each.alert)
                self._flaps.observe(each.alert)
            self._standing.observe(each.alert, each.receiver)
            if is_over(each.alert):
                self._orders.over(each.alert)
            if each.kind == "flapping":
                self._flaps.announce(each.alert, each.receiver)
        owed = [each for each in deliveries if each.status == "owed"]
        owed.sort(key=lambda each: (each.alert.ts_ms, is_over(each.alert)))
        self._homeless = [each for each in owed if each.receiver not in self._lanes]
        return self._outbox.restore(each for each in owed if each.receiver in self._lanes)
