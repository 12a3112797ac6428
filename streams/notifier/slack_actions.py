"""The endpoint that Slack calls when somebody presses a button: checks that it is Slack, writes the order, answers.

POST /slack/actions
  401  not signed by Slack, or signed more than five minutes ago
  413  more than any press is; 408 when it does not come to an end; 400 for what is no press of a button
  200  accepted; the person reads what will happen, or why nothing will, in a message that only they see

Slack wants an answer within three seconds. An order that takes longer to write is still written, and the person reads
how that ended. Slack says nothing twice unless it heard nothing: the same press is the same order then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

from alerting.receivers.slack.actions import Press, not_ordered, not_stopped, ordered, read_press, reply
from schemas.control import Target
from schemas.errors import SettingsError, SpendfuseError, Undecodable
from schemas.operator import OperatorMessage, Resume
from streams.clock import BrokerClock
from streams.notifier.senders import receivers_tls
from streams.process.http import HttpServer
from streams.process.logs import fields
from streams.settings import Settings

if TYPE_CHECKING:
    from slack_sdk.signature import SignatureVerifier

log = logging.getLogger("spendfuse.actions")

PATH = "/slack/actions"
SLACK_HOOKS = "https://hooks.slack.com/"
"""Where Slack takes answers to a press. No other address is ever called."""
MOST_BYTES = 256 * 1024
READ_S = 1.0
ANSWER_S = 1.5
"""How long Slack waits for an order to be written; with the reading, below its three seconds."""
REPLY_S = 5.0
LOOK_S = 10.0
"""How long to look whether something is stopped."""
CLOSE_S = 25.0
"""How long orders under way are waited for at the end: longer than writing one can take."""

Publish = Callable[[OperatorMessage], Awaitable[None]]
Stands = Callable[[str, Target], Awaitable[bool]]
"""Whether a command holds back a target of a tenant."""


class ActionServer:
    """Listens for presses while it is entered; with `actions_port` 0 it does nothing.

    `publish` signs an order, writes it to operator.v1 and returns when the broker has it. `stands` is asked before
    something is let go on. `brokers` is the time by which a press is fresh. `replies_to` is where the addresses must
    begin that people are answered at.

    Raises:
        SettingsError: a port without the secret to check signatures with, or one that cannot be listened on.
    """

    def __init__(
        self,
        settings: Settings,
        publish: Publish,
        stands: Stands,
        brokers: BrokerClock | None = None,
        *,
        replies_to: str = SLACK_HOOKS,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._stands = stands
        self._replies_to = replies_to
        self._verifier = _verifier(settings, brokers or BrokerClock()) if settings.actions_port else None
        self._server: HttpServer | None = None
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._verifier is None:
            return self
        host, port = self._settings.actions_host, self._settings.actions_port
        server = HttpServer(
            [web.post(PATH, self._pressed)],
            host,
            port,
            "SPENDFUSE_ACTIONS_PORT",
            most_bytes=MOST_BYTES,
            end_s=READ_S + ANSWER_S,
        )
        self._server = await server.__aenter__()
        connector = aiohttp.TCPConnector(ssl=receivers_tls(self._settings) or True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=REPLY_S))
        log.info("listening for buttons", extra=fields(host=host, port=port, path=PATH))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more presses, and finish those that were taken."""
        if self._server is not None:
            await self._server.__aexit__(kind, error, trace)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_S)
        for task in self._under_way:
            log.error("an order is left unfinished", extra=fields(order=task.get_name()))
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _pressed(self, request: web.Request) -> web.Response:
        try:
            body = await asyncio.wait_for(request.read(), READ_S)
        except TimeoutError:
            return web.Response(status=408)
        if not self._is_slack(body, request.headers):
            log.warning("a press without Slack's signature was refused", extra=fields(bytes=len(body)))
            return web.Response(status=401)
        try:
            press = read_press(_payload(body), self._settings.slack_operators)
        except Undecodable as fault:
            log.warning("a press cannot be understood", extra=fields(reason=fault.reason, detail=fault.detail))
            return web.Response(status=400)
        if press is not None:
            task = self._start(self._refuse(press) if press.refused else self._carry_out(press), press)
            await asyncio.wait({task}, timeout=ANSWER_S)
        return web.Response()

    def _is_slack(self, body: bytes, headers: Mapping[str, str]) -> bool:
        assert self._verifier is not None
        try:
            return self._verifier.is_valid_request(body, dict(headers))
        except (ValueError, TypeError):  # the client lets a time that is no number, and text that is not ASCII, through
            return False

    def _start(self, work: Coroutine[Any, Any, None], press: Press) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=press.order.message_id)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _carry_out(self, press: Press) -> None:
        order = press.order
        about = fields(message_id=order.message_id, type=type(order).__name__, tenant_id=order.tenant_id, who=order.who)
        if isinstance(order, Resume) and not await self._is_stopped(order):
            log.info("a press would let go on what is not stopped", extra=about)
            await self._answer(press, not_stopped(order))
            return
        try:
            await self._publish(order)
        except SpendfuseError as error:
            log.error("an order by button was not written", extra={"fields": about["fields"] | {"error": str(error)}})
            await self._answer(press, not_ordered(order))
        except Exception:
            log.exception("an order by button was not written", extra=about)
            await self._answer(press, not_ordered(order))
        else:
            log.info("ordered by button", extra=about)
            await self._answer(press, ordered(order))

    async def _is_stopped(self, order: Resume) -> bool:
        """Whether there is anything to resume; where that cannot be known, the order is written."""
        try:
            return await asyncio.wait_for(self._stands(order.tenant_id, order.target), LOOK_S)
        except (SpendfuseError, TimeoutError) as error:
            log.warning("what stands cannot be read; the order is written", extra=fields(error=str(error)))
            return True

    async def _refuse(self, press: Press) -> None:
        log.warning("a press was refused", extra=fields(who=press.order.who, tenant_id=press.order.tenant_id))
        await self._answer(press, press.refused)

    async def _answer(self, press: Press, text: str) -> None:
        """Answer the person. That it fails changes nothing about their order."""
        if not press.reply_to.startswith(self._replies_to) or self._session is None:
            return
        try:
            async with self._session.post(press.reply_to, json=reply(text), allow_redirects=False) as answer:
                if answer.status != 200:
                    log.warning("somebody could not be answered", extra=fields(status=answer.status))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("somebody could not be answered", extra=fields(error=type(error).__name__))


def _verifier(settings: Settings, brokers: BrokerClock) -> "SignatureVerifier":
    from slack_sdk.signature import Clock, SignatureVerifier

    class OurClock(Clock):
        """Slack's verifier goes by the time that all of alerting goes by."""

        def now(self) -> float:
            return brokers.now_ms() / 1000

    secret = settings.slack_signing_secret.get_secret_value() if settings.slack_signing_secret else ""
    if not secret.strip():
        raise SettingsError(
            "SPENDFUSE_ACTIONS_PORT is set and SPENDFUSE_SLACK_SIGNING_SECRET is not: without it anybody could press "
            "buttons. It stands on the Slack app's page, under Basic Information"
        )
    return SignatureVerifier(secret, OurClock())


def _payload(body: bytes) -> bytes:
    """The JSON in the form that Slack posts. Raises `Undecodable`."""
    try:
        (payload,) = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"]
        return payload.encode()
    except (ValueError, KeyError):
        raise Undecodable("wrong_value", "no form with one payload") from None
