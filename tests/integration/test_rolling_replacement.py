"""An upgrade while agents work: each worker is replaced by another in its slot, and nothing is lost or told twice."""

from pathlib import Path

from tests.integration.proof import check_all, flowing, small_load
from tests.support.kafka import TopicSpace
from tests.support.load import Shape
from tests.support.rolling import generation, owned, replace
from tests.support.worker_process import WorkerProcess

SEED = 20_261_128
RATE_PER_S = 200


def test_workers_are_replaced_one_by_one(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Two workers end in order, one after the other, and another process takes each one's slot within its session,
    while events flow. Every event is counted once, every alert and command is published once. The partitions of the
    worker that goes wait for its successor: the other one is given none of them, and reads no state back.
    """
    load = small_load(tmp_path, Shape(3000, SEED, tenants=8, history_hours=20, busy_hours=3))
    share = kafka_topics.partitions // 2

    def start(slot: str) -> WorkerProcess:
        return WorkerProcess(
            kafka_topics.bootstrap, kafka_topics.prefix, load.policy, slot=slot, SESSION_TIMEOUT_MS=60_000
        )

    with generation(start, ("a", "b"), share) as workers, flowing(kafka_topics, load, RATE_PER_S) as flow:
        first, second = workers.values()
        first.wait_for(lambda: sum(first.applied().values()) > 100, 60, "the first has applied some records")
        restored = len(second.said("state restored"))
        replace(start, workers, share)
        assert len(second.said("state restored")) == restored, "the other worker read state back: partitions moved"
        flow.finish()
        for worker in workers.values():
            mine = {number: end for number, end in flow.ends.items() if number in worker.applied()}
            worker.wait_applied(mine)
            assert owned(worker) == share
        assert [worker.stop() for worker in workers.values()] == [0, 0]
    check_all(kafka_topics, load, flow, f"rolling replacement, seed {SEED}")
