"""`report weekly` over the topics of a broker: read whole, last record per key, nothing believed that is not signed."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.embedded import EmbeddedBroker
from schemas.codec import encode
from schemas.rollup import Rollup
from schemas.signing import EngineKeys, OperatorKey
from streams.__main__ import main
from streams.settings import read_settings
from streams.tools import weekly
from streams.tools.backtest import read_policy_file
from tests.support.kafka import Record, produce
from tests.support.messages import DAY_MS, HOUR_MS, USD
from tests.support.receivers import unused_port
from tests.support.reviews import BEFORE_MS, WEEK, feedback, hour, incident, kill, reviewed, rollup, silence

PREFIX = "review."
OPERATOR_KEY = "the root key of operators, in tests"
ENGINE_KEY = "the root key of the engine, in tests"
POLICY = """
version = "review-1"

[review]
receivers = ["console"]
"""


@pytest.fixture
def broker(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> EmbeddedBroker:
    """A broker with all topics, named by the environment, an hour after the week."""
    embedded.create_topics(PREFIX, 4)
    monkeypatch.setattr(weekly, "wall_ms", lambda: WEEK.end_ms + HOUR_MS)
    for name, value in (
        ("KAFKA_BOOTSTRAP", embedded.bootstrap),
        ("PREFIX", PREFIX),
        ("OPERATOR_KEY", OPERATOR_KEY),
    ):
        monkeypatch.setenv(f"SPENDFUSE_{name}", value)
    return embedded


def of_rollup(one: Rollup) -> Record:
    """A rollup as the worker writes it."""
    return Record(encode(one), one.key.encode())


def signed(order: Any, key: str = OPERATOR_KEY) -> Record:
    """An operator's message as the command line writes it."""
    value = encode(order)
    headers = [(name, bytes(text)) for name, text in OperatorKey(key.encode()).order_headers(order.tenant_id, value)]
    return Record(value, order.tenant_id.encode(), tuple(headers), order.ts_ms)


def write(broker: EmbeddedBroker, topic: str, *records: Record) -> None:
    """Put records on a topic."""
    produce(broker.bootstrap, PREFIX + topic, records, idempotent=False)


def test_the_command_reads_the_topics_to_their_ends(
    broker: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The review is the one of the records: each hour with its last total, in whatever partition, orders if signed.

    What cannot be read, or was not signed, is left out and said to be.
    """
    alerts = [*incident("i1", "open", "reminder", "resolved"), *incident("i2", "open", ts_ms=WEEK.end_ms - 1)]
    said = feedback("i1", "useful")
    standing = [
        hour(day, day + 10, tenant, calls=3, accepted=1)
        for day in range(-7, 7)
        for tenant in ("acme", "globex", "hooli")
    ]
    old = rollup(BEFORE_MS - 9 * DAY_MS, cost_nanousd=5)
    growing = [hour(0, dollars) for dollars in (1, 2)]
    deleted = hour(2, 99, "vandelay")
    write(broker, "rollups.v1", *map(of_rollup, [old, *growing, *standing, deleted]), Record(b"{}", b"broken"))
    write(broker, "rollups.v1", Record(None, of_rollup(deleted).key))
    write(broker, "alerts.v1", *(Record(encode(one), one.tenant_id.encode()) for one in alerts))
    write(broker, "control.v1", Record(encode(kill("k", incident_id="i1")), b"acme/run/run-1"), Record(None, b"lifted"))
    write(
        broker, "operator.v1", signed(said), signed(feedback("i2", "noise"), "the root key of a forger, in tests"),
        Record(encode(feedback("i2", "noise")), b"acme"),
    )  # fmt: skip
    write(broker, "policy.v1", Record(json.dumps({"version": "v1", "timezone": "UTC"}).encode(), b"default"))
    html, data = tmp_path / "review.html", tmp_path / "review.json"
    arguments = ["--week", WEEK.label, "--html", str(html), "--json", str(data)]
    assert main(["report", "weekly", *arguments]) == 0
    expected = reviewed(old, *standing, alerts=alerts, commands=[kill("k", incident_id="i1")], orders=[said])
    found = json.loads(data.read_text(encoding="utf-8"))
    assert found["totals"]["cost_nanousd"] == expected.totals.cost_nanousd
    assert found["since_ms"] == old.hour_start_ms
    assert found["before_days_nanousd"] == list(expected.before_days_nanousd or ())
    assert [one["name"] for one in found["tenants"]["lines"]] == ["acme", "globex", "hooli"]
    assert [(one["total"], one["open"]) for one in found["incidents"]] == [(2, 1)]
    assert (found["verdicts"]["useful"], found["verdicts"]["noise"]) == (1, 0)
    assert [one["verdict"] for one in found["kills"]] == ["useful"]
    assert "Weekly review, 23 – 29 November 2026" in capsys.readouterr().out
    assert html.stat().st_size > 10_000
    assert "2 messages of operator.v1 are left out: no operator's, or unreadable" in caplog.text
    assert "rollups.v1" in caplog.text
    assert "is left out of the review: missing_field" in caplog.text


def test_without_the_operators_key_no_order_is_believed(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As the worker refuses them, and the log says why."""
    monkeypatch.delenv("SPENDFUSE_OPERATOR_KEY")
    write(broker, "operator.v1", signed(silence(WEEK.start_ms, WEEK.end_ms)))
    data = tmp_path / "review.json"
    assert main(["report", "weekly", "--week", WEEK.label, "--json", str(data)]) == 0
    assert json.loads(data.read_text(encoding="utf-8"))["silences"] == []
    assert "SPENDFUSE_OPERATOR_PUBLIC_KEY is not set" in caplog.text


def test_a_command_that_the_engine_has_not_signed_has_stopped_nobody(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """With the engine's key the review counts kills that guards obey; of others the log says how many there are."""
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY", ENGINE_KEY)
    engines, forged = kill("k1", incident_id="i1"), kill("k2", incident_id="i2")
    value = encode(engines)
    headers = EngineKeys(ENGINE_KEY.encode()).command_headers(engines, value, "engine")
    write(broker, "control.v1", Record(value, b"acme/run/run-1", tuple(headers)))
    write(broker, "control.v1", Record(encode(forged), b"acme/run/run-2"))
    data = tmp_path / "review.json"
    assert main(["report", "weekly", "--week", WEEK.label, "--json", str(data)]) == 0
    assert [one["incident_id"] for one in json.loads(data.read_text(encoding="utf-8"))["kills"]] == ["i1"]
    assert "the engine has not signed them: 1" in caplog.text


def test_the_policy_in_force_says_where_a_week_begins(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """An hour of Sunday evening in UTC is Monday's in Auckland."""
    write(
        broker, "policy.v1", Record(json.dumps({"version": "v1", "timezone": "Pacific/Auckland"}).encode(), b"default")
    )
    write(broker, "rollups.v1", of_rollup(rollup(WEEK.start_ms - 2 * HOUR_MS, cost_nanousd=USD)))
    data = tmp_path / "review.json"
    assert main(["report", "weekly", "--week", WEEK.label, "--json", str(data)]) == 0
    review = json.loads(data.read_text(encoding="utf-8"))
    assert (review["week"]["timezone"], review["totals"]["cost_nanousd"]) == ("Pacific/Auckland", USD)


def test_a_missing_topic_is_exit_4(
    embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With what to do about it."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    monkeypatch.setattr(weekly, "wall_ms", lambda: WEEK.end_ms)
    assert main(["report", "weekly", "--policy", str(policy), "--week", WEEK.label]) == 4
    said = capsys.readouterr().err
    assert "topics are missing" in said
    assert "rollups.v1. Create them: python -m streams topics apply" in said


def test_no_broker_is_exit_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With what to set."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    address = f"127.0.0.1:{unused_port()}"
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", address)
    monkeypatch.setattr(weekly, "wall_ms", lambda: WEEK.end_ms)
    monkeypatch.setattr("streams.kafka.admin.REQUEST_TIMEOUT_S", 0.5)
    assert main(["report", "weekly", "--policy", str(policy), "--week", WEEK.label]) == 4
    assert f"no broker answers at {address}" in capsys.readouterr().err


def test_a_process_can_ask_for_a_review(broker: EmbeddedBroker) -> None:
    """What sends it on a schedule gets the value itself."""
    write(broker, "rollups.v1", *map(of_rollup, (hour(-7, 2), hour(0, 3))))
    review = weekly.read_review(read_settings(), WEEK, read_policy_file(None))
    assert review == reviewed(hour(-7, 2), hour(0, 3))
