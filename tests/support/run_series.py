"""Costs of a workflow's runs, one after another, and a driver that takes them in as the engine does."""

import math
from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

import msgspec

from models.detectors.base import WorkflowDetector
from models.detectors.past.drift import Drift, DriftSettings
from models.rules.finding import Finding
from models.state.spend.cohort import Cohort
from tests.support.messages import MINUTE_MS, USD
from tests.support.production import START_MS

AUTO_CODE_ROVER_USD = (
    0.021, 0.024, 0.027, 0.028, 0.030, 0.032, 0.032, 0.035, 0.037, 0.044, 0.046, 0.047, 0.048, 0.053, 0.059, 0.063,
    0.069, 0.069, 0.071, 0.074, 0.111, 0.153, 0.758,
)  # fmt: skip
"""What 23 public runs of AutoCodeRover would cost at 2.50 and 10 dollars a million tokens, in order: quantiles."""
TIMES = 10.0
"""By so much larger tasks: a typical run costs half a dollar."""

Values = tuple[str | None, str | None, str | None, str | None]
V1: Values = ("v1", "house", None, "prod")
V2: Values = ("v2", "house", None, "prod")


class Run(NamedTuple):
    """A finished run: what it cost in dollars, and what it was made of."""

    usd: float
    values: Values = V1


class Told(NamedTuple):
    """A finding, with the number of the run that led to it."""

    number: int
    finding: Finding


def auto_code_rover(draw: Random, times: float = 1.0) -> float:
    """A run of that agent, drawn from the quantiles."""
    place = draw.random() * (len(AUTO_CODE_ROVER_USD) - 1)
    below, above = (math.log(usd) for usd in AUTO_CODE_ROVER_USD[int(place) : int(place) + 2])
    return times * TIMES * math.exp(below + (place - int(place)) * (above - below))


def drift(**settings: object) -> Drift:
    """The rule with its defaults, but for these settings."""
    return Drift(DriftSettings.model_validate({"name": "drift", **settings}))


def drive(
    runs: Iterable[Run],
    rule: WorkflowDetector[DriftSettings] | None = None,
    at_ms: Callable[[int], int] = lambda number: START_MS + number * 20 * MINUTE_MS,
    restart: Callable[[int], bool] = lambda number: False,
) -> list[Told]:
    """What the rule finds over the runs; where `restart` says so, all that is known goes through its row."""
    rule = rule or drift()
    cohort, told = Cohort("acme", "docs"), list[Told]()
    for number, run in enumerate(runs):
        cohort.level.add(round(run.usd * USD), run.values, at_ms(number))
        for finding in rule.judge(cohort, at_ms(number)):
            told.append(Told(number, finding))
            if finding.memory is not None:
                rule.remember(cohort, finding)
        if restart(number):
            row = msgspec.msgpack.encode(cohort.fields())
            cohort = Cohort.read("acme", "docs", tuple(msgspec.msgpack.decode(row)))
    return told
