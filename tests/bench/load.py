"""A seeded log of usage messages shaped like production traffic: many tenants of very different size, thousands of
live runs side by side, and here and there a run that goes wrong.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from schemas.codec import encode
from schemas.usage import LlmCall

MODELS = (
    ("gpt-4o-mini", "openai", 150),
    ("gpt-4.1", "openai", 2_000),
    ("claude-sonnet-4-5", "anthropic", 3_200),
    ("claude-haiku-4-5", "anthropic", 1_070),
    ("gemini-2.5-flash", "google", 400),
)
"""Name, provider, nano-dollars an input token; an output token costs four times that.

Near the list prices, so that the reported cost is never off by half of the computed one.
"""
TOOLS = ("search_docs", "read_file", "bash", "edit_file", "sql_query", "http_get", "send_mail", "calculator")
LLM_SHARE = 0.6
UNPRICED_SHARE = 0.1
"""Model calls without a cost, which the engine then computes."""
ERROR_SHARE = 0.02
ODD_SHARE = 1 / 400
"""Runs that repeat one tool call, and as many that re-send one model call, until they end."""
CALLS_OF_ODD_RUN = 8
MEAN_CALLS = 40
_SIZES = 4096


class Event(NamedTuple):
    """One record of usage.v1."""

    key: bytes
    value: bytes
    ts_ms: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What the traffic looks like."""

    start_ms: int
    rate_per_s: float
    """Events per second of event time: how busy the partition is said to be, not how fast the log is read."""
    live_runs: int = 5_000
    tenants: int = 200
    workflows: int = 10
    """Per tenant."""
    skew: float = 1.1
    """Exponent of the Zipf law by which runs fall to tenants and workflows; 0 spreads them evenly."""
    seed: int = 20_261_122


@dataclass(slots=True)
class _Run:
    number: int
    key: bytes
    head: str
    """The JSON members that every message of the run has."""
    calls_left: int
    model: str
    nanousd_per_token: int
    kind: str
    input_tokens: int
    started: bool = False
    calls: int = 0


class UsageLoad:
    """The traffic of one partition, in the order of time."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._rng = Random(shape.seed)
        self._tenants = _zipf(shape.tenants, shape.skew)
        self._workflows = _zipf(shape.workflows, shape.skew)
        self._numbers = itertools.count(1)
        self._run_numbers = itertools.count(1)
        self._sizes = [int(self._rng.lognormvariate(6.0, 0.9)) + 20 for _ in range(_SIZES)]
        self._sent = 0
        self._runs = [self._new_run() for _ in range(shape.live_runs)]

    def opening(self) -> Iterator[Event]:
        """The `run_started` of every run of the first population, all at the start time."""
        for run in self._runs:
            yield Event(run.key, self._message(run, self._shape.start_ms), self._shape.start_ms)

    def events(self, count: int) -> Iterator[Event]:
        """The next `count` messages, time going on from the last call. A run that ends is followed by a new one: their
        number stays.
        """
        runs, random, start_ms = self._runs, self._rng.random, self._shape.start_ms
        step_ms = 1000 / self._shape.rate_per_s
        for number in range(self._sent, self._sent + count):
            place = int(random() * len(runs))
            run = runs[place]
            ts_ms = start_ms + int(number * step_ms)
            yield Event(run.key, self._message(run, ts_ms), ts_ms)
            if run.calls_left < 0:
                runs[place] = self._new_run()
        self._sent += count

    def over_its_cap(self, number: int, cost_nanousd: int, ts_ms: int, tenant_id: str | None = None) -> Event:
        """A single model call of a new run that costs `cost_nanousd`; its event id is `cause-<number>`."""
        tenant = self._rng.choices(range(self._shape.tenants), cum_weights=self._tenants)[0]
        call = LlmCall(
            event_id=f"cause-{number}",
            ts_ms=ts_ms,
            tenant_id=tenant_id or _tenant_name(tenant),
            run_id=f"over-its-cap-{number:08d}",
            session_id=f"over-its-cap-{number:08d}",
            workflow="workflow-0",
            environment="prod",
            model="claude-sonnet-4-5",
            provider="anthropic",
            input_tokens=900_000,
            output_tokens=20_000,
            cost_nanousd=cost_nanousd,
        )
        return Event(call.tenant_id.encode(), encode(call), ts_ms)

    def _new_run(self) -> _Run:
        number, random = next(self._run_numbers), self._rng.random
        tenant = _tenant_name(self._rng.choices(range(self._shape.tenants), cum_weights=self._tenants)[0])
        workflow = self._rng.choices(range(self._shape.workflows), cum_weights=self._workflows)[0]
        model, provider, price = MODELS[int(random() * len(MODELS))]
        lot = random()
        kind = "repeat" if lot < ODD_SHARE else "resend" if lot < 2 * ODD_SHARE else "steady"
        calls = CALLS_OF_ODD_RUN if kind != "steady" else 1 + int(self._rng.expovariate(1 / MEAN_CALLS))
        head = (
            f'"tenant_id":"{tenant}","run_id":"run-{number:010d}","session_id":"session-{number // 3:08d}",'
            f'"workflow":"workflow-{workflow}","owner":"team-{workflow % 4}","environment":"prod",'
            f'"agent":"agent-{workflow % 3}","user":"user-{number % 1000}"'
        )
        if number % 5 == 0:  # a child of the run before; where that one was another tenant's, its parent is unknown
            head += f',"parent_run_id":"run-{number - 1:010d}","root_run_id":"run-{number - 1:010d}"'
        model_part = f'"model":"{model}","provider":"{provider}"'
        return _Run(number, tenant.encode(), head, calls, model_part, price, kind, self._size())

    def _message(self, run: _Run, ts_ms: int) -> bytes:
        number = next(self._numbers)
        stamp = f'"event_id":"{_hex(number)}","ts_ms":{ts_ms},{run.head},"seq":{run.calls + 1}'
        if not run.started:
            run.started = True
            return f'{{"type":"run_started",{stamp}}}'.encode()
        run.calls_left -= 1
        if run.calls_left < 0:
            return f'{{"type":"run_finished",{stamp},"status":"completed"}}'.encode()
        run.calls += 1
        if run.kind == "resend" or (run.kind == "steady" and self._rng.random() < LLM_SHARE):
            return self._llm_call(run, stamp, number)
        return self._tool_call(run, stamp, number)

    def _llm_call(self, run: _Run, stamp: str, number: int) -> bytes:
        attempt = run.calls if run.kind == "resend" else 1
        output_tokens = self._size() // 4
        if attempt == 1:
            run.input_tokens += output_tokens + 100
        prompt_hash = _hex(number if run.kind == "steady" else run.number)
        cost = ""
        if self._rng.random() >= UNPRICED_SHARE:
            nanousd = (run.input_tokens + 4 * output_tokens) * run.nanousd_per_token
            cost = f',"cost_nanousd":{nanousd},"price_source":"reported"'
        more = f',"attempt":{attempt}' if attempt > 1 else ""
        return (
            f'{{"type":"llm_call",{stamp},{run.model},"input_tokens":{run.input_tokens},'
            f'"output_tokens":{output_tokens}{cost}{more}{self._fault()},'
            f'"latency_ms":{output_tokens * 9},"prompt_hash":"{prompt_hash}"}}'
        ).encode()

    def _tool_call(self, run: _Run, stamp: str, number: int) -> bytes:
        alike = run.kind == "repeat"
        digest = _hex(run.number if alike else number)
        tool = TOOLS[0 if alike else number % len(TOOLS)]
        return (
            f'{{"type":"tool_call",{stamp},"tool":"{tool}","args_hash":"{digest}","result_hash":"{digest}"'
            f'{self._fault()},"latency_ms":{number % 900}}}'
        ).encode()

    def _fault(self) -> str:
        """The status of a call; `ok` is left out, as our own client does."""
        return ',"status":"error"' if self._rng.random() < ERROR_SHARE else ""

    def _size(self) -> int:
        return self._sizes[int(self._rng.random() * _SIZES)]


def _tenant_name(number: int) -> str:
    return f"tenant-{number:05d}"


def _zipf(count: int, skew: float) -> list[float]:
    """Cumulative weights of a Zipf law."""
    return list(itertools.accumulate(1 / rank**skew for rank in range(1, count + 1)))


def _hex(number: int) -> str:
    """32 characters that look like a digest and differ for different numbers below 2**64."""
    mixed = number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    return f"{mixed:016x}{mixed ^ 0x5DEECE66D1234567:016x}"
