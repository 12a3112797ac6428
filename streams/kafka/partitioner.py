"""Where a tenant's records belong: in the partition in which Java's clients, aiokafka and our own put its key."""

from typing import Any, Final

from aiokafka.partitioner import murmur2

from schemas.signing import Headers

MOVED_HEADER: Final = "spendfuse-moved-from"
"""On a record that was moved to its tenant's partition: where it was found, as `partition/offset`, and `/keyless` if it
had no key."""
KEYLESS: Final = b"/keyless"


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many, as Kafka's default partitioner finds it (`murmur2_random` in librdkafka).

    >>> partition_of(b"acme", 4)
    0
    """
    hashed: int = murmur2(key)
    return (hashed & 0x7FFF_FFFF) % partitions


def moved_from(partition: int, message: Any) -> tuple[str, bytes]:
    """The header that says where a record was found."""
    return MOVED_HEADER, f"{partition}/{message.offset()}".encode() + (KEYLESS if message.key() is None else b"")


def origin_of(headers: Headers | None) -> bytes | None:
    """Where a record was found before it was moved to its tenant's partition; None for one that was not."""
    return next((value for name, value in headers or () if name == MOVED_HEADER and isinstance(value, bytes)), None)
