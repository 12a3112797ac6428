"""A gateway that does what a test tells it: `POST /v1/events`, `GET /v1/control`, `GET /v1/key`."""

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from spendfuse._control.command import ControlRecord

KEY = "sf_000000000000_" + 48 * "0"
BEAT_S = 0.05


class ScriptedGateway:
    """Listens on loopback while it is entered."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        """Messages taken, each as often as it came."""
        self.requests: list[list[str]] = []
        """Event ids of each request to `/v1/events`."""
        self.refusals: list[tuple[int, dict[str, Any]]] = []
        """Status and answer of the next requests to `/v1/events`, before they are taken again."""
        self.streams_refused = 0
        """How many of the next control streams are answered 429."""
        self.asked_s: list[float] = []
        """When each control stream was asked for, by a clock that nobody sets."""
        self.retry_after: str | None = None
        """What refusals say of when to come again."""
        self.reject: set[str] = set()
        """Event ids that are rejected for themselves."""
        self.drops = 0
        """How many of the next requests are taken, and never answered."""
        self.commands: list[ControlRecord] = []
        self.last_ids: list[str | None] = []
        """With what each control stream began."""
        self.most_bytes = 2**30
        """Of a request, as a proxy before it has them."""
        self.blind: str | None = None
        self.ahead_s = 0.0
        """By how much its clock has gone on while its client slept."""
        self.cuts: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """One for each control stream that is to end."""
        self.key = {"key_id": "0", "tenant_id": "acme", "scopes": ["ingest", "guard"], "when_blind": "stop"}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.is_ending = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_ending = True
        self._server.shutdown()
        self._server.server_close()


def _handler(gateway: ScriptedGateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events = [json.loads(line) for line in body.splitlines()]
            gateway.requests.append([event["event_id"] for event in events])
            if len(body) > gateway.most_bytes:
                self._answer(413, {})
                return
            if gateway.refusals:
                self._answer(*gateway.refusals.pop(0))
                return
            rejected = [
                {"index": index, "reason": "wrong_value", "detail": "scripted"}
                for index, event in enumerate(events)
                if event["event_id"] in gateway.reject
            ]
            gateway.received += [event for event in events if event["event_id"] not in gateway.reject]
            if gateway.drops:
                gateway.drops -= 1
                self.close_connection = True
                return
            self._answer(200 if len(rejected) < len(events) else 400, {"accepted": 0, "rejected": rejected})

        def do_GET(self) -> None:
            if self.headers["Authorization"] != f"Bearer {KEY}":
                self._answer(401, {"error": "this key is not known here"})
            elif self.path == "/v1/key":
                self._answer(200, gateway.key)
            elif self._is_stream_refused():
                self._answer(429, {})
            else:
                self._stream()

        def _is_stream_refused(self) -> bool:
            gateway.asked_s.append(time.monotonic())
            gateway.streams_refused -= 1
            return gateway.streams_refused >= 0

        def _stream(self) -> None:
            last_id = self.headers.get("Last-Event-ID")
            gateway.last_ids.append(last_id)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self._event("hello", {"tenant_id": "acme", "at_s": time.monotonic()})
            sent = int((last_id or "0-0").split("-")[1])
            while not gateway.is_ending:
                for record in gateway.commands[sent:]:
                    sent += 1
                    headers = [(name, (value or b"").decode()) for name, value in record.headers]
                    data = {"value": (record.value or b"").decode(), "headers": headers}
                    self._event("command", data, f"0-{sent}")
                self._event("fresh", {"at_s": time.monotonic() + gateway.ahead_s, "age_s": 0.0, "blind": gateway.blind})
                try:
                    gateway.cuts.get(timeout=BEAT_S)
                except queue.Empty:
                    continue
                return

        def _event(self, name: str, data: dict[str, Any], event_id: str | None = None) -> None:
            head = f"id: {event_id}\n" if event_id else ""
            self.wfile.write(f"{head}event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()

        def _answer(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status >= 400 and gateway.retry_after is not None:
                self.send_header("Retry-After", gateway.retry_after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
