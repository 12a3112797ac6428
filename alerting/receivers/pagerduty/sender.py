"""Sending to PagerDuty, through its Events API v2 client: a page per incident and level, closed when a higher opens.

The client is synchronous, so it gets a small thread pool of its own, and it likes to sleep and try again, which is
taken from it: one call is one request.
"""

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pagerduty
from msgspec.structs import replace

from alerting.errors import SendError
from alerting.notice import Notice, Receipt
from alerting.receivers.base import status_error
from alerting.receivers.causes import cause
from alerting.rendering.evidence import evidence
from alerting.rendering.figures import timestamp
from alerting.rendering.foreign import clean, name, names
from alerting.rendering.links import links
from alerting.rendering.render import (
    facts,
    gauge,
    is_about_several,
    line,
    reference,
    sentence,
    what_to_do,
    what_was_done,
)
from schemas.alert import Alert

PAGERDUTY_URL = "https://events.pagerduty.com"
MOST_OF_A_SUMMARY = 1_024
MOST_OF_A_KEY = 255
MOST_OPEN_KEYS = 16
"""An incident has one key per level, and a rule at most sixteen levels."""

# Statuses the client would sleep on, or answer with the end of the key in its error, unless they are named for a retry.
_HANDED_BACK = (401, 429, 500, 502, 503, 504)
# The status of a key that was revoked is that of an event that is malformed; only the text tells them apart.
_NAMES_THE_KEY = re.compile("routing[_ ]key", re.IGNORECASE)
_NOT_SENT = (
    httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One call of the Events API: `trigger` with a payload, `acknowledge` or `resolve`."""

    action: str
    dedup_key: str
    properties: dict[str, Any] = field(default_factory=dict)


class PagerDutySender:
    """Sends events under one routing key, with at most `threads` calls at a time.

    A call waits at most `timeout_s` for each connection, read and write, and `deadline_s` in all, so that a receiver
    that answers byte by byte holds no thread for long.
    """

    def __init__(
        self,
        routing_key: str,
        *,
        url: str = PAGERDUTY_URL,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 5.0,
        deadline_s: float = 15.0,
        threads: int = 2,
        links: Mapping[str, str] | None = None,
    ) -> None:
        self._routing_key = routing_key
        self._url = url
        self._tls = tls or httpx2.create_ssl_context()
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._links = links or {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pagerduty")

    async def send(self, delivery_id: str, notice: Notice) -> Receipt:
        """Trigger or resolve. Every event may be repeated: PagerDuty merges them by their keys."""
        if notice.ready is not None:
            return Receipt()  # nobody is woken for what comes ready: a review
        for event in events(delivery_id, notice, _opened(notice), self._links):
            await self._submit(event)
        return Receipt({"dedup_keys": "" if notice.alert.state == "resolved" else dedup_key(notice.alert)})

    async def aclose(self) -> None:
        """Let calls under way end by themselves; nothing new is begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _submit(self, event: Event) -> None:
        line = _Line()
        call = self._pool.submit(self._perform, event, line)
        failure: SendError | None = None
        try:
            await asyncio.wait_for(asyncio.wrap_future(call), self._deadline_s)
        except TimeoutError:
            # A call that still waited for a thread can be taken back.
            begun = not call.cancel()
            failure = SendError("timeout", "pagerduty has not answered in time", retryable=True, ambiguous=begun)
        except (pagerduty.Error, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            failure = _failure(error)
        finally:
            line.cut()
        if failure is not None:
            # Raised here, so that the client's exception, whose request holds the routing key, does not hang on to it.
            raise failure

    def _perform(self, event: Event, line: "_Line") -> None:
        """In a thread of the pool. A client of its own, so that cutting one call off harms no other."""
        client = self._client(line)
        try:
            client.send_event(event.action, event.dedup_key, **event.properties)
        finally:
            client.close()

    def _client(self, line: "_Line") -> pagerduty.EventsApiV2Client:
        hooks = {"request": [line.watch]}
        client = pagerduty.EventsApiV2Client(self._routing_key, base_url=self._url, verify=self._tls, event_hooks=hooks)
        client.timeout = self._timeout_s  # type: ignore[assignment]  # annotated by its default, passed on as it is
        client.max_network_attempts = 0
        # Below zero, the first answer already exceeds the allowance and is handed back without a sleep.
        client.max_http_attempts = -1
        client.retry = dict.fromkeys(_HANDED_BACK, 1)
        return client


class _Line:
    """The connection of one call, so that the call can be ended from outside its thread.

    The socket is shut down and not closed: its number could be given to another connection while the thread reads.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._is_cut = False

    def watch(self, request: httpx2.Request) -> None:
        """Have the transport report the connection that it makes for this request."""
        request.extensions = {**request.extensions, "trace": self._trace}

    def cut(self) -> None:
        """End the call under way, if there is one, and any that would still begin."""
        self._is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._is_cut:
                self.cut()


def dedup_key(alert: Alert) -> str:
    """One per incident and level: an acknowledged page is not repeated, so a higher level must be a page of its own."""
    key = f"{alert.incident_id}/{alert.level:g}"
    # Without spaces, which separate the keys in a receipt.
    if len(key) <= MOST_OF_A_KEY and key.isascii() and key.isprintable() and " " not in key:
        return key
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def events(delivery_id: str, notice: Notice, opened: tuple[str, ...], templates: Mapping[str, str]) -> list[Event]:
    """What to send to PagerDuty, in order; `opened` are the keys of the incident's pages so far.

    The higher page opens before the lower closes, so that nothing is ever left unpaged between the two.
    """
    key = dedup_key(notice.alert)
    lower = [one for one in opened if one != key]
    if notice.alert.state == "resolved":
        return [Event("resolve", one) for one in (*lower, key)]
    if notice.kind == "acknowledged":
        return [Event("acknowledge", key)]
    properties: dict[str, Any] = {"payload": payload(delivery_id, notice), "client": "Spendfuse"}
    if linked := links(notice.alerts, templates):
        properties["links"] = [{"href": address, "text": clean(label)} for label, address in linked]
    return [Event("trigger", key, properties), *(Event("resolve", one) for one in lower)]


def payload(delivery_id: str, notice: Notice) -> dict[str, Any]:
    """The event's payload: https://developer.pagerduty.com/docs/send-alert-event."""
    alert = notice.alert
    at = timestamp(alert.ts_ms)
    workflow = alert.attribution.get("workflow") or alert.scope.get("workflow")
    return {
        "summary": clean(_summary(notice), MOST_OF_A_SUMMARY),
        "source": name(alert.tenant_id),
        "severity": alert.severity,
        **({"timestamp": at} if at else {}),
        **({"component": name(workflow)} if workflow else {}),
        "group": name(alert.rule),
        "class": name(alert.detector),
        "custom_details": {**_details(notice), "Delivery": delivery_id},
    }


def _summary(notice: Notice) -> str:
    """What a list of pages shows, and often nothing else: it has to tell two runs at the same cap apart."""
    told = sentence(notice)
    run = "" if is_about_several(notice) else name(notice.alert.run_id or "", 64)
    return f"{told} Run: {run}" if run and not names(told, run) else told


def _details(notice: Notice) -> dict[str, Any]:
    """What a page shows under its summary, in this order."""
    alert = notice.alert
    if is_about_several(notice):
        shown: dict[str, Any] = {"What to do": what_to_do(notice), "Incidents": [line(each) for each in notice.alerts]}
        more: dict[str, Any] = {"And more": f"{notice.more:,}"} if notice.more else {}
    else:
        shown = {"What was done": what_was_done(notice), "What to do": what_to_do(notice), "Value": gauge(alert)}
        more = {**dict[str, Any](facts(alert)), "Evidence": evidence(alert), "Reference": reference(alert)}
    return {label: text for label, text in {**shown, **more}.items() if text}


def _opened(notice: Notice) -> tuple[str, ...]:
    """The pages that the newest receipt says are open, and those that attempts without an outcome may have opened."""
    keys = notice.first.place.get("dedup_keys", "") if notice.first is not None else ""
    perhaps = [dedup_key(replace(notice.alert, level=level)) for level in notice.maybe_levels]
    return tuple(dict.fromkeys([*keys.split(), *perhaps]))[:MOST_OPEN_KEYS]


def _failure(error: Exception) -> SendError:
    """The client's exception in our terms."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code == 400 and _NAMES_THE_KEY.search(response.text):
        return SendError("bad_credentials", "pagerduty does not know the routing key", retryable=False)
    if response is not None and not response.is_success:
        return status_error("pagerduty", response.status_code, response.headers.get("Retry-After"))
    if response is not None:
        detail = "pagerduty's answer is not understood: does a proxy answer for it?"
        return SendError("unknown", detail, retryable=True, ambiguous=True)
    behind = error.__cause__ or error
    return SendError(
        "timeout" if isinstance(behind, httpx2.TimeoutException) else "network",
        f"no answer from pagerduty: {cause(error)}",
        retryable=True,
        ambiguous=not isinstance(behind, _NOT_SENT),
    )
