"""Seeded streams of usage, and of what operators order about it: everything that makes an engine's life hard."""

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, get_args

from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.operator import OperatorMessage, Verdict
from schemas.usage import UsageMessage
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, USD

LATEST = 12
"""So many of a tenant's latest runs are in the middle of their work."""
KNOWN_MODEL = "gpt-4o"
"""A model that the built-in tables have a price for, so that a reported cost can contradict it."""


class RandomTraffic:
    """A seeded stream of usage messages with append times, of every type but answers to commands.

    Tenants with several owners in one scope and wrong attribution now and then; sessions and run trees whose members
    come before their root and say late where they belong; loops and retries; calls without a price, or with one that
    no table explains; records seconds to hours late, a few a day late, early, or from the far future. Runs finish and
    go on, are started again under their id, and are taken up after a pause of hours or days. Every seed is another
    stream, always the same.
    """

    def __init__(self, seed: int, *, tenants: int = 3, step_ms: int = 40_000, pause_chance: float = 0.003) -> None:
        self._random = Random(seed)
        self._announcing = Random(seed + 1_000_000)
        self._tenants = [f"tenant-{number}" for number in range(tenants)]
        self._step_ms = step_ms
        self._pause_chance = pause_chance
        self._now_ms = MONDAY_MS + 9 * HOUR_MS
        self._runs: dict[str, list[str]] = {tenant: [] for tenant in self._tenants}
        self._opened = 0

    def messages(self, count: int) -> Iterator[tuple[UsageMessage, int]]:
        """`count` messages, each with its append time."""
        for _ in range(count):
            self._now_ms += self._random.randrange(2 * self._step_ms)
            if self._random.random() < self._pause_chance:
                self._now_ms += self._random.choice((2 * HOUR_MS, 9 * HOUR_MS, 9 * HOUR_MS, 30 * HOUR_MS))
            yield self._message(), self._now_ms

    def _message(self) -> UsageMessage:
        draw = self._random
        tenant = draw.choice(self._tenants)
        fields: dict[str, Any] = {"tenant_id": tenant, **self._run_of(tenant)}
        ts_ms = self._now_ms - self._lag_ms()
        what = draw.random()
        if what < 0.55:
            return messages.llm_call(ts_ms, **fields, **self._whose(), **self._call(), **self._reason())
        if what < 0.85:
            return messages.tool_call(ts_ms, **fields, **self._whose(), **self._tool())
        if what < 0.91:
            rule = draw.choice(({}, {"cap_nanousd": 5 * USD}, {"max_tool_calls": 20}, {"max_duration_s": 1800}))
            owner = draw.choice(("ana", "bo", "cyd"))
            workflow = draw.choice(("docs", "chat"))
            promise = self._promise()
            return messages.run_started(ts_ms, **fields, workflow=workflow, owner=owner, **rule, **promise)
        if what < 0.96:
            status = draw.choice(("completed", "completed", "failed", "killed"))
            return messages.run_finished(ts_ms, **fields, status=status)
        return messages.outcome(ts_ms, **fields, outcome=draw.choice(("accepted", "rejected", "edited", "escalated")))

    def _promise(self) -> dict[str, Any]:
        """What a run announces."""
        draw = self._announcing
        return {
            "expected_outcome": draw.choice((None, "report", "escalated")),
            "expected_route": draw.choice((None, None, "cheap", KNOWN_MODEL)),
            "prompt_version": draw.choice((None, "v1", "v2")),
        }

    def _reason(self) -> dict[str, Any]:
        """Which way a call goes, and why."""
        draw = self._announcing
        return {
            "route": draw.choice((None, None, "cheap", "careful")),
            "escalation_reason": draw.choice((None, None, None, "low_confidence")),
        }

    def _call(self) -> dict[str, Any]:
        draw = self._random
        tokens = {}
        cost: int | None = int(draw.lognormvariate(-1.5, 1.2) * USD)
        model = draw.choice((KNOWN_MODEL, "house-model", "gpt-5-premium"))
        if draw.random() < 0.05:
            cost = None
        elif draw.random() < 0.05:
            cost, model = 0, KNOWN_MODEL
            tokens = {"input_tokens": draw.randrange(100, 50_000), "cache_read_tokens": draw.choice((0, 0, 90_000))}
        else:
            # No draw: the stream stays the same. Contexts grow, stay, are cut, and come back.
            size, step = self._now_ms // SECOND_MS, self._now_ms // (5 * MINUTE_MS)
            tokens = {"input_tokens": 2000 * (size % 17) + 11_000 * (step % 7), "output_tokens": 30 * (size % 11)}
            tokens["cache_read_tokens"] = tokens["input_tokens"] // 2 if size % 3 else 0
        return {
            "cost_nanousd": cost,
            "model": model,
            "context_reload": self._now_ms % 19 == 0,
            "prompt_hash": draw.choice("ppq"),
            "attempt": draw.choice((1, 1, 1, 2)),
            "status": draw.choice(("ok", "ok", "ok", "error", "cancelled")),
            "latency_ms": draw.choice((None, 800, 20_000)),
            **tokens,
        }

    def _tool(self) -> dict[str, Any]:
        draw = self._random
        return {
            "tool": draw.choice(("search", "edit", "poll_job")),
            "args_hash": draw.choice(("a", "a", "a", "b", None)),
            "result_hash": draw.choice(("x", "x", None)),
            "status": draw.choice(("ok", "ok", "error")),
            "cost_nanousd": draw.choice((None, None, draw.randrange(USD))),
            "writes": draw.random() < 0.05,
        }

    def _whose(self) -> dict[str, Any]:
        """What a message says of itself: mostly nothing, sometimes what its run did not say."""
        draw = self._random
        chance = draw.random()
        if chance < 0.04:
            return {"workflow": "typo"}
        if chance < 0.12:
            return {"owner": draw.choice(("ana", "bo", "cyd", "dee"))}
        return {"agent": draw.choice(("main", "helper"))} if chance < 0.2 else {}

    def _run_of(self, tenant: str) -> dict[str, Any]:
        """One of the tenant's latest runs, an old one, or a new one, with what it says of its session and tree."""
        draw = self._random
        runs = self._runs[tenant]
        if not runs or draw.random() < 0.07:
            self._opened += 1
            runs.append(f"run-{self._opened}")
        run_id = draw.choice(runs if draw.random() < 0.04 else runs[-LATEST:])
        number = int(run_id.removeprefix("run-"))
        fields: dict[str, Any] = {"run_id": run_id}
        if draw.random() < 0.3:
            return fields  # it says where it belongs another time, earlier or later
        if number % 3 == 0:
            fields["session_id"] = f"session-{number // 9}"
        if number % 4 == 1:
            fields["parent_run_id"] = f"run-{number - number % 5 + 1}"
        if number % 4 == 2:
            fields["root_run_id"] = f"run-{number - number % 7}"
        return fields

    def _lag_ms(self) -> int:
        """How long before its append a message happened: often seconds to hours, sometimes a day, or not yet."""
        draw = self._random
        chance = draw.random()
        if chance < 0.65:
            return 0
        if chance < 0.95:
            return int(math.exp(draw.uniform(math.log(SECOND_MS), math.log(5 * HOUR_MS))))
        if chance < 0.98:
            return draw.randrange(26 * HOUR_MS)
        return -draw.choice((SECOND_MS, MINUTE_MS, HOUR_MS, 100 * 365 * DAY_MS))


def random_answer(draw: Random, commands: Sequence[Command], at_ms: int) -> UsageMessage:
    """A guard answers one of the latest commands, not always with what was asked."""
    command = draw.choice(commands[-20:])
    acted = draw.choice(("stopped", "stopped", "paused", "resumed", "already_finished", "ignored"))
    if command.action == "nudge":
        acted = "delivered"
    return messages.command_ack(
        at_ms, command.command_id, tenant_id=command.tenant_id, run_id=command.target.id, acted=acted
    )


def random_order(draw: Random, commands: Sequence[Command], alerts: Sequence[Alert], at_ms: int) -> OperatorMessage:
    """An operator kills, resumes, raises a limit, or says something of an incident: mostly of what is new."""
    command, alert = draw.choice(commands[-20:]), draw.choice(alerts[-20:])
    match draw.randrange(9):
        case 0:
            return messages.acknowledge(at_ms, alert.incident_id, alert.tenant_id)
        case 1:
            verdict: Verdict = draw.choice(get_args(Verdict))
            return messages.feedback(at_ms, draw.choice(alerts).incident_id, verdict, alert.tenant_id)
        case 2:
            until_ms = at_ms + draw.randrange(HOUR_MS)
            limit = draw.choice((5, 30)) * USD
            return messages.limit_exception(
                at_ms, "tenant-hour", alert.tenant_id, limit, until_ms, tenant_id=alert.tenant_id
            )
        case 3 | 4:
            return _random_kill(draw, command, alert, at_ms)
        case _:
            target = command.target
            return messages.resume(at_ms, target.type, target.id, command.tenant_id, **_random_terms(draw, at_ms))


def _random_kill(draw: Random, command: Command, alert: Alert, at_ms: int) -> OperatorMessage:
    target = draw.choice(
        (
            Target("run", alert.run_id or "run-1"),
            Target("session", f"session-{draw.randrange(9)}"),
            Target("run_tree", f"run-{draw.randrange(60)}"),
            Target("workflow", draw.choice(("docs", "chat", "unattributed"))),
            Target("tenant", command.tenant_id),
            command.target if command.target.type != "scope" else Target("tenant", command.tenant_id),
        )
    )
    ends_ms = at_ms + draw.randrange(1, 3 * HOUR_MS)
    until_ms = ends_ms if target.type in ("workflow", "tenant") else draw.choice((None, ends_ms))
    return messages.kill(at_ms, target, command.tenant_id, until_ms=until_ms)


def _random_terms(draw: Random, at_ms: int) -> dict[str, int]:
    """On which terms a target may go on: none most of the time."""
    chance = draw.random()
    terms = {}
    if chance < 0.4:
        terms["limit_nanousd"] = draw.randrange(1, 60 * USD)
    if 0.25 < chance < 0.55:
        terms["until_ms"] = at_ms + draw.randrange(-MINUTE_MS, 6 * HOUR_MS)
    return terms
