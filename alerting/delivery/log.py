"""What was said to whom, what is still owed, and what people ordered: all that must survive a restart.

Every alert has one entry per receiver under `alert_id/receiver`, written when it is owed, when it is about to be
sent, and when it is settled. The log in memory keeps the whole of what is owed and of what each receiver was last told
of an incident; of everything else only that it is settled.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from alerting.dedup import News
from alerting.effects import Record
from alerting.errors import Reason
from alerting.muting.mutes import MuteReason
from alerting.muting.orders import TellingOrder, expires_ms
from alerting.notice import Kind, Receipt
from schemas.alert import PAGING, Alert

Status = Literal["owed", "said", "superseded", "not_news", "muted", "given_up"]
"""`superseded`: a newer alert of the incident is told in its place. All but `owed` are settled."""

HOUR_MS = 3_600_000
KEEP_SETTLED_MS = 48 * HOUR_MS
"""How long an alert is known as settled: far longer than the input is ever read again."""
KEEP_OPEN_MS = 35 * 24 * HOUR_MS
"""How long an incident that was told and never resolved can still be updated: a month's budget, and a bit."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="delivery"):
    """One alert to one receiver."""

    alert: Alert
    receiver: str
    status: Status
    news: News
    group: tuple[str, ...]
    due_ms: int
    """When it is to be told, or looked at again."""
    at_ms: int
    """When it came to this status."""
    kind: Kind = "incident"
    attempts: int = 0
    maybe_said: bool = False
    """An attempt may have arrived: its outcome was never learned."""
    muted: MuteReason | None = None
    failure: Reason | None = None
    note: str = ""
    """What somebody has said of the incident, when that is what is told."""
    place: dict[str, str] = {}
    """Where a receiver put the incident's own message. Empty after a message that told several."""

    @property
    def key(self) -> str:
        """The entry's key on deliveries.v1."""
        return f"{self.alert.alert_id}/{self.receiver}"

    @property
    def subject(self) -> tuple[str, str]:
        """The incident and the receiver: at most one delivery of each is owed at a time."""
        return self.alert.incident_id, self.receiver

    @property
    def wakes(self) -> bool:
        """Whether it is for waking somebody: it is then never given up."""
        return self.alert.severity in PAGING and self.kind != "acknowledged"

    @property
    def receipt(self) -> Receipt | None:
        """Where to update what it said."""
        return Receipt(self.place) if self.place else None


class Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="order"):
    """What somebody ordered about telling."""

    message: TellingOrder

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
_decode = msgspec.json.Decoder(Entry).decode


class Log:
    """The delivery log of the tenants that a pipeline answers for."""

    def __init__(self) -> None:
        self._settled: dict[str, tuple[int, str, tuple[str, str] | None]] = {}
        self._owed: dict[str, Delivery] = {}
        self._said: dict[tuple[str, str], Delivery] = {}
        self._told: dict[str, set[str]] = {}
        self._restored: list[Entry] = []
        self._swept_ms = 0

    @classmethod
    def read(cls, records: Iterable[tuple[str, bytes | None]]) -> "Log":
        """The log as deliveries.v1 holds it: the last value of each key stands.

        Raises:
            msgspec.DecodeError: a value is no entry of ours.
        """
        last: dict[str, bytes] = {}
        for key, value in records:
            last.pop(key, None)
            if value is not None:
                last[key] = value
        log = cls()
        log._restored = [_decode(value) for value in last.values()]
        for entry in log._restored:
            log._keep(entry)
        return log

    def take_restored(self) -> list[Entry]:
        """Entries that were read, for whoever must remember more of them than the log does. Gives them once."""
        entries, self._restored = self._restored, []
        return entries

    def has(self, alert_id: str, receiver: str) -> bool:
        """Whether this alert has been dealt with, or is owed, for this receiver."""
        key = f"{alert_id}/{receiver}"
        return key in self._owed or key in self._settled

    def has_reviewed(self, week: str, receiver: str) -> bool:
        """Whether a receiver has been sent the review of a week."""
        return f"review/{week}/{receiver}" in self._settled

    def said(self, subject: tuple[str, str]) -> Delivery | None:
        """What was last said to a receiver of an incident."""
        return self._said.get(subject)

    def told(self, incident_id: str) -> list[str]:
        """Receivers that have a message of the incident, in the order of their names."""
        return sorted(self._told.get(incident_id, ()))

    def put(self, entry: Entry) -> Record:
        """Enter it. What comes back must be kept before anything that follows from it is done."""
        self._keep(entry)
        return Record(entry.key, _tenant_id(entry), _encode(entry))

    def forget(self, now_ms: int) -> Iterator[Record]:
        """Take away what nobody can ask about any more. Looks once an hour."""
        if now_ms < self._swept_ms + HOUR_MS:
            return
        self._swept_ms = now_ms
        for key, (at_ms, tenant_id, subject) in list(self._settled.items()):
            last = self._said.get(subject) if subject else None
            stands = last is not None and last.key == key and last.alert.state != "resolved"
            if at_ms + (KEEP_OPEN_MS if stands else KEEP_SETTLED_MS) <= now_ms:
                del self._settled[key]
                if last is not None and last.key == key:
                    self._drop_said(last)
                yield Record(key, tenant_id, None)

    def _keep(self, entry: Entry) -> None:
        if isinstance(entry, Order):
            self._settled[entry.key] = (expires_ms(entry.message), entry.message.tenant_id, None)
        elif isinstance(entry, Reviewed):
            self._settled[entry.key] = (entry.at_ms, "", None)
        elif entry.status == "owed":
            self._owed[entry.key] = entry
        else:
            self._owed.pop(entry.key, None)
            self._settled[entry.key] = (entry.at_ms, entry.alert.tenant_id, entry.subject)
            last = self._said.get(entry.subject)
            if entry.status == "said" and (last is None or last.at_ms <= entry.at_ms):
                self._said[entry.subject] = entry
                self._told.setdefault(entry.alert.incident_id, set()).add(entry.receiver)

    def _drop_said(self, delivery: Delivery) -> None:
        del self._said[delivery.subject]
        receivers = self._told[delivery.alert.incident_id]
        receivers.discard(delivery.receiver)
        if not receivers:
            del self._told[delivery.alert.incident_id]


def _tenant_id(entry: Entry) -> str:
    """Whose entry it is; a review is about all."""
    match entry:
        case Delivery():
            return entry.alert.tenant_id
        case Order():
            return entry.message.tenant_id
        case Reviewed():
            return ""
