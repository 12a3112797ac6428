"""Somebody else's HTTP interface, on loopback."""

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class _Server(ThreadingHTTPServer):
    """Whoever hangs up is no fault."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Loopback(ABC):
    """Answers while it is entered."""

    protocol = "HTTP/1.0"
    """Whose connections end with each answer."""

    def __init__(self) -> None:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = stub.protocol
            disable_nagle_algorithm = True  # headers and body would be 40 ms apart

            def do_GET(self) -> None:
                stub.answer(self)

            do_HEAD = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  # the server looks for these names

            def log_message(self, *_: Any) -> None:
                """Tests are quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    @abstractmethod
    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""

    def send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """The answer to it."""
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
