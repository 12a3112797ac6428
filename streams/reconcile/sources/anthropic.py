"""Anthropic's usage report and cost report: https://platform.claude.com/docs/en/api/admin (read 2026-11-27)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from schemas.duration import DAY_MS
from streams.provider_api import ProviderError, field
from streams.reconcile.config import Console
from streams.reconcile.days import Days, day_of
from streams.reconcile.sources.paging import Reports, Wait, named, results
from streams.reconcile.sources.report import Cell, Fetched, Rows, fetched, nanousd, require_usd, whole_numbers

VERSION: Final = "2023-06-01"
COUNTED: Final = ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens")


def reports(console: Console, days: Days, wait: Wait) -> list[Fetched]:
    """What was used, by day, key and model; and what it costs, by day and model: costs are not told by key."""
    ask = Reports(console.address, {"x-api-key": console.secret, "anthropic-version": VERSION}, wait)
    return [
        fetched("usage", lambda: _usage(ask, days), by_key=True),
        fetched("cost", lambda: _costs(ask, days), by_key=False),
    ]


def totals(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts as we have them: what is read from a cache and written to one is a part of the input."""
    written = sum(count for name, count in counts.items() if name.startswith("cache_creation."))
    cached = counts.get("cache_read_input_tokens", 0)
    return {
        "input tokens": counts.get("uncached_input_tokens", 0) + cached + written,
        "cached tokens": cached,
        "output tokens": counts.get("output_tokens", 0),
    }


def _usage(ask: Reports, days: Days) -> Rows:
    rows = Rows()
    grouped = [("group_by[]", "api_key_id"), ("group_by[]", "model")]
    for bucket in ask.buckets("/v1/organizations/usage_report/messages", [*_span(days), *grouped]):
        rows.begin(day := _day(bucket))
        for row in results(bucket):
            if not all(type(field(row, name)) is int for name in COUNTED):
                raise ProviderError(f"{', '.join(COUNTED)} are not all whole numbers")
            field(row, "cache_creation")
            rows.add(Cell(day, named(row, "api_key_id"), named(row, "model")), dict(whole_numbers(row)))
    return rows


def _costs(ask: Reports, days: Days) -> Rows:
    rows = Rows()
    for bucket in ask.buckets("/v1/organizations/cost_report", [*_span(days), ("group_by[]", "description")]):
        rows.begin(day := _day(bucket))
        for row in results(bucket):
            require_usd(field(row, "currency"))
            cell = Cell(day, None, named(row, "model"), named(row, "description"))
            rows.add(cell, {}, nanousd(_usd(field(row, "amount"))))
    return rows


def _usd(cents: object) -> Decimal:
    """Amounts are in cents, as a decimal string: `123.45` is a dollar and 23.45 cents."""
    try:
        return Decimal(str(cents)).scaleb(-2)
    except InvalidOperation:
        raise ProviderError("the answer has an amount that nobody can read") from None


def _span(days: Days) -> list[tuple[str, str]]:
    return [
        ("starting_at", _written(days.start_ms)), ("ending_at", _written(days.end_ms)), ("bucket_width", "1d"),
        ("limit", "31"),
    ]  # fmt: skip


def _written(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(bucket: dict[str, Any]) -> str:
    try:
        start_ms = int(datetime.fromisoformat(str(field(bucket, "starting_at"))).timestamp() * 1000)
    except ValueError:
        raise ProviderError("a bucket has no beginning that can be read") from None
    if start_ms % DAY_MS:
        raise ProviderError("a bucket does not begin at midnight UTC")
    return day_of(start_ms)
