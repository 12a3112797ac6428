"""Two weeks that a reader can count, put into a store the way the sink does: for the questions of `docs/questions.md`.

Week before (16 November): one run of acme's `support`, A0. The week asked of (23 November):

| run | whose | calls | came to |
|---|---|---|---|
| A0 | acme, support, ana, p1, chat, bot, v1 | opus 1 dollar | accepted, in the week before |
| A1 | acme, support, ana, p1, chat, bot, v1 | opus 2 dollars, opus 2 dollars again (a retry) | accepted |
| A2 | acme, support, ana, p1, chat, bot, v2 | haiku 1 dollar | rejected |
| A3 | acme, coding, ben, p2, review, coder, v1 | opus 5 dollars, a tool for 50 cents | accepted, killed at 4 dollars |
| G1 | globex, support, cleo, p3, chat, bot, v1 | gpt 2 dollars; 1,000 tokens of a model without a price | is live |

Each call has 1,000 tokens in, 400 of them cached, and 100 out.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from models.rules.policy import read_policy
from models.stimuli import PolicyChanged
from schemas.alert import Alert
from schemas.codec import encode
from schemas.edge.provider_usage import Figures, ProviderUsage
from schemas.operator import Feedback
from schemas.rollup import Rollup, Share
from schemas.run import NearestLimit, OrderOnRun, RunRecord
from schemas.signing import OperatorKey
from streams.settings import Settings
from streams.sinks.prices import PolicyPrices
from streams.sinks.rows import Batch, Mapper
from streams.sinks.stores.base import Move, Store
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, USD, llm_call, run_started, tool_call

OPERATOR_KEY = "the root key of operators, in tests"
POLICY = {
    "version": "of-the-questions",
    "contract": [{"tenant": "acme", "value_usd": 10, "period": "week"}, {"tenant": "globex", "value_usd": 30}],
}
SUPPORT = {"workflow": "support", "project": "p1", "feature": "chat", "agent": "bot", "owner": "ana"}
CODING = {"workflow": "coding", "project": "p2", "feature": "review", "agent": "coder", "owner": "ben"}


class FakeRecord(NamedTuple):
    """A record as a consumer hands it out."""

    data: bytes
    append_ms: int
    place: int
    name: bytes = b""
    given: tuple[tuple[str, bytes], ...] = ()

    def value(self) -> bytes:
        return self.data

    def key(self) -> bytes:
        return self.name

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self.given)

    def timestamp(self) -> tuple[int, int]:
        return 1, self.append_ms

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.place


class FakePolicies:
    """One policy, published before everything."""

    oldest_offset = 0

    def until_now(self) -> list[PolicyChanged]:
        return [PolicyChanged(read_policy(POLICY), 1)]


def fill(store: Store) -> None:
    """Write both weeks."""
    settings = Settings(operator_key=OPERATOR_KEY)  # type: ignore[arg-type]  # pydantic makes a secret of it
    prices = PolicyPrices(settings, FakePolicies())  # type: ignore[arg-type]  # a stand-in
    prices.refresh()
    mapper = Mapper(settings, prices)
    batch, moves = Batch(), {}
    mapper.take_policies(batch)
    for number, (topic, value, at_ms) in enumerate([*_usage(), *_runs(), *_rollups(), *_incidents(), *_reported()]):
        data = encode(value)
        headers: tuple[tuple[str, bytes], ...] = ()
        if topic == "operator.v1":
            signed = OperatorKey(OPERATOR_KEY.encode()).order_headers(value.tenant_id, data)
            headers = tuple((name, bytes(text)) for name, text in signed)
        assert mapper.take(batch, topic, FakeRecord(data, at_ms, number, b"", headers)) is None, value
        moves[topic, 0] = Move(0, number + 1)
    store.write(batch.rows, moves)


Taken = tuple[str, Any, int]
"""Topic, message, time of the append."""


def _usage() -> Iterator[Taken]:
    for message in (
        run_started(MONDAY_MS - 3 * DAY_MS, run_id="A0", prompt_version="v1", **SUPPORT),
        _call("A0", -3, 1, "opus"),
        run_started(MONDAY_MS + DAY_MS, run_id="A1", prompt_version="v1", **SUPPORT),
        _call("A1", 1, 2, "opus"),
        _call("A1", 1, 2, "opus", attempt=2),
        _call("A2", 1, 1, "haiku", prompt_version="v2", **SUPPORT),
        run_started(MONDAY_MS + 2 * DAY_MS, run_id="A3", prompt_version="v1", **CODING),
        _call("A3", 2, 5, "opus"),
        tool_call(MONDAY_MS + 2 * DAY_MS, run_id="A3", cost_nanousd=USD // 2),
        _call("G1", 3, 2, "gpt", tenant_id="globex"),
        _call("G1", 3, None, "nobody-knows-it", tenant_id="globex"),
    ):
        yield "usage.v1", message, message.ts_ms


def _call(run_id: str, day: int, usd: float | None, model: str, **more: Any) -> Any:
    money: dict[str, Any] = {"cost_nanousd": None} if usd is None else {"usd": usd}
    provider = "anthropic" if model in ("opus", "haiku") else None
    return llm_call(
        MONDAY_MS + day * DAY_MS, run_id=run_id, model=model, cache_read_tokens=400, provider=provider, **money, **more
    )


def _run(run_id: str, day: int, dollars: float, tenant_id: str = "acme", **more: Any) -> Taken:
    at_ms = MONDAY_MS + day * DAY_MS
    counts = {"calls": 1, "tool_calls": 0, "retries": 0, "premium_calls": 0, "input_tokens": 1, "output_tokens": 1}
    given: dict[str, Any] = {"prompt_version": "v1", "state": "finished", **counts, **more}
    run = RunRecord(
        tenant_id=tenant_id, run_id=run_id, ts_ms=at_ms + HOUR_MS, started_ms=at_ms, last_ms=at_ms,
        cost_nanousd=int(dollars * USD), **given,
    )  # fmt: skip
    return "runs.v1", run, run.ts_ms


def _runs() -> Iterator[Taken]:
    order = OrderOnRun(
        command_id="c", action="kill", target_type="run", target_id="A3", rule="run-cost", incident_id="i", reason="r",
        issued_ms=MONDAY_MS, spent_nanousd=4 * USD, acted="stopped",
    )  # fmt: skip
    nearest = NearestLimit(rule="run-cost", per="run", used=2 * USD, limit=4 * USD, unit="nanousd")
    yield _run("A0", -3, 1, outcome="accepted", **SUPPORT)
    yield _run("A1", 1, 1, state="live", **SUPPORT)  # as it stood before
    yield _run("A1", 1, 4, outcome="accepted", calls=2, retries=1, retried_nanousd=2 * USD, **SUPPORT)
    yield _run("A2", 1, 1, outcome="rejected", **(SUPPORT | {"prompt_version": "v2"}))
    yield _run("A3", 2, 5.5, outcome="accepted", order=order, **CODING)
    globex = SUPPORT | {"owner": "cleo", "project": "p3"}
    yield _run("G1", 3, 2, "globex", state="live", calls=2, nearest=nearest, **globex)


def _rollups() -> Iterator[Taken]:
    """The worker's hours, of the days of A1 and A2 two: a first that is grown out of, and the last."""
    yield _hour("support", -3, 1, {"opus": 1})
    yield _hour("support", 1, 3, {"opus": 2, "sonnet": 1})
    yield _hour("support", 1, 5, {"opus": 4, "haiku": 1})
    yield _hour("coding", 2, 5.5, {"opus": 5})
    yield _hour("support", 3, 2, {"gpt": 2}, "globex")


def _hour(workflow: str, day: int, dollars: float, by_model: dict[str, int], tenant_id: str = "acme") -> Taken:
    at_ms = MONDAY_MS + day * DAY_MS
    counts = dict.fromkeys(
        ("calls", "tool_calls", "retries", "errors", "input_tokens", "output_tokens", "unpriced_calls",
         "unpriced_tokens", "runs_started", "runs_finished", "accepted", "edited", "rejected", "escalated"), 0,
    )  # fmt: skip
    rollup = Rollup(
        tenant_id=tenant_id, workflow=workflow, hour_start_ms=at_ms, hour_end_ms=at_ms + HOUR_MS, ts_ms=at_ms + HOUR_MS,
        cost_nanousd=int(dollars * USD), by={"model": {k: Share(cost_nanousd=v * USD) for k, v in by_model.items()}},
        **counts,
    )  # fmt: skip
    return "rollups.v1", rollup, rollup.ts_ms


def _incidents() -> Iterator[Taken]:
    """Of `run-cost` one that was useful and one that was noise, of `loops` one that nobody judged."""
    for number, (rule, verdict) in enumerate([("run-cost", "useful"), ("run-cost", "noise"), ("loops", None)]):
        at_ms = MONDAY_MS + DAY_MS + number
        for state in ("open", "reminder"):
            alert = Alert(
                alert_id=f"{number}-{state}", incident_id=f"i{number}", state=state, severity="error", mode="enforce",
                rule=rule, detector="cap", tenant_id="acme", scope={}, run_id="A3", owner="ben", level=1.0,
                window_start_ms=None, window_end_ms=None, value=1, limit=2, baseline=None, ratio=None, unit="nanousd",
                evidence={}, summary="s", next_action="n", ts_ms=at_ms, cause_event_id=None, policy_version="v",
            )  # fmt: skip
            yield "alerts.v1", alert, at_ms
        if verdict is not None:
            said = Feedback(
                message_id=f"f{number}", ts_ms=at_ms, tenant_id="acme", who="ana", why="w", incident_id=f"i{number}",
                verdict=verdict,  # type: ignore[arg-type]  # one of the two
            )  # fmt: skip
            yield "operator.v1", said, at_ms


def _reported() -> Iterator[Taken]:
    """Anthropic's word of the day of A1 and A2: 5 dollars for opus, where we have 4; and of A3: as we have it."""
    for day, model, dollars in (("2026-11-24", "opus", 5), ("2026-11-24", "haiku", 1), ("2026-11-25", "opus", 5)):
        figures = Figures(fetched_ms=MONDAY_MS, cost_nanousd=dollars * USD)
        yield "provider_usage.v1", ProviderUsage(
            source="anthropic", console="claude", report="cost", day=day, model=model, figures=figures
        ), MONDAY_MS  # fmt: skip
