"""The wide event table and its companions: columns, keys, and the migrations that a store has gone through.

Money is in nano-dollars, times are epoch milliseconds, days are in UTC. A column is never renamed or given another
meaning; what is new comes with a migration of its own number at the end of `MIGRATIONS`.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from schemas.usage import ATTRIBUTION

Kind = Literal["text", "int", "real", "bool", "day", "json"]
"""What a column holds: `int` has 64 bits, `json` is an object as text where a store has no type for it."""
Columns = Mapping[str, Kind]
Value = str | int | float | bool | None
Row = tuple[Value, ...]
Rows = Mapping[str, list[Row]]
"""Table -> rows to write, each in the order of the table's columns and at most one for a key."""

OFFSETS: Final = "sink_offsets"
"""Not written as the others: how far each partition was read, in the transaction of what it was read for."""


class Table(NamedTuple):
    """One table. Of rows with the same key it keeps one."""

    name: str
    key: tuple[str, ...]
    keeps: Literal["first", "newest"]
    """Which: the one that was appended first, or the one with the highest offset."""
    columns: Columns

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns, in order."""
        return tuple(self.columns)

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells its rows apart. Of an event without the day: an id that comes again with another time is the same.

        The day is in the key for stores that are cut by it.
        """
        return tuple(name for name in self.key if self.name != "events" or name != "day")

    @property
    def has_days(self) -> bool:
        """Whether it is cut by day where a store can do that."""
        return "day" in self.key


class Migration(NamedTuple):
    """What one version of the tables adds to the one before: columns of tables, new tables among them."""

    number: int
    columns: Mapping[str, Columns]


_OF_KAFKA: Final[Columns] = {"append_ms": "int", "kafka_partition": "int", "kafka_offset": "int", "ingested_ms": "int"}
_CALENDAR: Final[Columns] = {"day": "day", "week": "day", "month": "day"}
"""The UTC day, and the Monday and the first that its week and its month begin with."""
DIMENSIONS: Final = tuple("end_user" if name == "user" else name for name in ATTRIBUTION)
"""The columns of attribution; `user` is a word of SQL's own."""
_ATTRIBUTION: Final[Columns] = dict.fromkeys(DIMENSIONS, "text")

_EVENTS: Final[Columns] = {
    "tenant_id": "text", "event_id": "text", **_CALENDAR, "type": "text", "ts_ms": "int", "run_id": "text",
    "seq": "int", "session_id": "text", "root_run_id": "text", "parent_run_id": "text", **_ATTRIBUTION, "tags": "json",
    "backfill": "bool", "model": "text", "provider": "text", "route": "text", "input_tokens": "int",
    "cache_read_tokens": "int", "cache_write_tokens": "int", "output_tokens": "int", "reasoning_tokens": "int",
    "reported_nanousd": "int", "reported_price_source": "text", "attempt": "int", "status": "text",
    "error_type": "text", "latency_ms": "int", "started_ms": "int", "prompt_hash": "text", "images": "int",
    "cache_hit": "bool", "cache_write_1h_tokens": "int", "input_audio_tokens": "int", "output_audio_tokens": "int",
    "output_image_tokens": "int", "service_tier": "text", "web_searches": "int", "fallback_from": "text",
    "context_reload": "bool", "escalation_reason": "text", "tool": "text", "args_hash": "text", "result_hash": "text",
    "result_shape_hash": "text", "writes": "bool", "expected_route": "text", "expected_outcome": "text",
    "cap_nanousd": "int", "max_retries": "int", "max_tool_calls": "int", "max_duration_s": "int", "outcome": "text",
    "command_id": "text", "acted": "text", "denied_by": "text", "cost_nanousd": "int", "price_source": "text",
    "is_too_late": "bool", "counted_ms": "int", "billed_by": "text", "billed_model": "text",
    "provider_key": "text", **_OF_KAFKA,
}  # fmt: skip
_RUNS: Final[Columns] = {
    "tenant_id": "text", "run_id": "text", **_CALENDAR, "ts_ms": "int", "state": "text", "started_ms": "int",
    "last_ms": "int", "ended_ms": "int", "cost_nanousd": "int", "calls": "int", "tool_calls": "int", "retries": "int",
    "premium_calls": "int", "input_tokens": "int", "output_tokens": "int", "retried_nanousd": "int",
    "context_tokens": "int", "model": "text", "status": "text", "outcome": "text", "session_id": "text",
    "root_run_id": "text", "parent_run_id": "text", **_ATTRIBUTION, "tags": "json", "expected_route": "text",
    "expected_outcome": "text", "escalation": "text", "nearest_rule": "text", "nearest_per": "text",
    "nearest_used": "int", "nearest_limit": "int", "nearest_unit": "text", "command_id": "text", "action": "text",
    "stopped_by": "text", "incident_id": "text", "reason": "text", "issued_ms": "int", "spent_at_order_nanousd": "int",
    "acted": "text", "acted_ms": "int", "denied_by": "text", **_OF_KAFKA,
}  # fmt: skip
_HOUR: Final[Columns] = {
    "tenant_id": "text", "workflow": "text", "hour_start_ms": "int", "booked_hour_ms": "int",
}  # fmt: skip
_ROLLUPS: Final[Columns] = {
    **_HOUR, **_CALENDAR, "hour_end_ms": "int", "ts_ms": "int", "cost_nanousd": "int", "calls": "int",
    "tool_calls": "int", "blind_tool_calls": "int", "retries": "int", "errors": "int", "input_tokens": "int",
    "output_tokens": "int", "unpriced_calls": "int", "unpriced_tokens": "int", "runs_started": "int",
    "runs_finished": "int", "accepted": "int", "edited": "int", "rejected": "int", "escalated": "int", **_OF_KAFKA,
}  # fmt: skip
_SHARES: Final[Columns] = {
    **_HOUR, "dimension": "text", "name": "text", **_CALENDAR, "cost_nanousd": "int", "calls": "int",
    "input_tokens": "int", "output_tokens": "int", **_OF_KAFKA,
}  # fmt: skip
_ALERTS: Final[Columns] = {
    "tenant_id": "text", "alert_id": "text", **_CALENDAR, "incident_id": "text", "state": "text", "severity": "text",
    "mode": "text", "rule": "text", "detector": "text", "scope": "json", "run_id": "text", "owner": "text",
    "level": "real", "window_start_ms": "int", "window_end_ms": "int", "value": "real", "limit_value": "real",
    "baseline": "real", "ratio": "real", "unit": "text", "evidence": "json", "summary": "text", "next_action": "text",
    "ts_ms": "int", "cause_event_id": "text", "policy_version": "text", "command": "text", **_OF_KAFKA,
}  # fmt: skip
_COMMANDS: Final[Columns] = {
    "tenant_id": "text", "command_id": "text", **_CALENDAR, "action": "text", "target_type": "text",
    "target_id": "text", "reason": "text", "rule": "text", "incident_id": "text", "issued_ms": "int",
    "expires_ms": "int", "seq": "int", "cause_event_id": "text", "cause_ts_ms": "int", "scope": "json", **_OF_KAFKA,
}  # fmt: skip
_VERDICTS: Final[Columns] = {
    "tenant_id": "text", "incident_id": "text", "verdict": "text", "who": "text", "why": "text", "ts_ms": "int",
    **_OF_KAFKA,
}  # fmt: skip
_PROVIDER_USAGE: Final[Columns] = {
    "fact": "text", "source": "text", "console": "text", "report": "text", "day": "day", "provider_key": "text",
    "model": "text", "billed_model": "text", "item": "text", "input_tokens": "int", "cached_tokens": "int",
    "output_tokens": "int", "cost_nanousd": "int", "fetched_ms": "int", "counts": "json", **_OF_KAFKA,
}  # fmt: skip
_POLICIES: Final[Columns] = {"policy_ms": "int", "version": "text", "timezone": "text", "ingested_ms": "int"}
_CONTRACTS: Final[Columns] = {
    "policy_ms": "int", "version": "text", "tenant_id": "text", "starts": "day", "ends": "day", "period": "text",
    "value_nanousd": "int",
}  # fmt: skip

MIGRATIONS: Final = (
    Migration(
        1,
        {
            "events": _EVENTS, "runs": _RUNS, "rollups": _ROLLUPS, "rollup_shares": _SHARES, "alerts": _ALERTS,
            "commands": _COMMANDS, "verdicts": _VERDICTS, "provider_usage": _PROVIDER_USAGE,
            "policies": _POLICIES, "contracts": _CONTRACTS,
        },
    ),
)  # fmt: skip
"""Numbered from 1, oldest first."""
VERSION: Final = MIGRATIONS[-1].number

_KEYS: Final[Mapping[str, tuple[Literal["first", "newest"], tuple[str, ...]]]] = {
    "events": ("first", ("tenant_id", "day", "event_id")),
    "runs": ("newest", ("tenant_id", "run_id")),
    "rollups": ("newest", tuple(_HOUR)),
    "rollup_shares": ("newest", (*_HOUR, "dimension", "name")),
    "alerts": ("first", ("tenant_id", "alert_id")),
    "commands": ("newest", ("tenant_id", "command_id")),
    "verdicts": ("newest", ("tenant_id", "incident_id")),
    "provider_usage": ("newest", ("fact",)),
    "policies": ("first", ("policy_ms", "version")),
    "contracts": ("first", ("policy_ms", "version", "tenant_id", "starts")),
}


def tables_at(version: int) -> dict[str, Table]:
    """The tables as they are after the migration of that number."""
    columns: dict[str, dict[str, Kind]] = {}
    for migration in MIGRATIONS[:version]:
        for name, added in migration.columns.items():
            columns.setdefault(name, {}).update(added)
    return {name: Table(name, _KEYS[name][1], _KEYS[name][0], found) for name, found in columns.items()}


TABLES: Final = tables_at(VERSION)
