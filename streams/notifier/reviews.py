"""The weekly review, sent when the policy says: by whoever owns the first partition, once to each receiver."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from alerting.delivery.dispatcher import delivery_id
from alerting.delivery.log import Reviewed
from alerting.effects import Failed, Send, Sent
from alerting.notice import Notice
from alerting.review.message import review_notice
from alerting.review.week import last_full_week, last_review_ms
from models.rules.policy import Policy
from schemas.duration import DAY_MS
from streams.clock import BrokerClock
from streams.notifier.notifier import Notifier
from streams.settings import Settings
from streams.tools.weekly import read_review

log = logging.getLogger("spendfuse.alerting")

FIRST_PARTITION = 0
LOOK_EVERY_S = 30.0
AGAIN_AFTER_S = 300.0
"""How long to wait after a receiver did not take it."""
LATE_MS = DAY_MS
"""A review is sent up to a day late, if it could not be sent in time."""


class WeeklyReviews:
    """Looks now and then whether a review is due that somebody has not got yet.

    `policy` gives the one in force. `send` sends a message and gives the outcome. `brokers` is the time it goes by.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Callable[[], Policy],
        notifier: Notifier,
        send: Callable[[Send], Awaitable[Sent | Failed]],
        brokers: BrokerClock | None = None,
    ) -> None:
        self._brokers = brokers or BrokerClock()
        self._settings = settings
        self._policy = policy
        self._notifier = notifier
        self._send_one = send

    async def run(self) -> None:
        """Work until cancelled. What goes wrong with a review must not cost an alert: it is logged, and tried again."""
        await self._notifier.wait_restored()
        while True:
            try:
                done = await self.look(self._brokers.now_ms())
            except Exception:
                log.exception("the weekly review could not be sent")
                done = False
            await asyncio.sleep(LOOK_EVERY_S if done else AGAIN_AFTER_S)

    async def look(self, now_ms: int) -> bool:
        """Send what is due. Returns whether everybody has it.

        Raises:
            SpendfuseError: the topics cannot be read.
        """
        policy, pipeline = self._policy(), self._notifier.pipeline
        review = policy.routing.review
        if review is None or pipeline is None:  # the log may be about to be read anew
            return True
        timezone = policy.header.timezone
        due_ms = last_review_ms(review, timezone, now_ms)
        week = last_full_week(timezone, due_ms)
        missing = [name for name in review.receivers if not pipeline.has_reviewed(week.label, name)]
        if not missing or now_ms >= due_ms + LATE_MS:
            return True
        notice = review_notice(await asyncio.to_thread(read_review, self._settings, week, policy))
        outcomes = [await self._send(name, week.label, notice) for name in missing]
        return all(outcomes)

    async def _send(self, receiver: str, week: str, notice: Notice) -> bool:
        outcome = await self._send_one(Send(delivery_id(receiver, [week]), receiver, notice, attempt=1))
        if not isinstance(outcome, Sent):
            return False
        await self._notifier.submit(Reviewed(week=week, receiver=receiver, at_ms=outcome.at_ms))
        return True
