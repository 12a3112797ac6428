"""From records of the topics to rows of the tables."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast, get_args

import msgspec

from schemas.alert import WATCHDOG, Alert
from schemas.codec import decode_alert, decode_command, decode_rollup, decode_run, decode_usage
from schemas.control import Command
from schemas.duration import DAY_MS
from schemas.edge.provider_usage import ProviderUsage
from schemas.errors import Undecodable
from schemas.operator import Feedback
from schemas.rollup import Rollup
from schemas.run import RunRecord
from schemas.signing import is_key_check
from schemas.usage import LlmCall, UsageMessage
from streams.clock import wall_ms
from streams.kafka.order_reader import OrderReader
from streams.kafka.partitioner import origin_of
from streams.reconcile.config import Source
from streams.reconcile.days import day_of
from streams.reconcile.facts import key_of
from streams.reconcile.makers import Makers, model_name
from streams.reconcile.sources import totals_of
from streams.settings import Settings
from streams.sinks.prices import PolicyPrices, contract_rows, counted_ms, is_too_late, policy_row
from streams.sinks.tables import TABLES, Row, Table, Value

TOPICS: Final = ("usage.v1", "runs.v1", "rollups.v1", "alerts.v1", "control.v1", "operator.v1", "provider_usage.v1")
_RENAMED: Final[Mapping[str, str]] = {
    "cost_nanousd": "reported_nanousd", "price_source": "reported_price_source", "user": "end_user",
}  # fmt: skip
"""Field of a usage message -> its column, where that has another name: the first two are of what we charge."""
_OF_ORDER: Final[Mapping[str, str]] = {
    "command_id": "command_id", "action": "action", "rule": "stopped_by", "incident_id": "incident_id",
    "reason": "reason", "issued_ms": "issued_ms", "spent_nanousd": "spent_at_order_nanousd", "acted": "acted",
    "acted_ms": "acted_ms", "denied_by": "denied_by",
}  # fmt: skip
_provider_usage: Final = msgspec.json.Decoder(ProviderUsage)


class Skipped(Exception):
    """A record that no table is for."""


class Batch:
    """The rows of records, in the order in which they were read; of one key at most one row a table."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Value, ...], Row]] = {name: {} for name in TABLES}
        self._seen: set[tuple[str, str]] = set()

    def add(self, name: str, row: Row) -> None:
        """One more row."""
        key = _key_of(name)(row)
        rows = self._rows[name]
        if TABLES[name].keeps == "newest":
            rows[key] = row
        else:
            rows.setdefault(key, row)

    def add_event(self, row: Row) -> None:
        """One more event, unless its id is known of another day of this batch."""
        known = (str(row[0]), str(row[1]))
        if known not in self._seen:
            self._seen.add(known)
            self.add("events", row)

    @property
    def rows(self) -> dict[str, list[Row]]:
        """Table -> its rows; without tables that get none."""
        return {name: list(rows.values()) for name, rows in self._rows.items() if rows}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))


class Mapper:
    """Makes rows of records; of one that cannot be read, or is for nobody, the reason."""

    def __init__(self, settings: Settings, prices: PolicyPrices) -> None:
        self._prices = prices
        self._orders = OrderReader.of(settings)
        self._makers = Makers()
        self._key_tag = settings.sink_key_tag
        self._take: dict[str, Callable[[Batch, Any, Row], None]] = {
            "usage.v1": self._usage, "runs.v1": self._run, "rollups.v1": self._rollup, "alerts.v1": self._alert,
            "control.v1": self._command, "operator.v1": self._verdict, "provider_usage.v1": self._provider_usage,
        }  # fmt: skip

    def take(self, batch: Batch, topic: str, message: Any) -> str | None:
        """Add a record of a topic to the batch. Returns why it is left out; None if it is not."""
        place = (message.timestamp()[1], message.partition(), message.offset(), wall_ms())
        try:
            self._take[topic](batch, message, place)
        except Undecodable as fault:
            return fault.reason
        except Skipped as reason:
            return str(reason)
        return None

    def take_policies(self, batch: Batch) -> None:
        """Add the policies that have come into force since the last call."""
        for policy_ms, header in self._prices.take_news():
            batch.add("policies", policy_row(policy_ms, header))
            for row in contract_rows(policy_ms, header):
                batch.add("contracts", row)

    def _usage(self, batch: Batch, message: Any, place: Row) -> None:
        if origin_of(message.headers()) is not None:
            raise Skipped("moved")  # a copy, where it belongs, of a record that stands where it was written first
        usage = decode_usage(message.value())
        append_ms = message.timestamp()[1]
        charge = self._prices.charge(usage, append_ms)
        given: dict[str, Any] = {_RENAMED.get(name, name): getattr(usage, name) for name in usage.__struct_fields__}
        given["type"] = usage.__struct_config__.tag
        given["cost_nanousd"], given["price_source"] = charge.cost_nanousd, charge.source or None
        given["is_too_late"], given["counted_ms"] = is_too_late(usage, append_ms), counted_ms(usage, append_ms)
        if isinstance(usage, LlmCall):
            given["billed_by"], given["billed_model"] = self._makers.of(usage.provider, usage.model)
        given["provider_key"] = (usage.tags or {}).get(self._key_tag) if self._key_tag else None
        batch.add_event(_row("events", given, counted_ms(usage, append_ms), place))

    def _run(self, batch: Batch, message: Any, place: Row) -> None:
        run = decode_run(message.value())
        given: dict[str, Any] = {name: getattr(run, name) for name in RunRecord.__struct_fields__}
        given["end_user"] = run.user
        if run.nearest is not None:
            given |= {
                "nearest_rule": run.nearest.rule, "nearest_per": run.nearest.per, "nearest_used": run.nearest.used,
                "nearest_limit": run.nearest.limit, "nearest_unit": run.nearest.unit,
            }  # fmt: skip
        if run.order is not None:
            given |= {column: getattr(run.order, name) for name, column in _OF_ORDER.items()}
        batch.add("runs", _row("runs", given, run.started_ms, place))

    def _rollup(self, batch: Batch, message: Any, place: Row) -> None:
        rollup = decode_rollup(message.value())
        given: dict[str, Any] = {name: getattr(rollup, name) for name in Rollup.__struct_fields__}
        given["booked_hour_ms"] = rollup.booked_hour_ms or 0
        batch.add("rollups", _row("rollups", given, rollup.hour_start_ms, place))
        for dimension, names in rollup.by.items():
            for name, share in names.items():
                of_share = given | msgspec.structs.asdict(share) | {"dimension": dimension, "name": name}
                batch.add("rollup_shares", _row("rollup_shares", of_share, rollup.hour_start_ms, place))

    def _alert(self, batch: Batch, message: Any, place: Row) -> None:
        alert = decode_alert(message.value())
        if alert.detector == WATCHDOG:
            raise Skipped("heartbeat")
        given: dict[str, Any] = {name: getattr(alert, name) for name in Alert.__struct_fields__}
        given["limit_value"] = alert.limit
        batch.add("alerts", _row("alerts", given, alert.ts_ms, place))

    def _command(self, batch: Batch, message: Any, place: Row) -> None:
        if is_key_check(message.key()):
            raise Skipped("key check")
        command = decode_command(message.value())
        given: dict[str, Any] = {name: getattr(command, name) for name in Command.__struct_fields__}
        given |= {"target_type": command.target.type, "target_id": command.target.id}
        batch.add("commands", _row("commands", given, command.issued_ms, place))

    def _verdict(self, batch: Batch, message: Any, place: Row) -> None:
        order = self._orders.read(message.value(), message.headers(), message.timestamp()[1])
        if not isinstance(order, Feedback):
            raise Skipped("order")
        given: dict[str, Any] = {name: getattr(order, name) for name in Feedback.__struct_fields__}
        batch.add("verdicts", _row("verdicts", given, order.ts_ms, place))

    def _provider_usage(self, batch: Batch, message: Any, place: Row) -> None:
        try:
            fact = _provider_usage.decode(message.value() or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Skipped("not_json") from None
        counted = totals_of(cast("Source", fact.source), fact.figures.counts) if fact.source in get_args(Source) else {}
        given: dict[str, Any] = {name: getattr(fact, name) for name in ProviderUsage.__struct_fields__}
        given |= {
            "fact": key_of(fact), "provider_key": fact.key, "cost_nanousd": fact.figures.cost_nanousd,
            "billed_model": model_name(fact.model) if fact.model else None, "counts": fact.figures.counts,
            "fetched_ms": fact.figures.fetched_ms, "input_tokens": counted.get("input tokens"),
            "cached_tokens": counted.get("cached tokens"), "output_tokens": counted.get("output tokens"),
        }  # fmt: skip
        batch.add("provider_usage", _row("provider_usage", given, None, place))


class _Days(NamedTuple):
    day: str
    week: str
    month: str


_BY_PLACE: Final = ("append_ms", "kafka_partition", "kafka_offset", "ingested_ms")
_text_of: Final = msgspec.json.Encoder()


def _row(name: str, given: Mapping[str, Any], at_ms: int | None, place: Row) -> Row:
    """A row in the order of its table's columns. `at_ms` decides on its day; `place` is where and when it was read."""
    values = {**given, **dict(zip(_BY_PLACE, place, strict=True))}
    if at_ms is not None:
        values.update(zip(_Days._fields, _days_of(at_ms // DAY_MS), strict=True))
    return tuple(_value(values.get(column)) for column in TABLES[name].columns)


def _value(given: Any) -> Value:
    if given is None or isinstance(given, int | float):
        return given
    text = given if isinstance(given, str) else _text_of.encode(given).decode().replace("\\u0000", "\\ufffd")
    return text.replace("\0", "\ufffd") if "\0" in text else text  # Postgres holds no such character


@lru_cache(maxsize=4096)
def _days_of(number: int) -> _Days:
    day = date.fromisoformat(day_of(number * DAY_MS))
    monday = day - timedelta(days=day.weekday())
    return _Days(day.isoformat(), monday.isoformat(), day.replace(day=1).isoformat())


@lru_cache(maxsize=64)
def _key_of(name: str) -> Callable[[Row], tuple[Value, ...]]:
    table: Table = TABLES[name]
    places = [table.names.index(column) for column in table.key]
    return lambda row: tuple([row[place] for place in places])


def usage_columns(kind: type[UsageMessage]) -> set[str]:
    """The columns that hold the fields of a kind of message."""
    return {_RENAMED.get(name, name) for name in kind.__struct_fields__}
