"""Braintrust's API, asked for spans: `POST /btql`, of model calls and tools what they used, and no text."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from models.identity import derived_id
from schemas.duration import HOUR_MS
from schemas.errors import SettingsError, Undecodable
from streams.gateway.sources.reported import nanousd_or_none, short_id, short_name
from streams.gateway.sources.usage_item import Usage
from streams.provider_api import ProviderError, field
from streams.tools.polls.source import Fetch, Found, PollSource, api_of

PAGE: Final = 1000
COLUMNS: Final = """span_id, root_span_id, created, error IS NOT NULL AS failed, span_attributes.name AS name,
 span_attributes.type AS kind, metadata.model AS model, metadata.provider AS provider,
 metadata.session_id AS session_id, metrics.start AS started_s, metrics.end AS ended_s, metrics.prompt_tokens,
 metrics.completion_tokens, metrics.prompt_cached_tokens, metrics.prompt_cache_creation_tokens,
 metrics.completion_reasoning_tokens, metrics.estimated_cost"""


class _Span(msgspec.Struct, frozen=True):
    span_id: str
    root_span_id: str
    created: str
    kind: str
    failed: bool | None = None
    name: str | None = None
    model: str | None = None
    provider: str | None = None
    session_id: str | None = None
    started_s: float | None = None
    ended_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_cached_tokens: int | None = None
    prompt_cache_creation_tokens: int | None = None
    completion_reasoning_tokens: int | None = None
    estimated_cost: float | None = None


def _make(variables: Mapping[str, str]) -> Fetch:
    base_url, key, project = (variables[name] for name in BRAINTRUST.variables)
    if not project.replace("-", "").isalnum():
        raise SettingsError("BRAINTRUST_PROJECT_ID is the id of a project, as its page shows it")
    api = api_of(base_url, {"Authorization": f"Bearer {key}"})

    def fetch(since_ms: int) -> Iterator[Found]:
        since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
        query = (
            f"SELECT {COLUMNS} FROM project_logs('{project}', shape => 'spans') WHERE created >= '{since}' "  # noqa: S608
            f"AND span_attributes.type IN ('llm', 'tool') ORDER BY created LIMIT {PAGE}"
        )
        offset = ""
        while True:
            answer = api.call("POST", "/btql", {"query": query + offset, "fmt": "json"})
            rows = field(answer, "data")
            for row in rows:
                yield from _found(row)
            cursor = answer.get("cursor")
            if not cursor or len(rows) < PAGE:
                return
            if "'" in cursor:
                raise ProviderError("Braintrust answers with a cursor that cannot be asked for", may_pass=True)
            offset = f" OFFSET '{cursor}'"

    return fetch


def _found(row: Mapping[str, Any]) -> Iterator[Found]:
    try:
        span = msgspec.convert(row, _Span)
        at_ms = round(datetime.fromisoformat(span.created).timestamp() * 1000)
    except (msgspec.ValidationError, ValueError):
        yield Found(0, Undecodable("wrong_value", "no span of Braintrust"))
        return
    if span.ended_s is not None:
        yield Found(at_ms, _usage(span, span.ended_s))


def _usage(span: _Span, ended_s: float) -> Usage:
    started_ms = None if span.started_s is None else round(span.started_s * 1000)
    ended_ms = round(ended_s * 1000)
    about = {
        "event_id": derived_id("otel", span.root_span_id, span.span_id),
        "ts_ms": ended_ms,
        "run_id": short_id(span.root_span_id),
        "session_id": short_id(span.session_id),
        "status": "error" if span.failed else "ok",
        "started_ms": started_ms,
        "latency_ms": None if started_ms is None else max(0, ended_ms - started_ms),
    }
    used = (
        {"type": "tool_call", "tool": short_name(span.name) or "unnamed"} if span.kind == "tool" else _model_call(span)
    )
    return {name: value for name, value in {**about, **used}.items() if value is not None}


def _model_call(span: _Span) -> Usage:
    cost_nanousd = nanousd_or_none(span.estimated_cost)
    reasoning = span.completion_reasoning_tokens or 0
    return {
        "type": "llm_call",
        "model": short_name(span.model) or "unknown",
        "provider": short_name(span.provider),
        "input_tokens": span.prompt_tokens,
        "output_tokens": max(span.completion_tokens or 0, reasoning),
        "cache_read_tokens": span.prompt_cached_tokens,
        "cache_write_tokens": span.prompt_cache_creation_tokens,
        "reasoning_tokens": reasoning,
        "cost_nanousd": cost_nanousd,
        "price_source": None if cost_nanousd is None else "reported:braintrust",
    }


BRAINTRUST: Final = PollSource(
    ("BRAINTRUST_API_URL", "BRAINTRUST_API_KEY", "BRAINTRUST_PROJECT_ID"), _make, overlap_ms=HOUR_MS
)
