"""What alerting cannot read of its own log ends nothing: it is set aside, paged, and removed by a command. What is gone
of the log is written again, or told.
"""

import json
from pathlib import Path

import pytest

from alerting.delivery.log import Delivery, decode_entry
from schemas.errors import SettingsError
from streams.__main__ import main
from streams.clock import monotonic_ms, wall_ms
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.tools.deliveries import repair_deliveries
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, AlertLog, Listening
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_until
from tests.support.receivers import Answer, webhook
from tests.support.telling import alert

BAD = {b"gone/hook": b"garbage", b"newer/hook": b'{"type":"of a newer version"}', b"\xff\xfe": b"[]"}
SET_ASIDE = {f'partition="{number}"': float(number == 1) * len(BAD) for number in range(4)}


def told(hook: Listening) -> list[str]:
    """The rule, or else the incident, of each message."""
    alerts = [each for body in hook.bodies for each in body["data"]["alerts"]]
    return [each["rule"] if each["tenant_id"] == "spendfuse" else each["incident_id"] for each in alerts]


def test_a_bad_record_of_the_log_is_set_aside_and_paged(
    kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 29: three records that are no entries. Everybody is told of everything else; the records are one page, which
    a restart does not repeat; `check` lists them, and `repair` removes them once they are kept in a file.
    """
    bad = [Record(value, key, partition=1) for key, value in BAD.items()]
    produce(kafka_topics.bootstrap, kafka_topics.name("deliveries.v1"), bad)
    policy = tmp_path / "policy.toml"
    log = AlertLog(kafka_topics)
    with Listening(webhook()) as hook:
        policy.write_text(TO_THE_HOOK.format(url=hook.url), encoding="utf-8")
        for incident in ("first", "second"):
            with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
                log.write(alert(incident, at_ms=wall_ms()))
                process.wait_for(lambda about=incident: about in told(hook), 60, f"{incident} told")  # type: ignore[misc]
                process.wait_for(lambda: "unreadable-deliveries" in told(hook), 60, "the page")
                process.wait_for(
                    lambda: process.metric("spendfuse_alerting_set_aside") == SET_ASIDE,
                    60,
                    "every partition's count",
                )
                assert process.stop() == 0, process.tail()
    assert sorted(told(hook)) == ["first", "second", "unreadable-deliveries"]

    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", kafka_topics.bootstrap)
    monkeypatch.setenv("SPENDFUSE_PREFIX", kafka_topics.prefix)
    kept = tmp_path / "removed.jsonl"
    assert main(["deliveries", "check"]) == 1
    listed = capsys.readouterr().out
    assert all(words in listed for words in ("3 records", "gone/hook", "partition 1, offset 0"))
    assert main(["deliveries", "repair", "--save", str(kept)]) == 0
    assert {json.loads(line)["offset"] for line in kept.read_text().splitlines()} == {0, 1, 2}
    assert main(["deliveries", "check"]) == 0


def test_nothing_is_removed_that_is_not_kept(tmp_path: Path) -> None:
    """Without a file to keep it in, nothing is even looked at."""
    with pytest.raises(SettingsError, match="--save FILE"):
        repair_deliveries(Settings(), None)


TWO_HOOKS = """
version = "two hooks"
[receivers.ours]
type = "webhook"
url = "{ours}"
[receivers.busy]
type = "webhook"
url = "{busy}"
[[route]]
match = {{tenant_id = "spendfuse"}}
receivers = ["ours"]
[[route]]
receivers = ["busy"]
"""


STALL_LIMIT_S = 8


def delete(space: TopicSpace, topic: str) -> Admin:
    """Somebody deletes a topic."""
    admin = Admin(Settings(kafka_bootstrap=space.bootstrap))
    admin.delete_topics([space.name(topic)], request_timeout=10)[space.name(topic)].result(20)
    wait_until(lambda: space.name(topic) not in admin.list_topics(timeout=10).topics, 20, "it is gone")
    return admin


def make_anew(space: TopicSpace, topic: str) -> None:
    """Somebody deletes a topic, and makes it again."""
    admin = delete(space, topic)
    assert apply(admin, space.prefix, space.partitions, 1).created == (space.name(topic),)


def pending(space: TopicSpace) -> list[str]:
    """The incidents that somebody has still to be told of, by the log of deliveries."""
    values = {record.key: record.value for record in read_all(space.bootstrap, space.name("deliveries.v1"))}
    entries = [decode_entry(value) for value in values.values() if value is not None]
    return [one.alert.incident_id for one in entries if isinstance(one, Delivery) and one.status == "pending"]


def test_a_log_that_is_made_anew_is_filled_again_or_told(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """While alerting runs, from its memory, and that is told; while it does not, it says at its start what is lost, and
    at the next one nothing.
    """
    policy = tmp_path / "policy.toml"
    with Listening(webhook()) as ours, Listening(webhook()) as busy:
        busy.receiver.always = Answer(429, headers={"Retry-After": "3600"})
        policy.write_text(TWO_HOOKS.format(ours=ours.url, busy=busy.url), encoding="utf-8")

        quick = {"STALL_LIMIT_S": STALL_LIMIT_S}
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}, **quick) as process:
            process.wait_owning(kafka_topics.partitions)
            AlertLog(kafka_topics).write(alert("waits", at_ms=wall_ms()))
            process.wait_said("not sent")
            make_anew(kafka_topics, "deliveries.v1")
            process.wait_for(lambda: told(ours), 60, "it is told")
            assert pending(kafka_topics) == ["waits"]
            admin = delete(kafka_topics, "deliveries.v1")
            AlertLog(kafka_topics).write(alert("meanwhile", at_ms=wall_ms()))
            process.wait_for(lambda: "deliveries.v1 is missing: python -m" in process.health, 60, "health says so")
            missing_ms = monotonic_ms()
            process.wait_for(lambda: monotonic_ms() > missing_ms + STALL_LIMIT_S * 1000, 60, "it is waited for")
            apply(admin, kafka_topics.prefix, kafka_topics.partitions, 1)
            process.wait_for(lambda: len(pending(kafka_topics)) == 2, 60, "both are known")
            process.wait_for(lambda: process.health == "ok", 60, "all is well")
            assert process.stop() == 0, process.tail()
        make_anew(kafka_topics, "deliveries.v1")
        for _ in range(2):
            with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
                process.wait_for(lambda: len(told(ours)) == 2, 60, "the loss is told")
                process.wait_owning(kafka_topics.partitions)
                assert process.stop() == 0, process.tail()
    assert told(ours) == ["deliveries-lost"] * 2
