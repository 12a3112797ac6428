"""Where the gateway is, and requests to it."""

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from spendfuse._client.environment import gateway_key, gateway_url

TIMEOUT_S = 10.0
BUSY = (408, 413, 429, 500, 502, 503, 504)
"""What a proxy answers, too, in words of HTTP's own where it says no more."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class GatewayError(Exception):
    """The gateway did not do what it was asked for; the text says why. `status` is None where nobody answered.

    `rest_s` is for how long it asks to be left alone.
    """

    def __init__(self, text: str, status: int | None = None, rest_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.rest_s = rest_s


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """Whose key it is, and what it allows."""

    tenant_id: str
    scopes: tuple[str, ...]
    when_blind: Literal["continue", "stop"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gateway, or somebody in between, has answered."""

    status: int
    said: Any
    """The body as JSON; None for anything else."""
    headers: Message

    @property
    def rest_s(self) -> float:
        """For how long it asks to be left alone: `Retry-After` (RFC 9110, 10.2.3) in seconds, or as a date, which is by
        its own clock where it tells that. 0 where it asks for nothing that can be read.
        """
        said = self.headers.get("Retry-After", "").strip()
        if said.isascii() and said.isdigit():
            return float(said)
        until_s, now_s = _http_date_s(said), _http_date_s(self.headers.get("Date", ""))
        return max(until_s - (now_s or time.time()), 0.0)


class Gateway:
    """A gateway's address and the key to show there. Holds no connection."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        """What is left out comes from SPENDFUSE_URL and SPENDFUSE_KEY. Raises ValueError for what can be neither."""
        self.url = gateway_url(url)
        self._key = gateway_key(key)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{self.url!r} is no address of a gateway: give https://host or http://host:port")
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def connect(self, timeout_s: float = TIMEOUT_S) -> http.client.HTTPConnection:
        """A connection, not yet opened."""
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)

    def request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """The answer, its body unread. Raises OSError or HTTPException."""
        given = {"Authorization": f"Bearer {self._key}", "User-Agent": "spendfuse-python", **(headers or {})}
        if body is not None:
            given["Content-Type"] = "application/json"
        connection.request(method, self._path + path, body, given)
        return connection.getresponse()

    def key_info(self, timeout_s: float = 5.0) -> KeyInfo:
        """Whose key that is. Raises GatewayError."""
        connection = self.connect(timeout_s)
        try:
            answer = read_answer(self.request(connection, "GET", "/v1/key"))
            if answer.status != 200:
                raise GatewayError(self.why(answer), answer.status)
            said = answer.said
            when_blind = cast("Literal['continue', 'stop']", str(said["when_blind"]))
            return KeyInfo(str(said["tenant_id"]), tuple(said["scopes"]), when_blind)
        except (OSError, http.client.HTTPException, KeyError, TypeError) as error:
            raise GatewayError(self.unreachable(error)) from None
        finally:
            connection.close()

    def why(self, answer: Answer) -> str:
        """What a refusal means, for people."""
        said = answer.said.get("error") if isinstance(answer.said, dict) else None
        elsewhere = answer.headers.get("Location") if 300 <= answer.status < 400 else None
        moved = f"it has moved to {elsewhere}" if elsewhere else None
        busy = http.client.responses.get(answer.status) if answer.status in BUSY else None
        return f"{self.url} answers {answer.status}: {said or moved or busy or 'is it a gateway of Spendfuse?'}"

    def unreachable(self, error: BaseException) -> str:
        """What a missing answer means, for people."""
        hint = ""
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = "; SSL_CERT_FILE names a certificate authority of your own"
        elif isinstance(error, ssl.SSLError):
            hint = "; is it https:// that it speaks?"
        return f"{self.url} does not answer: {error or type(error).__name__}{hint}"


def _http_date_s(said: str) -> float:
    """Epoch seconds; 0 for what is no date."""
    try:
        return parsedate_to_datetime(said).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def read_answer(response: http.client.HTTPResponse) -> Answer:
    """The answer with its body."""
    body = response.read(MAX_ANSWER_BYTES)
    try:
        said = json.loads(body or b"null")
    except ValueError:
        said = None
    return Answer(response.status, said, response.headers)
