"""`backfill`: books what came too late to count, after it has shown what that is and somebody has said yes."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from alerting.rendering.foreign import name
from models.prices.book import PriceBook
from models.rules.policy import Policy
from schemas.codec import encode
from schemas.duration import DAY_MS
from schemas.errors import BrokerError
from schemas.money import format_usd
from schemas.usage import LlmCall, ToolCall
from streams.kafka.admin import require_write
from streams.kafka.client import flush, make_producer, refuse_without_rights
from streams.process.policies import policy_in_force
from streams.settings import Settings
from streams.tools.backfill.copies import Bookable, copies_of
from streams.tools.backfill.set_aside import Found, from_log, from_topics
from streams.tools.inspection.terminal import confirm
from streams.tools.record import Range

MOST_SHOWN: Final = 200
AS_ITS_RUN: Final = "(its run's)"
"""Of events that do not say so themselves; the worker knows the run, or they are unattributed."""
WRITE_TIMEOUT_S: Final = 60.0
WHAT_FOLLOWS: Final = (
    "They count in the totals of their own hour, and in every budget whose day, week or month still runs: one that is "
    "exceeded by them stops who spends now. Of what is over nobody is told, and no run is judged."
)


Delivered = Callable[[KafkaError | None, Message], None]


class Line(NamedTuple):
    """What is booked together."""

    tenant_id: str
    day: str
    """By the policy's time zone."""
    workflow: str


def run_backfill(settings: Settings, span: Range, events: Path | None, *, is_meant: bool) -> int:
    """Book what was set aside within the range, of the topics or of a recorded log. `is_meant` asks nobody.

    Raises:
        SettingsError: it is not meant, or the log cannot be read.
        BrokerError: the broker does not answer, or did not take all of it; what it took is known the next time.
    """
    policy = policy_in_force(settings)
    found = from_topics(settings, span) if events is None else from_log(settings, events, policy, span)
    copies = list(copies_of(found.messages.values()).values())
    for line in plan(copies, found, policy):
        print(line)
    if not copies:
        return 0
    require_write(settings, ("usage.v1",))
    if not is_meant:
        confirm("--yes")
    write(settings, copies)
    print(f"written: {len(copies):,}. A worker books them as it reads them")
    return 0


def plan(copies: Iterable[Bookable], found: Found, policy: Policy) -> list[str]:
    """What would be booked, and what would not, for people."""
    prices = PriceBook(policy.header)
    events: defaultdict[Line, int] = defaultdict(int)
    nanousd: defaultdict[Line, int] = defaultdict(int)
    unpriced = 0
    for copy in copies:
        line = Line(copy.tenant_id, _day(copy.ts_ms, policy), copy.workflow or AS_ITS_RUN)
        events[line] += 1
        if isinstance(copy, LlmCall):
            charge = prices.charge(copy)
            unpriced += "unpriced" in charge.problems
            nanousd[line] += charge.cost_nanousd
        elif isinstance(copy, ToolCall):
            nanousd[line] += copy.cost_nanousd or 0
    if not events:
        return ["nothing to book", *_left_out(found, len(found.messages))]
    rows = [(*map(name, line), f"{events[line]:,}", format_usd(nanousd[line])) for line in sorted(events)]
    total = ("all", "", "", f"{sum(events.values()):,}", format_usd(sum(nanousd.values())))
    more = [f"… and {len(rows) - MOST_SHOWN:,} more lines"] if len(rows) > MOST_SHOWN else []
    table = _table([("tenant", "day", "workflow", "events", "cost"), *rows[:MOST_SHOWN], total])
    notes = (
        [f"without a price: {unpriced:,}, which would cost nothing; give them one with [[price]] first"]
        if unpriced
        else []
    )
    without = len(found.messages) - sum(events.values())
    return [*table[:-1], *more, table[-1], *notes, *_left_out(found, without), WHAT_FOLLOWS]


def write(settings: Settings, copies: Iterable[Bookable]) -> None:
    """Return when the broker has all copies, each in its tenant's partition. Raises `BrokerError`."""
    topic = settings.topic("usage.v1")
    producer = make_producer(settings, {"log_level": 0, "linger.ms": 5})
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    try:
        for copy in copies:
            _produce(producer, topic, copy, delivered)
        missing = flush(producer, WRITE_TIMEOUT_S)
    except KafkaException as refused:
        refuse_without_rights(refused.args[0])
        raise BrokerError(f"not all of it was written: {refused.args[0].str()}. Run it again") from None
    if missing or failures:
        for failure in failures[:1]:
            refuse_without_rights(failure)
        why = failures[0].str() if failures else "no answer in time"
        raise BrokerError(
            f"{missing + len(failures):,} events were not written ({why}). Run it again: what was written is known"
        )


def _produce(producer: Producer, topic: str, copy: Bookable, delivered: Delivered) -> None:
    while True:
        try:
            producer.produce(topic, encode(copy), copy.tenant_id.encode(), on_delivery=delivered)
        except BufferError:
            producer.poll(0.05)
        else:
            producer.poll(0)
            return


def _left_out(found: Found, without_spend: int) -> list[str]:
    reasons = (
        (found.booked, "booked before"),
        (found.counted, "counted in time under the same event_id"),
        (found.gone, "no longer on usage.v1; book them from a recorded log (--events)"),
        (found.too_old, "older than what usage.v1 is kept for: nobody can say whether they have been counted"),
        (without_spend, "nothing to book in them (starts, ends and answers of runs)"),
    )
    return [f"left out: {count:,} {why}" for count, why in reasons if count]


def _day(ts_ms: int, policy: Policy) -> str:
    start_ms = policy.calendar.window("day", ts_ms).start_ms
    return datetime.fromtimestamp((start_ms + DAY_MS // 2) / 1000, UTC).date().isoformat()


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column >= 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
