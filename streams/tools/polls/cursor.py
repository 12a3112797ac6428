"""How far a system has been read: a record of cursors.v1, written behind the usage that it stands for."""

from typing import Final

import msgspec

from schemas.codec import encode
from schemas.errors import StateError
from schemas.usage import EpochMs
from streams.kafka.client import write_one
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings

TOPIC: Final = "cursors.v1"
MOST_IDS: Final = 20_000
ID_CHARACTERS: Final = 16


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """A value of cursors.v1, by source and tenant.

    `ids` are the beginnings of the event ids that were written of the time that is asked for again: a call that the
    workers have long forgotten would count a second time.
    """

    until_ms: EpochMs
    ids: dict[str, EpochMs]
    """Beginning of an event id -> the time that its call stands at."""

    def after(self, written: dict[str, int], overlap_ms: int) -> "Cursor":
        """The cursor once these events are written, too: event id -> the time that its call stands at."""
        until_ms = max([self.until_ms, *written.values()])
        ids = self.ids | {event_id[:ID_CHARACTERS]: at_ms for event_id, at_ms in written.items()}
        recent = sorted(((at_ms, name) for name, at_ms in ids.items() if at_ms >= until_ms - overlap_ms), reverse=True)
        return Cursor(until_ms=until_ms, ids={name: at_ms for at_ms, name in recent[:MOST_IDS]})

    def knows(self, event_id: str) -> bool:
        """Whether the event was written."""
        return event_id[:ID_CHARACTERS] in self.ids


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
