"""Receivers that misbehave for long, against the whole pipeline with the real client libraries in between.

Rows 46 to 48, 50 and 52 of the fault list. Time is virtual but in row 46: there it is real, and is awaited.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from alerting.delivery.log import DeliveryLog
from alerting.effects import Record
from alerting.pipeline import Pipeline
from alerting.receivers.pagerduty.sender import PagerDutySender
from alerting.receivers.slack.sender import SlackSender
from schemas.routing import parse_routing
from streams.clock import wall_ms
from streams.notifier.metrics import NotifierMetrics
from streams.notifier.notifier import Notifier
from streams.notifier.sending import SenderPool
from streams.process.crash_points import CrashPoints
from tests.support.receivers import Answer, Receiver, TestAuthority, make_authority, pagerduty, slack, slack_error
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, alert
from tests.support.telling_over_http import OverHttp

PAGER = {"type": "pagerduty", "key_env": "KEY"}
CHAT = {"type": "slack", "channel": "#spend"}
ALONE = {"group_by": ["incident_id"], "group_wait_seconds": 0}
LIMITED = Answer(429, b'{"ok": false, "error": "ratelimited"}')
LIMITED_30 = Answer(429, b'{"ok": false, "error": "ratelimited"}', {"Retry-After": "30"})
AWAY = Answer(503, b"away")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return make_authority(Path(tmp_path_factory.mktemp("authority")))


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 120))


def chat_sender(server: Receiver, timeout_s: float = 5.0) -> SlackSender:
    return SlackSender("xoxb-1", "#spend", base_url=f"{server.url}/api/", timeout_s=timeout_s)


@asynccontextmanager
async def both(authority: TestAuthority) -> AsyncIterator[tuple[Receiver, Receiver, dict[str, Any]]]:
    """Slack and PagerDuty, and senders to them."""
    async with slack() as chat, pagerduty(tls=authority.server) as pager:
        page = PagerDutySender("R0", url=pager.url, tls=authority.client)
        senders: dict[str, Any] = {"chat": chat_sender(chat), "pager": page}
        yield chat, pager, senders
        for each in senders.values():
            await each.aclose()


def texts(server: Receiver) -> list[str]:
    """All that a receiver was asked to show, a string a request."""
    return [json.dumps(received.json) for received in server.received]


def test_a_hanging_slack_publishs_no_page_waiting(authority: TestAuthority) -> None:
    """Row 46: while Slack hangs, PagerDuty hears of the incident and of the next; what Slack may have got is told
    again, marked.
    """

    async def scene() -> None:
        async with both(authority) as (chat, pager, senders):
            chat.script = [Answer(manner="hang")]
            senders["chat"] = chat_sender(chat, timeout_s=1.0)
            routing = {"receivers": {"pager": PAGER, "chat": CHAT}, "route": [{"receivers": ["chat", "pager"]}]}
            pool = SenderPool(senders, NotifierMetrics(), CrashPoints(None))
            notifier = Notifier(lambda: _pipeline(routing), _publish, pool.send)
            work = asyncio.create_task(notifier.run())
            await notifier.submit(alert("first", at_ms=wall_ms()))
            await _arrivals(pager, 1)
            await notifier.submit(alert("second", at_ms=wall_ms()))
            await _arrivals(pager, 2)
            assert len(chat.received) == 1, "Slack still hangs"
            await _arrivals(chat, 3)
            assert "may be a repetition" in texts(chat)[1] + texts(chat)[2]
            await notifier.finish()
            await work
            await pool.aclose()

    run(scene())


async def _pipeline(routing: dict[str, Any]) -> Pipeline:
    return Pipeline(parse_routing(routing), DeliveryLog())


async def _publish(_record: Record) -> asyncio.Future[None]:
    kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    kept.set_result(None)
    return kept


async def _arrivals(server: Receiver, count: int) -> None:
    async with asyncio.timeout(20):
        while len(server.received) < count:
            server.arrived.clear()
            await server.arrived.wait()


@pytest.mark.parametrize(("answer", "least_ms"), [(LIMITED_30, 30 * SECOND_MS), (LIMITED, SECOND_MS)])
def test_a_limited_slack_is_left_alone_and_then_told_all(answer: Answer, least_ms: int) -> None:
    """Row 47: at most one request per Retry-After; what gathers meanwhile is told in few messages, what is critical
    in one of its own and first.
    """

    async def scene() -> None:
        async with slack(*[answer] * 3) as chat:
            routing = {"receivers": {"chat": CHAT}, "route": [{"receivers": ["chat"], "group_wait_seconds": 0}]}
            room = OverHttp(routing, {"chat": chat_sender(chat)})
            await room.alert(alert("first", 0.8, at_ms=NOON_MS))
            for number in range(40):
                await room.alert(alert(f"w{number}", 0.8, at_ms=NOON_MS))
            await room.alert(alert("fire", 1.0, at_ms=NOON_MS))
            await room.until(NOON_MS + 10 * MINUTE_MS)
            times = room.times_asked("chat")
            gaps = [after - before for before, after in pairwise(times[:4])]
            assert min(gaps) >= least_ms, gaps
            said = texts(chat)[3:]
            assert "fire" in said[0]
            assert len(said) <= 3
            assert sum("fire" in text for text in said) == 1

    run(scene())


@pytest.mark.parametrize("code", ["invalid_auth", "channel_not_found"])
def test_what_is_set_up_wrong_goes_to_the_fallback(authority: TestAuthority, code: str) -> None:
    """Row 48: a page that Slack will never take is told by the fallback at once, and Slack is not asked on and on."""

    async def scene() -> None:
        async with both(authority) as (chat, pager, senders):
            chat.always = slack_error(code)
            receivers = {"chat": {**CHAT, "fallback": "pager"}, "pager": PAGER}
            room = OverHttp({"receivers": receivers, "route": [{"receivers": ["chat"]}]}, senders)
            for number in range(5):
                await room.alert(alert(f"i{number}", at_ms=NOON_MS))
            await room.until(NOON_MS + MINUTE_MS)
            assert len({received.json["dedup_key"] for received in pager.received}) == 5
            assert len(chat.received) <= 2

    run(scene())


def test_a_pagerduty_that_is_limited_for_ten_minutes_is_told_after(authority: TestAuthority) -> None:
    """Row 50: ten minutes of 429 cost few requests and no threads; then every page is opened, once."""

    async def scene() -> None:
        before = set(threading.enumerate())
        async with both(authority) as (_chat, pager, senders):
            pager.always = Answer(429, b"{}")
            room = OverHttp({"receivers": {"pager": PAGER}, "route": [{"receivers": ["pager"]}]}, senders)
            for number in range(20):
                await room.alert(alert(f"i{number}", at_ms=NOON_MS))
            await room.until(NOON_MS + 10 * MINUTE_MS)
            begun = [one for one in set(threading.enumerate()) - before if one.name.startswith("pagerduty")]
            assert 0 < len(begun) <= 2, "what is refused waits in the backlog, and holds none of the sender's two"
            assert len(pager.received) <= 40, "retries are minutes apart, and the circuit opens"
            pager.always = None
            refused = len(pager.received)
            await room.until(NOON_MS + 40 * MINUTE_MS)
            opened = [received.json["dedup_key"] for received in pager.received[refused:]]
            assert len(opened) == len(set(opened)) == 20

    run(scene())


def test_an_hour_without_receivers_drops_nothing_critical(authority: TestAuthority) -> None:
    """Row 52: with Slack and PagerDuty down for an hour the backlog stays within its bounds; afterwards everything
    critical is told by name to both, and the warnings in few messages.
    """
    pages = [f"page-{number:02}" for number in range(30)]

    async def scene() -> None:
        async with both(authority) as (chat, pager, senders):
            chat.always = pager.always = AWAY
            routes = [
                {"match": {"severity": ["critical", "error"]}, "receivers": ["chat", "pager"]},
                {"receivers": ["chat"], "group_wait_seconds": 0},
            ]
            room = OverHttp({"receivers": {"chat": CHAT, "pager": PAGER}, "route": routes}, senders)
            for minute in range(30):
                await room.until(NOON_MS + minute * 2 * MINUTE_MS)
                await room.alert(alert(pages[minute], at_ms=room.now_ms))
                for number in range(100):
                    await room.alert(alert(f"w{minute}-{number}", 0.8, at_ms=room.now_ms))
            await room.until(NOON_MS + HOUR_MS)
            pending = room.pipeline.pending(room.now_ms)
            assert pending["chat"].count <= 3030
            assert pending["pager"].count == 30
            assert len(chat.received) + len(pager.received) < 150, "a receiver that is down is left alone"
            before = len(chat.received), len(pager.received)
            chat.always = pager.always = None
            await room.until(NOON_MS + 3 * HOUR_MS)
            chat_said, pager_said = "".join(texts(chat)[before[0] :]), "".join(texts(pager)[before[1] :])
            assert [page for page in pages if page not in chat_said] == []
            assert [page for page in pages if page not in pager_said] == []
            assert len(chat.received) - before[0] <= 60
            assert room.pipeline.pending(room.now_ms).get("chat") is None

    run(scene())
