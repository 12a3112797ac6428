"""Every sender through its real client library, against receivers that answer in every way a receiver can.

Rows 46 to 49 of the fault list, as far as a single send goes: when to try again is the pipeline's to decide.
"""

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import io
import json
import logging
import socket
import ssl
import threading
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from alerting.errors import Reason, SendError
from alerting.notice import Notice, Receipt
from alerting.receivers.base import LONGEST_RETRY_AFTER_MS, Sender, retry_after_ms
from alerting.receivers.console.sender import ConsoleSender
from alerting.receivers.pagerduty.sender import PagerDutySender
from alerting.receivers.slack.sender import SlackSender
from alerting.receivers.webhook.sender import WebhookSender
from schemas.routing import parse_routing
from streams.notifier.senders import open_senders
from streams.settings import Settings
from tests.support.certificates import issue, make_ca
from tests.support.notices import HOSTILE, notice
from tests.support.receivers import (
    Answer,
    Received,
    Receiver,
    TestAuthority,
    make_authority,
    pagerduty,
    server_context,
    slack,
    slack_error,
    unused_port,
    webhook,
)

Kind = Literal["slack", "pagerduty", "webhook"]
KINDS: tuple[Kind, ...] = ("slack", "pagerduty", "webhook")
SECRET = "s3cretcanary0123456789abcdefcafe"
SLOW = {"hang", "drip_head", "drip_body"}
PATIENCE_S = 30.0
IMPATIENCE_S = 1.5
HTML = Answer(200, b"<html>a proxy's greeting</html>", {"Content-Type": "text/html"})
TEXT = Answer(200, b"hello", {"Content-Type": "text/plain"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sender makes of it."""

    reason: Reason
    retryable: bool
    ambiguous: bool = False
    retry_after_ms: int | None = None


SAID = None
REFUSED = Outcome("bad_request", retryable=False)
NO_RIGHT = Outcome("bad_credentials", retryable=False)
NOWHERE = Outcome("no_such_place", retryable=False)
LATE = Outcome("timeout", retryable=True)
LIMITED = Outcome("rate_limited", retryable=True)
LIMITED_30 = Outcome("rate_limited", retryable=True, retry_after_ms=30_000)
AWAY_5 = Outcome("server_error", retryable=True, retry_after_ms=5_000)
BROKEN = Outcome("server_error", retryable=True, ambiguous=True)
SILENT = Outcome("timeout", retryable=True, ambiguous=True)
CUT_OFF = Outcome("network", retryable=True, ambiguous=True)
STRANGE = Outcome("unknown", retryable=True, ambiguous=True)
TOO_LONG = Outcome("too_long", retryable=False)

# Behaviour, and what Slack's, PagerDuty's and the webhook's sender make of it.
TABLE: dict[str, tuple[Answer | None, Outcome | None, Outcome | None, Outcome | None]] = {
    "as usual": (None, SAID, SAID, SAID),
    "302": (Answer(302), NOWHERE, NOWHERE, NOWHERE),
    "400": (Answer(400), REFUSED, REFUSED, REFUSED),
    "401": (Answer(401), NO_RIGHT, NO_RIGHT, NO_RIGHT),
    "403": (Answer(403), NO_RIGHT, NO_RIGHT, NO_RIGHT),
    "402": (Answer(402), NO_RIGHT, NO_RIGHT, NO_RIGHT),
    "405": (Answer(405), NOWHERE, NOWHERE, NOWHERE),
    "407": (Answer(407), NO_RIGHT, NO_RIGHT, NO_RIGHT),
    "404": (Answer(404), NOWHERE, NOWHERE, NOWHERE),
    "408": (Answer(408), LATE, LATE, LATE),
    "410": (Answer(410), NOWHERE, NOWHERE, NOWHERE),
    "413": (Answer(413), TOO_LONG, TOO_LONG, TOO_LONG),
    "422": (Answer(422), REFUSED, REFUSED, REFUSED),
    "429": (Answer(429), LIMITED, LIMITED, LIMITED),
    "429, after 30": (
        Answer(429, headers={"Retry-After": "30"}),
        LIMITED_30,
        LIMITED_30,
        LIMITED_30,
    ),
    "429, after nonsense": (Answer(429, headers={"Retry-After": "soon"}), LIMITED, LIMITED, LIMITED),
    "500": (Answer(500), BROKEN, BROKEN, BROKEN),
    "502": (Answer(502, b"<html>", {"Content-Type": "text/html"}), BROKEN, BROKEN, BROKEN),
    "503, after 5": (
        Answer(503, headers={"Retry-After": "5"}),
        AWAY_5,
        AWAY_5,
        AWAY_5,
    ),
    "504": (Answer(504, b""), BROKEN, BROKEN, BROKEN),
    "hang": (Answer(manner="hang"), SILENT, SILENT, SILENT),
    "accept, then reset": (Answer(manner="reset"), CUT_OFF, CUT_OFF, CUT_OFF),
    "accept, then close": (Answer(manner="close"), CUT_OFF, CUT_OFF, CUT_OFF),
    "slow drip of the head": (Answer(manner="drip_head"), SILENT, SILENT, SILENT),
    # The webhook's body says nothing that its status has not said.
    "slow drip of the body": (Answer(body=b" " * 400, manner="drip_body"), SILENT, SILENT, SAID),
    "200, a page": (HTML, STRANGE, STRANGE, SAID),
    "200, plain text": (TEXT, STRANGE, STRANGE, SAID),
    "200, broken JSON": (Answer(200, b'{"ok": tr'), STRANGE, STRANGE, SAID),
    "200, a list": (Answer(200, b"[1]"), STRANGE, STRANGE, SAID),
}
ROWS = [
    pytest.param(answer, kind, outcomes[at], id=f"{name} - {kind}")
    for name, (answer, *outcomes) in TABLE.items()
    for at, kind in enumerate(KINDS)
]

SLACK_ERRORS: dict[str, Outcome] = {
    **dict.fromkeys(("invalid_auth", "not_authed", "account_inactive", "token_revoked", "missing_scope"), NO_RIGHT),
    **dict.fromkeys(("two_factor_setup_required", "team_access_not_granted", "enterprise_is_restricted"), NO_RIGHT),
    **dict.fromkeys(("channel_not_found", "not_in_channel", "is_archived", "messages_tab_disabled"), NOWHERE),
    **dict.fromkeys(("invalid_blocks", "no_text", "a_word_of_tomorrow", SECRET * 3), REFUSED),
    **dict.fromkeys(("ratelimited", "rate_limited"), LIMITED),
    **dict.fromkeys(("internal_error", "fatal_error"), BROKEN),
    **dict.fromkeys(("service_unavailable", "external_channel_migrating"), Outcome("server_error", retryable=True)),
    "msg_too_long": TOO_LONG,
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """Made once: PagerDuty's client refuses anything but https."""
    return make_authority(tmp_path_factory.mktemp("authority"))


def receiver_of(kind: Kind, authority: TestAuthority) -> Receiver:
    """The fake of a receiver."""
    if kind == "slack":
        return slack()
    return webhook() if kind == "webhook" else pagerduty(tls=authority.server)


@asynccontextmanager
async def sending(kind: Kind, url: str, tls: ssl.SSLContext, *, timeout_s: float = PATIENCE_S) -> AsyncIterator[Sender]:
    """The real sender for a receiver at `url`, closed afterwards."""
    sender: Sender
    if kind == "slack":
        sender = SlackSender(SECRET, "#alerts", base_url=f"{url}/api/", timeout_s=timeout_s)
    elif kind == "pagerduty":
        sender = PagerDutySender(SECRET, url=url, tls=tls, timeout_s=timeout_s, deadline_s=timeout_s + 0.5)
    else:
        sender = WebhookSender(f"{url}/hook/{SECRET}", SECRET, timeout_s=timeout_s)
    try:
        yield sender
    finally:
        await sender.aclose()


async def outcome_of(sending_it: Coroutine[Any, Any, Receipt]) -> tuple[Outcome | None, SendError | None]:
    """What came of it: None if it was said."""
    try:
        await sending_it
    except SendError as error:
        return Outcome(error.reason, error.retryable, error.ambiguous, error.retry_after_ms), error
    return None, None


def assert_no_secret(error: SendError | None, logs: str) -> None:
    """Neither the error nor its history nor any log holds the token."""
    assert SECRET not in logs
    if error is not None:
        assert SECRET not in "".join(traceback.format_exception(error))
        assert SECRET not in repr(vars(error))
        assert error.__context__ is None


@pytest.mark.parametrize(("answer", "kind", "expected"), ROWS)
def test_every_answer_has_its_meaning(
    answer: Answer | None,
    kind: Kind,
    expected: Outcome | None,
    authority: TestAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rows 46 to 49: each behaviour says whether to try again, whether it may have arrived, and why.

    One call is one request, whatever the client would rather do; and no token is in an error or a log, even at DEBUG.
    """
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        async with receiver_of(kind, authority) as receiver:
            receiver.always = answer
            patience_s = IMPATIENCE_S if answer and answer.manner in SLOW else PATIENCE_S
            async with sending(kind, receiver.url, authority.client, timeout_s=patience_s) as sender:
                outcome, error = await outcome_of(sender.send("d1", notice()))
            assert outcome == expected
            assert len(receiver.received) == (2 if kind == "slack" and expected == TOO_LONG else 1)
            assert_no_secret(error, caplog.text)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_left_is_not_ambiguous(kind: Kind, authority: TestAuthority) -> None:
    """Where nobody listens nothing can have arrived, so a repetition is not marked as one."""

    async def scenario() -> None:
        scheme = "https" if kind == "pagerduty" else "http"
        async with sending(kind, f"{scheme}://127.0.0.1:{unused_port()}", authority.client) as sender:
            outcome, error = await outcome_of(sender.send("d1", notice()))
        assert outcome == Outcome("network", retryable=True)
        assert_no_secret(error, "")

    asyncio.run(scenario())


def test_a_stranger_is_not_told(authority: TestAuthority) -> None:
    """A server whose certificate nobody vouches for gets no routing key."""

    async def scenario() -> None:
        async with pagerduty(tls=authority.server) as receiver:
            async with sending("pagerduty", receiver.url, ssl.create_default_context()) as sender:
                outcome, _ = await outcome_of(sender.send("d1", notice()))
            assert outcome == Outcome("network", retryable=True)
            assert not receiver.received

    asyncio.run(scenario())


@pytest.mark.parametrize("code", SLACK_ERRORS)
def test_slack_says_no_with_a_word(code: str, caplog: pytest.LogCaptureFixture) -> None:
    """Row 48: `ok: false` is final or passing by its word; a word nobody knows is final, and cut."""
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        async with slack() as receiver:
            receiver.always = slack_error(code)
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                outcome, error = await outcome_of(sender.send("d1", notice()))
        assert outcome == SLACK_ERRORS[code]
        assert error is not None
        assert len(str(error)) < 150

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_s_authority_reaches_every_receiver(
    kind: Kind, authority: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SPENDFUSE_RECEIVERS_CA` is trusted on the way to Slack and webhooks as well as to PagerDuty; without it a server
    with a certificate of that authority is a stranger, and hears nothing.
    """
    file = tmp_path / "authority.pem"
    file.write_text(authority.certificate)
    monkeypatch.setenv("SECRET", SECRET)

    async def one() -> None:
        habits = {"slack": slack, "webhook": webhook, "pagerduty": pagerduty}
        async with habits[kind](tls=authority.server) as receiver:
            table = {"type": kind, "channel": "#c", "url": receiver.url, "key_env": "SECRET"}
            routing = parse_routing({"receivers": {"it": table}})
            urls: dict[str, Any] = {f"{kind}_url": receiver.url + "/"}
            for ca, heard in ((None, 0), (file, 1)):
                settings = Settings(receivers_ca=ca, **urls)
                sender = open_senders(routing, settings)["it"]
                try:
                    if heard:
                        await sender.send("d", notice())
                    else:
                        with pytest.raises(SendError, match="network"):
                            await sender.send("d", notice())
                finally:
                    await sender.aclose()
                assert len(receiver.received) == heard

    asyncio.run(one())


@dataclass(frozen=True, slots=True)
class Strangers:
    """Servers' certificates that do not do, and the authority of all but one."""

    ca: Path
    certificates: dict[str, ssl.SSLContext]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Strangers:
    """Made once."""
    folder, elsewhere = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    ca = make_ca(folder)
    issue(folder, "expired", days=-1)
    issue(folder, "another host", host="DNS:elsewhere.example")
    make_ca(elsewhere)
    issue(elsewhere, "unknown")
    certificates = {name: server_context(folder, name) for name in ("expired", "another host")}
    return Strangers(ca, certificates | {"unknown": server_context(elsewhere, "unknown")})


@asynccontextmanager
async def stranger(way: str, strangers: Strangers) -> AsyncIterator[str]:
    """The address of whoever cannot be reached in that way."""
    if way == "nobody":
        yield f"https://127.0.0.1:{unused_port()}"
    elif way == "nameless":
        yield "https://receiver.example"
    elif way == "plain":

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        async with webhook(tls=strangers.certificates[way]) as receiver:
            yield receiver.url
            assert not receiver.received, "a stranger was told"


def nameless(host: Any, *_: Any, **__: Any) -> Any:
    """A resolver that knows no name."""
    raise socket.gaierror(socket.EAI_NONAME, f"nobody knows {host}")


WHY = {
    "expired": "its certificate has expired",
    "another host": "its certificate is for another host",
    "unknown": "nobody known here vouches for its certificate",
    "plain": "TLS was not agreed on",
    "nobody": "nothing listens at its address and port",
    "nameless": "its name is not found",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("way", "words"), WHY.items(), ids=WHY)
def test_why_a_receiver_is_not_reached_is_said_in_words(
    kind: Kind, way: str, words: str, strangers: Strangers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the log or the alert knows where to look; and no address, which may be a secret, is in it."""
    monkeypatch.setenv("SECRET", SECRET)
    if way == "nameless":
        monkeypatch.setattr(socket, "getaddrinfo", nameless)

    async def scenario() -> None:
        async with stranger(way, strangers) as url:
            table = {"type": kind, "channel": "#c", "url": f"{url}/{SECRET}", "key_env": "SECRET"}
            urls: dict[str, Any] = {f"{kind}_url": f"{url}/"}
            settings = Settings(receivers_ca=strangers.ca, **urls)
            sender = open_senders(parse_routing({"receivers": {"it": table}}), settings)["it"]
            try:
                outcome, error = await outcome_of(sender.send("d", notice()))
            finally:
                await sender.aclose()
            assert outcome == Outcome("network", retryable=True)
            assert error is not None
            assert words in error.detail
            assert_no_secret(error, "")

    asyncio.run(scenario())


def test_a_hanging_slack_holds_up_nobody_else(authority: TestAuthority) -> None:
    """Row 46: PagerDuty is told while Slack still hangs."""

    async def scenario() -> None:
        async with (
            slack(Answer(manner="hang")) as hanging,
            pagerduty(tls=authority.server) as pages,
            sending("slack", hanging.url, authority.client) as slow,
            sending("pagerduty", pages.url, authority.client) as quick,
        ):
            waiting = asyncio.create_task(slow.send("d1", notice()))
            await hanging.arrived.wait()
            await quick.send("d2", notice())
            assert not waiting.done()
            assert len(pages.received) == 1
            waiting.cancel()

    asyncio.run(scenario())


def test_a_retry_after_is_reported_and_never_waited_for() -> None:
    """Row 47: seconds or a date, no longer than an hour; nonsense is none at all."""
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    assert 0 < (retry_after_ms(in_a_minute) or 0) <= 60_000
    assert [retry_after_ms(header) for header in ("30", "0.5", "0", "-3")] == [30_000, 500, 0, 0]
    assert [retry_after_ms(header) for header in (None, "", "soon", "nan")] == [None] * 4
    assert retry_after_ms("1e12") == retry_after_ms("inf") == LONGEST_RETRY_AFTER_MS


def test_a_limited_pagerduty_takes_no_thread_hostage(authority: TestAuthority) -> None:
    """Row 50, a part: under 429 each send is one request, and the threads are no more than were granted."""

    async def scenario() -> None:
        async with pagerduty(tls=authority.server) as receiver:
            receiver.always = Answer(429)
            async with sending("pagerduty", receiver.url, authority.client) as sender:
                told = await asyncio.gather(*(outcome_of(sender.send(f"d{n}", notice())) for n in range(10)))
                threads = [one for one in threading.enumerate() if one.name.startswith("pagerduty")]
            assert [outcome for outcome, _ in told] == [LIMITED] * 10
            assert len(receiver.received) == 10
            assert len(threads) <= 2

    asyncio.run(scenario())


def test_a_dripping_pagerduty_gives_its_threads_back(authority: TestAuthority) -> None:
    """After its deadline a call is cut off, so that the next ones find a thread."""

    async def scenario() -> None:
        drip = Answer(manner="drip_head", headers={"Padding": "x" * 4_000})
        async with pagerduty(drip, drip, tls=authority.server) as receiver:
            sender = PagerDutySender(SECRET, url=receiver.url, tls=authority.client, deadline_s=2 * IMPATIENCE_S)
            dripped = await asyncio.gather(*(outcome_of(sender.send(f"d{n}", notice())) for n in range(2)))
            await sender.send("d3", notice())
            await sender.aclose()
        assert [outcome for outcome, _ in dripped] == [SILENT] * 2

    asyncio.run(scenario())


def test_what_is_too_long_is_sent_again_shorter() -> None:
    """Row 48: one resend, visibly shortened, to the same place."""

    async def scenario() -> None:
        async with slack(slack_error("msg_too_long")) as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                receipt = await sender.send("d1", notice(summary=HOSTILE["long of entities"]))
            long, short = receiver.received
        assert len(short.body) < len(long.body)
        assert "Shortened." in short.body.decode()
        assert receipt.place["channel"] == "C0CHANNEL"

    asyncio.run(scenario())


def test_an_ambiguous_send_is_repeated_marked() -> None:
    """Row 49, Slack: after a reset there is one duplicate at most, it says so, and both name the same delivery."""

    async def scenario() -> None:
        async with slack(Answer(manner="reset")) as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                outcome, _ = await outcome_of(sender.send("d1", notice()))
                assert outcome == CUT_OFF
                await sender.send("d1", notice(maybe_repeated=True))
            first, second = receiver.received
        assert "may be a repetition" not in first.body.decode()
        assert "may be a repetition" in second.body.decode()
        assert first.json["metadata"] == second.json["metadata"]

    asyncio.run(scenario())


def test_an_ambiguous_page_is_merged(authority: TestAuthority) -> None:
    """Row 49, PagerDuty: the repetition has the key of the first, so it is the same page."""

    async def scenario() -> None:
        async with pagerduty(Answer(manner="reset"), tls=authority.server) as receiver:
            async with sending("pagerduty", receiver.url, authority.client) as sender:
                outcome, _ = await outcome_of(sender.send("d1", notice()))
                assert outcome == CUT_OFF
                await sender.send("d1", notice(maybe_repeated=True))
            first, second = receiver.received
        assert first.json["dedup_key"] == second.json["dedup_key"]

    asyncio.run(scenario())


def life(first: Receipt | None, state: str, level: float) -> Notice:
    """A step in an incident's life."""
    return notice(first, state=state, level=level, value=int(level * 50_000_000_000))


STEPS = (("open", 0.5), ("escalated", 0.8), ("escalated", 1.0), ("resolved", 1.0))


def test_an_incident_is_one_message_that_is_edited() -> None:
    """50, 80, 100 and resolved are one post, three edits of it, and three replies in its thread."""

    async def scenario() -> list[Received]:
        async with slack() as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                first = None
                for number, (state, level) in enumerate(STEPS):
                    first = await sender.send(f"d{number}", life(first, state, level))
            return receiver.received

    post, *later = asyncio.run(scenario())
    assert post.path == "/api/chat.postMessage"
    assert post.headers["authorization"] == f"Bearer {SECRET}"
    assert [one.path for one in later] == ["/api/chat.update", "/api/chat.postMessage"] * 3
    assert {one.json["channel"] for one in later} == {"C0CHANNEL"}
    edits, replies = later[::2], later[1::2]
    assert {one.json["ts"] for one in edits} == {one.json["thread_ts"] for one in replies} == {"1767280000.000001"}
    assert edits[-1].json["text"].startswith("🟢 Resolved: ")


def test_an_edit_may_be_repeated() -> None:
    """An edit whose answer was lost is not ambiguous: done twice it is done once. Its thread reply is."""

    async def scenario() -> None:
        first = Receipt({"channel": "C0CHANNEL", "ts": "1.0"})
        hang_up = Answer(manner="reset")
        async with slack(hang_up) as receiver, sending("slack", receiver.url, ssl.create_default_context()) as sender:
            outcome, _ = await outcome_of(sender.send("d1", life(first, "escalated", 0.8)))
            assert outcome == Outcome("network", retryable=True)
            receiver.script = [Answer(body=b'{"ok": true}'), hang_up]
            outcome, _ = await outcome_of(sender.send("d1", life(first, "escalated", 0.8)))
            assert outcome == CUT_OFF

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "code", ["message_not_found", "cant_update_message", "edit_window_closed", "is_archived", "channel_not_found"]
)
def test_a_first_message_that_is_gone_is_posted_anew(code: str) -> None:
    """Somebody deleted it, or archived its channel: the incident gets a new message in the channel that the policy
    names, and the receipt points to that.
    """

    async def scenario() -> None:
        async with slack(slack_error(code)) as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                receipt = await sender.send("d1", life(Receipt({"channel": "C0", "ts": "1.0"}), "escalated", 0.8))
            assert receiver.paths == ["/api/chat.update", "/api/chat.postMessage"]
        assert receipt.place["ts"] == "1767280000.000002"

    asyncio.run(scenario())


@pytest.mark.parametrize("code", ["restricted_action_thread_locked", "cannot_reply_to_message", "thread_not_found"])
def test_what_cannot_be_replied_to_is_posted_anew(code: str) -> None:
    """An edit makes no sound. Where its reply is refused for good, people hear of what is worse by a new message."""

    async def scenario() -> None:
        async with slack(Answer(body=b'{"ok": true}'), slack_error(code)) as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                receipt = await sender.send("d1", life(Receipt({"channel": "C0", "ts": "1.0"}), "escalated", 1.0))
            assert receiver.paths == ["/api/chat.update", "/api/chat.postMessage", "/api/chat.postMessage"]
            assert "thread_ts" not in receiver.received[-1].json
        assert receipt.place["ts"] == "1767280000.000003"

    asyncio.run(scenario())


@pytest.mark.parametrize(("state", "goes_to"), [("escalated", "#alerts"), ("resolved", "C0")])
def test_what_goes_on_follows_the_policy_to_another_channel(state: str, goes_to: str) -> None:
    """Nobody reads the channel that the policy named before; an end is sent where the beginning was."""

    async def scenario() -> None:
        first = Receipt({"channel": "C0", "ts": "1.0", "named": "#of-before"})
        async with slack() as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                await sender.send("d1", life(first, state, 1.0))
            assert {one.json["channel"] for one in receiver.received} == {goes_to}

    asyncio.run(scenario())


@pytest.mark.parametrize("codes", [["invalid_blocks"], ["metadata_too_large"], ["msg_too_long", "msg_blocks_too_long"]])
def test_a_message_whose_form_is_refused_is_sent_as_its_sentence(codes: list[str]) -> None:
    """What Slack has against blocks or metadata must not cost the page: its sentence goes without them."""

    async def scenario() -> None:
        async with slack(*map(slack_error, codes)) as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                receipt = await sender.send("d1", notice())
            plain = receiver.received[-1].json
            assert len(receiver.received) == len(codes) + 1
        assert "has spent 80 % of its daily budget" in plain["text"]
        assert not plain["blocks"]
        assert "metadata" not in plain
        assert receipt.place["channel"] == "C0CHANNEL"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Invalid routing key", NO_RIGHT),
        ("Length of 'routing_key' is incorrect (should be 32 characters)", NO_RIGHT),
        ("'payload.severity' is invalid (must be one of critical, warning, error, info)", REFUSED),
    ],
)
def test_a_routing_key_that_was_revoked_is_no_malformed_page(
    words: str, expected: Outcome, authority: TestAuthority
) -> None:
    """PagerDuty answers both with 400. With a wrong key no page goes through: that is the receiver's fault, not this
    message's.
    """
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": [words]}

    async def scenario() -> None:
        async with pagerduty(tls=authority.server) as receiver:
            receiver.always = Answer(400, json.dumps(body).encode())
            async with sending("pagerduty", receiver.url, authority.client) as sender:
                outcome, error = await outcome_of(sender.send("d1", notice()))
        assert outcome == expected
        assert_no_secret(error, "")

    asyncio.run(scenario())


def test_a_page_that_may_be_open_is_closed_by_the_next_level(authority: TestAuthority) -> None:
    """The answer to the page at 80 % was lost, and it may ring for ever: the one at 100 % closes it."""

    async def scenario() -> list[tuple[str, str]]:
        async with pagerduty(tls=authority.server) as receiver:
            async with sending("pagerduty", receiver.url, authority.client) as sender:
                above = dataclasses.replace(life(None, "escalated", 1.0), maybe_repeated=True, maybe_levels=(0.8,))
                await sender.send("d1", above)
            return [(one.json["event_action"], one.json["dedup_key"]) for one in receiver.received]

    assert asyncio.run(scenario()) == [("trigger", "4f2d9c01aa/1"), ("resolve", "4f2d9c01aa/0.8")]


def test_a_place_of_another_receiver_is_no_place_here() -> None:
    """After a fallback the receipt may be somebody else's: Slack then posts."""

    async def scenario() -> None:
        async with slack() as receiver:
            async with sending("slack", receiver.url, ssl.create_default_context()) as sender:
                await sender.send("d1", life(Receipt({"dedup_keys": "k"}), "escalated", 0.8))
            assert receiver.paths == ["/api/chat.postMessage"]

    asyncio.run(scenario())


def test_pages_open_and_close_per_level(authority: TestAuthority) -> None:
    """A higher level opens its own page before the lower is closed, and the end closes the last."""

    async def scenario() -> list[Received]:
        async with pagerduty(tls=authority.server) as receiver:
            async with sending("pagerduty", receiver.url, authority.client) as sender:
                first = None
                for number, (state, level) in enumerate(STEPS):
                    first = await sender.send(f"d{number}", life(first, state, level))
            return receiver.received

    received = asyncio.run(scenario())
    assert {one.path for one in received} == {"/v2/enqueue"}
    assert {one.json["routing_key"] for one in received} == {SECRET}
    assert [(one.json["event_action"], one.json["dedup_key"].rpartition("/")[2]) for one in received] == [
        ("trigger", "0.5"),
        ("trigger", "0.8"),
        ("resolve", "0.5"),
        ("trigger", "1"),
        ("resolve", "0.8"),
        ("resolve", "1"),
    ]
    assert received[0].json["payload"]["severity"] == "critical"


def test_an_acknowledged_incident_is_acknowledged_everywhere(authority: TestAuthority) -> None:
    """PagerDuty's page of the level is acknowledged under its key; Slack's message is edited and replied to, and says
    who has it. Afterwards the end closes the page.
    """
    told = dataclasses.replace(notice(level=0.8), kind="acknowledged", note="Acknowledged by ana: rolling back")

    async def scenario() -> tuple[list[Received], list[Received]]:
        async with pagerduty(tls=authority.server) as pager, slack() as chat:
            async with (
                sending("pagerduty", pager.url, authority.client) as to_pager,
                sending("slack", chat.url, authority.client) as to_chat,
            ):
                for sender in (to_pager, to_chat):
                    first = await sender.send("d1", notice(level=0.8))
                    first = await sender.send("d2", dataclasses.replace(told, first=first))
                    await sender.send("d3", notice(first, level=0.8, state="resolved"))
            return pager.received, chat.received

    pages, posts = asyncio.run(scenario())
    assert [one.json["event_action"] for one in pages] == ["trigger", "acknowledge", "resolve"]
    assert len({one.json["dedup_key"] for one in pages}) == 1
    assert [one.path.rpartition("/")[2] for one in posts[1:3]] == ["chat.update", "chat.postMessage"]
    assert all("Acknowledged by ana: rolling back" in one.body.decode() for one in posts[1:3])
    assert '"spendfuse.acknowledge"' not in posts[1].body.decode()


def test_a_webhook_is_signed_and_enveloped() -> None:
    """A CloudEvent whose signature, made as Standard Webhooks say, the receiver can check."""

    async def scenario() -> Received:
        async with webhook() as receiver:
            secret = "whsec_" + base64.b64encode(b"key").decode()
            sender = WebhookSender(f"{receiver.url}/hook", secret)
            await sender.send("d1", notice())
            await sender.aclose()
            return receiver.received[0]

    received = asyncio.run(scenario())
    signed = f"d1.{received.headers['webhook-timestamp']}.".encode() + received.body
    mac = base64.b64encode(hmac.digest(b"key", signed, hashlib.sha256)).decode()
    assert received.headers["webhook-signature"] == f"v1,{mac}"
    assert received.headers["content-type"].startswith("application/cloudevents+json")
    event = received.json
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", "d1", "spendfuse.incident.open.v1")
    assert event["data"]["alerts"][0]["incident_id"] == event["subject"]


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%"])
def test_a_secret_that_signs_nothing_is_refused(secret: str) -> None:
    """An empty or misspelt secret is an error at the start, without the secret in it."""
    with pytest.raises(ValueError, match="webhook's secret"):
        WebhookSender("http://127.0.0.1/", secret)


def test_a_terminal_of_few_characters_is_told_all_the_same() -> None:
    """What it cannot show is replaced, and the amounts and names are not lost with it."""
    written = io.BytesIO()
    terminal = io.TextIOWrapper(written, "ascii")
    asyncio.run(ConsoleSender(terminal).send("d1", notice(owner="Zoë")))
    assert b"$41.00 of $50.00" in written.getvalue()
    assert b"owner Zo?" in written.getvalue()


def test_the_console_prints_and_says_when_it_cannot() -> None:
    """The text is written without colour where there is no terminal; a closed stream is a failure that is final."""
    out = io.StringIO()
    asyncio.run(ConsoleSender(out).send("d1", notice()))
    assert out.getvalue().startswith("CRITICAL  acme / search-agent: team search has spent 80 % of its daily budget\n")
    assert "\033" not in out.getvalue()
    out.close()
    outcome, _ = asyncio.run(outcome_of(ConsoleSender(out).send("d1", notice())))
    assert outcome == Outcome("network", retryable=False)
