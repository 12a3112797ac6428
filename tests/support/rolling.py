"""A rolling replacement of workers, as an upgrade does it, and for how long nobody committed meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise

from streams.worker.fence import FENCE_KEY
from tests.support.kafka import TopicSpace, read_all
from tests.support.worker_process import WorkerProcess

START_S = 90

Start = Callable[[str], WorkerProcess]
"""Makes the worker of a slot."""


def owned(worker: WorkerProcess) -> int:
    """How many partitions a worker says it has."""
    return int(worker.metric("spendfuse_partitions").get("", 0))


@contextmanager
def generation(start: Start, slots: Sequence[str], share: int) -> Iterator[dict[str, WorkerProcess]]:
    """A worker in each slot, each with its share of the partitions, until the end of the block."""
    with ExitStack() as stack:
        workers = {slot: stack.enter_context(start(slot)) for slot in slots}
        for worker in workers.values():
            wait_share(worker, share)
        yield workers
        for worker in workers.values():
            if worker.running:
                worker.kill()


def replace(start: Start, workers: dict[str, WorkerProcess], share: int) -> None:
    """End each worker in order and start another in its slot, the next one when it has its partitions."""
    for slot, before in list(workers.items()):
        assert before.stop() == 0, before.tail()
        workers[slot] = start(slot)
        wait_share(workers[slot], share)


def wait_share(worker: WorkerProcess, share: int) -> None:
    """Wait until a worker has its share, and the state of all of it."""
    worker.wait_for(
        lambda: owned(worker) == share and worker.metric("spendfuse_restoring").get("") == 0, START_S, f"{share} owned"
    )


def longest_gaps_ms(space: TopicSpace) -> dict[int, int]:
    """Partition -> the longest time between two commits of its state, by the broker's clock."""
    found: dict[int, list[int]] = {}
    for record in read_all(space.bootstrap, space.name("state.v1")):
        if record.key == FENCE_KEY and record.partition is not None and record.timestamp_ms is not None:
            found.setdefault(record.partition, []).append(record.timestamp_ms)
    return {number: max((b - a for a, b in pairwise(times)), default=0) for number, times in found.items()}
