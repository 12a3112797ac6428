"""The live page as users start it, a world of topics for it, and a client that knows nothing but HTTP."""

import contextlib
import http.client
import http.cookies
import io
import re
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from infra.kafka.local import free_ports
from schemas.edge.access_key import AccessScope
from streams.settings import Settings
from streams.tools.access_keys import run_create
from tests.support.kafka import TopicSpace
from tests.support.service_process import ServiceProcess

SECRET = "what the page signs logins with, in tests"
COOKIE = "spendfuse_session"


class ConsoleProcess(ServiceProcess):
    """`python -m streams console`; another one with the same `port` takes over."""

    def __init__(self, bootstrap: str, prefix: str, port: int | None = None, **more: object) -> None:
        self.console_port = port or free_ports(1)[0]
        settings = {
            "KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "CONSOLE_PORT": self.console_port,
            "CONSOLE_SECRET": SECRET,
        }  # fmt: skip
        super().__init__(["streams", "console"], {**settings, **more})

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.console_port}"

    def wait_ready(self) -> None:
        """Wait until it has read all topics."""
        self.wait_said("showing the page")


def page_key(topics: TopicSpace, tenant_id: str, *scopes: AccessScope) -> str:
    """The token of a new key, made as on the command line; for fixtures of a module, which have no capture."""
    printed = io.StringIO()
    settings = Settings(kafka_bootstrap=topics.bootstrap, prefix=topics.prefix, operator_name="ana")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        assert run_create(settings, tenant_id, scopes, "on-call") == 0
    return printed.getvalue().strip()


class Page(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def form(self) -> str:
        """The token of its forms."""
        found = re.search(r'name="form" value="([^"]*)"', self.text)
        assert found is not None, f"there is no form in it:\n{self.text[:2000]}"
        return found[1]


class Reader:
    """Somebody with a browser, as far as HTTP goes: keeps the cookie, follows nothing."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self._port = port
        self.cookie: str | None = None
        if key is not None:
            page = self.post("/login", {"key": key})
            assert page.status == 303, page.text[:1000]

    def get(self, path: str, **headers: str) -> Page:
        """A page."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Page:
        """What comes of a form."""
        given = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return self._ask("POST", path, urlencode(form).encode(), given)

    def order(self, path: str, **form: str) -> Page:
        """What comes of an order's form, with the token of this session."""
        return self.post(path, {"form": self.get("/policy").form, **form})

    def changes(self, path: str, length_s: float) -> bytes:
        """All that a page is sent within so many seconds."""
        found = b""
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as plain:
            plain.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {COOKIE}={self.cookie}\r\n\r\n".encode())
            plain.settimeout(0.2)
            deadline = time.monotonic() + length_s
            while time.monotonic() < deadline:
                try:
                    found += plain.recv(1 << 20)
                except TimeoutError:
                    continue
        return found

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Page:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            given = dict(headers) | ({"Cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {})
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            text = answer.read().decode()
            self._keep(answer.getheader("Set-Cookie"))
            return Page(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)
        finally:
            connection.close()

    def _keep(self, given: str | None) -> None:
        if given is not None:
            jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie(given)
            self.cookie = jar[COOKIE].value or None


def attributes(cookie: str) -> dict[str, Any]:
    """What a `Set-Cookie` says besides."""
    jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie(cookie)
    return {name: value for name, value in jar[COOKIE].items() if value}
