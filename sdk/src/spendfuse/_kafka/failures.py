"""What the Kafka client's errors mean, for whoever reads the agent's log."""

from confluent_kafka import KafkaError

_NO_TOPIC = frozenset((KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC))


def is_missing(error: KafkaError) -> bool:
    """Whether there is no such topic."""
    return error.code() in _NO_TOPIC


def reason_of(error: KafkaError, topic: str) -> str:
    """Return why a request about `topic` failed, with what to do where that is known."""
    if is_missing(error):
        return f"there is no topic {topic}; whoever runs the service creates it: python -m streams topics apply"
    return error.str()
