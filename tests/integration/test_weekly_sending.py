"""The weekly review on a real Kafka: what it reads, and that it is sent."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.codec import decode_alert, encode
from streams.clock import wall_ms
from streams.kafka.whole_topic import committed_records
from streams.settings import read_settings
from tests.support.alerting_process import AlertingProcess, AlertLog, Listening
from tests.support.kafka import Record, TopicSpace, produce
from tests.support.messages import DAY_MS, HOUR_MS, USD
from tests.support.receivers import webhook
from tests.support.reviews import rollup
from tests.support.telling import alert

POLICY = """
version = "weekly"
[receivers.hook]
type = "webhook"
url = "{url}"
[review]
receivers = ["hook"]
weekday = "{weekday}"
at = "{at}"
[[route]]
receivers = ["hook"]
"""


def test_a_review_counts_what_was_committed(kafka_topics: TopicSpace) -> None:
    """Records of aborted transactions are not read, and the markers at a topic's end keep nobody waiting."""
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    for number in range(3):
        log.write(alert(f"gone-{number}", at_ms=now_ms), abort=True)
        log.write(alert(f"real-{number}", at_ms=now_ms))
    log.write(alert("gone", at_ms=now_ms), abort=True)
    given = {"SPENDFUSE_KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "SPENDFUSE_PREFIX": kafka_topics.prefix}
    records = committed_records(read_settings(given), "alerts.v1")
    found = [decode_alert(record.value()).incident_id for record in records]
    assert found == ["real-0", "real-1", "real-2"]


def test_the_review_is_sent_once_when_it_is_due(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """A process that comes up after the review was due sends it; one that is started again does not."""
    due = datetime.now(UTC) - timedelta(minutes=5)
    monday_ms = int(due.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    last_week_ms = monday_ms - (due.weekday() + 3) * DAY_MS
    spent = rollup(last_week_ms + 9 * HOUR_MS, cost_nanousd=12 * USD)
    record = Record(encode(spent), spent.key.encode())
    produce(kafka_topics.bootstrap, kafka_topics.name("rollups.v1"), [record])
    policy = tmp_path / "policy.toml"
    with Listening(webhook()) as hook:
        text = POLICY.format(url=hook.url, weekday=due.strftime("%a").lower(), at=due.strftime("%H:%M"))
        policy.write_text(text, encoding="utf-8")
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            process.wait_for(lambda: len(hook.bodies) == 1, 60, "the review sent")
            process.wait_said("sent")
            assert process.stop() == 0, process.tail()
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            AlertLog(kafka_topics).write(alert("later", at_ms=wall_ms()))
            process.wait_for(lambda: len(hook.bodies) == 2, 60, "something else told")
            assert process.stop() == 0, process.tail()
        review, other = hook.bodies
    assert "$12.00" in review["data"]["text"]
    assert "review" in review["type"]
    assert other["data"]["alerts"][0]["incident_id"] == "later"
