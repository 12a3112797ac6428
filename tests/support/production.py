"""Seeded traffic as a company's agents make it: office hours, nights and weekends, a holiday, a week of launch, a step
up that stays, a nightly batch, a small team that works in bursts. Nothing in it is wrong.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from schemas.usage import LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, USD

START_MS = 1_793_577_600_000
"""2026-11-02T00:00:00Z, a Monday."""
HOLIDAY = 10
"""A Thursday on which hardly anybody works."""
LAUNCH = range(14, 19)
"""The working week in which one tenant launches."""
STEP = 16
"""From this day on another has half as much again to do."""
BURST_CHANCE = 0.35
"""Of the hours of a small team's day in which somebody works at all."""

Event = tuple[int, UsageMessage]
"""When it was appended, and what it says."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """Runs of one kind."""

    tenant: str
    name: str
    owner: str
    runs_an_hour: float
    """In the middle of a working day."""
    usd: float
    """Of a typical run."""
    spread: float
    """Standard deviation of the logarithm of a run's cost."""
    course: str = "office"
    """`office`, `always`, `batch` (two hours at night) or `team` (bursts of few people)."""
    models: tuple[str, ...] = ("house-small",)
    calls: int = 5
    modes: tuple[float, ...] = (1.0,)
    """Short and long runs: each has one of these times the cost."""
    prompt_version: str = "v1"


WORKFLOWS = (
    Workflow("acme", "support", "cs", 40, 0.06, 0.6, "always"),
    Workflow("acme", "research", "lab", 8, 0.60, 0.9, modes=(1.0, 4.0), models=("house-large", "house-small")),
    Workflow("acme", "nightly-digest", "lab", 60, 0.25, 0.4, "batch"),
    Workflow("globex", "contracts", "legal", 12, 0.40, 0.8),
    Workflow("globex", "intake", "ops", 25, 0.05, 0.5, "always"),
    Workflow("initech", "coding", "dev", 6, 1.00, 1.1, "team", ("house-large",), 9),
    Workflow("hooli", "chat", "app", 50, 0.03, 0.7, "always"),
    Workflow("hooli", "reports", "bi", 6, 0.40, 1.1),
)


class Production:
    """The traffic of some workflows, by the day. Every seed is another stream, always the same."""

    def __init__(
        self, seed: int, workflows: Sequence[Workflow] = WORKFLOWS, *, scale: float = 1.0, name: str = "run"
    ) -> None:
        self._random = Random(seed)
        self._workflows = workflows
        self._scale = scale
        self._name = name
        self._number = 0
        self._events = 0

    def days(self, first: int, last: int) -> Iterator[Event]:
        """What happens from day `first` to before day `last`, in order."""
        waiting: list[Event] = []
        for day in range(first, last):
            for workflow in self._workflows:
                for hour in range(24):
                    for _ in range(self._count(workflow, day, hour)):
                        start_ms = START_MS + day * DAY_MS + hour * HOUR_MS + self._random.randrange(HOUR_MS)
                        waiting += self.run(workflow, start_ms)
            waiting.sort(key=_when)
            end_ms = START_MS + (day + 1) * DAY_MS
            yield from (event for event in waiting if event[0] < end_ms)
            waiting = [event for event in waiting if event[0] >= end_ms]
        yield from waiting

    def run(self, workflow: Workflow, start_ms: int, times: float = 1.0) -> Iterator[Event]:
        """One run from its start to its outcome, at `times` its usual cost."""
        draw = self._random
        self._number += 1
        run_id = f"{self._name}-{self._number}"
        about: dict[str, Any] = {"tenant_id": workflow.tenant, "run_id": run_id}
        whose: dict[str, Any] = {
            "workflow": workflow.name, "owner": workflow.owner, "environment": "prod",
            "prompt_version": workflow.prompt_version,
        }  # fmt: skip
        at_ms = start_ms
        yield at_ms, RunStarted(event_id=self._id(), ts_ms=at_ms, **about, **whose)
        cost = workflow.usd * times * draw.choice(workflow.modes) * draw.lognormvariate(0, workflow.spread)
        calls = max(1, round(workflow.calls * draw.lognormvariate(0, 0.4)))
        weights = [1 + place for place in range(calls)]  # each call sends what was said before as well
        tokens = 1_500
        for place, weight in enumerate(weights):
            at_ms += draw.randrange(2 * SECOND_MS, 40 * SECOND_MS)
            tokens += draw.randrange(200, 1_500)
            yield at_ms, LlmCall(
                event_id=self._id(), ts_ms=at_ms, **about, model=draw.choice(workflow.models), provider="house",
                input_tokens=tokens, output_tokens=draw.randrange(50, 900), latency_ms=draw.randrange(800, 9_000),
                cost_nanousd=round(cost * weight / sum(weights) * USD), prompt_hash=f"{run_id}-{place}",
            )  # fmt: skip
            if place < calls - 1:
                at_ms += draw.randrange(SECOND_MS, 10 * SECOND_MS)
                yield at_ms, ToolCall(
                    event_id=self._id(), ts_ms=at_ms, **about, tool=draw.choice(("search", "read", "edit", "test")),
                    args_hash=f"a{draw.randrange(10**9)}", result_hash=f"r{draw.randrange(10**9)}",
                    status="error" if draw.random() < 0.02 else "ok", latency_ms=draw.randrange(20, 3_000),
                    writes=draw.random() < 0.2,
                )  # fmt: skip
        at_ms += SECOND_MS
        yield at_ms, RunFinished(event_id=self._id(), ts_ms=at_ms, **about, status="completed")
        at_ms += draw.randrange(MINUTE_MS, 30 * MINUTE_MS)
        said: Any = draw.choices(("accepted", "edited", "rejected", None), (70, 10, 10, 10))[0]
        if said is not None:
            yield at_ms, Outcome(event_id=self._id(), ts_ms=at_ms, **about, outcome=said)

    def _id(self) -> str:
        self._events += 1
        return f"{self._name}-event-{self._events}"

    def _count(self, workflow: Workflow, day: int, hour: int) -> int:
        """How many runs begin in the hour."""
        mean = workflow.runs_an_hour * self._scale * self._busy(workflow, day, hour)
        if mean > 30:
            return max(0, round(self._random.gauss(mean, math.sqrt(mean))))
        limit, product, count = math.exp(-mean), self._random.random(), 0
        while product > limit:
            product *= self._random.random()
            count += 1
        return count

    def _busy(self, workflow: Workflow, day: int, hour: int) -> float:
        """The hour against the middle of a working day."""
        rest = day % 7 >= 5 or day == HOLIDAY
        growth = 1.5 if workflow.tenant == "globex" and day >= STEP else 1.0
        growth *= 2.0 if workflow.tenant == "hooli" and day in LAUNCH else 1.0
        match workflow.course:
            case "batch":
                return growth if hour in (2, 3) else 0.0
            case "team":
                works = 9 <= hour < 19 and not rest and self._random.random() < BURST_CHANCE
                return self._random.lognormvariate(0, 0.6) if works else 0.0
            case "always":
                return growth * (0.3 + 0.7 * _daylight(hour)) * (0.5 if rest else 1.0)
            case _:
                return growth * _daylight(hour) * (0.08 if rest else 1.0)


def _daylight(hour: int) -> float:
    """How much of an office is at work: nobody at night, all of it around noon."""
    return max(0.0, math.sin((hour - 6) / 14 * math.pi)) if 6 <= hour <= 20 else 0.0


def _when(event: Event) -> int:
    return event[0]


def workflow_named(name: str, **changes: object) -> Workflow:
    """One of the workflows, changed as told."""
    found = next(one for one in WORKFLOWS if one.name == name)
    return replace(found, **changes)  # type: ignore[arg-type]  # whoever tells it knows the fields
