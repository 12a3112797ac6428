"""Levels of limits across tenants that were published before a partition was taken over, so that none is twice.

Such spend reaches the partition where it comes together from all others, and with another generation of the state it
does so cut otherwise and later: a level that the generation before has published is reached once more.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from confluent_kafka import TopicPartition

from schemas.alert import Alert
from schemas.codec import decode_alert
from schemas.errors import Undecodable
from schemas.internal.spend import ALL_TENANTS
from streams.kafka.client import make_consumer
from streams.kafka.leaders import ask_leader
from streams.settings import Settings
from streams.worker.generations.reading import QUERY_TIMEOUT_S, bounds, records
from streams.worker_group import GROUP

RISING: Final = ("open", "escalated")
Level = tuple[str, str, float]
"""Incident id, state, and the share of the limit."""


def level_of(alert: Alert) -> Level | None:
    """The level that an alert is about, if it is one of a limit across tenants; None for any other alert."""
    if alert.tenant_id != ALL_TENANTS or alert.state not in RISING:
        return None
    return alert.incident_id, alert.state, alert.level


def levels_since(settings: Settings, number: int, since_ms: int, alive: Callable[[], None]) -> Counter[Level]:
    """The levels that the partition's workers have published since then, with how often.

    Raises:
        BrokerError: alerts.v1 cannot be read, or may not.
        KafkaException: the broker does not answer.
    """
    topic = settings.topic("alerts.v1")
    consumer = make_consumer(settings, GROUP)
    try:
        place = TopicPartition(topic, number, since_ms)
        [start] = ask_leader(lambda: consumer.offsets_for_times([place], timeout=QUERY_TIMEOUT_S), QUERY_TIMEOUT_S)
    finally:
        consumer.close()
    if start.offset < 0:  # nothing came since
        return Counter()
    _, end = bounds(settings, topic, number)
    found: Counter[Level] = Counter()
    for message in records(settings, topic, {number: (start.offset, end)}, alive):
        if message.key() != ALL_TENANTS.encode():
            continue
        try:
            alert = decode_alert(message.value())
        except Undecodable:
            continue  # of a version that is newer; at worst it is published twice
        if (level := level_of(alert)) is not None:
            found[level] += 1
    return found
