"""Records of deliveries.v1 that alerting cannot read: listed, and removed once they are kept in a file.

Alerting may run meanwhile: it has set them aside, and a tombstone takes nothing from it.
"""

import base64
import json
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException

from alerting.delivery.log import DeliveryLog
from schemas.errors import BrokerError, SettingsError
from streams.kafka.client import flush, make_producer, refuse_without_rights
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings

TOPIC = "deliveries.v1"
FLUSH_S = 30.0
MOST_SHOWN = 120


class Unreadable(NamedTuple):
    """The newest record of a key, which is no entry of ours."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    reason: str


def check_deliveries(settings: Settings) -> int:
    """List what cannot be read; returns 1 if there is any. Raises `BrokerError`."""
    found = unreadable_deliveries(settings)
    for each in found:
        key = each.key.decode(errors="replace")
        print(f"partition {each.partition}, offset {each.offset}, key {key!r}: {each.reason}")
        print(f"  {each.value[:MOST_SHOWN].decode(errors='replace')!r}")
    print(f"{len(found)} records of {settings.topic(TOPIC)} cannot be read" if found else "every record can be read")
    return 1 if found else 0


def repair_deliveries(settings: Settings, save: Path | None) -> int:
    """Remove what cannot be read, after writing it to a file; returns 0.

    Raises:
        SettingsError: no file was named, or it is there already, or cannot be written.
        BrokerError: the broker did not take every removal.
    """
    if save is None:
        raise SettingsError("repair: name a new file that keeps what is removed: --save FILE")
    found = unreadable_deliveries(settings)
    if not found:
        print("every record can be read; nothing was removed")
        return 0
    _keep(found, save)
    _remove(settings, found)
    print(f"{len(found)} records were removed; {save} keeps them, a JSON object a line, key and value in base64")
    return 0


def unreadable_deliveries(settings: Settings) -> list[Unreadable]:
    """What alerting would set aside now. Raises `BrokerError`."""
    last: dict[tuple[int, bytes], tuple[int, bytes]] = {}
    for message in committed_records(settings, TOPIC):
        place = (message.partition(), message.key() or b"")
        last.pop(place, None)
        if message.value() is not None:
            last[place] = (message.offset(), message.value())
    found = []
    for (partition, key), (offset, value) in last.items():
        name = key.decode(errors="replace")
        if reason := DeliveryLog.read([(name, value)]).unreadable.get(name):
            found.append(Unreadable(partition, offset, key, value, reason))
    return found


def _keep(found: list[Unreadable], save: Path) -> None:
    try:
        with save.open("x", encoding="utf-8") as file:
            for each in found:
                kept = {name: base64.b64encode(getattr(each, name)).decode() for name in ("key", "value")}
                line = {"partition": each.partition, "offset": each.offset, "reason": each.reason, **kept}
                file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise SettingsError(f"--save {save}: cannot be written: {error.strerror}. Nothing was removed") from None


def _remove(settings: Settings, found: list[Unreadable]) -> None:
    producer = make_producer(settings, {"log_level": 0})
    for each in found:
        producer.produce(settings.topic(TOPIC), None, each.key, each.partition)
    try:
        left = flush(producer, FLUSH_S)
    except KafkaException as error:
        refuse_without_rights(error.args[0])
        raise BrokerError(f"the removals were not written: {error.args[0].str()}; repair again") from None
    if left:
        raise BrokerError(f"{left} of {len(found)} removals were not taken by the broker; repair again")
