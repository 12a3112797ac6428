"""When the weekly review is sent, to whom, and how often."""

import asyncio
from datetime import UTC, datetime

import pytest

from alerting.delivery.log import DeliveryLog
from alerting.effects import Failed, Record, Send, Sent
from alerting.notice import Receipt
from alerting.pipeline import Pipeline
from models.rules.policy import read_policy_toml
from streams.notifier.notifier import Notifier
from streams.notifier.reviews import WeeklyReviews
from streams.settings import Settings
from tests.support.reviews import reviewed

POLICY = read_policy_toml(
    """
version = "1"
timezone = "Europe/Berlin"
[receivers.team]
type = "slack"
channel = "#c"
[review]
receivers = ["team", "console"]
weekday = "mon"
at = "08:30"
"""
)
DUE_MS = int(datetime(2026, 11, 23, 7, 30, tzinfo=UTC).timestamp() * 1000)
"""Monday, 08:30 in Berlin."""
HOUR_MS = 3_600_000


class Office:
    """The first partition's notifier, receivers that can be away, and reviews that cost no reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store: dict[str, bytes] = {}
        self.away: set[str] = set()
        self.said: list[tuple[str, str]] = []
        self.now_ms = DUE_MS
        monkeypatch.setattr("streams.clock.wall_ms", lambda: self.now_ms)
        monkeypatch.setattr(
            "streams.notifier.reviews.read_review", lambda _settings, week, _policy: reviewed(week=week)
        )

    async def look(self, *times_ms: int) -> list[bool]:
        """A process that looks at these times."""
        self.now_ms = times_ms[0]
        notifier = Notifier(self._restore, self._publish, lambda *_: None)
        work = asyncio.create_task(notifier.run())
        while notifier.pipeline is None:
            await asyncio.sleep(0)
        reviews = WeeklyReviews(Settings(), lambda: POLICY, notifier, self._ask)
        found = [await self._look(notifier, reviews, at_ms) for at_ms in times_ms]
        await notifier.finish()
        await work
        return found

    async def _look(self, notifier: Notifier, reviews: WeeklyReviews, at_ms: int) -> bool:
        self.now_ms = at_ms
        found = await reviews.look(at_ms)
        while notifier.waiting:
            await asyncio.sleep(0)
        return found

    async def _restore(self) -> Pipeline:
        return Pipeline(POLICY.routing, DeliveryLog.read(self.store.items()))

    async def _publish(self, record: Record) -> asyncio.Future[None]:
        if record.value is None:
            self.store.pop(record.key, None)
        else:
            self.store[record.key] = record.value
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept.set_result(None)
        return kept

    async def _ask(self, send: Send) -> Sent | Failed:
        if send.receiver in self.away:
            return Failed(send.delivery_id, "network", retryable=True, ambiguous=False, retry_after_ms=None, at_ms=1)
        assert send.notice.ready is not None
        self.said.append((send.receiver, send.notice.ready.subject))
        return Sent(send.delivery_id, Receipt(), at_ms=DUE_MS)


WEEK = "2026-W47"


def test_it_is_sent_once_when_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before its time; then to each receiver; and not again, by the same process or by one after a restart."""
    office = Office(monkeypatch)
    assert asyncio.run(office.look(DUE_MS - 1)) == [True]
    assert office.said == []
    asyncio.run(office.look(DUE_MS, DUE_MS + HOUR_MS))
    asyncio.run(office.look(DUE_MS + 2 * HOUR_MS))
    assert office.said == [("team", WEEK), ("console", WEEK)]


def test_who_was_away_gets_it_later_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that did not take it is asked again; who has it is left alone."""
    office = Office(monkeypatch)
    office.away = {"team"}
    assert asyncio.run(office.look(DUE_MS)) == [False]
    office.away = set()
    assert asyncio.run(office.look(DUE_MS + HOUR_MS)) == [True]
    assert office.said == [("console", WEEK), ("team", WEEK)]


@pytest.mark.parametrize(("late_ms", "sent"), [(23 * HOUR_MS, True), (25 * HOUR_MS, False)])
def test_it_is_sent_late_but_not_old(monkeypatch: pytest.MonkeyPatch, late_ms: int, sent: bool) -> None:
    """Nobody was there on Monday morning: until the next it is sent, later it would be a surprise."""
    office = Office(monkeypatch)
    asyncio.run(office.look(DUE_MS + late_ms))
    assert bool(office.said) is sent
