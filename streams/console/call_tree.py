"""The calls of a run and of the runs that it started, in order, with what each cost and which were made before."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from models.prices.book import PriceBook
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

MOST_CALLS = 5_000
"""Of a tree; those beyond count in the sums alone."""
MOST_RUNS = 500
MOST_MESSAGES = 200_000
"""Then it is looked at no further."""


class Call(NamedTuple):
    """A model's or a tool's call."""

    message: LlmCall | ToolCall
    cost_nanousd: int
    total_nanousd: int
    """What the run had cost with it."""
    alike: int
    """Which of its kind: the third call of a tool with the same arguments and the same result is 3."""

    @property
    def began_ms(self) -> int:
        """When it began, as far as is known."""
        return self.message.started_ms or self.message.ts_ms

    @property
    def took_ms(self) -> int | None:
        """How long it took, where it says so."""
        return self.message.latency_ms


Event = RunStarted | RunFinished | Outcome | CommandAck


@dataclass(slots=True)
class RunCalls:
    """One run of the tree."""

    run_id: str
    calls: list[Call] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """What it said of itself beside its calls: its beginning, its end, its outcome, its guard's answers."""
    cost_nanousd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    workflow: str | None = None
    agent: str | None = None
    owner: str | None = None
    parent_run_id: str | None = None
    began_ms: int = 0
    last_ms: int = 0
    left_out: int = 0
    """Calls beyond `MOST_CALLS`, which count in the sums alone."""


class Step(NamedTuple):
    """A line of the tree: a run begins, makes a call, or ends."""

    depth: int
    run: RunCalls
    what: Literal["begins", "call", "ends"]
    at: int = 0
    """Which of the run's calls."""


class CallTree:
    """Takes the messages of one run and its children, in the order of their appends; each once."""

    def __init__(self, run_id: str, prices: PriceBook) -> None:
        self.run_id = run_id
        self.runs: dict[str, RunCalls] = {}
        self.version = 0
        self._prices = prices
        self.is_cut = False
        """Whether there is more than can be looked at."""
        self._kept = 0
        self._seen: set[str] = set()
        self._counts: Counter[tuple[str | None, ...]] = Counter()

    def is_part(self, message: UsageMessage) -> bool:
        """Whether a message is of the run, or of one below it."""
        if self.run_id in (message.run_id, message.root_run_id) or message.run_id in self.runs:
            return True
        return message.parent_run_id is not None and message.parent_run_id in self.runs

    def take(self, message: UsageMessage) -> None:
        """Go on with a message; one that is no part of the tree, or is known, changes nothing."""
        if not self.is_part(message) or message.event_id in self._seen:
            return
        if len(self._seen) >= MOST_MESSAGES or (message.run_id not in self.runs and len(self.runs) >= MOST_RUNS):
            self.is_cut = True
            return
        self._seen.add(message.event_id)
        self.version += 1
        run = self.runs.setdefault(message.run_id, RunCalls(message.run_id, began_ms=message.ts_ms))
        _introduce(run, message)
        if isinstance(message, LlmCall | ToolCall):
            self._take_call(run, message)
        else:
            run.events.append(message)

    def _take_call(self, run: RunCalls, message: LlmCall | ToolCall) -> None:
        cost = self._cost(message)
        run.cost_nanousd += cost
        if isinstance(message, LlmCall):
            run.input_tokens += message.input_tokens
            run.output_tokens += message.output_tokens
        if self._kept >= MOST_CALLS:
            run.left_out += 1
            return
        self._kept += 1
        run.calls.append(Call(message, cost, run.cost_nanousd, self._alike(message)))

    def _cost(self, message: LlmCall | ToolCall) -> int:
        if isinstance(message, ToolCall):
            return message.cost_nanousd or 0
        return self._prices.charge(message).cost_nanousd

    def _alike(self, message: LlmCall | ToolCall) -> int:
        if isinstance(message, ToolCall):
            if message.args_hash is None:
                return 1
            result = message.result_shape_hash or message.result_hash
            about: tuple[str | None, ...] = (message.run_id, message.tool, message.args_hash, result)
        else:
            if message.prompt_hash is None:
                return 1
            about = (message.run_id, message.model, message.prompt_hash)
        self._counts[about] += 1
        return self._counts[about]

    def steps(self) -> Iterator[Step]:
        """The tree in the order of time: what a run started stands between its calls, below it, each run once."""
        below: dict[str | None, list[RunCalls]] = {}
        for run in sorted(self.runs.values(), key=lambda one: one.began_ms):
            parent = run.parent_run_id if run.parent_run_id in self.runs else None
            below.setdefault(None if run.run_id == self.run_id else parent or self.run_id, []).append(run)
        done: set[str] = set()
        for first in below.get(None) or below.get(self.run_id, []):
            if first.run_id not in done:
                yield from _nested(first, below, done)


@dataclass(slots=True)
class _Open:
    """A run whose calls are being told."""

    depth: int
    run: RunCalls
    children: deque[RunCalls]
    at: int = 0


def _nested(first: RunCalls, below: dict[str | None, list[RunCalls]], done: set[str]) -> Iterator[Step]:
    """A run with all below it; without recursion, since runs that start runs may go on for long."""
    stack: list[_Open] = []

    def begins(run: RunCalls) -> Step:
        done.add(run.run_id)
        stack.append(_Open(len(stack), run, deque(below.get(run.run_id, ()))))
        return Step(len(stack) - 1, run, "begins")

    yield begins(first)
    while stack:
        here = stack[-1]
        call = here.run.calls[here.at] if here.at < len(here.run.calls) else None
        if here.children and (call is None or here.children[0].began_ms <= call.began_ms):
            child = here.children.popleft()
            if child.run_id not in done:
                yield begins(child)
        elif call is not None:
            yield Step(here.depth, here.run, "call", here.at)
            here.at += 1
        else:
            stack.pop()
            yield Step(here.depth, here.run, "ends")


def _introduce(run: RunCalls, message: UsageMessage) -> None:
    """What a message says of its run."""
    run.workflow = message.workflow or run.workflow
    run.owner = message.owner or run.owner
    run.agent = message.agent or run.agent
    run.parent_run_id = message.parent_run_id or run.parent_run_id
    run.began_ms = min(run.began_ms, message.ts_ms)
    run.last_ms = max(run.last_ms, message.ts_ms)
