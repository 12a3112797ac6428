"""Stand-ins for the providers whose keys are switched, made from their documentation: real HTTP on loopback.

OpenRouter: GET and PATCH /keys/{hash}. LiteLLM: GET /key/info, POST /key/block and /key/unblock. Anthropic: GET and
POST /v1/organizations/api_keys/{id}. OpenAI: GET, POST and DELETE /organization/projects/{id}/spend_limit.
"""

import json
from collections import deque
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.loopback import Loopback

SECRET = "sk-admin-marker-7f3e"
KEY = "key-1"


class Providers(Loopback):
    """All four on one port, each with the key `KEY`, while it is entered."""

    def __init__(self) -> None:
        self.openrouter: dict[str, Any] = {"hash": KEY, "name": "support", "disabled": False, "limit": 50}
        self.litellm: dict[str, Any] = {"blocked": None}
        self.anthropic: dict[str, Any] = {"id": KEY, "status": "active"}
        self.openai: dict[str, Any] | None = None
        self.changes: list[tuple[str, str]] = []
        """Method and path of every request that was to change something."""
        self.refusals: deque[int] = deque()
        """Status codes with which the next requests are answered, whatever they ask; 0 for as usual."""
        super().__init__()

    def is_closed(self, provider: str) -> bool:
        """Whether nothing gets through its key."""
        closed = {
            "openrouter": self.openrouter["disabled"],
            "litellm": self.litellm["blocked"] is True,
            "anthropic": self.anthropic["status"] != "active",
            "openai": self.openai is not None and self.openai["threshold_amount"] <= 1,
        }
        return bool(closed[provider])

    def standing(self, provider: str) -> Any:
        """Everything that can be changed of its key, where unblocked and never blocked are the same."""
        state = getattr(self, provider)
        return bool(state["blocked"]) if provider == "litellm" else state and dict(state)

    def put_by_hand(self, provider: str, *, closed: bool) -> None:
        """Somebody switches the key at the provider's console."""
        match provider:
            case "openrouter":
                self.openrouter["disabled"] = closed
            case "litellm":
                self.litellm["blocked"] = closed
            case "anthropic":
                self.anthropic["status"] = "inactive" if closed else "active"
            case _:
                self.openai = {"currency": "USD", "threshold_amount": 0 if closed else 100_000}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length) or b"{}")
        status = self.refusals.popleft() if self.refusals else 0
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if SECRET not in (bearer, request.headers.get("x-api-key")):
            status = status or 401
        path = urlsplit(request.path)
        if request.command != "GET":
            self.changes.append((request.command, path.path))
        code, answer = (status, {}) if status else self._do(request.command, path.path, parse_qs(path.query), body)
        self.send(request, code, json.dumps(answer).encode())

    def _do(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        match method, path:
            case "GET", "/keys/key-1":
                return 200, {"data": self.openrouter}
            case "PATCH", "/keys/key-1":
                self.openrouter |= body
                return 200, {"data": self.openrouter}
            case "GET", "/key/info" if query.get("key") == [KEY]:
                return 200, {"key": KEY, "info": self.litellm}
            case "POST", "/key/block" | "/key/unblock" if body == {"key": KEY}:
                self.litellm["blocked"] = path == "/key/block"
                return 200, self.litellm
            case "GET", "/v1/organizations/api_keys/key-1" | "/v1/organizations/api_keys/key-1-of-search":
                return 200, self.anthropic
            case "POST", "/v1/organizations/api_keys/key-1" | "/v1/organizations/api_keys/key-1-of-search":
                self.anthropic |= body
                return 200, self.anthropic
            case _, "/organization/projects/key-1/spend_limit":
                return self._spend_limit(method, body)
        return 404, {}

    def _spend_limit(self, method: str, body: dict[str, Any]) -> tuple[int, Any]:
        if method == "POST":
            assert body.pop("interval") == "month"
            self.openai = body
        elif method == "DELETE":
            self.openai = None
            return 200, {"object": "project.spend_limit.deleted", "deleted": True}
        if self.openai is None:
            return 404, {}
        return 200, {"object": "project.spend_limit", **self.openai, "enforcement": {"status": "enforcing"}}
