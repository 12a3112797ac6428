"""`no_accepted_output`: most of what a run, session or run tree may cost is gone, and nothing of it was accepted."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, ClassVar

from pydantic import Field

from models.detectors.base import commanded, register
from models.detectors.limits.cap import Allowance, LimitRule
from models.rules.finding import Finding
from models.state.units.unit import Counter, Unit, UnitKind
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import Action, Limit, RuleSettings, Severity, Steps, Usd


class NoAcceptedOutputSettings(RuleSettings):
    """Acts before the cap does, and only on what has brought nothing."""

    steps: ClassVar[Steps] = {"limit_usd": (0.5, 0.75, 1.5, 2)}
    per: UnitKind = "run"
    limit_usd: Usd
    """What a run, session or run tree may cost: the amount of its `[[cap]]`, as a rule."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Acts at so much of it, counted since the last output that was accepted or edited."""
    at_limit: Limit = "alert"
    severity: Severity = "warning"


@register
class NoAcceptedOutput(LimitRule):
    """Fires when a run, session or run tree has used 80 % of what it may cost without an output that was accepted or
    edited: such a one lets it begin anew.
    """

    name = "no_accepted_output"
    settings_class = NoAcceptedOutputSettings
    settings: NoAcceptedOutputSettings

    def __init__(self, settings: NoAcceptedOutputSettings) -> None:
        super().__init__(settings)
        self.per = settings.per
        self.thresholds = (1.0,)
        self._limits = {"cost_nanousd": share_of(settings.limit_usd, settings.share)}

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def limits(self, unit: Unit) -> Mapping[Counter, int]:
        return self._limits  # type: ignore[return-value]  # a dict literal's key is a plain str

    def reached_words(self, unit: Unit, allowance: Allowance, value: int) -> str:
        limit = format_usd(allowance.limit if allowance.grant else usd_to_nanousd(self.settings.limit_usd))
        nothing = (
            "nothing it made was accepted" if unit.renewed is None else "nothing since its last accepted output was"
        )
        return f"has spent {format_usd(value)} of the {limit} it may, and {nothing}"

    def _finding(self, unit: Unit, counter: Counter, own_limit: int, allowance: Allowance) -> Finding:
        found = super()._finding(unit, counter, own_limit, allowance)
        if not found.level or allowance.grant:
            return found
        limit = usd_to_nanousd(self.settings.limit_usd)  # people compare with the cap, not with a share of it
        return replace(found, limit=limit, ratio=round(found.value / limit, 4) if limit else None)

    def next_action(self, what: str, *, stopped: bool) -> str:
        return f"Look at what the {what} has brought; stop it, or accept what is good, which gives it a new allowance."


def share_of(limit_usd: Usd, share: float) -> int:
    """So much of an amount, in nano-dollars, rounded up and at least 1."""
    amount = usd_to_nanousd(limit_usd) * Fraction(str(share))
    return max(1, -(-amount.numerator // amount.denominator))
