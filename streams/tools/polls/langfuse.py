"""Langfuse's API, asked for observations: `GET /api/public/v2/observations`, without their inputs and outputs."""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from schemas.duration import HOUR_MS
from schemas.errors import Undecodable
from streams.gateway.sources.langfuse.observation import ms_of, read_observation, usage_of
from streams.provider_api import field
from streams.tools.polls.source import Fetch, Found, PollSource, api_of

FIELDS: Final = "core,basic,model,usage,prompt,trace_context"
PAGE: Final = 1000
"""At most."""


def _make(variables: Mapping[str, str]) -> Fetch:
    base_url, public, secret = (variables[name] for name in LANGFUSE.variables)
    login = base64.b64encode(f"{public}:{secret}".encode()).decode()
    api = api_of(base_url, {"Authorization": f"Basic {login}"})

    def fetch(since_ms: int) -> Iterator[Found]:
        since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
        asked = {"fields": FIELDS, "limit": str(PAGE), "fromStartTime": since}
        while True:
            answer = api.call("GET", "/api/public/v2/observations", params=list(asked.items()))
            for row in field(answer, "data"):
                yield from _found(row)
            cursor = answer.get("meta", {}).get("cursor")
            if not cursor:
                return
            asked["cursor"] = cursor

    return fetch


def _found(row: Mapping[str, Any]) -> Iterator[Found]:
    """What one row says of usage. One that is not ended is asked for again."""
    started_ms = 0
    try:
        one = read_observation(row)
        started_ms = ms_of(one.start_time or "")
        usage = usage_of(one)
    except Undecodable as fault:
        yield Found(started_ms, fault)
        return
    if usage is not None:
        yield Found(started_ms, usage)


LANGFUSE: Final = PollSource(
    ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"), _make, overlap_ms=HOUR_MS
)
