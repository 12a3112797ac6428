"""Librdkafka's own lines, which go to standard error by themselves, through logging and readable."""

from spendfuse._client.logging import DependableLog, RareWarning


class KafkaLog:
    """What confluent-kafka takes for a logger: of each kind of line, such as `FAIL`, at most one a minute goes on.

    Log records are those of `spendfuse.kafka`, in librdkafka's level. They come when the client is polled.
    """

    def __init__(self) -> None:
        self._log = DependableLog("spendfuse.kafka")
        self._kinds: dict[tuple[int, str], RareWarning] = {}

    def log(self, level: int, _: str, kind: str, client: str, text: str) -> None:
        """Take a line of librdkafka."""
        rare = self._kinds.get((level, kind))
        if rare is None:
            rare = self._kinds[level, kind] = RareWarning(
                f"%d lines {kind} of the Kafka client, the latest: %s", level=level, log=self._log
            )
        rare.happened(f"{client} {text}")
