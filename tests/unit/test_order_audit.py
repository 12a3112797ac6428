"""`orders`: what is on operator.v1, judged; and both ways over a broker."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from infra.kafka.embedded import EmbeddedBroker
from schemas.codec import encode
from schemas.errors import BrokerError
from schemas.operator import OperatorMessage
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.kafka import order_writer
from streams.kafka.order_reader import OrderReader
from streams.kafka.order_writer import OrderWriter
from streams.settings import Settings, read_settings
from streams.tools.orders.audit import Audited, OrderRecord, audit, read_orders
from tests.support import messages
from tests.support.notices import HOSTILE
from tests.support.receivers import unused_port
from tests.support.words import order

NOW_MS = 1_795_392_000_000
HOUR_MS = 3_600_000
KEY = b"the root key of operators, in tests"
READER = OrderReader((OperatorKey(KEY).public_key,))


def record(order: OperatorMessage, at_ms: int = NOW_MS, *, key: bytes = KEY, offset: int = 0) -> OrderRecord:
    value = encode(order)
    headers: list[tuple[str, bytes | None]] = [*OperatorKey(key).order_headers(order.tenant_id, value)]
    return OrderRecord(0, offset, at_ms, value, headers)


def typed(words: str, at_ms: int = NOW_MS) -> OperatorMessage:
    return order(f"{words} --tenant acme --why w", "ana", at_ms)


def statuses(found: list[Audited]) -> list[str]:
    return [one.status for one in found]


@pytest.mark.parametrize(
    ("words", "after_ms", "status"),
    [
        ("silence --all --for 1h", HOUR_MS - 1, "in force"),
        ("silence --all --for 1h", HOUR_MS, "over"),
        ("exception --rule a --limit-usd 5 --for 1h", HOUR_MS - 1, "in force"),
        ("exception --rule a --limit-usd 5 --for 1h", HOUR_MS, "over"),
        ("ack i", HOUR_MS, "until the incident ends"),
        ("feedback i planned", HOUR_MS, "until the incident ends"),
        ("feedback i useful", 0, "done"),
        ("resume run r", 0, "done"),
        ("resume run r --limit-usd 5", HOUR_MS, "done"),
        ("resume run r --for 1h", HOUR_MS - 1, "in force"),
        ("resume run r --for 1h", HOUR_MS, "over"),
        ("kill --run r", 1000 * HOUR_MS, "in force"),
        ("kill --run r --for 1h", HOUR_MS - 1, "in force"),
        ("kill --run r --for 1h", HOUR_MS, "over"),
    ],
)
def test_what_is_in_force(words: str, after_ms: int, status: str) -> None:
    """A silence and an exception last until their end; what is about an incident lasts as long as it does."""
    assert statuses(audit([record(typed(words))], READER, NOW_MS + after_ms)) == [status]


def test_a_later_exception_takes_the_place_of_an_earlier_one() -> None:
    """One about the same is in force at a time; others are untouched, and the order of reading does not matter."""
    wide = [record(typed(f"exception --rule a --limit-usd {usd} --for 2h"), NOW_MS + usd) for usd in (5, 6)]
    other = record(typed("exception --rule a --scope acme/docs --limit-usd 5 --for 2h"), NOW_MS + 7)
    assert statuses(audit([other, *reversed(wide)], READER, NOW_MS + 8)) == ["replaced", "in force", "in force"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["kill --run r", "resume run r"], ["lifted", "done"]),
        (["kill --run r", "resume --session r"], ["in force", "done"]),
        (["kill --run r --for 1h", "kill --run r"], ["replaced", "in force"]),
        (["kill --run r", "kill --run r --for 1h"], ["in force", "in force"]),
        (["kill --run r", "kill --run r --for 1h", "resume run r"], ["lifted", "lifted", "done"]),
        (["kill --run r", "resume run r", "kill --run r"], ["lifted", "done", "in force"]),
        (["resume run r --for 1h", "kill --run r"], ["replaced", "in force"]),
        (["resume run r --for 1h", "resume run r --for 2h"], ["replaced", "in force"]),
        (["kill --all", "kill --workflow acme"], ["in force", "in force"]),
    ],
)
def test_kills_and_resumes_take_each_others_place(words: list[str], expected: list[str]) -> None:
    """Of a target, the last thing that was ordered holds; a resume lifts a kill of the same target, and no other."""
    records = [record(typed(each, NOW_MS + at_ms), NOW_MS + at_ms) for at_ms, each in enumerate(words)]
    assert statuses(audit(records, READER, NOW_MS + 9)) == expected


def test_the_log_decides_and_not_the_clocks_of_operators() -> None:
    """Two people order the opposite within a second, and the first has a clock that is ahead: workers obey in the order
    of the log, so the kill is lifted, although its time is later than that of the resume.
    """
    kill = record(typed("kill --run r", NOW_MS + 3_000), NOW_MS + 3_000, offset=7)
    resume = record(typed("resume run r"), NOW_MS, offset=8)
    assert statuses(audit([resume, kill], READER, NOW_MS + 9_000)) == ["lifted", "done"]


def test_what_is_not_an_operators_is_refused() -> None:
    """Without a signature, with another key's, of another tenant's, over other bytes, or no order at all: none counts,
    nor does what was refused stand in the way of the genuine order.
    """
    good = record(typed("resume run r"))
    forged = [
        OrderRecord(0, 1, NOW_MS, good.value, []),
        record(typed("resume run r"), key=b"the engine's"),
        OrderRecord(0, 2, NOW_MS, encode(messages.resume(NOW_MS, "run", "r", "globex")), good.headers),
        OrderRecord(0, 3, NOW_MS, (good.value or b"") + b" ", good.headers),
        OrderRecord(0, 4, NOW_MS, b"{", good.headers),
        OrderRecord(0, 5, NOW_MS, None, good.headers),
    ]
    found = audit([*forged, record(typed("resume run r"), NOW_MS + 1, offset=6)], READER, NOW_MS)
    assert statuses(found) == ["refused"] * 6 + ["done"]
    assert all(one.refused for one in found[:-1])


def test_an_order_again_is_a_repetition() -> None:
    """The same order once more, by a retry or by somebody who copied it, is listed as what it is."""
    one = typed("silence --all --for 1h")
    assert statuses(audit([record(one), record(one, NOW_MS + 1)], READER, NOW_MS + 2)) == ["in force", "repeated"]


@pytest.fixture
def settings(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A broker with topics, for the commands too."""
    embedded.create_topics("", 2)
    given = {
        "SPENDFUSE_KAFKA_BOOTSTRAP": embedded.bootstrap,
        "SPENDFUSE_OPERATOR_KEY": KEY.decode(),
        "SPENDFUSE_OPERATOR_NAME": "ana",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return read_settings(given)


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["orders", "--json", *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_was_ordered_is_listed(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """What the command line orders, and what is published beside it, is read back, in words and as data."""
    assert main(["silence", "--tenant", "acme", "--match", "rule=run-cost", "--for", "2h", "--why", "load test"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Nobody is notified of alerts of acme whose rule run-cost until ")
    (silence,) = listed(capsys)
    assert silence["order"]["message_id"] in said
    assert (silence["status"], silence["in_force"], silence["order"]["why"]) == ("in force", True, "load test")
    asyncio.run(OrderWriter(settings).publish(messages.acknowledge(NOW_MS, "i1", "globex")))
    assert {one["order"]["tenant_id"] for one in listed(capsys)} == {"acme", "globex"}
    assert [one["order"]["tenant_id"] for one in listed(capsys, "--tenant", "globex", "--since", "1h")] == ["globex"]
    assert main(["orders", "--tenant", "globex"]) == 0
    assert "Incident i1 of globex is in hand" in capsys.readouterr().out
    assert main(["orders", "--tenant", "nobody"]) == 0
    assert capsys.readouterr().out == "no orders\n"


def test_an_exception_to_a_policy_that_is_not_known_is_written(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where workers have their policy from files of their own, the order is given, and what was not checked is said."""
    words = ["exception", "--tenant", "acme", "--rule", "hourly", "--limit-usd", "30", "--for", "1h", "--why", "launch"]
    assert main(words) == 0
    assert "is not known here" in capsys.readouterr().err
    assert [one["status"] for one in listed(capsys)] == ["in force"]


@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_words_reach_the_terminal_as_text(
    as_json: bool, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever an order says of itself, forged or not, nothing of it moves the cursor or fakes a line."""
    genuine = OrderWriter(settings)
    forger = OrderWriter(settings.model_copy(update={"operator_key": SecretStr("another root key of an operator's")}))
    names = [text[:100] for key, text in HOSTILE.items() if key not in ("half a pair", "nothing")]
    for name in names:
        words = {"who": name, "why": name, "incident_id": name, "message_id": name}
        hostile = msgspec.structs.replace(messages.acknowledge(NOW_MS, name), **words)
        genuine.write(hostile)
        forger.write(hostile)
    assert main(["orders", *(["--json"] if as_json else [])]) == 0
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert out.count("\n") == 2 * len(names) * (1 if as_json else 2)
    assert out.lower().count("refused") >= len(names)
    assert len(read_orders(settings)) == 2 * len(names)


@pytest.mark.parametrize("words", [["ack", "i1", "--tenant", "acme", "--why", "w"], ["orders"]])
def test_a_broker_without_our_topics_is_exit_4(
    words: list[str], embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker that is another one, or a wrong prefix, is told as that; no topic comes into being by the way."""
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    monkeypatch.setenv("SPENDFUSE_OPERATOR_KEY", KEY.decode())
    monkeypatch.setenv("SPENDFUSE_OPERATOR_NAME", "ana")
    assert main(words) == 4
    assert "topics are missing" in capsys.readouterr().err


def test_an_order_that_nobody_acknowledges_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not answer is exit 4, and says where to look before the order is given again."""
    monkeypatch.setattr(order_writer, "WRITE_TIMEOUT_S", 0.3)
    nowhere = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{unused_port()}"})
    with pytest.raises(BrokerError, match="streams orders --tenant acme") as caught:
        OrderWriter(nowhere).write(typed("ack i1"))
    assert caught.value.exit_code == 4
