"""Workers and alerting on hosts whose clocks are wrong, on a real Kafka: they do as if they were right.

Numbers of rows are those of the fault matrix.
"""

import json
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from schemas.codec import decode_command, encode
from schemas.control import Target
from schemas.operator import Kill, Silence
from schemas.signing import OperatorKey
from streams.broker_time import BrokerTime
from streams.clock import BrokerClock, wall_ms
from streams.kafka.client import Admin
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import apply, check
from streams.settings import Settings
from tests.support.alerting_process import AlertingProcess, AlertLog, Listening
from tests.support.kafka import Record, TopicSpace, commands_on, produce, wait_until
from tests.support.receivers import webhook
from tests.support.service_process import OPERATOR_KEY
from tests.support.telling import alert
from tests.support.worker_process import WorkerProcess
from tests.support.wrong_clock import ahead_by

TENANT = "acme"
LONGEST_S = 600
DUE_IN_S = 22
CLOCKS_AHEAD_MIN = (0, 55, 0, -55, 180)
AHEAD = "spendfuse_host_clock_ahead_seconds"
POLICY = f"""
version = "clocks"
[[cap]]
name = "too-long"
max_duration_s = {LONGEST_S}
at_limit = "kill"
mode = "enforce"
"""
WATCHED = """
version = "watched"
[receivers.outside]
type = "webhook"
url = "{url}"
[[route]]
receivers = ["outside"]
group_by = ["incident_id"]
group_wait_seconds = 0
[[route]]
match = {{ detector = "watchdog" }}
receivers = ["outside"]
"""


def call(run: str, ts_ms: int, number: int) -> Record:
    """A call that costs nothing."""
    event = {
        "type": "llm_call", "event_id": f"{run}-{number}", "ts_ms": ts_ms, "tenant_id": TENANT, "run_id": run,
        "model": "m", "cost_nanousd": 0,
    }  # fmt: skip
    return Record(json.dumps(event).encode(), TENANT.encode(), (), wall_ms(), 0)


def test_a_take_over_by_a_wrong_clock_ends_nobody_early_and_nobody_late(
    kafka_topics: TopicSpace, tmp_path: Path
) -> None:
    """Row 41: one whose clock was 55 minutes ahead killed 8 of 8 healthy runs, and one that was behind left a fence by
    which the next killed them. Now time goes on at the brokers' pace: of nine runs the one that is due is killed, at
    its own moment, by whoever is there, also by one whose own stamps the broker would refuse.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    bootstrap = kafka_topics.bootstrap
    usage, control = kafka_topics.name("usage.v1"), kafka_topics.name("control.v1")
    now_ms = wall_ms()
    due_ms = now_ms + DUE_IN_S * 1000
    healthy = [call(f"healthy-{number}", now_ms, 0) for number in range(8)]
    long = [call("long", due_ms - LONGEST_S * 1000, 0), call("long", now_ms, 1)]  # the second says that it is not late
    produce(bootstrap, usage, [*long, *healthy])
    for number, ahead_min in enumerate(CLOCKS_AHEAD_MIN, 1):
        wrong = ahead_by(ahead_min * 60, tmp_path)
        with WorkerProcess(bootstrap, kafka_topics.prefix, policy, variables=wrong) as worker:
            worker.wait_said("state restored")
            produce(bootstrap, usage, [call("healthy-0", wall_ms(), number)])  # so that it leaves a fence of its own
            worker.wait_applied({0: len(long) + len(healthy) + number - 1})
            assert abs(worker.metric(AHEAD)[""] - ahead_min * 60) < 5
            if number == len(CLOCKS_AHEAD_MIN):
                worker.wait_for(lambda: commands_on(bootstrap, control), 60, "a kill")
            assert worker.stop() == 0, worker.tail()
    [killed] = commands_on(bootstrap, control)
    command = decode_command(killed.value)
    assert (command.target.id, command.action) == ("long", "kill")
    assert due_ms <= command.issued_ms <= (killed.timestamp_ms or 0) < due_ms + 30_000


def test_an_order_in_a_wrong_partition_is_moved_by_a_worker_that_is_ahead(
    kafka_topics: TopicSpace, tmp_path: Path
) -> None:
    """It took every order for an old one, and wrote it with its host's time: the broker refused that, and the worker
    tried again for ever.
    """
    order = Kill(
        message_id="kill", ts_ms=wall_ms(), tenant_id=TENANT, who="ana", why="a test", target=Target("run", "odd")
    )
    value, home = encode(order), partition_of(TENANT.encode(), kafka_topics.partitions)
    headers = tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(TENANT, value))
    elsewhere = (home + 1) % kafka_topics.partitions
    bootstrap, control = kafka_topics.bootstrap, kafka_topics.name("control.v1")
    produce(bootstrap, kafka_topics.name("usage.v1"), [call("odd", wall_ms(), 0)])
    produce(bootstrap, kafka_topics.name("operator.v1"), [Record(value, TENANT.encode(), headers, None, elsewhere)])
    ahead = ahead_by(55 * 60, tmp_path)
    with WorkerProcess(bootstrap, kafka_topics.prefix, variables=ahead) as worker:
        worker.wait_for(lambda: commands_on(bootstrap, control), 60, "a kill")
        assert worker.stop() == 0, worker.tail()


def test_a_topic_that_tells_no_time_is_found_and_mended(
    kafka_topics: TopicSpace, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster whose topics were made before they told the time: that is said once, with the command that mends it,
    and it is asked again.
    """
    settings = Settings(kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix)
    state = kafka_topics.name("state.v1")
    before = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, state, incremental_configs=[before])
    admin = Admin(settings)
    admin.incremental_alter_configs([resource])[resource].result(10)
    wait_until(lambda: not _told(settings).is_known, 30, "the topic tells no time")
    caplog.clear()
    brokers = BrokerClock()
    time = BrokerTime(settings, brokers, "state.v1")
    for _ in range(2):
        time.ask(0)
    assert not brokers.is_known
    [said] = [record for record in caplog.records if record.message == "the brokers do not tell their time"]
    assert "python -m streams topics apply" in str(said.__dict__["fields"])
    assert check(admin, settings.prefix) == [f"{state}: message.timestamp.type is CreateTime, should be LogAppendTime"]
    apply(admin, settings.prefix, kafka_topics.partitions, replication=1)
    wait_until(lambda: _told(settings).is_known, 30, "the topic tells the time again")
    time.ask(0)
    assert abs(brokers.now_ms() - wall_ms()) < 5_000


def _told(settings: Settings) -> BrokerClock:
    """The brokers' time as state.v1 tells it now."""
    brokers = BrokerClock()
    BrokerTime(settings, brokers, "state.v1").ask(0)
    return brokers


def test_signs_of_life_and_silences_last_as_long_as_they_should(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Rows 41 and 59: with the worker's clock behind or alerting's ahead every beat came too late to be passed on, and
    the monitor outside paged for a service that was well; a silence was over before its time.
    """
    space, policy, now_ms = kafka_topics, tmp_path / "policy.toml", wall_ms()
    behind, ahead = ahead_by(-55 * 60, tmp_path), ahead_by(55 * 60, tmp_path)
    log = AlertLog(space)
    silence = Silence(
        message_id="silence", ts_ms=now_ms, tenant_id="acme", who="ana", why="a test", match={"rule": "quiet"},
        until_ms=now_ms + 30 * 60_000,
    )  # fmt: skip
    with Listening(webhook()) as outside:
        policy.write_text(WATCHED.format(url=outside.url), encoding="utf-8")
        log.order(silence, OPERATOR_KEY)
        with (
            AlertingProcess(space.bootstrap, space.prefix, policy, ahead) as alerting,
            WorkerProcess(space.bootstrap, space.prefix, policy, variables=behind, WATCHDOG_S=1, TICK_MS=100) as worker,
        ):
            alerting.wait_for(lambda: _has(alerting, "spendfuse_alerting_orders_total"), 60, "the silence is read")
            log.write(alert("hushed", rule="quiet", at_ms=now_ms))
            log.write(alert("loud", rule="noise", at_ms=now_ms))
            alerting.wait_for(
                lambda: {"watchdog", "noise"} <= _rules(outside), 60, "a sign of life and the alert that is not muted"
            )
            assert (worker.stop(), alerting.stop()) == (0, 0), alerting.tail()
        assert "quiet" not in _rules(outside)


def _has(process: AlertingProcess, metric: str) -> bool:
    return process.metric(metric).get("", 0) > 0


def _rules(hook: Listening) -> set[str]:
    """Of which rules a receiver has been told."""
    return {one["rule"] for body in hook.bodies for one in body["data"]["alerts"]}
