"""A broker that goes away, and stays away: nobody ends, health says what is waited for, and all goes on by itself.

Numbers of rows are those of the fault matrix.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.kafka.local import LocalKafka
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.integration.proof import check_all, flowing, small_load
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, Listening
from tests.support.kafka import TopicSpace, fresh_prefix, wait_until
from tests.support.load import Shape
from tests.support.receivers import webhook
from tests.support.service_process import ServiceProcess
from tests.support.worker_process import WorkerProcess

SEED = 20_261_128
STALL_LIMIT_S = 20
"""Longer than any call to the broker may take, as the setting wants it: the longest waits for 15 s. With 12 s a broker
that was slow on a busy machine ended a worker that was well.
"""
AWAY_S = STALL_LIMIT_S + 2
RATE_PER_S = 30
AWAY = "no broker has answered"


def killed(broker: LocalKafka) -> Callable[[], None]:
    broker.kill()
    return broker.start


def frozen(broker: LocalKafka) -> Callable[[], None]:
    broker.pause()
    return broker.unpause


def wait_away(process: ServiceProcess, metric: str) -> None:
    """Wait until the broker has been away for longer than the process may stand still, and health has said so."""
    process.wait_for(lambda: AWAY in process.health, 60, "health says that the broker is away")
    process.wait_for(lambda: process.metric(metric).get("", 0) > AWAY_S, 60, f"away for {AWAY_S} s")


def wait_told(process: ServiceProcess, hook: Listening, told: int) -> None:
    process.wait_for(lambda: len(hook.bodies) > told, 60, "somebody is told of what happens now")


def wait_well(process: ServiceProcess) -> None:
    process.wait_for(lambda: process.health == "ok", 60, "health is green again")
    assert process.said("the broker answers again")


def test_whoever_waits_for_the_broker_goes_on(own_kafka: LocalKafka, tmp_path: Path) -> None:
    """Rows 17, 18 and 24: in the middle of the flow the broker stands still, and later is killed, each time for longer
    than a watchdog lets a process stand still. Worker and alerting wait and say so; when it is back, runs are killed
    and somebody is told again, every fact is there once, and both end in order.
    """
    load = small_load(tmp_path, Shape(1500, SEED, tenants=8, history_hours=20, busy_hours=3))
    space = TopicSpace(own_kafka.bootstrap, fresh_prefix(), 2)
    apply(Admin(Settings(kafka_bootstrap=space.bootstrap)), space.prefix, space.partitions, replication=1)
    with Listening(webhook()) as hook, flowing(space, load, RATE_PER_S) as flow:
        routing = tmp_path / "routing.toml"
        routing.write_text(TO_THE_HOOK.format(url=hook.url), encoding="utf-8")
        quick: dict[str, Any] = {"UNHEALTHY_S": 3, "CALL_TIMEOUT_S": 3, "STALL_LIMIT_S": STALL_LIMIT_S}
        with (
            WorkerProcess(space.bootstrap, space.prefix, load.policy, **quick) as worker,
            AlertingProcess(space.bootstrap, space.prefix, routing, {}, **quick) as alerting,
        ):
            alerting.wait_owning(space.partitions)
            wait_until(lambda: sum(worker.applied().values()) > 100, 60, "some records are applied")
            for go_away in (frozen, killed):
                come_back = go_away(own_kafka)
                wait_away(worker, "spendfuse_broker_away_seconds")
                wait_away(alerting, "spendfuse_alerting_broker_away_seconds")
                told = len(hook.bodies)
                come_back()
                wait_told(alerting, hook, told)
                wait_well(worker)
                wait_well(alerting)
            flow.finish()
            worker.wait_applied(flow.ends)
            assert (worker.stop(), alerting.stop()) == (0, 0), worker.tail() + alerting.tail()
            assert not alerting.said("deliveries.v1 has lost records; what is known is written again")
    check_all(space, load, flow, "broker away")
