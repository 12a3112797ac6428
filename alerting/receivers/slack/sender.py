"""Sending to Slack, through slack-sdk's async client: one message per incident, edited as it goes on, with a thread."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from alerting.errors import Reason, SendError
from alerting.notice import Notice, Receipt
from alerting.receivers.base import retry_after_ms, status_error
from alerting.receivers.causes import cause
from alerting.receivers.slack.blocks import SlackMessage, slack_message, thread_reply
from alerting.rendering.foreign import clean

SLACK_URL = AsyncWebClient.BASE_URL

# https://docs.slack.dev/reference/methods/chat.postMessage#errors
_REASONS: dict[str, Reason] = {
    **dict.fromkeys(
        ("invalid_auth", "not_authed", "account_inactive", "token_expired", "token_revoked", "missing_scope",
         "no_permission", "not_allowed_token_type", "access_denied", "accesslimited", "ekm_access_denied",
         "org_login_required", "two_factor_setup_required", "team_access_not_granted", "enterprise_is_restricted"),
        "bad_credentials",
    ),
    **dict.fromkeys(
        ("channel_not_found", "not_in_channel", "is_archived", "is_inactive", "restricted_action",
         "restricted_action_read_only_channel", "restricted_action_thread_only_channel", "messages_tab_disabled",
         "team_not_found"),
        "no_such_place",
    ),
    **dict.fromkeys(("msg_too_long", "msg_blocks_too_long"), "too_long"),
    **dict.fromkeys(("ratelimited", "rate_limited", "message_limit_exceeded"), "rate_limited"),
    **dict.fromkeys(
        ("internal_error", "fatal_error", "service_unavailable", "team_added_to_org", "external_channel_migrating"),
        "server_error",
    ),
    # Slack's word for a request of which a part was lost on the way.
    "request_timeout": "network",
}  # fmt: skip
_RETRYABLE: frozenset[Reason] = frozenset({"rate_limited", "server_error", "network"})
# Slack documents that part of the operation may have succeeded before these.
_DONE_PERHAPS = frozenset({"internal_error", "fatal_error"})
_FIRST_IS_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
# What Slack holds against blocks and metadata: the sentence alone would be taken.
_FORM = frozenset({
    "invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long", "invalid_metadata_format",
    "invalid_metadata_schema", "metadata_too_large", "metadata_must_be_sent_from_app",
})  # fmt: skip


class _SlackError(SendError):
    """With Slack's own word for it, in `code`; empty where it did not come so far."""

    code = ""


class _NotThereError(Exception):
    """The incident's first message can be neither edited nor replied to."""


class SlackSender:
    """Posts to one channel. An incident's later states edit its first message and reply in its thread.

    Each call is made once and cut after `timeout_s`. A message found too long is sent again once, shortened; one whose
    form is refused, as its sentence alone. Where the first message can be neither edited nor replied to, or stands in
    another channel than the policy names now, what goes on is posted anew; an end is sent where the beginning was.
    """

    def __init__(
        self,
        token: str,
        channel: str,
        *,
        base_url: str = SLACK_URL,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
        links: Mapping[str, str] | None = None,
    ) -> None:
        self._token = token
        self._channel = channel
        self._base_url = base_url
        self._tls = tls
        self._timeout_s = timeout_s
        self._links = links or {}
        self._web: AsyncWebClient | None = None

    async def send(self, delivery_id: str, notice: Notice) -> Receipt:
        place = notice.first.place if notice.first is not None else {}
        goes_on = notice.kind in ("incident", "acknowledged", "flapping") and {"channel", "ts"} <= place.keys()
        if goes_on and (place.get("named", self._channel) == self._channel or notice.alert.state == "resolved"):
            try:
                return await self._update(delivery_id, notice, place)
            except _NotThereError:
                pass
        return await self._post(delivery_id, notice)

    async def aclose(self) -> None:
        """Close the connections; the next send opens new ones."""
        web, self._web = self._web, None
        if web is not None and web.session is not None:
            await web.session.close()

    async def _post(self, delivery_id: str, notice: Notice) -> Receipt:
        answer = await self._say("chat.postMessage", delivery_id, notice, channel=self._channel)
        channel, ts = answer.get("channel"), answer.get("ts")
        if not isinstance(channel, str) or not isinstance(ts, str):
            return Receipt()
        return Receipt({"channel": channel, "ts": ts, "named": self._channel})

    async def _update(self, delivery_id: str, notice: Notice, place: dict[str, str]) -> Receipt:
        """Edit the first message and reply to it. Raises `_NotThereError` where one of the two is impossible."""
        channel, ts = place["channel"], place["ts"]
        try:
            await self._say("chat.update", delivery_id, notice, channel=channel, ts=ts)
        except _SlackError as error:
            if error.code in _FIRST_IS_GONE or error.reason == "no_such_place":
                raise _NotThereError from None
            raise
        try:
            await self._call("chat.postMessage", delivery_id, thread_reply(notice), channel=channel, thread_ts=ts)
        except _SlackError as error:
            # An edit makes no sound: without a reply nobody would hear of it.
            if not error.retryable and error.reason != "bad_credentials":
                raise _NotThereError from None
            raise
        return Receipt(place)

    async def _say(self, method: str, delivery_id: str, notice: Notice, **where: str) -> dict[str, Any]:
        message = self._message(notice)
        try:
            return await self._call(method, delivery_id, message, **where)
        except SendError as error:
            failure = error
        if failure.reason == "too_long":
            message = self._message(notice, short=True)
            try:
                return await self._call(method, delivery_id, message, **where)
            except SendError as error:
                failure = error
        if isinstance(failure, _SlackError) and failure.code in _FORM:
            return await self._call(method, delivery_id, SlackMessage(message.text, []), **where)
        raise failure

    def _message(self, notice: Notice, *, short: bool = False) -> SlackMessage:
        if notice.ready is not None:
            return SlackMessage(notice.ready.slack_text, list(notice.ready.blocks))
        return slack_message(notice, self._links, short=short)

    async def _call(self, method: str, delivery_id: str, message: SlackMessage, **where: str) -> dict[str, Any]:
        body = {
            **where,
            "text": message.text,
            "blocks": message.blocks,
            "parse": "none",
            "link_names": False,
        }
        if message.blocks:
            # With it, a message whose sending had no known outcome can be found in the channel.
            body["metadata"] = {"event_type": "spendfuse_notice", "event_payload": {"delivery_id": delivery_id}}
        if method == "chat.postMessage":
            body |= {"mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
        # Every exception: the client lets parsing errors of its own through.
        try:
            answer = await self._connected().api_call(method, json=body)
        except Exception as error:
            failure = _failure(error, repeatable=method == "chat.update")
        else:
            return answer.data if isinstance(answer.data, dict) else {}
        # Raised here, so that the client's exception, which holds the request with its token, does not hang on to ours.
        raise failure

    def _connected(self) -> AsyncWebClient:
        if self._web is None:
            limit = aiohttp.ClientTimeout(total=self._timeout_s, connect=self._timeout_s / 2)
            session = aiohttp.ClientSession(timeout=limit)
            self._web = AsyncWebClient(
                self._token, base_url=self._base_url, session=session, ssl=self._tls, retry_handlers=[]
            )
        return self._web


def _failure(error: Exception, *, repeatable: bool) -> SendError:
    """The client's exception in our terms. What is `repeatable` is never ambiguous: doing it twice is doing it once."""
    if isinstance(error, SlackApiError):
        failure = _answered(error.response)
    elif isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        reason: Reason = "timeout" if isinstance(error, TimeoutError) else "network"
        failure = SendError(reason, f"no connection to slack: {cause(error)}", retryable=True)
    elif isinstance(error, asyncio.TimeoutError):
        failure = SendError("timeout", "slack has not answered in time", retryable=True, ambiguous=True)
    elif isinstance(error, aiohttp.InvalidURL):
        failure = SendError("no_such_place", "slack's address is no address", retryable=False)
    elif isinstance(error, aiohttp.ClientError | OSError):
        failure = SendError("network", f"slack broke off: {cause(error)}", retryable=True, ambiguous=True)
    else:
        failure = SendError("unknown", f"from slack: {type(error).__name__}", retryable=True, ambiguous=True)
    failure.ambiguous = failure.ambiguous and not repeatable
    return failure


def _answered(response: Any) -> SendError:
    """What Slack's answer means: its HTTP status, or `ok: false` with a word for the error."""
    # The client hands over its own response, or aiohttp's where the body was no JSON.
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    headers = getattr(response, "headers", {})
    wait = headers.get("Retry-After")
    if status != 200:
        return status_error("slack", status, wait)
    data = getattr(response, "data", None)
    code = data.get("error") if isinstance(data, dict) else None
    if not isinstance(code, str):
        detail = "slack's answer is not understood: does a proxy answer for it?"
        return SendError("unknown", detail, retryable=True, ambiguous=True)
    reason = _REASONS.get(code, "bad_request")
    failure = _SlackError(
        reason,
        f"slack says {clean(code, 60)}",
        retryable=reason in _RETRYABLE,
        ambiguous=code in _DONE_PERHAPS,
        retry_after_ms=retry_after_ms(wait),
    )
    failure.code = code
    return failure
