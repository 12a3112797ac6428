"""What may go wrong in a day: brokers, workers, clocks, producers, policies. Each mishap says what it must lead to."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from infra.kafka.local import LocalKafka
from infra.service import ROOT
from schemas.duration import DAY_MS, HOUR_MS
from streams.clock import pause, wall_ms
from streams.kafka.partitioner import partition_of
from tests.support.kafka import Record, TopicSpace, produce
from tests.support.worker_process import WorkerProcess
from tests.support.wrong_clock import ahead_by

CENT_NANOUSD = 10_000_000
FLOOD = 1200
DEAD_LETTER_LIMIT = 150
"""Of unreadable records in a row, before they are looked at as a flood."""
WORKERS: dict[str, Any] = {"DEAD_LETTER_LIMIT": DEAD_LETTER_LIMIT, "UNHEALTHY_S": 5, "CALL_TIMEOUT_S": 5}


@dataclass
class Consequences:
    """What the mishaps so far must have led to."""

    spent: Counter[str] = field(default_factory=Counter)
    """Tenant -> nano-dollars that count, however they came."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason -> records that must be dead letters."""
    told: set[tuple[str, str]] = field(default_factory=set)
    """Tenant, and what somebody must have been told of it, once."""
    may_be_told: set[tuple[str, str]] = field(default_factory=set)
    """Likewise, where it depends on what came between."""


class Day:
    """The cluster in which it all happens, and what has happened to it."""

    def __init__(self, broker: LocalKafka, space: TopicSpace, policy: Path, folder: Path, rng: Random) -> None:
        self.must = Consequences()
        self.happened: list[str] = []
        self._broker = broker
        self._space = space
        self._policy = policy
        self._folder = folder
        self._rng = rng
        self._numbers = count()
        self._stack = ExitStack()
        self.first = self._worker("0")
        """The worker that lives through it all; others come and go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def one_of_each(self) -> list[Callable[[], None]]:
        """Every mishap, in an order that the seed knows."""
        mishaps = [
            self.broker_dies, self.broker_stands_still, self.first_worker_stands_still, self.second_worker_dies,
            self.second_worker_leaves, self.a_host_has_a_wrong_clock, self.records_are_misplaced,
            self.producer_speaks_foreign, self.producer_floods, self.producer_is_late, self.producer_is_early,
            self.policy_is_garbage, self.policy_is_deleted, self.policy_is_published_again, self.order_is_forged,
        ]  # fmt: skip
        self._rng.shuffle(mishaps)
        return mishaps

    def broker_dies(self) -> None:
        self._broker.kill()
        pause(self._rng.uniform(0.5, 6))
        self._broker.start()

    def broker_stands_still(self) -> None:
        self._broker.pause()
        pause(self._rng.uniform(2, 8))
        self._broker.unpause()

    def first_worker_stands_still(self) -> None:
        """For longer than its place in the group is kept."""
        self.first.process.send_signal(signal.SIGSTOP)
        pause(self._rng.uniform(1, 9))
        self.first.process.send_signal(signal.SIGCONT)

    def second_worker_dies(self) -> None:
        with self._worker("1") as second:
            self._let_it_work(second)
            second.kill()

    def second_worker_leaves(self) -> None:
        with self._worker("1") as second:
            self._let_it_work(second)
            assert second.stop(60) == 0, second.tail()

    def a_host_has_a_wrong_clock(self) -> None:
        minutes = self._rng.choice((-180, -55, 55, 180))
        with self._worker("1", variables=ahead_by(60 * minutes, self._folder)) as second:
            self._let_it_work(second)
            assert second.stop(60) == 0, second.tail()

    def records_are_misplaced(self) -> None:
        """By a client with another partitioner, and by one that writes no keys."""
        tenant = self._tenant("misplaced")
        home = partition_of(tenant.encode(), self._space.partitions)
        elsewhere = (home + 1) % self._space.partitions
        calls = [self._call(tenant, cents=1) for _ in range(10)]
        self._write(calls, tenant.encode(), elsewhere)
        self._write([self._call(tenant, cents=2) for _ in range(10)], None, self._rng.choice((home, elsewhere)))
        self.must.spent[tenant] += 30 * CENT_NANOUSD
        self.must.told.add((tenant, "another partition than the tenant's"))

    def producer_speaks_foreign(self) -> None:
        tenant = self._known_tenant("foreign")
        calls = [self._call(tenant) | {"prompt_tokens": 800, "cost_usd": 0.01} for _ in range(5)]
        for call in calls:
            del call["cost_nanousd"]
        self._write(calls, tenant.encode())
        self.must.refused["foreign_name"] += len(calls)
        self.must.told.add((tenant, "could not be read"))

    def producer_floods(self) -> None:
        tenant = self._known_tenant("flood")
        partition = partition_of(tenant.encode(), self._space.partitions)
        produce(
            self._space.bootstrap,
            self._space.name("usage.v1"),
            [Record(b"no message", tenant.encode(), partition=partition)] * FLOOD,
            timeout_s=60,
        )
        self.must.refused["not_json"] += FLOOD
        self.must.told.add((tenant, "could not be read"))
        self.must.may_be_told.add(("spendfuse", f"partition {partition}, cannot be read"))

    def producer_is_late(self) -> None:
        tenant = self._tenant("late")
        calls = [self._call(tenant, cents=3, ts_ms=wall_ms() - 2 * DAY_MS) for _ in range(12)]
        self._write([self._call(tenant, cents=1), *calls], tenant.encode())
        self.must.spent[tenant] += CENT_NANOUSD  # what is late is told, and set aside
        self.must.refused["too_late"] += len(calls)
        self.must.told.add((tenant, "more than a day late"))

    def producer_is_early(self) -> None:
        tenant = self._tenant("early")
        self._write([self._call(tenant, cents=3, ts_ms=wall_ms() + HOUR_MS) for _ in range(5)], tenant.encode())
        self.must.spent[tenant] += 15 * CENT_NANOUSD

    def policy_is_garbage(self) -> None:
        self._say_policy(b'{"version": "broken", "cap": [{"name": "run-cost", "limit_usd": -5}]}')

    def policy_is_deleted(self) -> None:
        self._say_policy(None)

    def policy_is_published_again(self) -> None:
        """The same limits under another version."""
        text = self._policy.read_text(encoding="utf-8").replace('"day-1"', f'"day-{next(self._numbers) + 2}"')
        published = self._folder / "published.toml"
        published.write_text(text, encoding="utf-8")
        given = {"SPENDFUSE_KAFKA_BOOTSTRAP": self._space.bootstrap, "SPENDFUSE_PREFIX": self._space.prefix}
        command = [sys.executable, "-m", "streams", "policy", "publish", str(published)]
        done = subprocess.run(command, cwd=ROOT, env=given, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def order_is_forged(self) -> None:
        order = {"type": "resume", "message_id": f"forged-{next(self._numbers)}", "ts_ms": wall_ms()}
        order |= {"tenant_id": "acme", "who": "mallory", "why": "because", "target": {"type": "tenant", "id": "acme"}}
        produce(
            self._space.bootstrap,
            self._space.name("operator.v1"),
            [Record(json.dumps(order).encode(), b"acme")],
            timeout_s=60,
        )
        self.must.refused["bad_signature"] += 1

    def _worker(self, slot: str, **settings: Any) -> WorkerProcess:
        space = self._space
        worker = WorkerProcess(space.bootstrap, space.prefix, self._policy, slot=slot, **WORKERS, **settings)
        return self._stack.enter_context(worker) if slot == "0" else worker

    def _let_it_work(self, second: WorkerProcess) -> None:
        second.wait_said("state restored", timeout_s=90)
        pause(self._rng.uniform(0, 3))

    def _tenant(self, name: str) -> str:
        """Nobody's before: so that it can be seen what is said of this mishap."""
        return f"{name}-{next(self._numbers)}"

    def _known_tenant(self, name: str) -> str:
        """One who has been heard of: what is said under another name than that is nobody's incident."""
        tenant = self._tenant(name)
        self._write([self._call(tenant)], tenant.encode())
        self.must.spent[tenant] += CENT_NANOUSD
        return tenant

    def _call(self, tenant: str, cents: int = 1, ts_ms: int | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "type": "llm_call", "event_id": f"call-{number}", "ts_ms": ts_ms or wall_ms(), "tenant_id": tenant,
            "run_id": f"run-{number}", "model": "in-house", "cost_nanousd": cents * CENT_NANOUSD,
        }  # fmt: skip

    def _write(self, calls: list[dict[str, Any]], key: bytes | None, partition: int | None = None) -> None:
        records = [Record(json.dumps(call).encode(), key, partition=partition) for call in calls]
        produce(self._space.bootstrap, self._space.name("usage.v1"), records, timeout_s=60)

    def _say_policy(self, value: bytes | None) -> None:
        produce(self._space.bootstrap, self._space.name("policy.v1"), [Record(value, b"default")], timeout_s=60)
