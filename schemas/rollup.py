"""rollups.v1: hourly totals, written again as they grow; the last message per key stands."""

from typing import Final

import msgspec

from schemas.signing import part

BREAKDOWNS: Final = ("model", "owner", "project", "feature", "environment", "agent", "prompt_version")
"""What the totals of an hour are broken down by."""
MOST_NAMES: Final = 50
"""Names of one breakdown: those that cost most. All others are one, `OTHER`."""
OTHER: Final = "other"


class Share(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one name of a breakdown has of the hour's totals."""

    cost_nanousd: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Rollup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one workflow of one tenant did in one hour. Counts and money are totals of the hour so far.

    `blind_tool_calls` are those of the tool calls that came without `args_hash`. With `booked_hour_ms`, only what came
    more than a day late and was booked in the hour that began then: it is no part of the other totals of its hour, and
    to be added to them.

    `by` holds the same hour once more for each of `BREAKDOWNS`: dimension -> name -> its share. What no message named
    is "unattributed", as in `model` what tools cost. The shares of one dimension add up to the totals.
    """

    tenant_id: str
    workflow: str
    hour_start_ms: int
    hour_end_ms: int
    cost_nanousd: int
    calls: int
    tool_calls: int
    retries: int
    errors: int
    input_tokens: int
    output_tokens: int
    unpriced_calls: int
    unpriced_tokens: int
    runs_started: int
    runs_finished: int
    accepted: int
    edited: int
    rejected: int
    escalated: int
    ts_ms: int
    blind_tool_calls: int = 0
    booked_hour_ms: int | None = None
    by: dict[str, dict[str, Share]] = {}

    @property
    def key(self) -> str:
        """The record key: one per total, since compaction keeps one message a key, whatever characters names hold."""
        key = f"{part(self.tenant_id)}/{part(self.workflow)}/{self.hour_start_ms}"
        return key if self.booked_hour_ms is None else f"{key}/{self.booked_hour_ms}"
