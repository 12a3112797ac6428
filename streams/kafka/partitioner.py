"""Where a tenant's records belong: in the partition in which Java's clients, aiokafka and our own put its key."""

import struct
from typing import Any, Final

from schemas.signing import Headers

MOVED_HEADER: Final = "spendfuse-moved-from"
"""On a record that was moved to its tenant's partition: where it was found, as `partition/offset`, and `/keyless` if it
had no key."""
KEYLESS: Final = b"/keyless"
_SEED: Final = 0x9747_B28C
_FACTOR: Final = 0x5BD1_E995
_32_BITS: Final = 0xFFFF_FFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many, as Kafka's default partitioner finds it (`murmur2_random` in librdkafka).

    >>> partition_of(b"acme", 4)
    0
    """
    return (_murmur2(key) & 0x7FFF_FFFF) % partitions


def _murmur2(key: bytes) -> int:
    """Austin Appleby's MurmurHash2 of 32 bits with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).

    aiokafka has it too, but to import it loads that whole client, which most processes do without.
    """
    value = _SEED ^ len(key)
    whole = len(key) & ~3
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        mixed = word * _FACTOR & _32_BITS
        mixed = (mixed ^ mixed >> 24) * _FACTOR & _32_BITS
        value = value * _FACTOR & _32_BITS ^ mixed
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * _FACTOR & _32_BITS
    value = (value ^ value >> 13) * _FACTOR & _32_BITS
    return value ^ value >> 15


def moved_from(partition: int, message: Any) -> tuple[str, bytes]:
    """The header that says where a record was found."""
    return MOVED_HEADER, f"{partition}/{message.offset()}".encode() + (KEYLESS if message.key() is None else b"")


def origin_of(headers: Headers | None) -> bytes | None:
    """Where a record was found before it was moved to its tenant's partition; None for one that was not."""
    return next((value for name, value in headers or () if name == MOVED_HEADER and isinstance(value, bytes)), None)
