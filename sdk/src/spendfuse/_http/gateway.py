"""Where the gateway is, and requests to it."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from spendfuse._client.environment import gateway_key, gateway_url

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class GatewayError(Exception):
    """The gateway did not do what it was asked for; the text says why. `status` is None where nobody answered."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """Whose key it is, and what it allows."""

    tenant_id: str
    scopes: tuple[str, ...]
    when_blind: Literal["continue", "stop"]


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
            response = self.request(connection, "GET", "/v1/key")
            answer = read_answer(response)
            if response.status != 200:
                raise GatewayError(self.why(response.status, answer), response.status)
            when_blind = cast("Literal['continue', 'stop']", str(answer["when_blind"]))
            return KeyInfo(str(answer["tenant_id"]), tuple(answer["scopes"]), when_blind)
        except (OSError, http.client.HTTPException, KeyError, TypeError) as error:
            raise GatewayError(self.unreachable(error)) from None
        finally:
            connection.close()

    def why(self, status: int, answer: Any) -> str:
        """What a refusal means, for people."""
        said = answer.get("error") if isinstance(answer, dict) else None
        return f"{self.url} answers {status}: {said or 'is it a gateway of Spendfuse?'}"

    def unreachable(self, error: BaseException) -> str:
        """What a missing answer means, for people."""
        return f"{self.url} does not answer: {error or type(error).__name__}"


def read_answer(response: http.client.HTTPResponse) -> Any:
    """What the body says as JSON; None for anything else."""
    body = response.read(MAX_ANSWER_BYTES)
    try:
        return json.loads(body or b"null")
    except ValueError:
        return None
