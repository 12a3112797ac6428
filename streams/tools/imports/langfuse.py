"""Langfuse's observations, as its exports to a store (JSONL, CSV) and from its pages (JSON, CSV) have them."""

from typing import Final

from streams.gateway.sources.langfuse.observation import read_observation, usage_of
from streams.tools.imports.rows import Row, number, rows_as, unpacked
from streams.tools.imports.source import Event, Source

DETAILS: Final = ("usage_details", "usageDetails", "cost_details", "costDetails")
OLDER: Final = {"prompt_tokens": "promptTokens", "completion_tokens": "completionTokens", "total_tokens": "totalTokens"}
"""Counts of an export without details -> what it calls them."""


def _usage(row: Row) -> Event | None:
    columns = {name: unpacked(value) if name in DETAILS else value for name, value in row.items()}
    if not columns.get("usage_details") and not columns.get("usageDetails"):
        columns["usageDetails"] = {ours: number(row.get(theirs)) for ours, theirs in OLDER.items()}
        columns.pop("usage_details", None)
    return usage_of(read_observation(columns))


LANGFUSE_EXPORT: Final = Source("**/*.jsonl", rows_as(_usage))
