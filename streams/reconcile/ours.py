"""Our side: model calls of usage.v1 as they were counted, by console, day, key and model."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from models.engine import AHEAD_MS, TOO_LATE_MS
from models.prices.book import PriceBook
from models.prices.names import provider_id
from schemas.codec import decode_usage
from schemas.duration import DAY_MS
from schemas.errors import Undecodable
from schemas.policy import PolicyHeader
from schemas.topics import load_topics
from schemas.usage import LlmCall, RunStarted, UsageMessage
from streams.kafka.partitioner import origin_of
from streams.kafka.time_range import records_between
from streams.reconcile.config import Console
from streams.reconcile.days import Days, day_of
from streams.reconcile.makers import Makers
from streams.settings import Settings

RECORDS_A_BEAT: Final = 1000


class Place(NamedTuple):
    """Whose calls are added up."""

    console: str
    day: str
    key: str | None
    model: str


@dataclass(slots=True)
class Sums:
    """What the calls of a place come to."""

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0

    def add(self, other: "Sums") -> None:
        """Everything in `other` as well."""
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.cached_tokens += other.cached_tokens
        self.output_tokens += other.output_tokens
        self.cost_nanousd += other.cost_nanousd


class Counted:
    """Adds up messages as the engine does: each event once, at its prices, without what came too late to count."""

    def __init__(self, consoles: Sequence[Console], header: PolicyHeader, days: Days) -> None:
        self.sums: dict[Place, Sums] = defaultdict(Sums)
        self.too_late: dict[tuple[str, str], Sums] = defaultdict(Sums)
        """(console, day) -> what came too late, and is in no figure of ours."""
        self._consoles = [(one, _providers(one)) for one in consoles]
        self._days = days
        self._names = {ms: day_of(ms) for ms in range(days.start_ms, days.end_ms, DAY_MS)}
        self._prices = PriceBook(header)
        self._makers = Makers()
        self._seen: set[int] = set()
        """Hashes of tenant and event id: of a day of ten million calls the ids themselves would take gigabytes."""
        self._tags: dict[tuple[str, str], dict[str, str]] = {}
        """Run -> the tags on its `run_started` that hold keys: its calls have them where they do not say otherwise."""
        self._key_tags = {one.key_tag for one in consoles if one.key_tag is not None}

    def add(self, message: UsageMessage, append_ms: int) -> None:
        """One message, in the order of their appends."""
        if isinstance(message, RunStarted):
            self._introduce(message)
        elif isinstance(message, LlmCall):
            self._call(message, append_ms)

    def _introduce(self, message: RunStarted) -> None:
        tags = {name: value for name, value in (message.tags or {}).items() if name in self._key_tags}
        if tags:
            self._tags[message.tenant_id, message.run_id] = tags

    def _call(self, call: LlmCall, append_ms: int) -> None:
        at_ms = min(call.ts_ms, append_ms + AHEAD_MS)
        if not self._days.start_ms <= at_ms < self._days.end_ms:
            return
        event = hash((call.tenant_id, call.event_id))
        if event in self._seen:
            return
        self._seen.add(event)
        maker, model = self._makers.of(call.provider, call.model)
        day = self._names[at_ms // DAY_MS * DAY_MS]
        for console, providers in self._consoles:
            if maker not in providers or console.tenant_id not in (None, call.tenant_id):
                continue
            sums = self._sums(console, call)
            if append_ms - at_ms > TOO_LATE_MS and not call.backfill:
                self.too_late[console.name, day].add(sums)
            else:
                self.sums[Place(console.name, day, self._key(console, call), model)].add(sums)

    def _sums(self, console: Console, call: LlmCall) -> Sums:
        charge = self._prices.charge(call)
        cached = 0 if call.cache_hit else call.cache_read_tokens
        cost_nanousd = charge.cost_nanousd
        if console.source == "anthropic" and call.service_tier == "priority":
            cost_nanousd = 0  # paid for in advance: their costs hold nothing of it
        return Sums(1, charge.input_tokens, cached, charge.output_tokens, cost_nanousd)

    def _key(self, console: Console, call: LlmCall) -> str | None:
        if console.key_tag is None:
            return None
        own = (call.tags or {}).get(console.key_tag)
        return own or self._tags.get((call.tenant_id, call.run_id), {}).get(console.key_tag)


def count_ours(
    settings: Settings,
    consoles: Sequence[Console],
    header: PolicyHeader,
    days: Days,
    now_ms: int,
    *,
    progress: bool,
    beat: Callable[[], None],
) -> Counted:
    """What usage.v1 holds of these days. It reads all that was appended since they began, however long that takes.

    Raises:
        BrokerError: it cannot be read.
    """
    counted = Counted(consoles, header, days)
    since_ms = days.start_ms - AHEAD_MS
    records = records_between(settings, ["usage.v1"], since_ms, now_ms + AHEAD_MS, progress=progress)
    for number, message in enumerate(records):
        if number % RECORDS_A_BEAT == 0:
            beat()
        if origin_of(message.headers()) is not None:
            continue  # a copy, where it belongs, of a record that stands where it was written first
        try:
            counted.add(decode_usage(message.value()), message.timestamp()[1])
        except Undecodable:
            continue  # in no figure of ours; `dlq` tells of it
    return counted


def kept_since_ms(now_ms: int) -> int:
    """Of what was appended before, usage.v1 may hold nothing any more."""
    kept_ms = load_topics()["usage.v1"].retention_ms
    return 0 if kept_ms is None else now_ms - kept_ms


def _providers(console: Console) -> frozenset[str]:
    return frozenset(provider_id(name) or name.strip().lower() for name in console.providers or (console.source,))
