"""usage.v1: what a run did, one message a fact. Bytes become these values at one edge, `schemas.codec`."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(max_length=256)]
Word = Annotated[str, Meta(min_length=1, max_length=256)]
"""Of a field that may be left out; an empty one is read as left out, as is `null` in any field, by `schemas.codec`."""
Hash = Annotated[str, Meta(min_length=1, max_length=128)]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Nanousd = Annotated[int, Meta(ge=0, le=10**15)]
"""Money of one event: at most a million dollars, so that a sum of a billion events still is an exact integer."""
EpochMs = Annotated[int, Meta(ge=0, le=2**63 - 1)]
FIRST_MS = 1_000_000_000_000
"""2001-09-09: an earlier `ts_ms` counts seconds."""
END_MS = 7_258_118_400_000
"""2200-01-01: a `ts_ms` from here on counts microseconds or nanoseconds."""
EventMs = Annotated[int, Meta(ge=FIRST_MS, lt=END_MS)]
Tags = Annotated[dict[Name, Name], Meta(max_length=16)]

CallStatus = Literal["ok", "error", "cancelled"]
ServiceTier = Literal["standard", "batch", "flex", "priority"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What every message carries. Attribution left out means: as given on the run's `run_started`."""

    event_id: Id
    ts_ms: EventMs
    tenant_id: Id
    run_id: Id
    seq: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    session_id: Id | None = None
    root_run_id: Id | None = None
    parent_run_id: Id | None = None
    workflow: Word | None = None
    owner: Word | None = None
    project: Word | None = None
    environment: Word | None = None
    agent: Word | None = None
    user: Word | None = None
    feature: Word | None = None
    tier: Word | None = None
    task_category: Word | None = None
    feature_flag: Word | None = None
    prompt_version: Word | None = None
    tags: Annotated[dict[Name, Word], Meta(max_length=16)] | None = None
    backfill: bool = False
    """Came too late before: booked where it happened, and its run is not judged. Looked at only in what is too late."""


class LlmCall(_Message, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="llm_call"):
    """One attempt at one model call, charged whatever became of it.

    `input_tokens` and `output_tokens` are totals. `cache_read_tokens`, `cache_write_tokens` and `input_audio_tokens`
    are parts of the first, `cache_write_1h_tokens` of `cache_write_tokens`; `reasoning_tokens`, `output_audio_tokens`
    and `output_image_tokens` are parts of the second. `cost_nanousd` is None when the source gave no price. An answer
    from a semantic cache (`cache_hit`) costs 0 whatever `cost_nanousd` says. `escalation_reason` says why a run goes on
    with a premium model: a word or two of the agent's own, such as `low_confidence`, never text of a conversation.
    """

    model: Name
    provider: Word | None = None
    route: Word | None = None
    input_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    cost_nanousd: Nanousd | None = None
    price_source: Word | None = None
    attempt: Annotated[int, Meta(ge=1, le=10**6)] = 1
    status: CallStatus = "ok"
    error_type: Word | None = None
    latency_ms: Count | None = None
    started_ms: EpochMs | None = None
    prompt_hash: Hash | None = None
    images: Count = 0
    cache_hit: bool = False
    cache_write_1h_tokens: Count = 0
    input_audio_tokens: Count = 0
    output_audio_tokens: Count = 0
    output_image_tokens: Count = 0
    service_tier: ServiceTier | None = None
    web_searches: Count = 0
    fallback_from: Word | None = None
    context_reload: bool = False
    escalation_reason: Word | None = None


class ToolCall(_Message, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="tool_call"):
    """One use of a tool: hashes of what went in and what came out, never the text.

    `result_shape_hash` is of the result without its times, durations, counters, ids, paths of temporary files and white
    space, after the version of what is left out (`shape_version`). `writes` says that the tool changed something.
    `error_type` says what kind of error it was: a linter that found something, a search that found nothing and a
    person's refusal are none, whatever the tool calls them (`no_failures` in the policy).
    """

    tool: Name
    args_hash: Hash | None = None
    result_hash: Hash | None = None
    status: CallStatus = "ok"
    latency_ms: Count | None = None
    cost_nanousd: Nanousd | None = None
    result_shape_hash: Hash | None = None
    started_ms: EpochMs | None = None
    writes: bool = False
    error_type: Word | None = None


class RunStarted(
    _Message, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="run_started"
):
    """A run introduces itself, with a stop rule of its own that can only be stricter than policy."""

    expected_route: Word | None = None
    expected_outcome: Word | None = None
    cap_nanousd: Annotated[int, Meta(ge=0, le=10**18)] | None = None
    max_retries: Count | None = None
    max_tool_calls: Count | None = None
    max_duration_s: Count | None = None


class RunFinished(
    _Message, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="run_finished"
):
    """A run has ended."""

    status: Literal["completed", "failed", "cancelled", "killed"]


class Outcome(_Message, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="outcome"):
    """What became of a run's output."""

    outcome: Literal["accepted", "edited", "rejected", "escalated"]


class CommandAck(
    _Message, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="command_ack"
):
    """A guard's answer to a command."""

    command_id: Id
    acted: Literal["stopped", "paused", "resumed", "downgraded", "already_finished", "ignored", "delivered"]
    """`delivered` answers a nudge: the agent has it."""
    denied_by: Word | None = None
    """Whose hook or library kept the run from its next step, where that is known."""


UsageMessage = LlmCall | ToolCall | RunStarted | RunFinished | Outcome | CommandAck

ATTRIBUTION = (
    "workflow", "owner", "project", "environment", "agent", "user", "feature", "tier", "task_category",
    "feature_flag", "prompt_version",
)  # fmt: skip
"""Fields that say whose spend it is; a run inherits them from its `run_started`."""

SHAPE_VERSION_BITS: Final = 3
_VERSIONS: Final = {f"{version}:": version % 8 for version in range(1, 10)}


def shape_version(shape_hash: str) -> int:
    """The version before a `result_shape_hash` (`1:5f0c…`) in so many bits: seven in a row are told apart; 0 for none.

    What is left out of a shape is said once, in the client (`spendfuse._usage.shape`), and as data in
    `docs/connect/wire-vectors.json` for clients in other languages. Whoever makes shapes for agents that have no
    client, as a gateway does, takes it from there. Here they are only compared, and only within a version.
    """
    return _VERSIONS.get(shape_hash[:2], 0)


UNATTRIBUTED = "unattributed"
"""The explicit scope value of missing attribution."""

FOREIGN_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "cost_nanousd": ("cost_usd", "cost", "total_cost", "response_cost", "costUsd", "totalCost", "usd"),
    "input_tokens": ("prompt_tokens", "tokens_in", "inputTokens", "promptTokens", "promptTokenCount"),
    "output_tokens": (
        "completion_tokens", "tokens_out", "outputTokens", "completionTokens", "candidatesTokenCount",
    ),
    "cache_read_tokens": ("cache_read_input_tokens", "cached_tokens", "cacheReadInputTokens"),
    "cache_write_tokens": ("cache_creation_input_tokens", "cacheCreationInputTokens"),
    "tenant_id": ("tenant", "tenantId", "customer_id", "org_id"),
    "run_id": ("run", "runId", "trace_id", "traceId"),
    "event_id": ("id", "eventId", "uuid"),
    "ts_ms": ("timestamp", "ts", "time", "timestamp_ms", "startTime"),
    "model": ("model_name", "modelName", "model_id"),
    "tool": ("tool_name", "toolName", "name"),
}  # fmt: skip
"""Our name -> what other systems call it: with one of those in place of ours, a message would count as nothing."""
NAME_HINTS: Final = {
    "cost_nanousd": "in nano-dollars, an integer: dollars times 1,000,000,000",
    "input_tokens": "the total, cached ones included",
    "cache_read_tokens": "a part of input_tokens",
    "cache_write_tokens": "a part of input_tokens",
    "ts_ms": "milliseconds since 1970, an integer",
}
"""Our name -> what to mind when writing it."""
