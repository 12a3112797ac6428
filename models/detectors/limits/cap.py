"""`cap`: what one run, session or run tree may use up."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from models.detectors.base import UnitDetector, commanded, register
from models.rules.finding import Finding
from models.rules.levels import FULL, Level, counts_of, levels_of, next_amount, reached
from models.state.spend.cohort import Cohort
from models.state.units.unit import NO_TRIP, Counter, Grant, Unit, UnitKind, grant_key
from schemas.duration import format_duration
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import Action, Limit, RuleSettings, Steps, Thresholds, Usd

Most = Annotated[int, Field(ge=0, le=10**12)]
UNIT_WORDS: dict[UnitKind, str] = {"run": "run", "session": "session", "run_tree": "run tree"}
COUNTER_WORDS: dict[Counter, str] = {
    "calls": "model calls", "tool_calls": "tool calls", "retries": "retries", "premium_calls": "premium calls",
}  # fmt: skip
COUNTER_UNITS: dict[Counter, str] = {"cost_nanousd": "nanousd", "duration_ms": "ms"}


class CapSettings(RuleSettings):
    """Limits on every single run, session or run tree. At least one `limit_usd` or `max_…` must be set."""

    steps: ClassVar[Steps] = dict.fromkeys(
        ("limit_usd", "max_calls", "max_tool_calls", "max_retries", "max_duration_s"), (0.5, 0.75, 1.5, 2)
    )
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


class Allowance(NamedTuple):
    """What a unit may use up before a rule acts, after accepted outputs and an operator's resume."""

    counter: Counter
    limit: int
    """In units of the counter, from the last accepted output on."""
    grant: Grant | None


class LimitRule(UnitDetector[RuleSettings]):
    """Finds which share of each limit of a unit is reached. What the limits are is the subclass's to say."""

    thresholds: tuple[float, ...]
    follows_limits = True

    def limits(self, unit: Unit) -> Mapping[Counter, int]:
        """Counter -> limit for this unit."""
        raise NotImplementedError

    def trips(self, unit: Unit, cohort: Cohort | None) -> Mapping[Counter, int]:
        del cohort
        trips: dict[Counter, int] = {}
        for counter, limit in self.limits(unit).items():
            allowance = self._allowance(unit, counter, limit)
            amount = next_amount(self._levels(allowance), unit.used(allowance.counter))
            if amount is not None:
                trips[allowance.counter] = min(amount, trips.get(allowance.counter, amount))
            if allowance.grant is not None and allowance.grant.until_ms > unit.now_ms:
                unit_age_ms = allowance.grant.until_ms - unit.started_ms - unit.before("duration_ms")
                trips["duration_ms"] = min(unit_age_ms, trips.get("duration_ms", unit_age_ms))
        return trips

    def judge(self, unit: Unit, cohort: Cohort | None) -> Iterable[Finding]:
        del cohort
        for counter, limit in self.limits(unit).items():
            yield self._finding(unit, counter, limit, self._allowance(unit, counter, limit))

    def standing(self, unit: Unit, now_ms: int) -> list[tuple[Counter, int, int]]:
        found: list[tuple[Counter, int, int]] = []
        for own_counter, own_limit in self.limits(unit).items():
            counter, limit = own_counter, own_limit
            if unit.grants is not None:
                counter, limit, _ = self._allowance(unit, own_counter, own_limit)
            used = unit.total(counter, now_ms)
            found.append((counter, used if unit.renewed is None else max(0, used - unit.before(counter)), limit))
        return found

    def _allowance(self, unit: Unit, counter: Counter, limit: int) -> Allowance:
        grant = None if unit.grants is None else unit.grant(grant_key(self.rule, counter))
        if grant is None or 0 < grant.until_ms <= unit.now_ms:
            return Allowance(counter, limit, grant)
        allowed = grant.up_to - unit.before(grant.counter) if grant.up_to < NO_TRIP else NO_TRIP
        return Allowance(grant.counter, max(allowed, limit if grant.counter == counter else 0), grant)

    def _levels(self, allowance: Allowance) -> tuple[Level, ...]:
        if allowance.counter in COUNTER_WORDS:
            return counts_of(allowance.limit, self.thresholds)
        return levels_of(allowance.limit, self.thresholds)

    def _finding(self, unit: Unit, counter: Counter, own_limit: int, allowance: Allowance) -> Finding:
        limit, grant = allowance.limit, allowance.grant
        value = unit.used(allowance.counter)
        level = reached(self._levels(allowance), value)
        if not level:
            return Finding(0, "info", value, "", "", "", aspect=counter)
        over, what = level >= 1, UNIT_WORDS[unit.unit_kind]
        evidence: dict[str, Any] = {"counter": counter, "cost_nanousd": unit.cost_nanousd, "calls": unit.calls}
        if unit.renewed is not None:
            evidence |= {"accepted_ms": unit.renewed.at_ms, "accepted_nanousd": unit.renewed.cost_nanousd}
        if grant is not None:
            evidence |= {"resumed_by": grant.who, "rule_limit": own_limit}
            if grant.until_ms:
                evidence["allowed_until_ms"] = grant.until_ms
            if grant.up_to < NO_TRIP and grant.counter == "cost_nanousd":
                evidence["allowed_up_to_nanousd"] = grant.up_to
        return Finding(
            level=level,
            severity="warning" if level == FULL else self.severity_at(level),
            value=value,
            limit=limit,
            ratio=round(value / limit, 4) if limit else None,
            unit=COUNTER_UNITS.get(allowance.counter, "count"),
            action=self.limit_action if over else None,
            aspect=counter,
            evidence=evidence,
            summary=f"The {what} {self.reached_words(unit, allowance, value)}{_terms(unit, grant)}",
            next_action=self.next_action(what, stopped=over and self.stops),
        )

    def reached_words(self, unit: Unit, allowance: Allowance, value: int) -> str:
        """How much of what it may use up a unit has used, as the end of a sentence about it."""
        return _reached(allowance.counter, value, allowance.limit, since_accepted=unit.renewed is not None)

    @property
    def stops(self) -> bool:
        """Whether what reaches the limit is stopped, and not told of alone or sent to a cheaper model."""
        return self.settings.mode == "enforce" and self.limit_action in ("kill", "pause")

    def next_action(self, what: str, *, stopped: bool) -> str:
        """What to do about a run, session or tree that has reached a level, and was `stopped` or goes on."""
        if stopped:
            return f"Look at the last calls of the {what} before it is started again."
        return f"Look at what the {what} is doing; stop it if it no longer looks useful."


@register
class Cap(LimitRule):
    """Fires when a run, session or run tree reaches a share of its cost or duration, or exceeds its calls, tool calls,
    retries or premium calls.
    """

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


def _terms(unit: Unit, grant: Grant | None) -> str:
    """Whose permission it had, as the end of a sentence."""
    if grant is None:
        return ""
    has_ended = 0 < grant.until_ms <= unit.now_ms
    return f", and what {grant.who} allowed has ended" if has_ended else f", as {grant.who} allowed"


def _reached(counter: Counter, value: int, limit: int, *, since_accepted: bool) -> str:
    since = " since its last accepted output" if since_accepted else ""
    match counter:
        case "cost_nanousd":
            return f"has cost {format_usd(value)} of its {format_usd(limit)} cap{since}"
        case "duration_ms":
            return f"has taken {format_duration(value)} of the {format_duration(limit)} it may take{since}"
        case _:
            return f"has made {value:,} of the {limit:,} {COUNTER_WORDS[counter]} it may make{since}"
