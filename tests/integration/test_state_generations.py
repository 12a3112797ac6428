"""Another generation of the state, filled beside running workers, which are then replaced one after the other."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from schemas.topics import of_generation
from tests.integration.proof import check_all, flowing, small_load
from tests.support.kafka import TopicSpace, read_all
from tests.support.load import Shape
from tests.support.rolling import generation, wait_share
from tests.support.service_process import OPERATOR_KEY, ROOT
from tests.support.worker_process import WorkerProcess

SEED = 20_261_201
RATE_PER_S = 200


@dataclass(frozen=True)
class Later(TopicSpace):
    """The topics as workers of the second generation of the state have them."""

    def name(self, topic: str) -> str:
        return super().name(of_generation(topic, 2))


def rebuild(space: TopicSpace, policy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m streams rebuild --from-input`, by somebody who keeps the first generation."""
    settings = {
        "KAFKA_BOOTSTRAP": space.bootstrap, "PREFIX": space.prefix, "POLICY": str(policy),
        "OPERATOR_KEY": OPERATOR_KEY, "SESSION_TIMEOUT_MS": "6000",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "streams", "rebuild", "--from-input", *arguments],
        cwd=ROOT,
        env={f"SPENDFUSE_{name}": value for name, value in settings.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_generation_is_filled_beside_workers_who_are_then_replaced(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """While events flow through two workers, the second generation is filled, and they are replaced one after the
    other. The first successor dies while it reads in silence what was counted since, and again with everything read
    and nothing taken over; then nothing has changed, and a third process takes over. Every event is counted once,
    every alert, command and dead letter is published once, and the state is that of a fresh engine. A worker of the
    first generation that comes back refuses, and says which one to keep.
    """
    load = small_load(tmp_path, Shape(3000, SEED, tenants=8, history_hours=20, busy_hours=3))
    share = kafka_topics.partitions // 2

    def start(slot: str, **settings: object) -> WorkerProcess:
        given = {"SESSION_TIMEOUT_MS": 60_000, **settings}
        return WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, load.policy, slot=slot, **given)

    with generation(start, ("a", "b"), share) as workers, flowing(kafka_topics, load, RATE_PER_S) as flow:
        first = workers["a"]
        first.wait_for(lambda: sum(first.applied().values()) > 100, 60, "the first has applied some records")
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
        flow.finish()
        for worker in workers.values():
            mine = {number: end for number, end in flow.ends.items() if number in worker.applied()}
            worker.wait_applied(mine)
            assert len(worker.said("partition taken over from the generation before")) == share
        assert [worker.stop() for worker in workers.values()] == [0, 0]
    later = Later(kafka_topics.bootstrap, kafka_topics.prefix, kafka_topics.partitions)
    check_all(later, load, flow, f"another generation, seed {SEED}")
    alerts = len(read_all(kafka_topics.bootstrap, kafka_topics.name("alerts.v1")))
    with start("a") as former:
        assert former.wait_exit() == 3, former.tail()
        assert "SPENDFUSE_STATE_GENERATION=2" in former.text
    assert len(read_all(kafka_topics.bootstrap, kafka_topics.name("alerts.v1"))) == alerts
