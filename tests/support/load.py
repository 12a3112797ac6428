"""A seeded log of usage messages with planted incidents, and a producer that lets it flow.

Hours are busy in their first quarter only, and the log ends in the middle of one: whatever falls due by time alone
(rollups, deadlines, reminders, idle runs) does so before the end or long after it. A live run, whose clock goes on when
the log ends, and a backtest, whose clock stops there, then have the same things to say.
"""

import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message, Producer

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
BUSY_MS = 15 * MINUTE_MS
"""How long an hour is busy for, from its start."""
END_MS = 30 * MINUTE_MS
"""Where in the last hour the log ends."""
DISORDER_MS = 1500
"""How late a record may come to the log. A worker's clock allows for two seconds."""
USUAL_HOUR_NANOUSD = 8_000_000_000
BAD_EVERY = 211
DUPLICATE_EVERY = 10
DUPLICATE_AFTER_MS = 5 * MINUTE_MS
"""Within so much time a message comes again: well inside the hour for which an id is remembered."""

POLICY = """
version = "load-1"

[[budget]]
name = "tenant-hourly"
period = "hour"
limit_usd = 25.0
at_limit = "pause"
mode = "enforce"
[[budget]]
name = "workflow-daily"
group_by = ["tenant_id", "workflow"]
period = "day"
limit_usd = 60.0
[[budget]]
name = "tenant-monthly"
period = "month"
limit_usd = 1500.0

[[cap]]
name = "run-cost"
limit_usd = 20.0
at_limit = "kill"
mode = "enforce"
[[cap]]
name = "run-size"
max_calls = 60
max_tool_calls = 60
max_retries = 6
max_duration_s = 540
[[cap]]
name = "session-calls"
per = "session"
max_calls = 40
[[cap]]
name = "tree-cost"
per = "run_tree"
limit_usd = 6.0
at_limit = "kill"
mode = "enforce"

[[spend_anomaly]]
name = "hourly-5x"
[[session_outlier]]
name = "run-5x"
[[repeat]]
name = "repeat"
mode = "enforce"
[[cycle]]
name = "cycle"
mode = "enforce"
[[retry_storm]]
name = "retry-storm"
mode = "enforce"
[[error_streak]]
name = "error-streak"
"""


class Logged(NamedTuple):
    """One record of usage.v1. `reason` is why it must become a dead letter, None for a message."""

    key: bytes
    value: bytes | None
    ts_ms: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What the log looks like."""

    events: int
    """Records, give or take a few: duplicates and bad ones counted."""
    seed: int
    tenants: int = 12
    history_hours: int = 168
    busy_hours: int = 6
    hours_ago: int = 0
    """How much earlier than usual it ends, for a log that another one follows."""


def usage_log(shape: Shape) -> list[Logged]:
    """The whole log, in the order in which it is to be produced."""
    return _Author(shape).log()


def write_events(log: Iterable[Logged], path: Path) -> Path:
    """The log as a file of messages, without its bad records."""
    with path.open("wb") as lines:
        for logged in log:
            if logged.reason is None and logged.value is not None:
                lines.write(logged.value + b"\n")
    return path


class _Author:
    """Writes runs into the hours, then puts everything in order."""

    KINDS = ("steady", "loop", "cycle", "storm", "errors", "dear", "silent", "tree", "unpriced")
    WEIGHTS = (80, 4, 2, 3, 2, 1, 2, 3, 2)

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._rng = Random(shape.seed)
        self._drafts: list[tuple[float, int, Logged]] = []
        self._runs = 0
        hours = shape.history_hours + shape.busy_hours
        # Lately enough for the broker's retention, and in the past up to its end.
        self._first_hour_ms = (time.time_ns() // 1_000_000 // HOUR_MS - hours - 1 - shape.hours_ago) * HOUR_MS
        busy_events = shape.events * (1 - 1 / DUPLICATE_EVERY - 1 / BAD_EVERY) - shape.tenants * shape.history_hours
        self._events_wanted = int(busy_events)
        calls_an_hour = 0.5 * self._events_wanted / shape.busy_hours / shape.tenants
        self._call_nanousd = int(USUAL_HOUR_NANOUSD / max(1.0, calls_an_hour))

    def log(self) -> list[Logged]:
        """Write it all."""
        self._history()
        self._busy_hours()
        self._five_times_the_median()
        self._send_again()
        ordered = [logged for _, _, logged in sorted(self._drafts, key=lambda draft: draft[:2])]
        return [*self._spoiled(ordered), *self._closing()]

    def _history(self) -> None:
        for hour in range(self._shape.history_hours):
            for tenant in range(self._shape.tenants):
                at_ms = self._moment(hour)
                cost = int(USUAL_HOUR_NANOUSD * self._rng.uniform(0.8, 1.2))
                self._call(at_ms, tenant, self._new_run(), cost)

    def _busy_hours(self) -> None:
        wanted = len(self._drafts) + self._events_wanted
        kinds = list(self.KINDS)
        weights = [1 + tenant % 4 for tenant in range(self._shape.tenants)]
        while len(self._drafts) < wanted:
            kind = kinds.pop() if kinds else self._rng.choices(self.KINDS, self.WEIGHTS)[0]
            tenant = self._rng.choices(range(self._shape.tenants), weights)[0]
            hour = self._shape.history_hours + self._rng.randrange(self._shape.busy_hours)
            getattr(self, f"_{kind}")(self._moment(hour, before_ms=BUSY_MS * 2 // 3), tenant)

    def _five_times_the_median(self) -> None:
        at_ms = self._moment(self._shape.history_hours + self._shape.busy_hours - 1)
        run = self._new_run()
        for _ in range(4):
            self._call(at_ms, 0, run, 2 * USUAL_HOUR_NANOUSD)

    def _steady(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        session = f"session-{run // 3}"
        self._say(at_ms, tenant, run, "run_started", owner=f"owner-{tenant % 3}", workflow=f"workflow-{run % 3}")
        for step in range(self._rng.randint(2, 30)):
            at_ms += self._rng.randint(50, 8000)
            if self._rng.random() < 0.6:
                cost = int(self._call_nanousd * self._rng.lognormvariate(0, 0.8))
                self._call(at_ms, tenant, run, cost, session_id=session, seq=step + 1)
            else:
                self._tool(at_ms, tenant, run, f"{run}-{step}")
        end = self._rng.random()
        if end < 0.7:
            self._say(at_ms + 500, tenant, run, "run_finished", status="completed")
        if end < 0.2:
            self._say(at_ms + 900, tenant, run, "outcome", outcome=self._rng.choice(("accepted", "rejected")))

    def _loop(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        for step in range(9):
            self._tool(at_ms + 1000 * step, tenant, run, "same")
        if self._rng.random() < 0.5:
            self._say(at_ms + 10_000, tenant, run, "run_finished", status="killed")

    def _cycle(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        for step in range(18):
            self._tool(at_ms + 700 * step, tenant, run, f"turn-{step % 3}")

    def _storm(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        for step in range(12):
            call = {"attempt": step + 1, "status": "error", "prompt_hash": f"prompt-{run}"}
            self._call(at_ms + 1500 * step, tenant, run, self._call_nanousd // 10, **call)

    def _errors(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        for step in range(12):
            self._tool(at_ms + 900 * step, tenant, run, f"{run}-{step}", status="error")

    def _dear(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        for step in range(6):
            self._call(at_ms + 20_000 * step, tenant, run, 4_500_000_000)

    def _silent(self, at_ms: int, tenant: int) -> None:
        """Runs that owe their end to time alone: by their own stop rule, or by the policy's."""
        run = self._new_run()
        own_rule = {"max_duration_s": self._rng.choice((60, 120, 300)), "cap_nanousd": 3 * self._call_nanousd // 2}
        self._say(at_ms, tenant, run, "run_started", workflow="batch", **own_rule)
        self._call(at_ms + 2000, tenant, run, self._call_nanousd)

    def _tree(self, at_ms: int, tenant: int) -> None:
        root, named, unnamed = self._new_run(), self._new_run(), self._new_run()
        kin: dict[int, dict[str, Any]] = {
            root: {},
            named: {"parent_run_id": f"run-{root}", "root_run_id": f"run-{root}"},
            unnamed: {"parent_run_id": f"run-{named}"},
        }
        for step in range(9):
            run = (root, named, unnamed)[step % 3]
            self._call(at_ms + 3000 * step, tenant, run, 900_000_000, **kin[run])

    def _unpriced(self, at_ms: int, tenant: int) -> None:
        run = self._new_run()
        for step in range(6):
            self._call(at_ms + 400 * step, tenant, run, None, model="nobody-sells-this", input_tokens=30_000)

    def _call(self, at_ms: int, tenant: int, run: int, nanousd: int | None, **fields: Any) -> None:
        usual = {"model": "gpt-4.1", "input_tokens": 800, "output_tokens": 90, "cost_nanousd": nanousd}
        usual["workflow"] = f"workflow-{run % 3}"
        self._say(at_ms, tenant, run, "llm_call", **(usual | fields))

    def _tool(self, at_ms: int, tenant: int, run: int, what: str, **fields: Any) -> None:
        self._say(at_ms, tenant, run, "tool_call", tool="search", args_hash=what, result_hash=what, **fields)

    def _say(self, at_ms: int, tenant: int, run: int, kind: str, **fields: Any) -> None:
        number = len(self._drafts)
        name = f"tenant-{tenant:02d}"
        message = {
            "type": kind, "event_id": f"event-{number}", "ts_ms": at_ms, "tenant_id": name, "run_id": f"run-{run}",
        }  # fmt: skip
        value = json.dumps(message | fields, separators=(",", ":")).encode()
        comes_ms = at_ms + (self._rng.uniform(0, DISORDER_MS) if self._rng.random() < 0.05 else 0)
        self._drafts.append((comes_ms, number, Logged(name.encode(), value, at_ms)))

    def _moment(self, hour: int, before_ms: int = BUSY_MS) -> int:
        return self._first_hour_ms + hour * HOUR_MS + self._rng.randrange(before_ms)

    def _new_run(self) -> int:
        self._runs += 1
        return self._runs

    def _send_again(self) -> None:
        for comes_ms, number, logged in self._drafts[::DUPLICATE_EVERY]:
            again_ms = comes_ms + self._rng.uniform(0, DUPLICATE_AFTER_MS)
            self._drafts.append((again_ms, number, logged))

    def _spoiled(self, good: Sequence[Logged]) -> Iterable[Logged]:
        for number, logged in enumerate(good):
            yield logged
            if number % BAD_EVERY == 0:
                value, reason = self._rng.choice(BAD_VALUES)
                yield Logged(logged.key, value, logged.ts_ms, reason)

    def _closing(self) -> Iterable[Logged]:
        """Every tenant's time reaches the end, by a message that changes nothing else."""
        last_hour = self._shape.history_hours + self._shape.busy_hours - 1
        end_ms = self._first_hour_ms + last_hour * HOUR_MS + END_MS
        self._drafts.clear()
        for tenant in range(self._shape.tenants):
            number = self._new_run()
            message = {
                "type": "command_ack", "event_id": f"end-{tenant}", "ts_ms": end_ms,
                "tenant_id": f"tenant-{tenant:02d}", "run_id": f"run-{number}", "command_id": "none",
                "acted": "ignored",
            }  # fmt: skip
            yield Logged(f"tenant-{tenant:02d}".encode(), json.dumps(message).encode(), end_ms)


_WHOLE = {
    "type": "llm_call", "event_id": "bad", "ts_ms": 1_795_000_000_000, "tenant_id": "nobody", "run_id": "r",
    "model": "m",
}  # fmt: skip
BAD_VALUES: tuple[tuple[bytes | None, str], ...] = (
    (None, "empty"),
    (b'{"type":"llm_call"', "not_json"),
    (b'{"type":"llm_call","model":"\xff"}', "not_utf8"),
    (b'{"type":"video_call"}', "unknown_type"),
    (json.dumps(_WHOLE | {"run_id": 7}).encode(), "wrong_value"),
    (json.dumps(_WHOLE | {"ts_ms": 1_795_276_800}).encode(), "bad_time"),
    (json.dumps(_WHOLE).encode(), "wrong_tenant"),
)


class Flow(threading.Thread):
    """Produces a log in order, at a steady rate, from a thread of its own."""

    def __init__(self, bootstrap: str, topic: str, log: Sequence[Logged], rate_per_s: float = 0) -> None:
        """`rate_per_s` 0 is as fast as the broker takes it."""
        super().__init__(name="flow", daemon=True)
        self.sent = 0
        """How many records the producer was given."""
        self.refused: list[tuple[str, int, int]] = []
        """Reason, partition and offset of the records that must become dead letters."""
        self.ends: dict[int, int] = {}
        """Partition -> offset of the last record."""
        self._topic = topic
        self._log = log
        self._rate_per_s = rate_per_s
        self._stop_asked = threading.Event()
        self._faults: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                "delivery.timeout.ms": 120_000,
                "log_level": 2,
            }
        )

    def run(self) -> None:
        started = time.monotonic()
        for number, logged in enumerate(self._log):
            if self._rate_per_s and number % 50 == 0:
                ahead_s = number / self._rate_per_s - (time.monotonic() - started)
                if self._stop_asked.wait(max(0.0, ahead_s)):
                    break
            self._produce(logged)
            self.sent = number + 1
        self._producer.flush(120)

    def finish(self, timeout_s: float = 180) -> None:
        """Wait until the broker has it all.

        Raises:
            AssertionError: it has not, or refused a record.
        """
        self.join(timeout_s)
        assert not self.is_alive(), f"{self.sent} of {len(self._log)} records sent after {timeout_s} s"
        assert not self._faults, self._faults[:3]
        assert sum(1 for logged in self._log if logged.reason) == len(self.refused)

    def abandon(self) -> None:
        """Stop early."""
        self._stop_asked.set()
        self.join()

    def _produce(self, logged: Logged) -> None:
        def noted(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._faults.append(error.str())
                return
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            self.ends[partition] = max(offset, self.ends.get(partition, -1))
            if logged.reason is not None:
                self.refused.append((logged.reason, partition, offset))

        self._producer.produce(self._topic, logged.value, logged.key, timestamp=logged.ts_ms, on_delivery=noted)
        self._producer.poll(0)
