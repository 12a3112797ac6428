"""`variance`: the costs of a workflow's runs differ more from each other than they did."""

import math
import statistics
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from models.baselines.cost_level import cost_at
from models.detectors.base import WorkflowDetector, register
from models.rules.finding import Finding
from models.state.spend.cohort import Cohort
from schemas.duration import DAY_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RuleSettings, Severity, Steps, Usd

USUAL_DAYS: Final = 7
SHOWN: Final = (10, 50, 90)
"""Quantiles of what runs cost, in percent."""


class VarianceSettings(RuleSettings):
    """`variance` in the policy file."""

    steps: ClassVar[Steps] = {"multiplier": (0.75, 1.5, 2), "min_usd": (0.5, 2, 5)}
    multiplier: Annotated[float, Field(gt=1, le=100)] = 2.0
    """How many times the usual spread, the standard deviation of the logarithm of cost, a day must have."""
    beyond: Annotated[float, Field(ge=1, le=100)] = 1.5
    """It must also have this many times the widest spread of the last seven days."""
    min_runs: Annotated[int, Field(ge=10, le=10_000)] = 30
    """Days with fewer finished runs say nothing."""
    min_days: Annotated[int, Field(ge=2, le=7)] = 3
    """Days that say what is usual."""
    min_usd: Usd = Decimal(1)
    """Below this a day's runs are too cheap to tell anybody about."""
    severity: Severity = "warning"


@register
class Variance(WorkflowDetector[VarianceSettings]):
    """Fires at a day's end when the costs of a workflow's runs have spread twice as wide as on its last days, and
    clearly wider than on any of them.
    """

    name = "variance"
    settings_class = VarianceSettings
    defaults = ({"name": "variance"},)

    def __init__(self, settings: VarianceSettings) -> None:
        super().__init__(settings)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    def judge(self, cohort: Cohort, now_ms: int) -> Iterable[Finding]:
        if not cohort.begins_day:
            return
        days = [day for day in cohort.days.closed() if day.runs >= self.settings.min_runs][-USUAL_DAYS - 1 :]
        if len(days) <= self.settings.min_days or days[-1].cost_nanousd < self.floor_nanousd:
            return
        *before, last = days
        usual = statistics.median(day.spread for day in before)
        widest = max(day.spread for day in before)
        if last.spread < max(self.settings.multiplier * usual, self.settings.beyond * widest, 1.0):
            return
        yield self._wider(cohort, usual, last.spread, last.runs)

    def _wider(self, cohort: Cohort, usual: float, spread: float, runs: int) -> Finding:
        level = cohort.level
        cut = level.count - 1 - runs  # the run that began the new day is not one of them
        then = [cost_at(float(one)) for one in np.percentile(level.logs(cut, level.count - 1), SHOWN)]
        earlier = level.logs(level.first, cut)
        quantiles = {"quantiles_nanousd": then}
        if len(earlier) >= self.settings.min_runs:
            quantiles["usual_quantiles_nanousd"] = [cost_at(float(one)) for one in np.percentile(earlier, SHOWN)]
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=_times(spread),
            limit=_times(self.settings.multiplier * usual),
            baseline=_times(usual),
            ratio=round(spread / usual, 2) if usual else None,
            unit="times",
            lasts_ms=3 * DAY_MS,
            evidence={"day_runs": runs, **quantiles},
            summary=(
                f"Runs of {cohort.workflow} differ more in cost than they did: of the last day's {runs}, eight in ten "
                f"cost between {format_usd(then[0])} and {format_usd(then[2])}, half of them more than "
                f"{format_usd(then[1])}"
            ),
            next_action="Compare the dearest and the cheapest run of the day: more calls, more context, another model?",
        )


def _times(spread: float) -> float:
    """By which factor a run differs from the middle, typically."""
    return round(math.exp(min(spread, 20_000) / 1000), 2)
