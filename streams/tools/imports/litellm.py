"""LiteLLM's spend logs: `LiteLLM_SpendLogs` as its API (`/spend/logs`), or a query of its database, gives them.

A row is read as the payload that LiteLLM reported of the same call, so that both are one event.
"""

from collections.abc import Mapping
from typing import Any, Final

from spendfuse._litellm.payload import usage_of

from schemas.errors import Undecodable
from streams.gateway.sources.usage_item import hashed
from streams.tools.imports.rows import Row, number, rows_as, unpacked
from streams.tools.imports.source import Event, Source


def _usage(row: Row) -> Event | None:
    told = unpacked(row.get("metadata"))
    metadata: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    payload = {
        **row,
        "id": row.get("request_id"),
        "trace_id": row.get("session_id"),
        "session_id": None,
        "status": row.get("status") or metadata.get("status") or "success",
        "response_cost": row.get("spend"),
        "cache_hit": str(row.get("cache_hit")).lower() == "true",
        "request_tags": unpacked(row.get("request_tags")),
        "error_information": metadata.get("error_information"),
        "metadata": {"user_api_key_user_id": row.get("user"), **metadata},
        **{name: number(row.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
    }
    try:
        usage = usage_of(payload)
    except ValueError as error:
        raise Undecodable("missing_field", str(error)) from None
    if usage is None:
        return None
    retries = metadata.get("attempted_retries")
    if isinstance(retries, int) and usage["type"] == "llm_call":
        usage["attempt"] = retries + 1
    return hashed(usage) if usage["type"] == "tool_call" else usage


LITELLM_SPEND_LOGS: Final = Source("**/*.jsonl", rows_as(_usage))
