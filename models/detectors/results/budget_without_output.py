"""`budget_without_output`: most of a budget is gone, and nothing that was made with it was accepted."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from models.detectors.base import NEVER, ScopeDetector, commanded, register
from models.detectors.limits.budget import PERIOD_WORDS
from models.detectors.results.no_accepted_output import share_of
from models.rules.finding import Finding
from models.state.spend.scopes import Scope
from schemas.money import format_usd
from schemas.policy import Action, GroupBy, Limit, Period, RuleSettings, Severity, Steps, Usd


class BudgetWithoutOutputSettings(RuleSettings):
    """Acts before the budget does, and only where the money has brought nothing."""

    steps: ClassVar[Steps] = {"limit_usd": (0.5, 0.75, 1.5, 2)}
    group_by: GroupBy = ["tenant_id", "workflow"]
    period: Period
    limit_usd: Usd
    """What may be spent in the period: the amount of its `[[budget]]`, as a rule."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Acts at so much of it, counted since an output was accepted or edited, or since the period began."""
    at_limit: Limit = "alert"
    overrides: dict[str, Usd] = {}
    """Scope (its values joined by `/`) -> limit."""
    severity: Severity = "warning"


@register
class BudgetWithoutOutput(ScopeDetector[BudgetWithoutOutputSettings]):
    """Fires when a workflow, or another scope, has spent 80 % of its budget and no output of its runs was accepted
    meanwhile.
    """

    name = "budget_without_output"
    settings_class = BudgetWithoutOutputSettings
    follows_limits = True
    splits_owners = True
    renews = True

    def __init__(self, settings: BudgetWithoutOutputSettings) -> None:
        super().__init__(settings)
        self.group_by = tuple(settings.group_by)
        self.periods = (settings.period,)
        self._stops = settings.mode == "enforce" and self.limit_action is not None

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def period(self) -> Period:
        return self.settings.period

    def next_trip(self, scope: Scope) -> int:
        acts_at = self._base_nanousd(scope) + self._limit_nanousd(scope)
        if scope.total_nanousd < acts_at:
            return acts_at
        return 0 if self._stops else NEVER

    def is_exhausted(self, scope: Scope) -> bool:
        return self._stops and self._spent_nanousd(scope) >= self._limit_nanousd(scope)

    def judge(self, scope: Scope) -> Iterable[Finding]:
        window, spent, limit = (
            scope.window(self.settings.period),
            self._spent_nanousd(scope),
            self._limit_nanousd(scope),
        )
        if spent < limit:
            yield Finding(0, "info", spent, "", "", "", window=window)
            return
        budget, words = share_of(self._budget_usd(scope), 1), PERIOD_WORDS[self.settings.period]
        yield Finding(
            level=1.0,
            severity=self.settings.severity,
            value=spent,
            limit=budget,
            ratio=round(spent / budget, 4) if budget else None,
            unit="nanousd",
            action=self.limit_action,
            window=window,
            evidence={"period": self.settings.period, "at_limit": self.settings.at_limit},
            summary=(
                f"{' / '.join(scope.values)} has spent {format_usd(spent)} of its {format_usd(budget)} {words}"
                f"{self._for_nothing(scope)}"
            ),
            next_action="See what these runs bring, and whether outcomes are reported; an accepted one begins anew.",
        )

    def _base_nanousd(self, scope: Scope) -> int:
        """The scope's total when the period began or an output was accepted, whichever was later."""
        return max(scope.base(self.settings.period), scope.accepted_nanousd)

    def _spent_nanousd(self, scope: Scope) -> int:
        return scope.total_nanousd - self._base_nanousd(scope)

    def _for_nothing(self, scope: Scope) -> str:
        has_begun_anew = scope.accepted_nanousd > scope.base(self.settings.period)
        return " since its last accepted output" if has_begun_anew else ", and nothing was accepted for it"

    def _budget_usd(self, scope: Scope) -> Usd:
        return self.settings.overrides.get(scope.override_key, self.settings.limit_usd)

    def _limit_nanousd(self, scope: Scope) -> int:
        """What may be spent without an accepted output; more where an operator has allowed it."""
        raised = scope.raised.get(self.rule)
        if raised and scope.at_ms < raised[1]:
            return raised[0]
        return share_of(self._budget_usd(scope), self.settings.share)
