"""Slack's endpoint over HTTP: who gets through, what becomes of a press, and what the person is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from alerting.receivers.slack import blocks
from schemas.control import Target
from schemas.errors import BrokerError, SettingsError
from schemas.operator import OperatorMessage
from streams.notifier import slack_actions
from streams.notifier.slack_actions import MOST_BYTES, PATH, ActionServer
from streams.settings import read_settings
from tests.support.notices import HOSTILE
from tests.support.presses import SIGNING_SECRET, form, press, signed
from tests.support.receivers import Answer, Receiver, unused_port, webhook

CLIENT_TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass
class Place:
    """An endpoint, whoever it writes for, where it answers people, and a client to press with."""

    url: str
    answers: Receiver
    client: aiohttp.ClientSession
    orders: list[OperatorMessage] = field(default_factory=list)
    failure: Exception | None = None
    hold: asyncio.Event | None = None
    stopped: bool | Exception = True

    async def publish(self, order: OperatorMessage) -> None:
        """Keep the order, when and if the test lets it."""
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        self.orders.append(order)

    async def stands(self, tenant_id: str, target: Target) -> bool:
        """Whether the target is held back, as the test says."""
        assert (tenant_id, target.id) == ("acme", "r1")
        if isinstance(self.stopped, Exception):
            raise self.stopped
        return self.stopped

    async def post(self, body: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> int:
        """The status that the endpoint answers with."""
        sending = self.client.post(self.url + path, data=body, headers=signed(body) if headers is None else headers)
        async with sending as answer:
            assert await answer.read() == b"" or answer.status != 200
            return answer.status

    async def press(self, action_id: str = blocks.ACKNOWLEDGE, **fields: Any) -> int:
        """Press a button as Slack would tell of it."""
        return await self.post(form(press(action_id, **{"response_url": f"{self.answers.url}/actions/T1", **fields})))

    def told(self) -> list[str]:
        """What the person who pressed was told."""
        return [one.json["text"] for one in self.answers.received]


@asynccontextmanager
async def listening(*script: Answer, **settings: str) -> AsyncIterator[Place]:
    """An endpoint on a port of its own."""
    port = unused_port()
    given = {"ACTIONS_PORT": str(port), "SLACK_SIGNING_SECRET": SIGNING_SECRET, **settings}
    read = read_settings({f"SPENDFUSE_{name}": value for name, value in given.items()})
    async with webhook(*script) as answers, aiohttp.ClientSession(timeout=CLIENT_TIMEOUT) as client:
        place = Place(f"http://127.0.0.1:{port}", answers, client)
        async with ActionServer(read, place.publish, place.stands, replies_to=f"{answers.url}/actions/"):
            yield place


def run(test: Callable[[Place], Awaitable[None]], *script: Answer, **settings: str) -> None:
    """Run a test's steps against an endpoint."""

    async def steps() -> None:
        async with listening(*script, **settings) as place:
            await test(place)

    asyncio.run(steps())


def test_a_press_is_written_and_answered() -> None:
    """Slack's own signature opens; the order is written before Slack hears 200, and only the person is told."""

    async def steps(place: Place) -> None:
        assert await place.press() == 200
        (order,) = place.orders
        assert (order.tenant_id, order.who) == ("acme", "ana (U01ANA)")
        (answer,) = place.answers.received
        assert answer.json["response_type"] == "ephemeral"
        assert answer.json["text"].startswith("Ordered. Incident i1 of acme is in hand")

    run(steps)


def test_nobody_else_gets_through() -> None:
    """A signature that is missing, wrong, over other bytes, by another secret, or stale orders nothing."""

    async def steps(place: Place) -> None:
        body = form(press())
        good = signed(body)
        wrong = [
            {},
            good | {"X-Slack-Signature": ""},
            good | {"X-Slack-Signature": "v0=" + "0" * 64},
            good | {"X-Slack-Signature": "v0=\u00e9".encode().decode("latin-1")},
            good | {"X-Slack-Request-Timestamp": "soon"},
            good | {"X-Slack-Request-Timestamp": str(int(good["X-Slack-Request-Timestamp"]) + 1)},
            signed(body, "another secret"),
            signed(body + b"&more=1"),
            signed(body, age_s=301),
            signed(body, age_s=-301),
        ]
        assert [await place.post(body, headers) for headers in wrong] == [401] * len(wrong)
        assert await place.post(b"\xff\xfe", signed(body)) == 401
        assert (place.orders, place.told()) == ([], [])

    run(steps)


def test_a_press_told_again_is_the_same_order() -> None:
    """Slack's retry, and anybody's replay within the five minutes, write the order that stands already: its id is
    the same, so that those who read it count it once.
    """

    async def steps(place: Place) -> None:
        body = form(press(blocks.NOISE))
        headers = signed(body)
        again = headers | {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
        assert [await place.post(body, one) for one in (headers, again, headers)] == [200] * 3
        assert place.orders == [place.orders[0]] * 3

    run(steps)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload",
        b"payload=",
        b"payload=%ff",
        b"payload={}",
        b"other=1",
        b"payload=1&payload=2",
        b"&".join(b"f%d=1" % number for number in range(100)),
        form(press(type="view_submission")),
        form(press(blocks.NOISE, "not the ids that we wrote")),
    ],
)
def test_nonsense_is_400(body: bytes) -> None:
    """What Slack signs and we cannot read is refused, loudly for Slack, and changes nothing."""

    async def steps(place: Place) -> None:
        assert await place.post(body) == 400
        assert (place.orders, place.told()) == ([], [])

    run(steps)


def test_other_ways_in_are_closed() -> None:
    """There is one door, and it takes one kind of request."""

    async def steps(place: Place) -> None:
        body = form(press())
        assert await place.post(body, path="/") == 404
        async with place.client.get(place.url + PATH) as answer:
            assert answer.status == 405

    run(steps)


def test_an_oversized_body_is_refused_unread() -> None:
    """More than any press is gets 413, announced or not, before a signature is worked out over it."""

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(MOST_BYTES // 65_536 + 2):
            yield b"x" * 65_536

    async def steps(place: Place) -> None:
        body = b"payload=" + b"x" * MOST_BYTES
        assert await place.post(body) == 413
        async with place.client.post(place.url + PATH, data=drip(), headers=signed(b"")) as answer:
            assert answer.status == 413
        assert place.orders == []

    run(steps)


def test_a_body_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds a connection open by sending nothing."""
    monkeypatch.setattr(slack_actions, "READ_S", 0.05)

    async def never(waiting: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"payload="
        await waiting.wait()

    async def steps(place: Place) -> None:
        waiting = asyncio.Event()
        async with place.client.post(place.url + PATH, data=never(waiting), headers=signed(b"")) as answer:
            assert answer.status == 408
        waiting.set()

    run(steps)


@pytest.mark.parametrize(("operators", "may"), [("", False), ("U9,U8", False), ("U9, U01ANA", True)])
def test_only_those_named_may_resume(operators: str, may: bool) -> None:
    """A stopped run goes on by the button of somebody in SPENDFUSE_SLACK_OPERATORS; others read how else."""

    async def steps(place: Place) -> None:
        assert await place.press(blocks.RESUME) == 200
        (told,) = place.told()
        assert [order.who for order in place.orders] == (["ana (U01ANA)"] if may else [])
        assert ("Ordered. Run r1 of acme may go on" in told) == may
        assert ("python -m streams resume run r1 --tenant acme" in told) != may

    run(steps, SLACK_OPERATORS=operators)


@pytest.mark.parametrize(("stopped", "ordered"), [(True, True), (False, False), (BrokerError("no broker"), True)])
def test_a_press_for_what_is_not_stopped_says_so(stopped: bool | Exception, ordered: bool) -> None:
    """Somebody else was faster, or the command has run out: nothing is ordered, and the person reads that. Where it
    cannot be known whether something is stopped, the order is written.
    """

    async def steps(place: Place) -> None:
        place.stopped = stopped
        assert await place.press(blocks.RESUME) == 200
        (told,) = place.told()
        assert bool(place.orders) == ordered
        assert ("is not stopped any more" in told) != ordered
        assert ("with one more allowance of the limit that stopped it" in told) == ordered

    run(steps, SLACK_OPERATORS="U01ANA")


@pytest.mark.parametrize("failure", [BrokerError("no broker"), RuntimeError("a bug")])
def test_an_order_that_is_not_written_is_not_called_ordered(failure: Exception) -> None:
    """The person hears that it may not have been written, and the command; Slack shows no error of its own."""

    async def steps(place: Place) -> None:
        place.failure = failure
        assert await place.press(blocks.PLANNED) == 200
        (told,) = place.told()
        assert "could not be written" in told
        assert "python -m streams feedback i1 planned --tenant acme" in told
        assert str(failure) not in told

    run(steps)


def test_slack_does_not_wait_for_a_slow_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack is answered while the order is still being written, the person once it is, also when all is to end."""
    monkeypatch.setattr(slack_actions, "ANSWER_S", 0.05)
    places: list[Place] = []

    async def steps(place: Place) -> None:
        places.append(place)
        place.hold = asyncio.Event()
        assert await place.press() == 200
        assert (place.orders, place.told()) == ([], [])
        asyncio.get_running_loop().call_later(0.05, place.hold.set)

    run(steps)
    (place,) = places
    assert len(place.orders) == 1, "the endpoint was closed before the order was written"
    assert len(place.told()) == 1


@pytest.mark.parametrize("answer", [Answer(500), Answer(302, headers={"Location": "/x"}), Answer(manner="reset")])
def test_an_answer_that_does_not_arrive_changes_nothing(answer: Answer) -> None:
    """The order stands whether or not the person could be told, and no redirection is followed."""

    async def steps(place: Place) -> None:
        assert await place.press() == 200
        assert len(place.orders) == 1
        assert place.answers.paths == ["/actions/T1"]

    run(steps, answer)


@pytest.mark.parametrize("address", ["", "file:///etc/passwd", "{here}", "{here}/other", "{here}.evil/actions/"])
def test_people_are_answered_at_slack_only(address: str) -> None:
    """An address elsewhere is not called."""

    async def steps(place: Place) -> None:
        assert await place.press(response_url=address.replace("{here}", place.answers.url)) == 200
        assert (len(place.orders), place.told()) == (1, [])

    run(steps)


@pytest.mark.parametrize("hostile", [pytest.param(name, id=key) for key, name in HOSTILE.items()])
def test_hostile_names_arrive_as_text(hostile: str) -> None:
    """A user's name and the button's ids are quoted back as plain text, and written as they are."""
    ids = json.dumps({"tenant_id": "acme", "incident_id": hostile[:120] or "i"})

    async def steps(place: Place) -> None:
        body = form(
            press(blocks.NOISE, ids, user={"id": "U1", "name": hostile}, response_url=place.answers.url + "/actions/a")
        )
        assert await place.post(body) in (200, 400)
        for one in place.answers.received:
            assert not {"<", ">"} & set(one.json["text"])
            assert one.json["text"].isprintable()
            assert one.json["blocks"][0]["text"]["type"] == "plain_text"
        assert len(place.orders) == len(place.answers.received) == (0 if "\ud800" in hostile else 1)

    run(steps)


def test_it_listens_only_where_it_is_asked_to() -> None:
    """Without a port nothing listens; a port without the secret, or one that is taken, is a wrong setting."""

    async def nobody(order: OperatorMessage) -> None:
        raise AssertionError(order)

    async def nothing(tenant_id: str, target: Target) -> bool:
        raise AssertionError(target)

    async def steps() -> None:
        async with ActionServer(read_settings({}), nobody, nothing):
            pass
        async with listening() as place:
            port = place.url.rpartition(":")[2]
            taken = read_settings({"SPENDFUSE_ACTIONS_PORT": port, "SPENDFUSE_SLACK_SIGNING_SECRET": "s"})
            with pytest.raises(SettingsError, match="cannot be listened on"):
                await ActionServer(taken, nobody, nothing).__aenter__()

    asyncio.run(steps())
    for secret in ("", " "):
        given = {"SPENDFUSE_ACTIONS_PORT": "8080", "SPENDFUSE_SLACK_SIGNING_SECRET": secret}
        with pytest.raises(SettingsError, match="SPENDFUSE_SLACK_SIGNING_SECRET is not"):
            ActionServer(read_settings(given), nobody, nothing)
