"""OpenAI's organization usage and costs (openai 3.57, `admin.organization.usage`)."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.duration import DAY_MS
from streams.provider_api import ProviderError, field
from streams.reconcile.config import Console
from streams.reconcile.days import Days, day_of
from streams.reconcile.sources.paging import Reports, Wait, named, results
from streams.reconcile.sources.report import Cell, Fetched, Rows, fetched, nanousd, require_usd, whole_numbers

USAGE: Final = ("/organization/usage/completions", "/organization/usage/embeddings")
"""Whose tokens cost something. Images, speech and searches are counted by other measures, and stand in the costs."""


def reports(console: Console, days: Days, wait: Wait) -> list[Fetched]:
    """What was used, and what it costs: by day, key and model."""
    ask = Reports(console.address, {"Authorization": f"Bearer {console.secret}"}, wait)
    return [
        fetched("usage", lambda: _usage(ask, days), by_key=True),
        fetched("cost", lambda: _costs(ask, days), by_key=True),
    ]


def totals(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts as we have them: cached tokens are a part of the input."""
    found = {"input tokens": counts.get("input_tokens", 0), "output tokens": counts.get("output_tokens", 0)}
    if "input_cached_tokens" in counts:
        found["cached tokens"] = counts["input_cached_tokens"]
    return found


def _usage(ask: Reports, days: Days) -> Rows:
    both = []
    for path in USAGE:
        rows = Rows()
        for bucket in ask.buckets(path, [*_span(days), ("group_by[]", "api_key_id"), ("group_by[]", "model")]):
            rows.begin(day := _day(bucket))
            for row in results(bucket):
                if type(field(row, "input_tokens")) is not int:
                    raise ProviderError("input_tokens is no whole number")
                rows.add(Cell(day, named(row, "api_key_id"), named(row, "model")), dict(whole_numbers(row)))
        both.append(rows)
    found, further = both
    found.days &= further.days
    for cell, embedded in further.rows.items():
        found.add(cell, embedded.counts)
    found.rows = {cell: each for cell, each in found.rows.items() if cell.day in found.days}
    return found


def _costs(ask: Reports, days: Days) -> Rows:
    rows = Rows()
    grouped = [("group_by[]", "api_key_id"), ("group_by[]", "line_item")]
    for bucket in ask.buckets("/organization/costs", [*_span(days), *grouped]):
        rows.begin(day := _day(bucket))
        for row in results(bucket):
            amount = field(row, "amount")
            require_usd(field(amount, "currency"))
            item = named(row, "line_item")
            cell = Cell(day, named(row, "api_key_id"), _model_of(item), item)
            rows.add(cell, {}, nanousd(field(amount, "value")))
    return rows


def _model_of(item: str | None) -> str | None:
    """The model of a line such as `gpt-6-astra, input_tokens`; None for what is no model's."""
    return None if item is None else item.rpartition(", ")[0] or None


def _span(days: Days) -> list[tuple[str, str]]:
    return [
        ("start_time", str(days.start_ms // 1000)), ("end_time", str(days.end_ms // 1000)), ("bucket_width", "1d"),
        ("limit", "31"),
    ]  # fmt: skip


def _day(bucket: dict[str, Any]) -> str:
    start_s = field(bucket, "start_time")
    if type(start_s) is not int or start_s * 1000 % DAY_MS:
        raise ProviderError("a bucket does not begin at midnight UTC")
    return day_of(start_s * 1000)
