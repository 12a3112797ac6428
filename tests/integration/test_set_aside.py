"""What alerting cannot read of its own log ends nothing: it is set aside, paged, and removed by a command."""

import json
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from streams.__main__ import main
from streams.clock import wall_ms
from streams.settings import Settings
from streams.tools.deliveries import repair_deliveries
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, AlertLog, Listening
from tests.support.kafka import Record, TopicSpace, produce
from tests.support.receivers import webhook
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
