"""What a worker may lose in its loop: a batch, its place in the group, its slot."""

from typing import NamedTuple

from confluent_kafka import KafkaError

from schemas.errors import SpendfuseError

BACKOFF_S = 0.5
REFUSED_BACKOFF_S = 10.0
"""Before a batch is tried again that fails until somebody changes a topic: each time all state is read back."""
PLACE_LOST = (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL)
"""A consumer's fatal error is that it was fenced: nothing else ends one that has no producer's sequence to lose."""


class Failure(NamedTuple):
    """Why a batch was not committed."""

    why: str
    backoff_s: float = BACKOFF_S
    """How long to wait before the state is read back."""
    needs_producer: bool = False
    """Whether the producer can do nothing any more."""


class FencedOut(SpendfuseError):  # it says what has happened
    """Another process holds this worker's slot."""


class PlaceLost(SpendfuseError):  # an event in the loop, not a fault of anybody's
    """The group has given this consumer's place to another one: maybe to a second process, maybe only to our own
    attempt to join again, whose answer was lost with the broker that gave it.
    """
