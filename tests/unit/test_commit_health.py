"""Health of a worker's commits: lately committed, or nothing to commit."""

from streams.worker.commit_health import CommitHealth

LIMIT_MS = 30_000


class Clock:
    """Time as the test says."""

    ms = 1_000

    def __call__(self) -> int:
        return self.ms


def test_batches_that_fail_are_a_fault_until_one_is_committed() -> None:
    """The first failures are not; they are once they have lasted, however often it is tried; one success ends it."""
    clock = Clock()
    health = CommitHealth(LIMIT_MS, clock)
    assert health.fault() is None
    for _ in range(40):
        health.attempt()
        clock.ms += 500
        health.failed("the record is too large")
        health.nothing()  # what failed is being read again
        clock.ms += 500
    assert health.fault() == "nothing could be committed for 40 s: the record is too large"
    health.attempt()
    health.succeeded()
    assert (health.fault(), health.failing_s) == (None, 0)


def test_an_attempt_that_hangs_is_a_fault() -> None:
    """Nobody has to come back from it to say so."""
    clock = Clock()
    health = CommitHealth(LIMIT_MS, clock)
    health.attempt()
    clock.ms += LIMIT_MS + 1
    assert health.fault() == "nothing could be committed for 30 s: the attempt does not end"


def test_nothing_to_commit_is_no_fault() -> None:
    """A worker that sleeps is well; and so is one whose partitions went elsewhere after a failure, once that lasts."""
    clock = Clock()
    health = CommitHealth(LIMIT_MS, clock)
    health.nothing()
    clock.ms += 10 * LIMIT_MS
    assert health.fault() is None
    health.failed("the place was lost")
    clock.ms += LIMIT_MS + 1
    assert health.fault()
    health.nothing()
    assert health.fault() is None
