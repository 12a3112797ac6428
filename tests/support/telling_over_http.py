"""The pipeline with the real clients behind it and scripted receivers behind those, in virtual time.

A request takes no virtual time: what passes is what the pipeline chooses to wait.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from alerting.delivery.log import DeliveryLog
from alerting.effects import Effect, Failed, Record, Send, Sent, WaitUntil
from alerting.errors import SendError
from alerting.pipeline import Pipeline
from alerting.receivers.base import Sender
from schemas.alert import Alert
from schemas.routing import parse_routing
from tests.support.telling import NOON_MS


class OverHttp:
    """Performs what a pipeline asks for, each message as a real request."""

    def __init__(self, policy: Mapping[str, Any], senders: Mapping[str, Sender], now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms
        self.asked: list[tuple[int, str]] = []
        """Virtual time and receiver of every request."""
        self.store: dict[str, bytes] = {}
        self.pipeline = Pipeline(parse_routing(policy), DeliveryLog())
        self._senders = senders
        self._wake_ms: int | None = None

    async def alert(self, alert: Alert) -> None:
        """Hand in an alert now."""
        await self._perform(self.pipeline.alert(alert, self.now_ms))

    async def until(self, at_ms: int) -> None:
        """Let virtual time pass, waking the pipeline when it asked for it."""
        while self._wake_ms is not None and self._wake_ms <= at_ms:
            self.now_ms, self._wake_ms = max(self.now_ms, self._wake_ms), None
            await self._perform(self.pipeline.tick(self.now_ms))
        self.now_ms = max(self.now_ms, at_ms)

    def times_asked(self, receiver: str) -> list[int]:
        """Virtual times of the requests to a receiver."""
        return [at_ms for at_ms, name in self.asked if name == receiver]

    async def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record(key=key, value=None):
                    self.store.pop(key, None)
                case Record(key=key, value=bytes(value)):
                    self.store[key] = value
                case WaitUntil(at_ms=at_ms):
                    self._wake_ms = at_ms
                case Send():
                    await self._send(effect)

    async def _send(self, send: Send) -> None:
        self.asked.append((self.now_ms, send.receiver))
        try:
            receipt = await asyncio.wait_for(self._senders[send.receiver].send(send.delivery_id, send.notice), 30)
        except SendError as error:
            failure = Failed(
                send.delivery_id, error.reason, retryable=error.retryable, ambiguous=error.ambiguous,
                retry_after_ms=error.retry_after_ms, at_ms=self.now_ms,
            )  # fmt: skip
            await self._perform(self.pipeline.failed(failure))
        else:
            await self._perform(self.pipeline.sent(Sent(send.delivery_id, receipt, self.now_ms)))
