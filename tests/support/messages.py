"""Usage and operator messages with defaults that mean nothing, so that a test states only what it is about."""

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

from schemas.control import Target
from schemas.operator import Acknowledge, Feedback, Kill, LimitException, OperatorMessage, Resume, Verdict
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

USD = 10**9
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_795_392_000_000
"""2026-11-23T00:00:00Z, the Monday on which tests happen unless they say otherwise."""

_numbers = count(1)


def llm_call(ts_ms: int, *, usd: float | None = None, **fields: Any) -> LlmCall:
    """A model call. `usd` is its cost in dollars; `cost_nanousd=None` leaves it without a price."""
    if usd is not None:
        fields["cost_nanousd"] = round(usd * USD)
    defaults: dict[str, Any] = {"model": "test-model", "input_tokens": 1000, "output_tokens": 100, "cost_nanousd": 0}
    return LlmCall(**_message(ts_ms, defaults, fields))


def tool_call(ts_ms: int, **fields: Any) -> ToolCall:
    """A tool call. Without `args_hash` it is like no other."""
    return ToolCall(**_message(ts_ms, {"tool": "search"}, fields))


def run_started(ts_ms: int, **fields: Any) -> RunStarted:
    """A run introduces itself."""
    return RunStarted(**_message(ts_ms, {}, fields))


def run_finished(ts_ms: int, **fields: Any) -> RunFinished:
    """A run ends, by default well."""
    return RunFinished(**_message(ts_ms, {"status": "completed"}, fields))


def outcome(ts_ms: int, **fields: Any) -> Outcome:
    """What became of a run's output: accepted, unless said otherwise."""
    return Outcome(**_message(ts_ms, {"outcome": "accepted"}, fields))


def command_ack(ts_ms: int, command_id: str, **fields: Any) -> CommandAck:
    """A guard has obeyed."""
    return CommandAck(**_message(ts_ms, {"command_id": command_id, "acted": "stopped"}, fields))


def kill(ts_ms: int, target: Target, tenant_id: str = "acme", *, until_ms: int | None = None) -> OperatorMessage:
    """An operator stops a target."""
    return Kill(**_order(ts_ms, tenant_id), target=target, until_ms=until_ms)


def resume(ts_ms: int, target_type: Any, target_id: str, tenant_id: str = "acme", **terms: Any) -> OperatorMessage:
    """An operator lets a target go on, with one more allowance unless `terms` say otherwise."""
    return Resume(**_order(ts_ms, tenant_id), target=Target(target_type, target_id), **terms)


def limit_exception(
    ts_ms: int, rule: str, scope: str, limit_nanousd: int, until_ms: int, tenant_id: str = "acme"
) -> OperatorMessage:
    """An operator raises a budget for a while."""
    return LimitException(
        **_order(ts_ms, tenant_id), rule=rule, scope=scope, limit_nanousd=limit_nanousd, until_ms=until_ms
    )


def acknowledge(ts_ms: int, incident_id: str, tenant_id: str = "acme") -> OperatorMessage:
    """Somebody has seen an incident."""
    return Acknowledge(**_order(ts_ms, tenant_id), incident_id=incident_id)


def feedback(ts_ms: int, incident_id: str, verdict: Verdict, tenant_id: str = "acme") -> OperatorMessage:
    """What somebody makes of an incident."""
    return Feedback(**_order(ts_ms, tenant_id), incident_id=incident_id, verdict=verdict)


def _message(ts_ms: int, defaults: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a message; what a test gives goes before every default."""
    envelope = {"event_id": f"event-{next(_numbers)}", "ts_ms": ts_ms, "tenant_id": "acme", "run_id": "run-1"}
    return {**envelope, **defaults, **fields}


def _order(ts_ms: int, tenant_id: str) -> dict[str, Any]:
    number = next(_numbers)
    return {"message_id": f"order-{number}", "ts_ms": ts_ms, "tenant_id": tenant_id, "who": "ana", "why": "a test"}


class RandomTraffic:
    """A seeded stream of usage messages with append times: tenants, sessions, run trees, loops, retries, late, early
    and far-future messages, and every type but answers to commands.
    """

    def __init__(self, seed: int, *, tenants: int = 3, step_ms: int = 40_000) -> None:
        self._random = Random(seed)
        self._tenants = [f"tenant-{number}" for number in range(tenants)]
        self._step_ms = step_ms
        self._now_ms = MONDAY_MS + 9 * HOUR_MS
        self._runs: dict[str, list[str]] = {tenant: [] for tenant in self._tenants}
        self._opened = 0

    def messages(self, count: int) -> Iterator[tuple[UsageMessage, int]]:
        """`count` messages, each with its append time."""
        for _ in range(count):
            self._now_ms += self._random.randrange(2 * self._step_ms)
            yield self._message(), self._now_ms

    def _message(self) -> UsageMessage:
        draw = self._random
        tenant = draw.choice(self._tenants)
        fields: dict[str, Any] = {"tenant_id": tenant, **self._run_of(tenant)}
        ts_ms = self._now_ms - self._lag_ms()
        what = draw.random()
        if what < 0.55:
            return llm_call(ts_ms, **fields, **self._call())
        if what < 0.85:
            fields |= {"tool": draw.choice(("search", "edit", "poll_job")), "args_hash": draw.choice("aaab")}
            cost = draw.choice((None, None, draw.randrange(USD)))
            status = draw.choice(("ok", "ok", "error"))
            return tool_call(
                ts_ms, **fields, result_hash=draw.choice(("x", "x", None)), status=status, cost_nanousd=cost
            )
        if what < 0.90:
            rule = draw.choice(({}, {"cap_nanousd": 5 * USD}, {"max_tool_calls": 20}, {"max_duration_s": 1800}))
            return run_started(ts_ms, **fields, workflow=draw.choice(("docs", "chat")), owner="ana", **rule)
        if what < 0.95:
            return run_finished(ts_ms, **fields)
        return outcome(ts_ms, **fields, outcome=draw.choice(("accepted", "rejected", "edited")))

    def _call(self) -> dict[str, Any]:
        draw = self._random
        cost = None if draw.random() < 0.05 else int(draw.lognormvariate(-1.5, 1.2) * USD)
        return {
            "cost_nanousd": cost,
            "model": draw.choice(("gpt-4o", "house-model", "gpt-5-premium")),
            "prompt_hash": draw.choice("ppq"),
            "attempt": draw.choice((1, 1, 1, 2)),
            "status": draw.choice(("ok", "ok", "ok", "error", "cancelled")),
        }

    def _run_of(self, tenant: str) -> dict[str, Any]:
        """One of the tenant's latest runs, or a new one, with what it says of its session and tree."""
        draw = self._random
        runs = self._runs[tenant]
        if not runs or draw.random() < 0.08:
            self._opened += 1
            runs.append(f"run-{self._opened}")
            del runs[:-12]
        run_id = draw.choice(runs)
        number = int(run_id.removeprefix("run-"))
        fields: dict[str, Any] = {"run_id": run_id}
        if number % 3 == 0:
            fields["session_id"] = f"session-{number // 9}"
        if number % 4 == 1:
            fields["parent_run_id"] = f"run-{number - number % 5 + 1}"
        if number % 4 == 2:
            fields["root_run_id"] = f"run-{number - number % 7}"
        return fields

    def _lag_ms(self) -> int:
        """How long before its append a message happened: mostly at once, sometimes a day, sometimes not yet."""
        draw = self._random
        chance = draw.random()
        if chance < 0.85:
            return 0
        if chance < 0.95:
            return draw.randrange(2 * HOUR_MS)
        if chance < 0.98:
            return draw.randrange(26 * HOUR_MS)
        return -draw.choice((MINUTE_MS, HOUR_MS, 100 * 365 * DAY_MS))
