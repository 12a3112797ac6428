"""The delivery log: what was sent to whom, what is pending, and what operators ordered. All that survives a restart.

Every alert has one entry per receiver under `alert_id/receiver`, written when it becomes pending, before each attempt
to send it, and when it is closed. The log in memory has the whole of what is pending and of what each receiver was
last sent of an incident; of everything else only that it is closed.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec
from msgspec.structs import replace

from alerting.dedup import News
from alerting.effects import Record
from alerting.errors import Reason
from alerting.muting.mutes import MuteReason
from alerting.muting.orders import MutingOrder, expires_ms
from alerting.notice import Kind, Receipt
from schemas.alert import PAGING, Alert
from schemas.codec import undecodable
from schemas.duration import HOUR_MS
from schemas.errors import Undecodable
from schemas.usage import END_MS

Status = Literal["pending", "sent", "superseded", "not_news", "muted", "given_up"]
"""`superseded`: a newer alert of the incident is sent in its place. All but `pending` are closed."""
_STATUS_BEFORE: dict[str, Status] = {"owed": "pending", "said": "sent"}
"""How earlier versions wrote them."""

KEEP_CLOSED_MS = 48 * HOUR_MS
"""How long an alert is known as closed: far longer than the input is ever read again."""
KEEP_OPEN_MS = 35 * 24 * HOUR_MS
"""How long an incident that was sent and never resolved can still be updated: a month's budget, and a bit."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="delivery"):
    """One alert to one receiver."""

    alert: Alert
    receiver: str
    status: Status | Literal["owed", "said"]
    """Never `owed` or `said` once it is read: those are `pending` and `sent` in records of earlier versions."""
    news: News
    group: tuple[str, ...]
    due_ms: int
    """When it is to be sent, or looked at again."""
    at_ms: int
    """When it came to this status."""
    kind: Kind = "incident"
    attempts: int = 0
    maybe_sent: bool = msgspec.field(default=False, name="maybe_said")
    """An attempt may have arrived: its outcome was never learned."""
    maybe_levels: tuple[float, ...] = ()
    """Levels of alerts that this one replaced and of which an attempt may have arrived."""
    muted: MuteReason | None = None
    failure: Reason | None = None
    note: str = ""
    """Who acknowledged the incident and why, when that is what is sent."""
    place: dict[str, str] = {}
    """Where a receiver put the incident's own message. Empty after a message about several."""

    @property
    def key(self) -> str:
        """The entry's key on deliveries.v1."""
        return f"{self.alert.alert_id}/{self.receiver}"

    @property
    def subject(self) -> tuple[str, str]:
        """The incident and the receiver: at most one delivery of each is pending at a time."""
        return self.alert.incident_id, self.receiver

    @property
    def pages(self) -> bool:
        """Whether it pages somebody: it is then never given up."""
        return self.alert.severity in PAGING and self.kind != "acknowledged"

    @property
    def receipt(self) -> Receipt | None:
        """Where to update the message it was sent in."""
        return Receipt(self.place) if self.place else None


class Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="order"):
    """What an operator ordered about notifications."""

    message: MutingOrder

    @property
    def key(self) -> str:
        """The entry's key on deliveries.v1."""
        return f"operator/{self.message.message_id}"


class Reviewed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="review"):
    """A receiver has been sent the review of a week."""

    week: str
    receiver: str
    at_ms: int

    @property
    def key(self) -> str:
        """The entry's key on deliveries.v1."""
        return f"review/{self.week}/{self.receiver}"


Entry = Delivery | Order | Reviewed
_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], Entry] = msgspec.json.Decoder(Entry).decode


class DeliveryLog:
    """The delivery log of the tenants that a pipeline answers for."""

    def __init__(self) -> None:
        self._closed: dict[str, tuple[int, str, tuple[str, str] | None]] = {}
        """Key -> when it was closed, its tenant and its subject."""
        self._pending: dict[str, Delivery] = {}
        self._sent: dict[tuple[str, str], Delivery] = {}
        self._notified: dict[str, set[str]] = {}
        self._others: dict[str, Order | Reviewed] = {}
        self._restored: list[Entry] = []
        self.unreadable: dict[str, str] = {}
        """Key -> why, of the entries that were set aside when the log was read: of another version, or not ours."""
        self._swept_ms = 0

    @classmethod
    def read(cls, records: Iterable[tuple[str, bytes | None]]) -> "DeliveryLog":
        """The log as deliveries.v1 holds it: the last value of each key stands. What is no entry of ours is set aside:
        one bad record must not end the notifying of everybody.
        """
        last: dict[str, bytes] = {}
        for key, value in records:
            last.pop(key, None)
            if value is not None:
                last[key] = value
        log = cls()
        for key, value in last.items():
            try:
                entry = _entry_of(key, value)
            except Undecodable as fault:
                log.unreadable[key] = str(fault)
                continue
            log._restored.append(entry)
            log._apply(entry)
        return log

    def take_restored(self) -> list[Entry]:
        """Entries that were read, for whoever remembers more of them than the log does. Empty at the second call."""
        entries, self._restored = self._restored, []
        return entries

    def has(self, alert_id: str, receiver: str) -> bool:
        """Whether this alert is pending or closed for this receiver."""
        key = f"{alert_id}/{receiver}"
        return key in self._pending or key in self._closed

    def has_reviewed(self, week: str, receiver: str) -> bool:
        """Whether a receiver has been sent the review of a week."""
        return f"review/{week}/{receiver}" in self._closed

    def last_sent(self, subject: tuple[str, str]) -> Delivery | None:
        """What was last sent to a receiver of an incident."""
        return self._sent.get(subject)

    def notified(self, incident_id: str) -> list[str]:
        """Receivers that have a message of the incident, in the order of their names."""
        return sorted(self._notified.get(incident_id, ()))

    def record(self, entry: Entry) -> Record:
        """Enter it. What is returned must be published before anything that follows from it is done."""
        self._apply(entry)
        return _record_of(entry)

    def again(self) -> list[Record]:
        """What a restart needs and the log has in memory, to be published where deliveries.v1 has lost it: what is
        pending, what was last sent of each incident, and orders.
        """
        entries = (*self._others.values(), *self._sent.values(), *self._pending.values())
        return [_record_of(entry) for entry in entries]

    def forget(self, now_ms: int) -> Iterator[Record]:
        """Tombstones for what nobody can ask about any more. Looks once an hour."""
        if now_ms < self._swept_ms + HOUR_MS:
            return
        self._swept_ms = now_ms
        for key, (at_ms, tenant_id, subject) in list(self._closed.items()):
            last = self._sent.get(subject) if subject else None
            is_open = last is not None and last.key == key and last.alert.state != "resolved"
            if at_ms + (KEEP_OPEN_MS if is_open else KEEP_CLOSED_MS) <= now_ms:
                del self._closed[key]
                self._others.pop(key, None)
                if last is not None and last.key == key:
                    self._forget_sent(last)
                yield Record(key, tenant_id, None)

    def _apply(self, entry: Entry) -> None:
        if not isinstance(entry, Delivery):
            self._others[entry.key] = entry
        if isinstance(entry, Order):
            self._closed[entry.key] = (expires_ms(entry.message), entry.message.tenant_id, None)
        elif isinstance(entry, Reviewed):
            self._closed[entry.key] = (entry.at_ms, "", None)
        elif entry.status == "pending":
            self._pending[entry.key] = entry
        else:
            self._pending.pop(entry.key, None)
            self._closed[entry.key] = (entry.at_ms, entry.alert.tenant_id, entry.subject)
            if entry.status == "sent":  # the later in the log is the last, whatever the clock was then
                self._sent[entry.subject] = entry
                self._notified.setdefault(entry.alert.incident_id, set()).add(entry.receiver)

    def _forget_sent(self, delivery: Delivery) -> None:
        del self._sent[delivery.subject]
        receivers = self._notified[delivery.alert.incident_id]
        receivers.discard(delivery.receiver)
        if not receivers:
            del self._notified[delivery.alert.incident_id]


def decode_entry(value: bytes) -> Entry:
    """A value of deliveries.v1, in the words of this version. Raises `Undecodable`."""
    try:
        entry = _decode(value)
    except Exception as error:
        raise undecodable(error) from None
    if isinstance(entry, Delivery) and entry.status in _STATUS_BEFORE:
        return replace(entry, status=_STATUS_BEFORE[entry.status])
    return entry


def _entry_of(key: str, value: bytes) -> Entry:
    """The entry of a record. One under another's key would be sent again at every start, since it is never closed; one
    beyond the calendar would be waited for for ever. Raises `Undecodable`.
    """
    entry = decode_entry(value)
    if entry.key != key:
        raise Undecodable("wrong_value", "it stands under the key of another entry, or under none")
    if isinstance(entry, Delivery) and not (0 <= entry.due_ms < END_MS and 0 <= entry.at_ms < END_MS):
        raise Undecodable("bad_time", "it is due, or was written, at an impossible time")
    return entry


def _record_of(entry: Entry) -> Record:
    return Record(entry.key, _tenant_id(entry), _encode(entry))


def _tenant_id(entry: Entry) -> str:
    """Whose entry it is; a review is about all."""
    match entry:
        case Delivery():
            return entry.alert.tenant_id
        case Order():
            return entry.message.tenant_id
        case Reviewed():
            return ""
