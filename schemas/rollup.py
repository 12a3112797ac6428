"""rollups.v1: hourly totals, written again as they grow; the last message per key stands."""

import msgspec

from schemas.signing import part


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """What one workflow of one tenant did in one hour. Counts and money are totals of the hour so far."""

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


def rollup_key(tenant_id: str, workflow: str, hour_start_ms: int) -> str:
    """The record key: one per total, since compaction keeps one message a key, whatever characters the names hold."""
    return f"{part(tenant_id)}/{part(workflow)}/{hour_start_ms}"
