"""What was told of limits across tenants before a partition was taken over, so that it is not told again.

Their spend reaches the partition where it comes together from all others, and with another generation of the state it
does so cut otherwise and later: a level that the generation before has told of is reached once more.
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
Told = tuple[str, str, float]
"""Incident, state and level."""


def told_key(alert: Alert) -> Told | None:
    """What an alert tells of, if that is a level of a limit across tenants; None for any other."""
    if alert.tenant_id != ALL_TENANTS or alert.state not in RISING:
        return None
    return alert.incident_id, alert.state, alert.level


def told_since(settings: Settings, number: int, since_ms: int, alive: Callable[[], None]) -> Counter[Told]:
    """What the partition's workers have told of since then.

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
    found: Counter[Told] = Counter()
    for message in records(settings, topic, {number: (start.offset, end)}, alive):
        if message.key() != ALL_TENANTS.encode():
            continue
        try:
            alert = decode_alert(message.value())
        except Undecodable:
            continue  # of a version that is newer; at worst it is told twice
        if (key := told_key(alert)) is not None:
            found[key] += 1
    return found
