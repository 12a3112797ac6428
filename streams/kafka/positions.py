"""Where topics end and how far groups have come, asked of the broker without reading a record."""

from collections.abc import Iterable
from typing import Any, Final

from confluent_kafka import OFFSET_INVALID, ConsumerGroupTopicPartitions, IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # offered, but not exported

from schemas.errors import BrokerError
from streams.kafka.admin import REQUEST_TIMEOUT_S, answer
from streams.kafka.client import Admin

Place = tuple[str, int]
"""Topic and partition."""
NOT_TOLD: Final = OFFSET_INVALID
"""The offset of a partition whose leader has not answered: there is no error then."""


def group_offsets(admin: Admin, group: str) -> dict[Place, int]:
    """The next offset that a group reads of each partition of which it has committed any. Raises `BrokerError`."""
    futures = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_TIMEOUT_S
    )
    found = answer(futures[group], f"say how far the group {group} has come")
    return {(one.topic, one.partition): one.offset for one in found.topic_partitions or () if one.offset >= 0}


def committed_ends(admin: Admin, places: Iterable[Place]) -> dict[Place, int]:
    """Where the committed records of each partition end. Raises `BrokerError`."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    return {place: told_offset(found, place) for place, found in _listed(admin, places, latest).items()}


def first_offsets(admin: Admin, places: Iterable[Place]) -> dict[Place, int]:
    """Where each partition begins. Raises `BrokerError`."""
    earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    return {place: told_offset(found, place) for place, found in _listed(admin, places, earliest).items()}


def told_offset(found: Any, place: Place) -> int:
    """Where a partition begins or ends, of what `list_offsets` has found.

    Raises:
        BrokerError: that is not known.
    """
    offset = int(found.offset)
    if offset == NOT_TOLD:
        raise BrokerError(f"no broker says where {place[0]}, partition {place[1]}, begins and ends")
    return offset


def newest_times(admin: Admin, places: Iterable[Place]) -> dict[Place, int]:
    """The latest time of each partition that holds anything, in epoch milliseconds. Raises `BrokerError`."""
    newest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    found = _listed(admin, places, newest)
    return {place: one.timestamp for place, one in found.items() if one.timestamp > 0}


def _listed(admin: Admin, places: Iterable[Place], which: OffsetSpec) -> dict[Place, Any]:
    asked = {TopicPartition(topic, number): which for topic, number in places}
    if not asked:
        return {}
    futures = admin.list_offsets(
        asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_TIMEOUT_S
    )
    return {
        (place.topic, place.partition): answer(future, f"say where {place.topic} ends")
        for place, future in futures.items()
    }
