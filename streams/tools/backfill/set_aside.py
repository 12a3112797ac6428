"""Which events came too late to count: of the topics as the workers' dead letters say, or of a recorded log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from models.engine import Engine
from models.rules.policy import Policy
from models.stimuli import PolicyChanged, UsageSeen
from schemas.codec import decode_dead_letter, decode_usage
from schemas.duration import DAY_MS
from schemas.errors import Undecodable
from schemas.topics import load_topics
from schemas.usage import UsageMessage
from streams.clock import wall_ms
from streams.kafka.admin import existing_topics
from streams.kafka.partitioner import partition_of
from streams.kafka.time_range import records_between
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings
from streams.tools.backfill.copies import EventKey, copy_id, key_of
from streams.tools.event_log import Aside, PolicySeen, read_log
from streams.tools.record import Range

TOPICS: Final = ("usage.v1", "usage.dlq.v1", "policy.v1")
SETTLE_EVERY: Final = 1000
_MARK: Final = b'"backfill"'

Place = tuple[int, int]
"""Partition and offset on usage.v1."""


@dataclass(slots=True)
class Found:
    """Events that came too late, and what is not to be booked."""

    messages: dict[EventKey, UsageMessage] = field(default_factory=dict)
    gone: int = 0
    """Records that usage.v1 no longer holds."""
    counted: int = 0
    """Events that had been counted in time, and were sent once more when nobody knew that any longer."""
    booked: int = 0
    """Events that have been booked before."""
    too_old: int = 0
    """Events from before what usage.v1 is kept for: nobody can say whether they have been counted or booked."""

    def leave_out(self, keys: Iterable[EventKey]) -> int:
        """Take these events out; returns how many there were."""
        return sum(self.messages.pop(key, None) is not None for key in set(keys))


class _Letters(NamedTuple):
    """Where the records stand that dead letters call too late."""

    wanted: set[Place]
    """Those that were set aside within the range."""
    others: set[Place]
    read: set[Place]
    """What has been found there."""


def from_topics(settings: Settings, span: Range) -> Found:
    """What was set aside within the range. Raises `BrokerError`.

    An event that was counted in time is found by its id: it stands on usage.v1 a second time, and no letter is about
    that record.
    """
    partitions = len(existing_topics(settings, TOPICS)[settings.topic("usage.v1")].partitions)
    letters = _letters(settings, span)
    found = Found()
    places: dict[EventKey, Place] = {}
    booked: set[str] = set()
    for place, message in _since_the_first(settings, letters.wanted):
        if place not in letters.wanted:
            booked.add(message.event_id)
        elif span.tenant_id in (None, message.tenant_id) and places.setdefault(key_of(message), place) == place:
            found.messages[key_of(message)] = message
        letters.read.add(place)
    found.gone = len(letters.wanted - letters.read)
    _leave_out_old(found)
    found.booked = found.leave_out([key for key in found.messages if copy_id(key) in booked])
    found.counted = found.leave_out(_counted(settings, found, places, letters.wanted | letters.others, partitions))
    return found


def from_log(settings: Settings, path: Path, policy: Policy, span: Range) -> Found:
    """What an engine sets aside of a recorded log, by when it was appended. Raises `SpendfuseError`."""
    existing_topics(settings, TOPICS)
    late: dict[EventKey, int] = {}
    found = Found()
    for number, seen in _set_aside(path, policy):
        key = key_of(seen.message)
        if key not in late:
            late[key] = number
            if span.tenant_id in (None, key.tenant_id) and span.since_ms <= seen.append_ms < span.until_ms:
                found.messages[key] = seen.message
    earlier = (
        key_of(line.message)
        for number, line in enumerate(read_log(path))
        if isinstance(line, UsageSeen) and number < late.get(key_of(line.message), 0)
    )
    found.counted = found.leave_out(earlier)
    _leave_out_old(found)
    if found.messages:
        booked = _booked(settings)
        found.booked = found.leave_out([key for key in found.messages if copy_id(key) in booked])
    return found


def _letters(settings: Settings, span: Range) -> _Letters:
    letters = _Letters(set(), set(), set())
    for record in committed_records(settings, "usage.dlq.v1", progress=True):
        try:
            letter = decode_dead_letter(record.value())
        except Undecodable:
            continue
        if letter.reason != "too_late" or letter.topic != settings.topic("usage.v1"):
            continue
        is_theirs = None in (span.tenant_id, letter.key) or letter.key == span.tenant_id
        is_wanted = is_theirs and span.since_ms <= record.timestamp()[1] < span.until_ms
        (letters.wanted if is_wanted else letters.others).add((letter.partition, letter.offset))
    return letters


def _since_the_first(settings: Settings, wanted: set[Place]) -> Iterator[tuple[Place, UsageMessage]]:
    """The wanted records, and all copies that stand behind the first of them in its partition."""
    starts: dict[int, int] = {}
    for number, offset in wanted:
        starts[number] = min(offset, starts.get(number, offset))
    for record in committed_records(settings, "usage.v1", starts=starts, progress=True):
        place = (record.partition(), record.offset())
        if place in wanted or _MARK in (record.value() or b""):
            message = _usage(record.value())
            if message is not None and (place in wanted or message.backfill):
                yield place, message


def _counted(
    settings: Settings, found: Found, places: dict[EventKey, Place], set_aside: set[Place], partitions: int
) -> Iterator[EventKey]:
    """Events that had been counted by the time at which they were set aside, as far as usage.v1 still holds that."""
    if not found.messages:
        return
    happened = [message.ts_ms for message in found.messages.values()]
    since_ms, until_ms = min(happened) - DAY_MS, max(happened) + 2 * DAY_MS  # of the append: clocks differ
    for record in records_between(settings, ("usage.v1",), since_ms, until_ms, progress=True):
        place = (record.partition(), record.offset())
        message = None if place in set_aside else _usage(record.value())
        if message is None or (key := key_of(message)) not in found.messages or place > places[key]:
            continue
        own = message.tenant_id.encode()
        if record.key() in (None, own) and partition_of(own, partitions) == place[0]:
            yield key


def _booked(settings: Settings) -> set[str]:
    """The ids of all copies that usage.v1 holds."""
    messages = (
        _usage(record.value())
        for record in committed_records(settings, "usage.v1", progress=True)
        if _MARK in (record.value() or b"")
    )
    return {message.event_id for message in messages if message is not None and message.backfill}


def _set_aside(path: Path, policy: Policy) -> Iterator[tuple[int, UsageSeen]]:
    """The lines of a recorded log that come too late, with their numbers."""
    engine = Engine(policy)
    for number, line in enumerate(read_log(path)):
        match line:
            case UsageSeen(message, append_ms):
                if engine.usage(message, append_ms):
                    yield number, line
            case PolicySeen(changed, append_ms):
                engine.handle(PolicyChanged(changed, append_ms))
            case Aside():
                pass
            case _:
                engine.handle(line)
        if number % SETTLE_EVERY == 0:
            engine.drain_effects()
            engine.discard_rows()


def _leave_out_old(found: Found) -> None:
    kept_ms = load_topics()["usage.v1"].retention_ms
    if kept_ms is not None:
        first_ms = wall_ms() - kept_ms
        found.too_old = found.leave_out([key for key, one in found.messages.items() if one.ts_ms < first_ms])


def _usage(value: bytes | None) -> UsageMessage | None:
    try:
        return decode_usage(value)
    except Undecodable:
        return None
