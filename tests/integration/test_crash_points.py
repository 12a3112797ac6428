"""The worker dies at one exact place of its loop, several times over, and still everything comes out once.

The places are rows 1 to 8 of the fault matrix: after taking a batch (1), after deciding (2), with alerts sent (3), with
state rows sent (4), with offsets sent and the transaction open (5), with the transaction committed and nobody told (6),
while reading the state back (7), and while partitions are taken away (8).
"""

from collections.abc import Iterator
from random import Random

import pytest

from tests.integration.proof import (
    Load,
    check_all,
    flowing,
    small_load,
)
from tests.support.kafka import TopicSpace, wait_until
from tests.support.load import Flow, Shape
from tests.support.worker_process import WorkerProcess

SEED = 20_261_123
DEATHS = 3
RATE_PER_S = 400
BATCH_RECORDS = 40
"""So many batches that three deaths find their pass."""
STAGES = (
    pytest.param("taken", 120, id="row1-taken"),
    pytest.param("decided", 120, id="row2-decided"),
    pytest.param("effects_sent", 24, id="row3-effects_sent"),
    pytest.param("rows_sent", 12, id="row4-rows_sent"),
    pytest.param("offsets_sent", 12, id="row5-offsets_sent"),
    pytest.param("committed", 12, id="row6-committed"),
)
"""Stage, and at which of its passes the worker dies at the latest."""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """2,000 records, the same for every stage."""
    return small_load(tmp_path_factory.mktemp("load"), Shape(2000, SEED, tenants=8, history_hours=20, busy_hours=2))


@pytest.fixture
def flow(kafka_topics: TopicSpace, load: Load) -> Iterator[Flow]:
    """The load, flowing slowly enough for several deaths on the way."""
    with flowing(kafka_topics, load, RATE_PER_S) as flow:
        yield flow


def start(space: TopicSpace, load: Load, slot: str = "0", **settings: object) -> WorkerProcess:
    return WorkerProcess(space.bootstrap, space.prefix, load.policy, slot=slot, BATCH_RECORDS=BATCH_RECORDS, **settings)


def die_at(space: TopicSpace, load: Load, stage: str, times: int) -> None:
    """A worker that kills itself at the given pass of a stage."""
    with start(space, load, KILL_AT=f"{stage}:{times}") as worker:
        assert worker.wait_exit() == -9, f"at {stage}:{times}:\n{worker.tail()}"


def finish(space: TopicSpace, load: Load, flow: Flow, told: str) -> None:
    """A worker that lives takes in the rest; then everything is as it must be."""
    with start(space, load) as worker:
        flow.finish()
        worker.wait_applied(flow.ends)
        assert worker.stop() == 0, worker.tail()
    check_all(space, load, flow, told)


@pytest.mark.parametrize(("stage", "latest"), STAGES)
def test_a_death_at_any_stage_loses_and_doubles_nothing(
    kafka_topics: TopicSpace, load: Load, flow: Flow, stage: str, latest: int
) -> None:
    """Rows 1 to 6: three deaths at a stage of the loop, then the same outputs and state as without any."""
    rng = Random(f"{SEED} {stage}")
    passes = [rng.randint(1, latest) for _ in range(DEATHS)]
    for times in passes:
        die_at(kafka_topics, load, stage, times)
    finish(kafka_topics, load, flow, f"{stage} at passes {passes}")


def test_deaths_while_the_state_is_read_back(kafka_topics: TopicSpace, load: Load, flow: Flow) -> None:
    """Row 7: a restore that never ends well changes nothing, however often it is begun."""
    die_at(kafka_topics, load, "committed", 10)
    for partitions_begun in (1, 3, 4):
        die_at(kafka_topics, load, "restoring", partitions_begun)
    finish(kafka_topics, load, flow, "restoring")


def test_a_death_while_partitions_are_taken_away(kafka_topics: TopicSpace, load: Load, flow: Flow) -> None:
    """Row 8: a second worker joins, the first dies in the callback that takes its partitions; the second has all."""
    with start(kafka_topics, load, slot="a", KILL_AT="revoked:1") as first:
        first.wait_said("state restored")
        wait_until(lambda: len(first.applied()) > 0, 30, "the first worker has committed")
        with start(kafka_topics, load, slot="b") as second:
            assert first.wait_exit() == -9, first.tail()
            flow.finish()
            second.wait_applied(flow.ends)
            assert second.stop() == 0, second.tail()
    check_all(kafka_topics, load, flow, "revoked")
