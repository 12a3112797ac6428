"""What the live page is made of, written to topics as the worker would write it: runs, totals, commands, alerts.

The names of its tenants and runs are ordinary ones, and hostile where a test asks for it.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from confluent_kafka import Producer

from alerting.delivery.log import Delivery
from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command, KeyCheck, Target
from schemas.duration import HOUR_MS
from schemas.rollup import Rollup
from schemas.run import NearestLimit, OrderOnRun, RunRecord
from schemas.signing import EngineKeys, control_key, key_check_key
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.clock import wall_ms
from tests.support.service_process import ENGINE_KEY

SEED = 20_261_128
USD = 10**9
ENGINE = EngineKeys(ENGINE_KEY.encode())
"""Signs as the worker of the same tests does."""
MODELS = ("gpt-4.1", "claude-opus-4", "gpt-5-mini", "gemini-2.5-pro")
WORKFLOWS = ("support-triage", "documentation", "coding-agent", "repair-bot", "research")
OWNERS = ("ana", "eli", "docs-team", "support-platform", "chen")


def run_record(run_id: str, tenant_id: str = "acme", **more: Any) -> RunRecord:
    """A live run, half way to its cap."""
    now_ms = wall_ms()
    given: dict[str, Any] = {
        "tenant_id": tenant_id, "run_id": run_id, "ts_ms": now_ms, "state": "live", "started_ms": now_ms - 60_000,
        "last_ms": now_ms, "cost_nanousd": 2 * USD, "calls": 12, "tool_calls": 9, "retries": 0, "premium_calls": 0,
        "input_tokens": 120_000, "output_tokens": 4_000, "workflow": "support-triage", "owner": "ana",
        "model": "gpt-4.1",
        "nearest": NearestLimit(rule="run-cost", per="run", used=2 * USD, limit=5 * USD, unit="nanousd"),
    }  # fmt: skip
    return RunRecord(**{**given, **more})


def kill_of(run_id: str, tenant_id: str = "acme", **more: Any) -> Command:
    """A kill of a run, given now."""
    now_ms = wall_ms()
    given: dict[str, Any] = {
        "command_id": f"cmd-{run_id}", "action": "kill", "tenant_id": tenant_id, "target": Target("run", run_id),
        "reason": "The run has cost $5.03 of its $5.00 cap", "rule": "run-cost", "incident_id": f"inc-{run_id}",
        "issued_ms": now_ms, "expires_ms": now_ms + 7 * 24 * HOUR_MS, "seq": 1, "cause_event_id": "e-1",
        "cause_ts_ms": now_ms,
    }  # fmt: skip
    return Command(**{**given, **more})


def alert_of(run_id: str | None, tenant_id: str = "acme", **more: Any) -> Alert:
    """An alert about a run at its cap."""
    now_ms = wall_ms()
    given: dict[str, Any] = {
        "alert_id": f"al-{run_id}-open", "incident_id": f"inc-{run_id}", "state": "open", "severity": "critical",
        "mode": "enforce", "rule": "run-cost", "detector": "cap", "tenant_id": tenant_id,
        "scope": {"tenant_id": tenant_id}, "run_id": run_id, "owner": "ana", "level": 1.0, "window_start_ms": None,
        "window_end_ms": None, "value": 5_030_000_000, "limit": 5 * USD, "baseline": None, "ratio": 1.006,
        "unit": "nanousd", "evidence": {"since_ms": now_ms}, "summary": "The run has cost $5.03 of its $5.00 cap",
        "next_action": "Look at the last calls of the run before it is started again.", "ts_ms": now_ms,
        "cause_event_id": "e-1", "policy_version": "p-1", "attribution": {"workflow": "support-triage"},
        "command": "kill",
    }  # fmt: skip
    return Alert(**{**given, **more})


def rollup_of(tenant_id: str, cost_nanousd: int, hour_start_ms: int, **more: Any) -> Rollup:
    """The total of a workflow in an hour."""
    counts = dict.fromkeys(
        ("calls", "tool_calls", "retries", "errors", "input_tokens", "output_tokens", "unpriced_calls",
         "unpriced_tokens", "runs_started", "runs_finished", "accepted", "edited", "rejected", "escalated"), 1,
    )  # fmt: skip
    given: dict[str, Any] = {
        "tenant_id": tenant_id, "workflow": "support-triage", "hour_start_ms": hour_start_ms,
        "hour_end_ms": hour_start_ms + HOUR_MS, "cost_nanousd": cost_nanousd, "ts_ms": wall_ms(), **counts,
    }  # fmt: skip
    return Rollup(**{**given, **more})


def calls_of(run_id: str, count: int, tenant_id: str = "acme", **more: Any) -> list[UsageMessage]:
    """Model calls, each followed by the same tool call with the same result."""
    began_ms = wall_ms() - 1_000 * count
    found: list[UsageMessage] = []
    for number in range(count):
        common: dict[str, Any] = {"tenant_id": tenant_id, "run_id": run_id, "workflow": "support-triage", **more}
        at_ms = began_ms + 1_000 * number
        found.append(
            LlmCall(
                event_id=f"{run_id}-m{number}", ts_ms=at_ms, model="gpt-4.1", input_tokens=1_000 + 200 * number,
                output_tokens=70, cost_nanousd=400_000_000, latency_ms=900, prompt_hash=f"p{number}", **common,
            )
        )  # fmt: skip
        found.append(
            ToolCall(
                event_id=f"{run_id}-t{number}", ts_ms=at_ms + 950, tool="search_docs", args_hash="a", result_hash="r",
                latency_ms=40, **common,
            )
        )  # fmt: skip
    return found


class World:
    """Writes to the topics of one prefix, as the worker and agents do."""

    def __init__(self, bootstrap: str, prefix: str, seed: int = SEED, engine: EngineKeys | None = ENGINE) -> None:
        self.prefix = prefix
        self.random = random.Random(seed)
        self._engine = engine
        settings = {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 2}
        self._producer = Producer(settings)

    def runs(self, *records: RunRecord) -> None:
        """Runs as they stand."""
        self._write("runs.v1", ((one.key, one) for one in records))

    def commands(self, *commands: Command) -> None:
        """Commands, signed where there is a key."""
        for one in commands:
            key, value = control_key(one.tenant_id, *_parts(one)).encode(), encode(one)
            headers = [] if self._engine is None else self._engine.command_headers(one, value, "engine")
            self._produce("control.v1", key, value, headers)
        self._flush()

    def key_check(self, check: KeyCheck) -> None:
        """What the engine says of its keys; unsigned."""
        self._write("control.v1", ((key_check_key(check.tenant_id), check),))

    def alerts(self, *alerts: Alert) -> None:
        """Alerts."""
        self._write("alerts.v1", ((one.tenant_id, one) for one in alerts))

    def deliveries(self, *deliveries: Delivery) -> None:
        """What became of telling people."""
        self._write("deliveries.v1", ((one.key, one) for one in deliveries))

    def rollups(self, *rollups: Rollup) -> None:
        """Totals of hours."""
        self._write("rollups.v1", ((one.key, one) for one in rollups))

    def usage(self, messages: Sequence[UsageMessage]) -> None:
        """What agents say."""
        self._write("usage.v1", ((one.tenant_id, one) for one in messages))

    def policy(self, data: bytes) -> None:
        """The policy in force."""
        self._produce("policy.v1", b"default", data)
        self._producer.flush(30)

    def many_runs(self, count: int, tenant_id: str = "acme") -> list[RunRecord]:
        """So many live runs of all kinds, written."""
        records = [self._any_run(number, tenant_id) for number in range(count)]
        self.runs(*records)
        return records

    def _any_run(self, number: int, tenant_id: str) -> RunRecord:
        chance = self.random
        limit = chance.choice((2, 5, 5, 10)) * USD
        cost = int(min(0.98, chance.expovariate(4)) * limit)
        return run_record(
            f"{tenant_id}-{chance.choice(WORKFLOWS)}-{number:05}", tenant_id, cost_nanousd=cost,
            workflow=chance.choice(WORKFLOWS), owner=chance.choice(OWNERS), model=chance.choice(MODELS),
            calls=chance.randint(1, 200), started_ms=wall_ms() - chance.randint(10_000, 3_000_000),
            nearest=NearestLimit(rule="run-cost", per="run", used=cost, limit=limit, unit="nanousd"),
        )  # fmt: skip

    def _write(self, topic: str, records: Iterable[tuple[str, Any]]) -> None:
        for key, value in records:
            self._produce(topic, key.encode(), encode(value))
        self._flush()

    def _flush(self) -> None:
        assert self._producer.flush(60) == 0, "the broker takes no records"

    def _produce(self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        while True:
            try:
                self._producer.produce(f"{self.prefix}{topic}", value, key, headers=list(headers))
                return
            except BufferError:
                self._producer.poll(0.1)


def _parts(command: Command) -> tuple[Any, str]:
    return command.target.type, command.target.id


def ordered(run: RunRecord, command: Command, acted_ms: int | None = None) -> RunRecord:
    """A run with a command on it, obeyed at that time."""
    order = OrderOnRun(
        command_id=command.command_id, action=command.action, target_type="run", target_id=run.run_id,
        rule=command.rule, incident_id=command.incident_id, reason=command.reason, issued_ms=command.issued_ms,
        spent_nanousd=run.cost_nanousd, acted=None if acted_ms is None else "stopped", acted_ms=acted_ms,
    )  # fmt: skip
    return msgspec.structs.replace(run, order=order)


def with_cost(run: RunRecord, cost_nanousd: int) -> RunRecord:
    """A run after one more call, nearer to its limit."""
    near = run.nearest
    if near is not None and near.unit == "nanousd":
        near = msgspec.structs.replace(near, used=cost_nanousd)
    now_ms = wall_ms()
    return msgspec.structs.replace(
        run, cost_nanousd=cost_nanousd, calls=run.calls + 1, ts_ms=now_ms, last_ms=now_ms, nearest=near
    )
