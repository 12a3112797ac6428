"""`cap`: what one run, session or run tree may use up."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from models.detectors.base import UnitDetector, commanded, register
from models.rules.finding import Finding
from models.rules.levels import Level, levels_of, next_amount, reached
from models.state.cohort import Cohort
from models.state.runs import Counter, Unit, UnitKind
from schemas.duration import format_duration
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import Action, Limit, RuleSettings, Thresholds, Usd

Most = Annotated[int, Field(ge=0, le=10**12)]
UNIT_WORDS: dict[UnitKind, str] = {"run": "run", "session": "session", "run_tree": "run tree"}
COUNTER_WORDS: dict[Counter, str] = {
    "calls": "model calls", "tool_calls": "tool calls", "retries": "retries", "premium_calls": "premium calls",
}  # fmt: skip
COUNTER_UNITS: dict[Counter, str] = {"cost_nanousd": "nanousd", "duration_ms": "ms"}


class CapSettings(RuleSettings):
    """Limits on every single run, session or run tree. At least one `limit_usd` or `max_…` must be set."""

    per: UnitKind = "run"
    limit_usd: Usd | None = None
    max_calls: Most | None = None
    max_tool_calls: Most | None = None
    max_retries: Most | None = None
    max_duration_s: Most | None = None
    max_premium_calls: Most | None = None
    thresholds: Thresholds = [0.5, 0.8, 1.0]
    at_limit: Limit = "alert"

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.limits():
            raise ValueError("a cap needs limit_usd or one of max_calls, max_tool_calls, max_retries, …")
        return self

    def limits(self) -> dict[Counter, int]:
        """Counter -> limit, in the counters' own units."""
        limits: dict[Counter, int | None] = {
            "cost_nanousd": None if self.limit_usd is None else usd_to_nanousd(self.limit_usd),
            "calls": self.max_calls,
            "tool_calls": self.max_tool_calls,
            "retries": self.max_retries,
            "premium_calls": self.max_premium_calls,
            "duration_ms": None if self.max_duration_s is None else self.max_duration_s * 1000,
        }
        return {counter: limit for counter, limit in limits.items() if limit is not None}


class LimitWatch(UnitDetector[RuleSettings]):
    """Tells each level of each limit of a unit once. What the limits are is the subclass's to say."""

    thresholds: tuple[float, ...]

    def limits(self, unit: Unit) -> Mapping[Counter, int]:
        """Counter -> limit for this unit."""
        raise NotImplementedError

    def trips(self, unit: Unit, cohort: Cohort | None) -> Mapping[Counter, int]:
        del cohort
        amounts = {
            counter: next_amount(levels_of(limit, self.thresholds), unit.told(self._told_as(counter)))
            for counter, limit in self.limits(unit).items()
        }
        return {counter: amount for counter, amount in amounts.items() if amount is not None}

    def woken(self, unit: Unit, cohort: Cohort | None) -> Iterable[Finding]:
        del cohort
        for counter, limit in self.limits(unit).items():
            value = unit.value(counter)
            level = reached(levels_of(limit, self.thresholds), value)
            if level > unit.told(self._told_as(counter)):
                unit.tell(self._told_as(counter), level)
                yield self._finding(unit, counter, Level(level, limit), value)

    def _told_as(self, counter: Counter) -> str:
        return f"{self.rule}:{counter}"

    def _finding(self, unit: Unit, counter: Counter, level: Level, value: int) -> Finding:
        over = level.share >= 1
        limit = level.amount
        what = UNIT_WORDS[unit.unit_kind]
        return Finding(
            level=level.share,
            severity=self.severity_at(level.share),
            value=value,
            limit=limit,
            ratio=round(value / limit, 4) if limit else None,
            unit=COUNTER_UNITS.get(counter, "count"),
            action=self.limit_action if over else None,
            aspect=counter,
            evidence={"counter": counter, "cost_nanousd": unit.cost_nanousd, "calls": unit.calls},
            summary=f"The {what} {_reached(counter, value, limit)}",
            next_action=(
                f"Look at the last calls of the {what} before it is started again."
                if over
                else f"Look at what the {what} is doing; stop it if it no longer looks useful."
            ),
        )


@register
class Cap(LimitWatch):
    """Fires when a run, session or run tree reaches a share of its cost, calls, tool calls, retries or duration."""

    name = "cap"
    settings_class = CapSettings
    settings: CapSettings

    def __init__(self, settings: CapSettings) -> None:
        super().__init__(settings)
        self.per = settings.per
        self.thresholds = tuple(settings.thresholds)
        self._limits = settings.limits()

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def limits(self, unit: Unit) -> Mapping[Counter, int]:
        return self._limits


def _reached(counter: Counter, value: int, limit: int) -> str:
    match counter:
        case "cost_nanousd":
            return f"has cost {format_usd(value)} of its {format_usd(limit)} cap"
        case "duration_ms":
            return f"has taken {format_duration(value)} of the {format_duration(limit)} it may take"
        case _:
            return f"has made {value:,} of the {limit:,} {COUNTER_WORDS[counter]} it may make"
