"""Kafka for an Emitter and a Guard: `pip install "spendfuse[kafka]"`."""

try:
    from spendfuse._kafka.control import KafkaControl
    from spendfuse._kafka.transport import KafkaTransport
except ImportError as missing:
    raise ImportError('spendfuse.kafka needs confluent-kafka: pip install "spendfuse[kafka]"') from missing

__all__ = ["KafkaControl", "KafkaTransport"]
