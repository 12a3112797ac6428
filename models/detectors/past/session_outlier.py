"""`session_outlier`: a run against what the workflow's finished runs with the same model have cost, or a session
against its sessions.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models.baselines.recent_costs import RecentCosts
from models.detectors.base import UnitDetector, commanded, register
from models.rules.finding import Finding
from models.state.spend.cohort import Cohort
from models.state.units.unit import Counter, Unit
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import Action, Limit, RuleSettings, Severity, Steps, Usd


class SessionOutlierSettings(RuleSettings):
    """What is statistical tells and, unless asked to, does not stop."""

    steps: ClassVar[Steps] = {"multiplier": (0.5, 0.75, 1.5, 2), "min_usd": (0.5, 2, 5, 10)}
    per: Literal["run", "session"] = "run"
    compare_by: Literal["model", "workflow"] = "model"
    """What a run is compared with: the workflow's runs of which most of the cost went to the same model, or all of
    them. Sessions, which have runs with several models, are compared with all of the workflow's."""
    multiplier: Annotated[float, Field(gt=1, le=1000)] = 5.0
    min_runs: Annotated[int, Field(ge=5, le=256)] = 20
    min_usd: Usd = Decimal(1)
    severity: Severity = "warning"
    at_limit: Limit = "alert"


@register
class SessionOutlier(UnitDetector[SessionOutlierSettings]):
    """Fires while a run has cost more than 5 x the median of its workflow's last 256 finished runs with the same model,
    or a session of its sessions, or more where healthy costs spread wider. A run's model is the one that most of its
    cost went to so far; with too few finished runs of that model nothing is said.
    """

    name = "session_outlier"
    settings_class = SessionOutlierSettings
    defaults = ({"name": "run-5x"},)

    def __init__(self, settings: SessionOutlierSettings) -> None:
        super().__init__(settings)
        self.per = settings.per
        self._by_model = settings.per == "run" and settings.compare_by == "model"
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def _limit(self, past: RecentCosts | None) -> int | None:
        """The smallest cost that stands out, None while too few have finished."""
        if past is None or len(past) < self.settings.min_runs:
            return None
        # To the ten-thousandth: `multiple` is rounded there, so that this stays integer arithmetic.
        multiple = round(past.multiple(self.settings.multiplier) * 10_000)
        return max(self.floor_nanousd, multiple * past.median_x2() // 20_000 + 1)

    def _past(self, unit: Unit, cohort: Cohort | None) -> RecentCosts | None:
        """What others like the unit have cost: a session is not compared with runs, nor a model with another."""
        if cohort is None or not self._by_model:
            return None if cohort is None else cohort.recent_of(unit.unit_kind)
        past = cohort.models.get(unit.main_model() or "")
        return None if past is None else past.recent

    def trips(self, unit: Unit, cohort: Cohort | None) -> Mapping[Counter, int]:
        limit = self._limit(self._past(unit, cohort))
        if limit is None or unit.cost_nanousd >= limit:
            # Not known yet, or found: look again at the floor, then at each doubling.
            limit = max(self.floor_nanousd, 2 * unit.cost_nanousd)
        return {"cost_nanousd": limit}

    def judge(self, unit: Unit, cohort: Cohort | None) -> Iterable[Finding]:
        past = self._past(unit, cohort)
        limit = self._limit(past)
        if past is None or limit is None or unit.cost_nanousd < limit:
            return
        median = past.median_x2() // 2
        ratio = round(unit.cost_nanousd / median, 2) if median else None
        usual = f", {ratio:,.3g} times the usual {format_usd(median)} of a {self.per}" if ratio else ""
        yield Finding(
            level=1.0,
            severity=self.settings.severity,
            value=unit.cost_nanousd,
            limit=limit,
            baseline=median,
            ratio=ratio,
            unit="nanousd",
            action=self.limit_action,
            evidence={
                f"finished_{self.per}s": len(past),
                "model": unit.main_model() if self._by_model else None,
                "median_nanousd": median,
                "multiple": past.multiple(self.settings.multiplier),
                "log_mad": round(past.log_mad(), 4),
                "calls": unit.calls,
            },
            summary=f"The {self.per} has cost {format_usd(unit.cost_nanousd)}{usual}",
            next_action="Look at what it is doing that others do not; stop it if it is stuck.",
        )
