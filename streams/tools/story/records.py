"""Reading the topics for a story: what they hold, where it stands, and from when on they tell."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from schemas.errors import Undecodable
from schemas.signing import Headers
from streams.kafka.partitioner import partition_of
from streams.kafka.whole_topic import bounds_of, committed_records, make_reader
from streams.settings import Settings
from streams.tools.story.fact import Place

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Recorded(Generic[Value]):
    """A value as a topic holds it."""

    place: Place
    at_ms: int
    value: Value
    headers: Headers = ()
    data: bytes = b""


class Reading:
    """Reads topics up to where they end now, and notes what retention has taken from them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bounds: dict[str, dict[int, tuple[int, int]]] = {}
        self.dropped: dict[str, int | None] = {}
        """Topics whose beginning is gone -> the time of the first record that is left; None where nothing is."""

    def messages(self, name: str, tenant_id: str | None = None) -> Iterator[Any]:
        """The committed records of a topic, or of the partition where a tenant's belong; tombstones are left out.

        Raises:
            BrokerError: it cannot be read.
        """
        bounds = self._bounds_of(name)
        home = None if tenant_id is None else partition_of(tenant_id.encode(), len(bounds))
        chosen = {number: marks for number, marks in bounds.items() if home in (None, number)}
        cut = {number for number, (low, _) in chosen.items() if low > 0}
        if cut:
            self.dropped.setdefault(name, None)
        ends = {number: high for number, (low, high) in chosen.items() if high > low}
        starts = {number: low for number, (low, high) in chosen.items() if high > low}
        for message in committed_records(self._settings, name, starts=starts, ends=ends, progress=True):
            if message.partition() in cut:
                cut.discard(message.partition())
                self._begins(name, message.timestamp()[1])
            if message.value() is not None:
                yield message

    def values(
        self, name: str, decode: Callable[[bytes | None], Value], tenant_id: str | None = None
    ) -> Iterator[Recorded[Value]]:
        """What the records say. One that cannot be read is left out: others tell of it."""
        for message in self.messages(name, tenant_id):
            try:
                value = decode(message.value())
            except Undecodable:
                continue
            yield recorded(name, message, value)

    def _begins(self, name: str, at_ms: int) -> None:
        """The latest beginning of its partitions: from then on all is there."""
        self.dropped[name] = max(at_ms, self.dropped.get(name) or 0)

    def _bounds_of(self, name: str) -> dict[int, tuple[int, int]]:
        if name not in self._bounds:
            consumer = make_reader(self._settings)
            try:
                self._bounds[name] = bounds_of(consumer, self._settings, self._settings.topic(name))
            finally:
                consumer.close()
        return self._bounds[name]


def recorded(name: str, message: Any, value: Value) -> Recorded[Value]:
    """A value with its place, under the topic's name without the installation's prefix."""
    place = Place(name, message.partition(), message.offset())
    return Recorded(place, message.timestamp()[1], value, message.headers() or (), message.value())
