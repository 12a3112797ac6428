"""Sending to anything else: a signed POST with a CloudEvents envelope.

Envelope: CloudEvents 1.0, structured mode. Signature: Standard Webhooks 1.0 (https://www.standardwebhooks.com), for
which receivers find ready-made libraries. The text is cleaned; the alerts are data, exactly as on alerts.v1.
"""

import base64
import hashlib
import hmac
import ssl
import time
from typing import Any

import aiohttp
import msgspec

from alerting.errors import Reason, SendError
from alerting.notice import Notice, Receipt
from alerting.receivers.base import status_error
from alerting.receivers.causes import cause
from alerting.rendering.figures import timestamp
from alerting.rendering.render import plain_text

SOURCE = "spendfuse/alerting"
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the mark before a secret, not one


class WebhookSender:
    """Posts to one address. The event's `id` is the delivery's: a receiver that remembers it sees no duplicates.

    Without a secret posts are unsigned: for addresses that are a secret themselves, such as an outside monitor's.
    """

    def __init__(
        self, url: str, secret: str | None, *, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0
    ) -> None:
        self._url = url
        self._key = None if secret is None else _key(secret)
        self._tls = tls
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def send(self, delivery_id: str, notice: Notice) -> Receipt:
        body = msgspec.json.encode(envelope(delivery_id, notice))
        headers = {"Content-Type": CONTENT_TYPE}
        if self._key is not None:
            headers |= signature(self._key, delivery_id, int(time.time()), body)
        try:
            # Redirects are not followed: the signature is for this address. The body of the answer does not matter.
            address = self._address(notice)
            async with self._opened().post(address, data=body, headers=headers, allow_redirects=False) as answer:
                status, wait = answer.status, answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = _failure(error)
        else:
            if 200 <= status < 300:
                return Receipt({"delivery_id": delivery_id})
            failure = status_error("webhook", status, wait)
        # Raised here, so that the address, which may hold a token, does not hang on to it with the client's exception.
        raise failure

    async def aclose(self) -> None:
        """Close the connections; the next send opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _address(self, notice: Notice) -> str:
        """Where to post. `{partition}` stands for that of a sign of life, so that a monitor can tell them apart."""
        partition = notice.alert.scope.get("partition", "") if notice.alerts else ""
        return self._url.replace("{partition}", partition if partition.isascii() and partition.isdigit() else "")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            limit = aiohttp.ClientTimeout(total=self._timeout_s, connect=self._timeout_s / 2)
            connector = aiohttp.TCPConnector(ssl=self._tls or True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=limit)
        return self._session


def envelope(delivery_id: str, notice: Notice) -> dict[str, Any]:
    """The notice as a CloudEvent."""
    if notice.ready is not None:
        return _ready_envelope(delivery_id, notice)
    alert = notice.alert
    at = timestamp(alert.ts_ms)
    return {
        "specversion": "1.0",
        "id": delivery_id,
        "source": SOURCE,
        "type": f"spendfuse.{notice.kind}.{alert.state}.v1",
        "subject": alert.incident_id,
        **({"time": at} if at else {}),
        "datacontenttype": "application/json",
        "data": {
            "text": plain_text(notice),
            "alerts": notice.alerts,
            "more": notice.more,
            "maybe_repeated": notice.maybe_repeated,
        },
    }


def _ready_envelope(delivery_id: str, notice: Notice) -> dict[str, Any]:
    ready = notice.ready
    assert ready is not None
    return {
        "specversion": "1.0",
        "id": delivery_id,
        "source": SOURCE,
        "type": f"spendfuse.{notice.kind}.v1",
        "subject": ready.subject,
        "time": timestamp(ready.ts_ms),
        "datacontenttype": "application/json",
        "data": {"text": ready.text, notice.kind: ready.data, "maybe_repeated": notice.maybe_repeated},
    }


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks: HMAC-SHA256 over identifier, time in seconds and body."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    mac = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s), "webhook-signature": f"v1,{mac}"}


def _key(secret: str) -> bytes:
    """The secret's bytes: base64 behind `whsec_`, as Standard Webhooks write it, or else the text itself.

    Raises:
        ValueError: the secret is empty, or no base64 follows `whsec_`.
    """
    prefixed = secret.startswith(_SECRET_PREFIX)
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True) if prefixed else secret.encode()
    except ValueError:
        raise ValueError("the webhook's secret is not base64 after whsec_") from None
    if not key:
        raise ValueError("the webhook's secret is empty")
    return key


def _failure(error: Exception) -> SendError:
    """The client's exception in our terms; never with its text, which may hold the address."""
    detail = f"no answer from the webhook: {cause(error)}"
    if isinstance(error, aiohttp.InvalidURL):
        return SendError("no_such_place", "the webhook's address is no address", retryable=False)
    reason: Reason = "timeout" if isinstance(error, TimeoutError) else "network"
    sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return SendError(reason, detail, retryable=True, ambiguous=sent)
