"""OpenRouter's activity, one generation a row: the CSV of its page. Each is a run of its own unless it names a session.

The columns are OpenRouter's of 2026: `generation_id, created_at, cost_total, byok_usage_inference, tokens_prompt, …`.
"""

from datetime import UTC, datetime
from typing import Final

from models.identity import derived_id
from schemas.errors import Undecodable
from streams.gateway.sources.reported import nanousd_or_none, short_id, short_name
from streams.tools.imports.rows import Row, number, rows_as
from streams.tools.imports.source import Event, Source


def _usage(row: Row) -> Event:
    generation, created = row.get("generation_id"), row.get("created_at")
    if not generation or not created:
        raise Undecodable("missing_field", "a row without generation_id or created_at: it is no list of generations")
    started_ms = _ms(str(created))
    latency_ms = round(number(row.get("generation_time_ms")))
    session = short_id(row.get("session_id"))
    # With a key of one's own the provider's price comes on top of the fee; a variant that is free costs nothing.
    cost_nanousd = nanousd_or_none(number(row.get("cost_total")) + number(row.get("byok_usage_inference")))
    if cost_nanousd is None and row.get("variant") == "free":
        cost_nanousd = 0
    event = {
        "type": "llm_call",
        "event_id": derived_id("openrouter", str(generation)),
        "ts_ms": started_ms + latency_ms,
        "started_ms": started_ms,
        "latency_ms": latency_ms,
        "run_id": session or short_id(generation),
        "session_id": session,
        "model": short_name(row.get("model_permaslug")) or "unknown",
        "provider": short_name(row.get("provider_name")),
        "input_tokens": round(number(row.get("tokens_prompt"))),
        "cache_read_tokens": round(number(row.get("tokens_cached"))),
        "output_tokens": round(number(row.get("tokens_completion"))),
        "reasoning_tokens": round(number(row.get("tokens_reasoning"))),
        "cost_nanousd": cost_nanousd,
        "price_source": None if cost_nanousd is None else "reported:openrouter",
        "status": "cancelled" if str(row.get("cancelled")).lower() == "true" else "ok",
        "owner": short_name(row.get("api_key_name")),
        "workflow": short_name(row.get("app_name")),
        "user": short_name(row.get("user")),
    }
    return {name: value for name, value in event.items() if value is not None}


def _ms(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Undecodable("bad_time", "created_at is no time") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


OPENROUTER_CSV: Final = Source("**/*.csv", rows_as(_usage))
