"""Another generation of the state, filled beside running workers, which are then replaced one after the other."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.control import Target
from schemas.operator import Kill
from schemas.signing import OperatorKey
from schemas.topics import of_generation
from streams.settings import Settings
from streams.tools.rebuild.beside import run_beside
from tests.integration.proof import check_all, flowing, small_load
from tests.integration.test_across_tenants import HOUR_MS, MODELS, alerts, calls, levels, policy, wait_told, watched
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_until
from tests.support.load import Shape
from tests.support.rebuild import rebuild
from tests.support.rolling import generation, wait_share
from tests.support.service_process import OPERATOR_KEY
from tests.support.worker_process import OPERATOR_PUBLIC_KEY, WorkerProcess

SEED = 20_261_201
RATE_PER_S = 200


@dataclass(frozen=True)
class Later(TopicSpace):
    """The topics as workers of the second generation of the state have them."""

    def name(self, topic: str) -> str:
        return super().name(of_generation(topic, 2))


def test_a_generation_is_filled_beside_workers_who_are_then_replaced(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """While events flow through two workers, the second generation is filled, by two at once who end each other and
    take nobody for a worker, and again; the workers are replaced one after the other, and one that follows ends when
    all of it is theirs. The first successor dies while it reads in silence what was counted since, and again with
    everything read and nothing taken over; then nothing has changed, and a third process takes over. Every event is
    counted once, every alert, command and dead letter is published once, and the state is that of a fresh engine. A
    worker of the first generation that comes back refuses, and says which one to keep.
    """
    load = small_load(tmp_path, Shape(2000, SEED, tenants=8, history_hours=20, busy_hours=3))
    share = kafka_topics.partitions // 2

    def start(slot: str, **settings: object) -> WorkerProcess:
        given = {"SESSION_TIMEOUT_MS": 60_000, **settings}
        return WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, load.policy, slot=slot, **given)

    with generation(start, ("a", "b"), share) as workers, flowing(kafka_topics, load, RATE_PER_S) as flow:
        first = workers["a"]
        first.wait_for(lambda: sum(first.applied().values()) > 100, 60, "the first has applied some records")
        with ThreadPoolExecutor() as pool:
            both = [pool.submit(rebuild, kafka_topics, load.policy, "--generation", "2") for _ in range(2)]
        for one in (future.result() for future in both):
            assert one.returncode == 0 or "another process fills them now" in one.stderr, one.stdout + one.stderr
            assert "workers of generation 2 keep" not in one.stdout
        done = rebuild(kafka_topics, load.policy, "--generation", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Replace them now" in done.stdout
        deaths = ["following:2", "taking_over:1"]
        for slot in list(workers):
            assert workers[slot].stop() == 0, workers[slot].tail()
            for death in deaths:
                with start(slot, STATE_GENERATION=2, KILL_AT=death) as dying:
                    assert dying.wait_exit() == -9, dying.tail()
            deaths = []
            workers[slot] = start(slot, STATE_GENERATION=2)
            wait_share(workers[slot], share)
        followed = rebuild(kafka_topics, load.policy, "--generation", "2", "--follow")
        assert followed.returncode == 0, followed.stdout + followed.stderr
        assert "workers of generation 2 keep partitions" in followed.stdout
        flow.finish()
        for worker in workers.values():
            mine = {number: end for number, end in flow.ends.items() if number in worker.applied()}
            worker.wait_applied(mine)
            assert len(worker.said("partition taken over from the generation before")) == share
        assert [worker.stop() for worker in workers.values()] == [0, 0]
    later = Later(kafka_topics.bootstrap, kafka_topics.prefix, kafka_topics.partitions)
    check_all(later, load, flow, f"another generation, seed {SEED}")
    told = len(read_all(kafka_topics.bootstrap, kafka_topics.name("alerts.v1")))
    with start("a") as former:
        assert former.wait_exit() == 3, former.tail()
        assert "SPENDFUSE_STATE_GENERATION=2" in former.text
    assert len(read_all(kafka_topics.bootstrap, kafka_topics.name("alerts.v1"))) == told


def order_kill(space: TopicSpace, tenant: str, run: str) -> None:
    """An operator stops a run."""
    now_ms = time.time_ns() // 10**6
    order = Kill(
        message_id=f"kill-{run}", ts_ms=now_ms, tenant_id=tenant, who="ana", why="test", target=Target("run", run)
    )
    value = encode(order)
    headers = tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(tenant, value))
    produce(space.bootstrap, space.name("operator.v1"), [Record(value, tenant.encode(), headers, now_ms)])


def kills(space: TopicSpace) -> list[str]:
    """The runs that kills on control.v1 are about."""
    records = read_all(space.bootstrap, space.name("control.v1"))
    found = [json.loads(record.value) for record in records if record.value is not None]
    return sorted(one["target"]["id"] for one in found if one.get("action") == "kill")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("order", ["ba"])
def test_limits_across_tenants_and_orders_go_on(kafka_topics: TopicSpace, tmp_path: Path, order: str) -> None:
    """What all tenants spend together is the plain sum to the nano-dollar, whichever worker is replaced first, the one
    where it comes together or the other; levels that are reached between a rebuild and the takeover, with half of the
    workers replaced, and after that are told once each. An order that was obeyed before the takeover is obeyed once,
    one that comes later as well.
    """
    log = calls((time.time_ns() // 10**6 // HOUR_MS - 3) * HOUR_MS)
    rules = policy(log, tmp_path / "policy.toml")
    share = kafka_topics.partitions // 2
    sent = 0
    ends: dict[int, int] = {}

    def start(slot: str, **settings: object) -> WorkerProcess:
        given = {"SESSION_TIMEOUT_MS": 60_000, "TICK_MS": 200, **settings}
        return WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, rules, slot=slot, **given)

    def spend(until: float) -> None:
        nonlocal sent
        records = log.records[sent : int(until * len(log.records))]
        sent += len(records)
        for record in produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), records):
            assert record.partition is not None
            assert record.offset is not None
            ends[record.partition] = record.offset

    settings = Settings(
        kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix, policy=rules,
        operator_public_key=(bytes.fromhex(OPERATOR_PUBLIC_KEY),),
    )  # fmt: skip
    later = Later(kafka_topics.bootstrap, kafka_topics.prefix, kafka_topics.partitions)
    with generation(start, ("a", "b"), share) as workers:
        spend(0.4)
        workers["a"].wait_for(lambda: sum(workers["a"].applied().values()) > 0, 60, "some are applied")
        assert run_beside(settings, 2) == 0
        spend(0.6)
        wait_told(kafka_topics, 0.5)
        assert run_beside(settings, 2) == 0, "it goes on from where it was left"
        order_kill(kafka_topics, "tenant-0", "ordered-before")
        wait_until(lambda: kills(kafka_topics) == ["ordered-before"], 60, "the first order is obeyed")
        for slot, until in zip(order, (0.9, 1.0), strict=True):
            assert workers[slot].stop() == 0, workers[slot].tail()
            workers[slot] = start(slot, STATE_GENERATION=2)
            wait_share(workers[slot], share)
            spend(until)
        order_kill(kafka_topics, "tenant-0", "ordered-after")
        wait_until(lambda: watched(later).get("company") == log.total, 60, "the company's total")
        wait_until(lambda: "ordered-after" in kills(kafka_topics), 60, "the second order is obeyed")
        wait_told(kafka_topics, 1.0)
        assert [worker.stop() for worker in workers.values()] == [0, 0]
    assert run_beside(settings, 2) == 0, "there is nothing left to fill"
    assert watched(later) == {"company": log.total, **log.spent}
    assert kills(kafka_topics) == ["ordered-after", "ordered-before"]
    assert levels(alerts(kafka_topics)) == {scope: [0.5, 0.8, 1.0] for scope in ("company", *MODELS)}
