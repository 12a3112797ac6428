"""What the doctor finds: a line each, and what every check is given to look at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from confluent_kafka.admin import TopicMetadata  # type: ignore[attr-defined]  # offered, but not exported

from schemas.topics import load_topics
from streams.kafka.client import Admin
from streams.kafka.positions import Place
from streams.settings import Settings

Health = Literal["ok", "warning", "wrong"]


class Finding(NamedTuple):
    """How one thing is, and what to do about it."""

    health: Health
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every check may look at."""

    settings: Settings
    admin: Admin
    topics: Mapping[str, TopicMetadata]
    """What is on the broker, by full name."""
    now_ms: int
    """This host's time."""

    @property
    def missing(self) -> list[str]:
        """Declared topics that are not on the broker, or that this client may not see."""
        return [name for name in load_topics() if self.settings.topic(name) not in self.topics]

    @property
    def other_prefixes(self) -> list[str]:
        """Those of other installations on this cluster, as far as this client may see their topics."""
        prefixes = {topic.removesuffix("usage.v1") for topic in self.topics if topic.endswith("usage.v1")}
        of_others = prefixes - {self.settings.prefix}
        return sorted(prefix for prefix in of_others if f"{prefix}control.v1" in self.topics)  # not `provider_usage.v1`

    def places(self, name: str) -> list[Place]:
        """The partitions of one of our topics; none where it is missing."""
        topic = self.settings.topic(name)
        metadata = self.topics.get(topic)
        return [] if metadata is None else [(topic, number) for number in sorted(metadata.partitions)]


Check = Callable[[Surroundings], Iterator[Finding]]
