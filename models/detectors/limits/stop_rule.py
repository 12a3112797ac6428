"""`stop_rule`: the limits a run declared for itself when it started."""

from collections.abc import Mapping

from models.detectors.base import commanded, register
from models.detectors.limits.cap import LimitRule
from models.state.units.runs import Run
from models.state.units.unit import Counter, Unit
from schemas.policy import Action, Limit, Mode, RuleSettings, Thresholds


class StopRuleSettings(RuleSettings):
    """How the stop rules of runs are kept. A run that declares one asks to be stopped, so `enforce` is the default."""

    mode: Mode = "enforce"
    thresholds: Thresholds = [0.8, 1.0]
    at_limit: Limit = "kill"


@register
class StopRuleLimit(LimitRule):
    """Fires when a run reaches a share of the cap, retries, tool calls or duration it declared for itself."""

    name = "stop_rule"
    settings_class = StopRuleSettings
    settings: StopRuleSettings
    defaults = ({"name": "stop-rule"},)
    always_on = True

    def __init__(self, settings: StopRuleSettings) -> None:
        super().__init__(settings)
        self.thresholds = tuple(settings.thresholds)

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def limits(self, unit: Unit) -> Mapping[Counter, int]:
        if isinstance(unit, Run) and unit.stop_rule is not None:
            return unit.stop_rule.limits()
        return {}
