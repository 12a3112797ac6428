"""How far a system has been read: a record of cursors.v1, written behind the usage that it stands for."""

from collections.abc import Mapping
from typing import Final

import msgspec

from schemas.codec import encode
from schemas.duration import DAY_MS
from schemas.errors import StateError
from schemas.usage import EpochMs
from streams.kafka.client import write_one
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings

TOPIC: Final = "cursors.v1"
MOST_IDS: Final = 20_000
MOST_LONG_IDS: Final = 5_000
ID_CHARACTERS: Final = 16
SWEEP_MS: Final = DAY_MS
"""How far back a sweep looks for calls that began before what is asked for each time: one may last for so long."""


class Cursor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value of cursors.v1, by source and tenant.

    `ids` are the beginnings of the event ids that were written of the time that is asked for again: a call that the
    workers have long forgotten would count a second time.
    """

    until_ms: EpochMs
    ids: dict[str, EpochMs]
    """Beginning of an event id -> the time that its call stands at."""
    began_ms: EpochMs | None = None
    """Where reading began; None in cursors of before there were sweeps."""
    long_ids: dict[str, EpochMs] = {}
    """The same as `ids`, of calls that lasted long: they are known for as long as a sweep looks back."""

    def after(self, written: Mapping[str, int], long: Mapping[str, int], overlap_ms: int) -> "Cursor":
        """The cursor once these events are written, too: event id -> the time that its call stands at. Those of `long`
        lasted long, and are among them.
        """
        until_ms = max([self.until_ms, *written.values()])
        return Cursor(
            until_ms=until_ms,
            ids=_newest(self.ids, written, until_ms - overlap_ms, MOST_IDS),
            began_ms=self.begins_ms(overlap_ms),
            long_ids=_newest(self.long_ids, long, until_ms - overlap_ms - SWEEP_MS, MOST_LONG_IDS),
        )

    def begins_ms(self, overlap_ms: int) -> int:
        """Before which nothing is read: nobody asked for it, or it was written before there were sweeps."""
        return max(0, self.until_ms - overlap_ms) if self.began_ms is None else self.began_ms

    def knows(self, event_id: str) -> bool:
        """Whether the event was written."""
        return event_id[:ID_CHARACTERS] in self.ids or event_id[:ID_CHARACTERS] in self.long_ids


def _newest(known: Mapping[str, int], more: Mapping[str, int], since_ms: int, most: int) -> dict[str, int]:
    ids = {**known, **{event_id[:ID_CHARACTERS]: at_ms for event_id, at_ms in more.items()}}
    recent = sorted(((at_ms, name) for name, at_ms in ids.items() if at_ms >= since_ms), reverse=True)
    return {name: at_ms for at_ms, name in recent[:most]}


def read_cursor(settings: Settings, key: str) -> Cursor | None:
    """Where a system was read to; None if it never was. Raises `BrokerError` or `StateError`."""
    found: Cursor | None = None
    for record in committed_records(settings, TOPIC):
        if record.key() == key.encode():
            try:
                found = None if record.value() is None else msgspec.json.decode(record.value(), type=Cursor)
            except msgspec.DecodeError:
                raise StateError(
                    f"{TOPIC}: the cursor of {key} cannot be read; a tombstone in its place begins anew"
                ) from None
    return found


def write_cursor(settings: Settings, key: str, cursor: Cursor) -> None:
    """Keep it. Raises `BrokerError`."""
    write_one(settings, TOPIC, key.encode(), encode(cursor), "the cursor")
