"""An enforced budget holds against runs not yet born: short runs one after another, each asking its guard."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from spendfuse import Emitter, Guard, Paused, Run, Stopped, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from schemas.codec import encode
from schemas.operator import LimitException
from schemas.signing import OperatorKey
from streams.clock import wall_ms
from tests.support.kafka import Record, TopicSpace, commands_on, produce, read_all, wait_until
from tests.support.worker_process import ENGINE_KEY, OPERATOR_KEY, WorkerProcess

TENANT = "acme"
POLICY = """
version = "admission"
[[budget]]
name = "workflow-monthly"
group_by = ["tenant_id", "workflow"]
match = {{ environment = ["prod", "staging"] }}
period = "month"
limit_usd = 2.00
thresholds = [1.0]
at_limit = "{at_limit}"
mode = "enforce"
"""
LIMIT_NANOUSD = 2_000_000_000
CALL_NANOUSD = 110_000_000
RUNS, CALLS_OF_A_RUN = 30, 3
HOUR_MS = 3_600_000
KEYS = derive_keys(ENGINE_KEY.encode(), TENANT)


@dataclass
class Agent:
    """Starts short runs, asks its guard before each call, and takes longer for a call than a command is under way."""

    space: TopicSpace
    worker: WorkerProcess
    emitter: Emitter
    guard: Guard
    spent_nanousd: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Run -> the command that kept it from its next call."""

    def run(self, run_id: str, **attribution: str) -> None:
        """One run, to its end or until it is refused."""
        given = {"workflow": "burst", "environment": "prod"} | attribution
        try:
            with self.emitter.run(tenant_id=TENANT, run_id=run_id, **given) as run:  # type: ignore[arg-type]  # names
                for _ in range(CALLS_OF_A_RUN):
                    self.guard.check(run)
                    self._call(run)
        except (Stopped, Paused) as end:
            self.refused[run_id] = end.command_id or ""

    def _call(self, run: Run) -> None:
        run.llm_call(model="m", input_tokens=9, output_tokens=9, cost_nanousd=CALL_NANOUSD)
        self.spent_nanousd += CALL_NANOUSD
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the worker has judged all that was sent, and the guard has heard all that was commanded."""
        assert self.emitter.flush(10) == 0
        sent = read_all(self.space.bootstrap, self.space.name("usage.v1"))
        self.worker.wait_applied({record.partition: record.offset for record in sent})  # type: ignore[misc]  # as read
        commands = len(commands_on(self.space.bootstrap, self.space.name("control.v1")))
        stats = self.guard.stats
        wait_until(
            lambda: stats.applied + stats.not_entitled + stats.replayed >= commands, 30, "the guard heard every command"
        )
        assert (stats.forged, stats.malformed) == (0, 0)


@pytest.mark.parametrize("at_limit", ["kill", "pause"])
def test_short_runs_spend_no_more_than_the_limit_and_the_calls_under_way(
    kafka_topics: TopicSpace, tmp_path: Path, at_limit: str
) -> None:
    """Thirty runs that would spend $9.90 spend the $2.00 of their budget and at most one call more: those that come
    later meet the standing command before their first call. Another workflow and environment go on. An exception lets
    the next run call again.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(at_limit=at_limit), encoding="utf-8")
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    with (
        WorkerProcess(bootstrap, prefix, policy) as worker,
        Emitter(KafkaTransport(bootstrap, prefix=prefix)) as emitter,
        Guard(KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", tenant_id=TENANT, keys=KEYS) as guard,
    ):
        assert guard.wait_ready(30)
        worker.wait_said("state restored")
        agent = Agent(kafka_topics, worker, emitter, guard)
        for number in range(RUNS):
            agent.run(f"run-{number}")
        assert LIMIT_NANOUSD <= agent.spent_nanousd <= LIMIT_NANOUSD + CALL_NANOUSD
        [scope] = [one for one in _commands(kafka_topics) if one["target"]["type"] == "scope"]
        assert (scope["action"], scope["rule"]) == ("pause", "workflow-monthly")
        assert {name: set(values) for name, values in scope["scope"].items()} == {
            "tenant_id": {TENANT}, "workflow": {"burst"}, "environment": {"prod", "staging"},
        }  # fmt: skip
        born_later = {f"run-{number}" for number in range(7, RUNS)}
        assert {run for run, command in agent.refused.items() if command == scope["command_id"]} >= born_later
        for others in ({"workflow": "other"}, {"environment": "dev"}):
            agent.run(f"run-of-{'-'.join(others.values())}", **others)
        assert agent.refused.keys() <= {f"run-{number}" for number in range(RUNS)}

        _give_exception(kafka_topics)
        worker.wait_said("operator message")
        wait_until(lambda: _scope_is_open(kafka_topics), 30, "the command to the scope is lifted")
        agent.catch_up()
        agent.run("run-after-the-exception")
        assert "run-after-the-exception" not in agent.refused
        assert worker.stop() == 0, worker.tail()


def _commands(space: TopicSpace) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in commands_on(space.bootstrap, space.name("control.v1"))]


def _scope_is_open(space: TopicSpace) -> bool:
    return [one["action"] for one in _commands(space) if one["target"]["type"] == "scope"][-1:] == ["resume"]


def _give_exception(space: TopicSpace) -> None:
    """An operator raises the budget, into the partition of the tenant's usage."""
    now_ms = wall_ms()
    order = LimitException(
        message_id="exception-1", ts_ms=now_ms, tenant_id=TENANT, who="ana", why="launch", rule="workflow-monthly",
        scope=f"{TENANT}/burst", limit_nanousd=2 * LIMIT_NANOUSD, until_ms=now_ms + HOUR_MS,
    )  # fmt: skip
    value = encode(order)
    headers = tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(TENANT, value))
    home = read_all(space.bootstrap, space.name("usage.v1"))[0].partition or 0
    produce(space.bootstrap, space.name("operator.v1"), [Record(value, TENANT.encode(), headers, now_ms, home)])
