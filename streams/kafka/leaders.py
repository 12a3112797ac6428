"""Questions that only a partition's leader answers. One that was just made, or whose broker just went, has none yet."""

from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.clock import pause, seconds

Answer = TypeVar("Answer")

NO_LEADER_YET: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
"""Answers of a broker that is not, or not long enough, the leader. The client asks again by itself for no ends."""
ASK_AGAIN_S: Final = 0.1


def ask_leader(question: Callable[[], Answer], timeout_s: float) -> Answer:
    """The answer to a question, which is asked again while there is no leader to answer it.

    Raises:
        KafkaException: there was none within the time, or the answer is another error.
    """
    deadline = seconds() + timeout_s
    while True:
        try:
            return question()
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER_YET or seconds() > deadline:
                raise
        pause(ASK_AGAIN_S)


def watermarks(consumer: Consumer, place: TopicPartition, timeout_s: float) -> tuple[int, int]:
    """First and end offset of a partition, the end as `consumer` may read it: committed, or all that is written.

    Raises:
        KafkaException: its leader does not answer within the time, or there is none.
    """

    def ask() -> tuple[int, int]:
        return ask_leader(lambda: consumer.get_watermark_offsets(place, timeout=timeout_s), timeout_s)

    before, found = None, ask()
    # The client asks for the two apart. Where one is refused it gives the other for both, as if nothing were there to
    # read: that is believed when it is said twice.
    while found[0] == found[1] and found != before:
        before, found = found, ask()
    return found
