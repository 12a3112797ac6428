"""Stand-ins for OpenAI's and Anthropic's usage and cost reports, made from their documentation: HTTP on loopback.

OpenAI: GET /organization/usage/completions, /organization/usage/embeddings and /organization/costs. Anthropic: GET
/v1/organizations/usage_report/messages and /v1/organizations/cost_report. Both answer with a bucket for each day asked
for, at most `limit` of them a page, and are asked for what they are to group by.
"""

import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from schemas.duration import DAY_MS
from tests.support.loopback import Loopback
from tests.support.providers import SECRET

COMPLETIONS: Final = "/organization/usage/completions"
EMBEDDINGS: Final = "/organization/usage/embeddings"
COSTS: Final = "/organization/costs"
MESSAGES: Final = "/v1/organizations/usage_report/messages"
COST_REPORT: Final = "/v1/organizations/cost_report"
_GROUPS: Final = {
    COMPLETIONS: {"api_key_id", "model"},
    EMBEDDINGS: {"api_key_id", "model"},
    COSTS: {"api_key_id", "line_item"},
    MESSAGES: {"api_key_id", "model"},
    COST_REPORT: {"description"},
}


class Consoles(Loopback):
    """Both on one port. `rows` is what they say: path -> day -> rows."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, list[dict[str, Any]]]] = {path: {} for path in _GROUPS}
        self.without_bucket: set[tuple[str, str]] = set()
        """(path, day): of which nothing at all is said."""
        self.days_a_page = 31
        self.asked: list[str] = []
        """The path of every request."""
        self.refusals: deque[tuple[int, dict[str, str]]] = deque()
        """Status and headers with which the next requests are answered."""
        self.whole_answers: dict[str, Any] = {}
        """Path -> what is answered there in place of a page; bytes go out as they are."""
        self.may_answer = Event()
        """While it is not set nobody gets an answer."""
        self.may_answer.set()
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        self.asked.append(url.path)
        if not self.may_answer.is_set():
            self.may_answer.wait(10)
            return
        if self.refusals:
            status, headers = self.refusals.popleft()
            self.send(request, status, b"{}", headers)
            return
        status, answer = self._page(request, url.path, query)
        self.send(request, status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _page(self, request: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if SECRET not in (bearer, request.headers.get("x-api-key")):
            return 401, {}
        if path in self.whole_answers:
            return 200, self.whole_answers[path]
        if path not in _GROUPS:
            return 404, {}
        is_openai = path.startswith("/organization/")
        if not is_openai and request.headers.get("anthropic-version") != "2023-06-01":
            return 400, {}
        if query["bucket_width"] != ["1d"] or set(query["group_by[]"]) != _GROUPS[path] or int(query["limit"][0]) > 31:
            return 400, {}
        days = [day for day in _days(query, is_openai) if (path, day) not in self.without_bucket]
        first = int(query.get("page", ["page_0"])[0].removeprefix("page_"))
        last = first + min(self.days_a_page, int(query["limit"][0]))
        has_more = last < len(days)
        data = [_bucket(day, self.rows[path].get(day, []), is_openai) for day in days[first:last]]
        return 200, {"data": data, "has_more": has_more, "next_page": f"page_{last}" if has_more else None}


def _days(query: dict[str, list[str]], is_openai: bool) -> Iterator[str]:
    if is_openai:
        start_s, end_s = int(query["start_time"][0]), int(query["end_time"][0])
    else:
        start_s, end_s = (
            int(datetime.fromisoformat(query[name][0]).timestamp()) for name in ("starting_at", "ending_at")
        )
    for at_s in range(start_s, end_s, DAY_MS // 1000):
        yield datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")


def _bucket(day: str, rows: list[dict[str, Any]], is_openai: bool) -> dict[str, Any]:
    start = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    end_s = int(start.timestamp()) + DAY_MS // 1000
    if is_openai:
        return {"object": "bucket", "start_time": end_s - DAY_MS // 1000, "end_time": end_s, "results": rows}
    end = datetime.fromtimestamp(end_s, UTC)
    return {"starting_at": f"{day}T00:00:00Z", "ending_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"), "results": rows}


def completions(key: str | None, model: str, read: int, written: int, cached: int = 0) -> dict[str, Any]:
    """A row of OpenAI's usage: input (with the cached part), output."""
    return {
        "object": "organization.usage.completions.result", "input_tokens": read, "output_tokens": written,
        "input_cached_tokens": cached, "num_model_requests": 7, "project_id": None, "user_id": None,
        "api_key_id": key, "model": model, "batch": None, "input_audio_tokens": 0, "output_audio_tokens": 0,
    }  # fmt: skip


def embeddings(key: str | None, model: str, read: int) -> dict[str, Any]:
    """A row of OpenAI's usage of embeddings."""
    return {
        "object": "organization.usage.embeddings.result", "input_tokens": read, "num_model_requests": 1,
        "project_id": None, "user_id": None, "api_key_id": key, "model": model,
    }  # fmt: skip


def cost(key: str | None, line_item: str, usd: float | str, currency: str = "usd") -> dict[str, Any]:
    """A row of OpenAI's costs."""
    return {
        "object": "organization.costs.result", "amount": {"value": usd, "currency": currency},
        "line_item": line_item, "project_id": None, "api_key_id": key,
    }  # fmt: skip


def messages(
    key: str | None, model: str, uncached: int, written: int, cached: int = 0, kept: int = 0
) -> dict[str, Any]:
    """A row of Anthropic's usage: input read anew, output, input read from a cache and written to one."""
    return {
        "account_id": None, "api_key_id": key, "cache_creation": {
            "ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": kept,
        },
        "cache_read_input_tokens": cached, "context_window": None, "inference_geo": None, "model": model,
        "output_tokens": written, "server_tool_use": {"web_search_requests": 0}, "service_account_id": None,
        "service_tier": None, "uncached_input_tokens": uncached, "workspace_id": None,
    }  # fmt: skip


def cents(model: str | None, description: str, amount: str, currency: str = "USD") -> dict[str, Any]:
    """A row of Anthropic's cost report; the amount is in cents."""
    return {
        "amount": amount, "context_window": None, "cost_type": "tokens" if model else "code_execution",
        "currency": currency, "description": description, "inference_geo": None, "model": model,
        "service_tier": "standard", "token_type": "output_tokens" if model else None, "workspace_id": None,
    }  # fmt: skip
