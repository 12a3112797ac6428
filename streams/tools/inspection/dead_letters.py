"""`dlq`: what nobody could read, or came too late: by reason and by where it came from, and what to do about it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from alerting.rendering.figures import clock
from alerting.rendering.foreign import name
from schemas.codec import decode_dead_letter
from schemas.dead_letter import DeadLetter, Reason
from schemas.errors import Undecodable
from streams.kafka.admin import existing_topics
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings
from streams.tools.inspection.terminal import clipped, entry

TOPIC: Final = "usage.dlq.v1"
MOST_SHOWN: Final = 20
"""How many groups are shown to people."""
INDENT: Final = 15

_NO_JSON = "Something else writes here: find it by its key, and have it send one JSON object a record, in UTF-8."
_MEND = "Have its producer mend that field; schemas/examples has good ones. Sent again, events count once."
ADVICE: Final[dict[Reason, str]] = {
    "empty": "Nothing is lost: a record without a value. Tell its producer that there is nothing to delete here.",
    "too_large": "Have its producer send less: at most 64 KiB are read, and no prompts belong in them.",
    "not_json": _NO_JSON,
    "not_utf8": _NO_JSON,
    "too_deep": _NO_JSON,
    "unknown_type": "Look at the spelling of its type in schemas/json; if the producer is newer, update the workers.",
    "missing_field": _MEND,
    "wrong_value": _MEND,
    "foreign_name": "Have its producer use the name given above; see schemas/json. Sent again, events count once.",
    "bad_time": "Have its producer send milliseconds since 1970. An order: look at the clocks, and give it again.",
    "wrong_tenant": "Have its producer key each record with its tenant_id.",
    "too_late": "Book it: python -m streams backfill --since 7d. Find out what holds its producer back; maybe a clock.",
    "bad_signature": "Ask who gave the order: python -m streams orders. If it was you: python -m streams keys check.",
}
"""Reason -> what to do, in a sentence or two."""


class Source(NamedTuple):
    """Why, and where it came from."""

    reason: Reason
    topic: str
    partition: int
    key: str | None


@dataclass(slots=True)
class Letters:
    """Dead letters of one reason and source."""

    source: Source
    count: int
    first_offset: int
    last_offset: int
    newest: DeadLetter

    def add(self, letter: DeadLetter) -> None:
        """Count one more."""
        self.count += 1
        self.first_offset = min(self.first_offset, letter.offset)
        self.last_offset = max(self.last_offset, letter.offset)
        if letter.ts_ms >= self.newest.ts_ms:
            self.newest = letter


def run_dlq(settings: Settings, since_ms: int | None, *, as_json: bool) -> int:
    """List dead letters, of a stretch of time or all that are kept. Raises `BrokerError`."""
    existing_topics(settings, (TOPIC,))
    letters = (one for one in _readable(settings) if since_ms is None or one.ts_ms >= since_ms)
    groups = grouped(letters)
    if as_json:
        for group in groups:
            print(json.dumps(as_data(group)))
        return 0
    print(_heading(groups))
    for group in groups[:MOST_SHOWN]:
        print()
        print("\n".join(letter_lines(group)))
    if len(groups) > MOST_SHOWN:
        print(f"\n… and {len(groups) - MOST_SHOWN:,} more groups; --json shows them all")
    return 0


def grouped(letters: Iterable[DeadLetter]) -> list[Letters]:
    """Dead letters by reason and source, those with the newest first."""
    groups: dict[Source, Letters] = {}
    for letter in letters:
        source = Source(letter.reason, letter.topic, letter.partition, letter.key)
        group = groups.get(source)
        if group is None:
            groups[source] = Letters(source, 1, letter.offset, letter.offset, letter)
        else:
            group.add(letter)
    return sorted(groups.values(), key=lambda group: -group.newest.ts_ms)


def letter_lines(group: Letters) -> list[str]:
    """A group in a few lines of a terminal."""
    source = group.source
    records = "1 record" if group.count == 1 else f"{group.count:,} records"
    key = "no key" if source.key is None else f"key {name(source.key, 40)}"
    where = f"{records} of {name(source.topic, 40)}, partition {source.partition}, {key}"
    return [
        *entry(source.reason, where, indent=INDENT),
        clipped(f"{'':<{INDENT}}{_offsets(group)}, last {clock(group.newest.ts_ms)}"),
        *entry("", group.newest.detail, indent=INDENT),
        *entry("", ADVICE[source.reason], 3, indent=INDENT),
    ]


def as_data(group: Letters) -> dict[str, object]:
    """The same for machines."""
    return {
        **group.source._asdict(),
        "count": group.count,
        "first_offset": group.first_offset,
        "last_offset": group.last_offset,
        "last_ms": group.newest.ts_ms,
        "detail": group.newest.detail,
        "advice": ADVICE[group.source.reason],
    }


def _readable(settings: Settings) -> Iterator[DeadLetter]:
    for record in committed_records(settings, TOPIC, progress=True):
        try:
            yield decode_dead_letter(record.value())
        except Undecodable:
            continue


def _heading(groups: list[Letters]) -> str:
    count = sum(group.count for group in groups)
    if not count:
        return "no dead letters"
    return f"{count:,} dead letter{'s' if count > 1 else ''}, by reason and source, the newest first"


def _offsets(group: Letters) -> str:
    if group.first_offset == group.last_offset:
        return f"offset {group.first_offset}"
    return f"offsets {group.first_offset} to {group.last_offset}"
