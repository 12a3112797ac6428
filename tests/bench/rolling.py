"""A rolling replacement of two workers under load: for how long a partition goes without a commit; with the same state,
with another generation of it that was filled beside them, and with one that is rebuilt while nobody works.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.tools.rebuild.beside import run_beside
from streams.tools.rebuild.in_place import run_rebuild
from tests.bench.broker import bench_broker, broker_note
from tests.bench.machine import ANY_CORE
from tests.bench.report import Part
from tests.support.kafka import TopicSpace, delete_topics, fresh_prefix
from tests.support.load import POLICY, Flow, Logged, Shape, usage_log
from tests.support.rolling import generation, longest_gaps_ms, replace, wait_share
from tests.support.worker_process import OPERATOR_PUBLIC_KEY, WorkerProcess

PARTITIONS = 4
SESSIONS_MS = (10_000, 30_000)
"""The one that workers have unless told otherwise, and one that a successor comes within."""
SEED = 20_261_128
EVENTS = 40_000


def measure(rate_per_s: int, rounds: int) -> Part:
    """Replace both workers while so many events a second flow, under each length of the session."""
    part = Part("rolling", f"two workers are replaced one after the other at {rate_per_s:,} events/s")
    log = usage_log(Shape(EVENTS, SEED, tenants=40, history_hours=20, busy_hours=3))
    with bench_broker(ANY_CORE) as bootstrap, tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.toml"
        policy.write_text(POLICY, encoding="utf-8")
        for session_ms in SESSIONS_MS:
            found = [_gaps(bootstrap, policy, log, rate_per_s, session_ms) for _ in range(rounds)]
            worst, best = ([choose(gaps) / 1000 for gaps in found] for choose in (max, min))
            part.add(f"session of {session_ms // 1000} s: longest gap between commits of a partition", "s", worst)
            part.add(f"session of {session_ms // 1000} s: of the partition that fared best", "s", best)
        for name, way in (("another generation, filled beside", _beside), ("rebuilt while nobody works", _in_place)):
            found = [_gaps(bootstrap, policy, log, rate_per_s, SESSIONS_MS[1], way) for _ in range(rounds)]
            part.add(f"{name}: longest gap between commits of a partition", "s", [max(gaps) / 1000 for gaps in found])
    part.notes.append(broker_note(ANY_CORE, PARTITIONS))
    return part


def _beside(settings: Settings, start: Callable[..., WorkerProcess], workers: dict[str, WorkerProcess]) -> None:
    run_beside(settings, 2)
    replace(lambda slot: start(slot, STATE_GENERATION=2), workers, PARTITIONS // 2)


def _in_place(settings: Settings, start: Callable[..., WorkerProcess], workers: dict[str, WorkerProcess]) -> None:
    for worker in workers.values():
        worker.stop()
    run_rebuild(settings)
    for slot in workers:
        workers[slot] = start(slot)
    for worker in workers.values():
        wait_share(worker, PARTITIONS // 2)


def _same_state(_: Settings, start: Callable[..., WorkerProcess], workers: dict[str, WorkerProcess]) -> None:
    replace(start, workers, PARTITIONS // 2)


def _gaps(
    bootstrap: str,
    policy: Path,
    log: Sequence[Logged],
    rate_per_s: int,
    session_ms: int,
    way: Callable[[Settings, Callable[..., WorkerProcess], dict[str, WorkerProcess]], None] = _same_state,
) -> list[int]:
    """The longest gap of each partition, from before the first worker goes until the last one has come."""
    space = TopicSpace(bootstrap, fresh_prefix(), PARTITIONS)
    apply(Admin(Settings(kafka_bootstrap=bootstrap)), space.prefix, PARTITIONS, replication=1)

    def start(slot: str, **settings: object) -> WorkerProcess:
        return WorkerProcess(bootstrap, space.prefix, policy, slot=slot, SESSION_TIMEOUT_MS=session_ms, **settings)

    public_key = bytes.fromhex(OPERATOR_PUBLIC_KEY)
    settings = Settings(
        kafka_bootstrap=bootstrap, prefix=space.prefix, policy=policy, session_timeout_ms=session_ms,
        operator_public_key=(public_key,),
    )  # fmt: skip
    flow = Flow(bootstrap, space.name("usage.v1"), log, rate_per_s)
    try:
        with generation(start, ("a", "b"), PARTITIONS // 2) as workers:
            flow.start()
            workers["a"].wait_for(lambda: sum(workers["a"].applied().values()) > rate_per_s, 60, "events are applied")
            way(settings, start, workers)
            flow.abandon()
            return list(longest_gaps_ms(space).values())
    finally:
        delete_topics(bootstrap, space.prefix)
