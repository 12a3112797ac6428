"""APIs of other systems that are polled, made from their documentation."""

import base64
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.loopback import Loopback

Answer = tuple[int, Any]
Answering = Callable[[str, dict[str, str], dict[str, str], Any], Answer]
"""From path, query, headers and body to status and answer."""


class Stub(Loopback):
    """Answers while it is entered. `asked` holds the queries of all questions, in order."""

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self._answering = answering

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.address

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(request.headers.get("Content-Length", 0))
        body = json.loads(request.rfile.read(length)) if length else None
        self.asked.append(body or query)
        status, said = self._answering(parts.path, query, dict(request.headers), body)
        self.send(request, status, json.dumps(said).encode())


def langfuse_api(observations: list[dict[str, Any]], login: str, page: int) -> Answering:
    """`GET /api/public/v2/observations`: the newest first, a page at a time, from `fromStartTime` on."""

    def answer(path: str, query: dict[str, str], headers: dict[str, str], _: Any) -> Answer:
        if headers.get("Authorization") != f"Basic {base64.b64encode(login.encode()).decode()}":
            return 401, {"message": "Invalid credentials"}
        if path != "/api/public/v2/observations":
            return 404, {"message": "no such path"}
        found = [one for one in observations if one["startTime"] >= query["fromStartTime"]]
        found.sort(key=lambda one: one["startTime"], reverse=True)
        first = int(query.get("cursor", 0))
        more = first + page < len(found)
        return 200, {"data": found[first : first + page], "meta": {"cursor": str(first + page)} if more else {}}

    return answer


def braintrust_api(spans: list[dict[str, Any]], key: str, page: int) -> Answering:
    """`POST /btql`: what the query asks for is not looked at, but for its time and the cursor in its offset."""

    def answer(path: str, _: dict[str, str], headers: dict[str, str], body: Any) -> Answer:
        if headers.get("Authorization") != f"Bearer {key}":
            return 401, {"error": "unauthorized"}
        if path != "/btql" or body["fmt"] != "json":
            return 400, {"error": "no such query"}
        since = body["query"].partition("created >= '")[2].partition("'")[0]
        first = int(body["query"].partition("OFFSET '")[2].rstrip("'") or 0)
        found = sorted((one for one in spans if one["created"] >= since), key=lambda one: str(one["created"]))
        return 200, {"data": found[first : first + page], "cursor": str(first + page)}

    return answer
