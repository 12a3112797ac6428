"""From alerts to messages: the stages in their order.

alert -> route (whose?) -> deduplicate (news?) -> group (when, with what?) -> pending, in the log
tick  -> due? -> muted? (`muting.mutes.REASONS`) -> throttled? -> batched into messages -> Send
sent  -> recorded in the log           failed -> pending again (retry), or given up and sent to the fallback

Time comes in with every call. Whatever a call returns is to be performed in its order; once the records among it are
published, what was handed in may be acknowledged. A pipeline made from the log alone goes on where another was stopped.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from alerting.dedup import News, is_over, news, outranks, overtakes
from alerting.delivery.backlog import MOST_QUIET_PENDING
from alerting.delivery.dispatcher import Dispatcher, Pending, delivery_id
from alerting.delivery.log import Delivery, DeliveryLog, Order, Reviewed
from alerting.delivery.throttle import SET_BACK_MS, Throttle
from alerting.effects import Effect, Failed, Send, Sent, WaitUntil
from alerting.grouping import Groups, group_key, in_turn, messages
from alerting.muting.flapping import Flapping
from alerting.muting.mutes import Mute, Mutes
from alerting.muting.orders import acknowledged_incident, concerns_notifications
from alerting.notice import Kind, Notice
from alerting.rendering.meaning import acknowledgement
from alerting.routing.router import Destination, Router
from schemas.alert import PAGING, RECEIVER_UNREACHABLE, WATCHDOG, Alert
from schemas.operator import OperatorMessage
from schemas.routing import CONSOLE, Routing


class Pipeline:
    """Notifies people of the incidents of some tenants. `throttle` is shared by the pipelines of a process."""

    def __init__(self, routing: Routing, log: DeliveryLog, throttle: Throttle | None = None) -> None:
        self._router = Router(routing)
        self._log = log
        self._throttle = throttle or Throttle(routing.all_receivers)
        self._dispatcher = Dispatcher(log, self._throttle)
        self._groups = Groups()
        self._flapping = Flapping()
        self._mutes = Mutes(routing)
        self._without_receiver: list[Delivery] = []
        self._restored = self._restore()

    def alert(self, alert: Alert, now_ms: int) -> list[Effect]:
        """Take in an alert. The same one twice is one; one of a rule in shadow mode reaches nobody."""
        if alert.mode == "shadow":
            return []
        if alert.detector == WATCHDOG:
            return self._heartbeat(alert, now_ms) + self.tick(now_ms)
        self._mutes.observe(alert)
        self._flapping.observe(alert)
        effects = [each for to in self._destinations(alert) for each in self._enqueue(alert, to, now_ms)]
        if is_over(alert):
            self._mutes.acknowledgements.ended(alert)
        return effects + self.tick(now_ms)

    def operator(self, message: OperatorMessage, now_ms: int) -> list[Effect]:
        """Obey an order about notifications; other orders are for the worker. The signature has been checked."""
        effects: list[Effect] = []
        if concerns_notifications(message):
            self._mutes.obey(message)
            effects.append(self._log.record(Order(message=message)))
        return effects + self._notify_acknowledged(message, now_ms) + self.tick(now_ms)

    def reviewed(self, entry: Reviewed) -> list[Effect]:
        """A receiver has been sent the review of a week."""
        return [self._log.record(entry)]

    def has_reviewed(self, week: str, receiver: str) -> bool:
        """Whether a receiver has been sent the review of a week."""
        return self._log.has_reviewed(week, receiver)

    def log_lost(self) -> list[Effect]:
        """The log has lost records: write again what a restart needs of it."""
        return [*self._log.again()]

    def tick(self, now_ms: int) -> list[Effect]:
        """Send what is due."""
        self._dispatcher.see(now_ms)
        effects = self._resume(now_ms)
        for overdue in self._dispatcher.overdue(now_ms):
            effects += self._failed(overdue)
        effects += self._notify_fallbacks(now_ms)
        for receiver in self._dispatcher.backlog.receivers():
            effects += self._notify(receiver, now_ms)
        if forgotten := list(self._log.forget(now_ms)):
            effects += forgotten
            for memory in (self._groups, self._flapping, self._mutes):
                memory.forget(now_ms)
        next_ms = self._dispatcher.next_ms(now_ms)
        return [*effects, WaitUntil(next_ms)] if next_ms is not None else effects

    def sent(self, outcome: Sent) -> list[Effect]:
        """A receiver has accepted a message: only now do its deliveries count as sent."""
        effects, deliveries = self._dispatcher.sent(outcome)
        for each in deliveries:
            self._mutes.sent(each.alert, each.receiver)
        return effects + self.tick(outcome.at_ms)

    def failed(self, outcome: Failed) -> list[Effect]:
        """A receiver has not accepted a message, or nobody knows."""
        return self._failed(outcome) + self.tick(outcome.at_ms)

    def pending(self, now_ms: int) -> dict[str, Pending]:
        """What has still to be sent to each receiver."""
        return self._dispatcher.pending(now_ms)

    @property
    def dropped(self) -> dict[str, int]:
        """How many alerts became a number, by receiver."""
        return self._dispatcher.dropped

    def _heartbeat(self, alert: Alert, now_ms: int) -> list[Effect]:
        """A heartbeat is sent at once and once. It is never pending: sent late, or again, it would be untrue. It also
        says that a page would arrive: while one can reach nobody, the monitor outside is to miss it.
        """
        is_late = alert.window_end_ms is not None and alert.window_end_ms <= now_ms
        if is_late or self._dispatcher.reaches_nobody(now_ms):
            return []
        notice = Notice("watchdog", (alert,))
        receivers = [to.receiver for to in self._router.destinations(alert)]
        return [Send(delivery_id(receiver, [alert.alert_id]), receiver, notice, 1) for receiver in receivers]

    def _notify_acknowledged(self, message: OperatorMessage, now_ms: int) -> list[Effect]:
        """Show whoever has a message of an incident that somebody has acknowledged it."""
        if (incident_id := acknowledged_incident(message)) is None:
            return []
        effects: list[Effect] = []
        for receiver in self._log.notified(incident_id):
            last = self._dispatcher.last((incident_id, receiver))
            if last is None or last.receipt is None or receiver not in self._throttle:
                continue  # it was one of many in a message: there is none of its own to change
            alert = replace(last.alert, alert_id=message.message_id, ts_ms=message.ts_ms)
            needless = is_over(alert) or self._dispatcher.backlog.waiting(last.subject) is not None
            if needless or alert.tenant_id != message.tenant_id or self._log.has(alert.alert_id, receiver):
                continue
            effects += self._dispatcher.enqueue(
                Delivery(
                    alert=alert, receiver=receiver, status="pending", news="repeat", group=last.group,
                    kind="acknowledged", due_ms=now_ms, at_ms=now_ms, note=acknowledgement(message),
                )
            )  # fmt: skip
        return effects

    def _destinations(self, alert: Alert) -> list[Destination]:
        """Whom the policy names, and of what changes also who was notified of the incident before."""
        named = self._router.destinations(alert)
        if alert.detector == RECEIVER_UNREACHABLE:
            named = self._others_than(str(alert.evidence.get("receiver")), named)
        if alert.state == "reminder":
            return list(named)
        others = set(self._log.notified(alert.incident_id)) - {destination.receiver for destination in named}
        return [*named, *(Destination(name, group_wait_ms=0) for name in sorted(others) if name in self._throttle)]

    def _others_than(self, receiver: str, named: Iterable[Destination]) -> tuple[Destination, ...]:
        """Whom to tell that a receiver takes nothing: others whom routes name, else its fallback, or the console."""
        fallback = self._throttle[receiver].receiver.fallback if receiver in self._throttle else None
        others = tuple(each for each in named if each.receiver != receiver)
        return others or (Destination(fallback or CONSOLE, group_wait_ms=0),)

    def _enqueue(self, alert: Alert, destination: Destination, now_ms: int) -> list[Effect]:
        """Make the alert pending at a receiver if it is news there, and record in either case that it was seen."""
        receiver = destination.receiver
        if self._log.has(alert.alert_id, receiver):
            return []
        delivery = self._delivery(alert, destination, now_ms)
        pending = self._dispatcher.backlog.waiting(delivery.subject)
        if delivery.news == "nothing":
            closed = self._log.record(replace(delivery, status="not_news"))
            if pending is None or not overtakes(alert, pending.alert) or alert.state == "reminder":
                return [closed]
            # In this order: after a crash between the two the alert is looked at again.
            return [self._dispatcher.close(pending, "superseded", now_ms), closed]
        droppable = alert.severity not in PAGING and not is_over(alert)
        if droppable and self._dispatcher.backlog.size(receiver) >= MOST_QUIET_PENDING:
            return [self._dispatcher.leave_out(delivery)]
        if delivery.kind == "flapping":
            self._flapping.announce(alert, receiver)
        return self._dispatcher.enqueue(delivery)

    def _delivery(self, alert: Alert, to: Destination, now_ms: int) -> Delivery:
        what = self._news(alert, to, now_ms)
        kind: Kind = "flapping" if what == "flapping" else "incident"
        group = group_key(alert, to)
        when_ms = now_ms if what == "nothing" else self._groups.when_ms(alert, to, group, now_ms)
        return Delivery(
            alert=alert, receiver=to.receiver, status="pending", news=what, group=group, kind=kind, due_ms=when_ms,
            at_ms=now_ms,
        )  # fmt: skip

    def _news(self, alert: Alert, to: Destination, now_ms: int) -> News:
        """What it adds to what the receiver was sent of the incident and to what is pending there."""
        subject = (alert.incident_id, to.receiver)
        last, pending = self._dispatcher.last(subject), self._dispatcher.backlog.waiting(subject)
        if alert.state == "reminder":
            is_acknowledged = pending is not None and pending.kind == "acknowledged"
            if is_acknowledged or self._mutes.ended.has(alert):
                return "nothing"
        is_flapping = self._flapping.until_ms(alert, now_ms) is not None
        if is_flapping and not self._flapping.is_announced(alert, to.receiver):
            return "flapping"
        return news(
            alert,
            sent=last.alert if last else None,
            sent_ms=last.at_ms if last and last.at_ms < now_ms + SET_BACK_MS else 0,
            pending=pending.alert if pending else None,
            pending_binds=pending is not None and (pending.maybe_sent or pending.kind == "flapping"),
            pending_is_muted=pending is not None and pending.muted is not None,
            renotify_ms=to.renotify_ms,
            now_ms=now_ms,
        )

    def _notify(self, receiver: str, now_ms: int) -> list[Effect]:
        """Send what is due at a receiver, as far as it may be sent now."""
        gate = self._throttle[receiver]
        if gate.opens_ms(now_ms) > now_ms:
            return []
        effects: list[Effect] = []
        allowed: list[Delivery] = []
        for delivery in in_turn(self._dispatcher.due(receiver, now_ms)):
            if allowed and gate.takes_one_at_a_time:
                break  # the others are asked about when it is their turn: thousands may wait
            if (mute := self._mute(delivery, now_ms)) is None:
                allowed.append(delivery)
            elif mute.until_ms is None or (is_over(delivery.alert) and not self._may_know(delivery)):
                effects.append(self._dispatcher.close(replace(delivery, muted=mute.reason), "muted", now_ms))
            else:
                deferred = replace(delivery, muted=mute.reason, due_ms=mute.until_ms)
                effects += self._dispatcher.defer(delivery, deferred)
        for message in messages(allowed, joins=gate.receiver.joins_incidents, place_of=self._dispatcher.place_of):
            if gate.opens_ms(now_ms) > now_ms:
                break
            effects += self._dispatcher.start(message, now_ms)
        return effects

    def _mute(self, delivery: Delivery, now_ms: int) -> Mute | None:
        """Why not now. An end is always sent where the beginning was; what got worse is not held for flapping."""
        alert, last = delivery.alert, self._dispatcher.last(delivery.subject)
        if delivery.kind == "acknowledged":
            return None
        worse = alert.severity == "critical" and not is_over(alert) and (last is None or outranks(alert, last.alert))
        until_ms = self._flapping.until_ms(alert, now_ms)
        if until_ms is not None and delivery.kind != "flapping" and not worse:
            return Mute("flapping", f"{alert.rule} comes and goes", until_ms)
        if is_over(alert) and self._may_know(delivery):
            return None
        return self._mutes.muted(alert, delivery.receiver, now_ms)

    def _may_know(self, delivery: Delivery) -> bool:
        """Whether the receiver has, or may have, a message of the incident already."""
        return delivery.maybe_sent or self._dispatcher.last(delivery.subject) is not None

    def _failed(self, outcome: Failed) -> list[Effect]:
        effects, lost = self._dispatcher.failed(outcome)
        return self._to_fallbacks(lost, outcome.at_ms) + effects  # never given up before it is pending somewhere else

    def _notify_fallbacks(self, now_ms: int) -> list[Effect]:
        """What pages and is held up is sent to the receiver's fallback. It stays pending at the receiver."""
        effects: list[Effect] = []
        for receiver in self._dispatcher.backlog.receivers():
            fallback = self._throttle[receiver].receiver.fallback
            if fallback is None:
                continue
            pages = [
                each
                for each in self._dispatcher.held_up(receiver, now_ms)
                if not self._log.has(each.alert.alert_id, fallback) and self._mute(each, now_ms) is None
            ]
            effects += self._to_fallbacks(pages, now_ms)
        return effects

    def _to_fallbacks(self, deliveries: Iterable[Delivery], now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for each in deliveries:
            fallback = self._throttle[each.receiver].receiver.fallback
            if fallback is not None and each.kind != "acknowledged":
                effects += self._enqueue(each.alert, Destination(fallback, group_wait_ms=0), now_ms)
        return effects

    def _resume(self, now_ms: int) -> list[Effect]:
        """After a restart: record what it changed, and enqueue elsewhere what is pending at receivers that are gone."""
        effects, without_receiver = self._restored, self._without_receiver
        self._restored, self._without_receiver = [], []
        for each in without_receiver:
            for to in self._router.destinations(each.alert):
                effects += self._enqueue(each.alert, to, now_ms)
            effects.append(self._dispatcher.close(each, "given_up", now_ms))
        return effects

    def _restore(self) -> list[Effect]:
        entries = self._log.take_restored()
        deliveries = [entry for entry in entries if isinstance(entry, Delivery)]
        for entry in entries:
            if isinstance(entry, Order):
                self._mutes.obey(entry.message)
        for each in sorted(deliveries, key=lambda each: (each.alert.ts_ms, is_over(each.alert), each.at_ms)):
            self._remember(each)
        pending = [each for each in deliveries if each.status == "pending"]
        pending.sort(key=lambda each: (each.alert.ts_ms, is_over(each.alert)))
        self._without_receiver = [each for each in pending if each.receiver not in self._throttle]
        return self._dispatcher.restore(each for each in pending if each.receiver in self._throttle)

    def _remember(self, delivery: Delivery) -> None:
        """What followed from a delivery of the log for what mutes."""
        alert = delivery.alert
        if delivery.kind != "acknowledged":  # its alert is one that was observed before
            self._mutes.observe(alert)
            self._flapping.observe(alert)
        if delivery.status == "sent":
            self._mutes.sent(alert, delivery.receiver)
        if is_over(alert):
            self._mutes.acknowledgements.ended(alert)
        if delivery.kind == "flapping":
            self._flapping.announce(alert, delivery.receiver)
