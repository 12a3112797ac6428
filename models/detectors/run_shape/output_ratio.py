"""`output_ratio`: how much a run gets for what it sends, against the workflow's runs with the same model."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Final

from pydantic import Field

from models.detectors.base import UnitDetector, commanded, register
from models.detectors.run_shape.resent import thousands
from models.rules.finding import Finding
from models.state.spend.cohort import Cohort
from models.state.spend.model_cohort import ANSWERS, ModelCohort
from models.state.units.context import Context
from models.state.units.unit import Counter, Unit
from schemas.money import usd_to_nanousd
from schemas.policy import Action, Limit, RuleSettings, Severity, Steps, Usd

FEWEST_CALLS: Final = 16
"""Model calls of a run that are enough to say something of it."""
COUNTED_ANSWER: Final = 8
"""Tokens. Where a call gets fewer on average, its source does not count what it gets."""

Tokens = Annotated[int, Field(ge=0, le=10**12)]


class OutputRatioSettings(RuleSettings):
    """Of the context that most of a run's cost went to, in both directions."""

    steps: ClassVar[Steps] = {"multiplier": (0.6, 1.5, 2), "min_usd": (0.5, 2, 5)}
    multiplier: Annotated[float, Field(gt=1, le=1000)] = 5.0
    """Times the usual ratio, or that part of it; more where healthy runs differ more. A run three times as long as
    usual gets a third of the output for its input by its length alone."""
    min_output_tokens: Tokens = 20_000
    """Of a run that writes too much."""
    min_input_tokens: Tokens = 500_000
    """Of a run that gets hardly anything."""
    min_usd: Usd = Decimal(1)
    min_runs: Annotated[int, Field(ge=5, le=64)] = 20
    severity: Severity = "warning"
    at_limit: Limit = "alert"


@register
class OutputRatio(UnitDetector[OutputRatioSettings]):
    """Fires when a run writes 5 x as much for what it sends as is usual of the workflow's runs with that model
    (`verbose`), or gets a fifth of it (`bloat`), or further off where they differ more. Judged at `min_usd` (1) and
    at each doubling of what it has cost, from 16 model calls on. A run's model is the one that most of its cost went
    to.
    """

    name = "output_ratio"
    settings_class = OutputRatioSettings
    defaults = ({"name": "output-ratio"},)

    def __init__(self, settings: OutputRatioSettings) -> None:
        super().__init__(settings)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def trips(self, unit: Unit, cohort: Cohort | None) -> Mapping[Counter, int]:
        del cohort
        return {"cost_nanousd": max(1, self.floor_nanousd, 2 * unit.used("cost_nanousd"))}

    def judge(self, unit: Unit, cohort: Cohort | None) -> Iterable[Finding]:
        settings, model = self.settings, unit.main_model()
        past = None if cohort is None or model is None else cohort.models.get(model)
        if past is None or model is None or len(past.contexts) < settings.min_runs:
            return
        context = unit.dearest_contexts()[model]
        if context.calls < FEWEST_CALLS or unit.cost_nanousd < self.floor_nanousd:
            return
        ratio, usual = context.answers(), past.contexts.median(ANSWERS)
        multiple = past.contexts.multiple(ANSWERS, settings.multiplier)
        if ratio > multiple * usual and context.output_tokens >= settings.min_output_tokens:
            yield self._finding(context, past, "verbose", multiple)
        counts = context.output_tokens >= COUNTED_ANSWER * context.calls
        if ratio * multiple < usual and context.input_tokens >= settings.min_input_tokens and counts:
            yield self._finding(context, past, "bloat", multiple)

    def _finding(self, context: Context, past: ModelCohort, aspect: str, multiple: float) -> Finding:
        ratio, usual = context.answers(), past.contexts.median(ANSWERS)
        sent, got = thousands(context.input_tokens), thousands(context.output_tokens)
        if aspect == "verbose":
            limit: int | None = round(usual * multiple)
            off = f"{ratio / usual:,.3g} times as much as usual" if usual else "where others write nothing"
            summary = f"The run writes much: {got} tokens for {sent} sent, {off}"
            advice = "Look at what it writes; limit its output tokens or its reasoning."
        else:
            limit, off = None, f"{usual / max(1, ratio):,.3g} times less than usual"
            summary = f"The run sends much and gets hardly anything: {got} tokens for {sent} sent, {off}"
            advice = "Look at what fills its context; cut it, compact it, or stop the run if it is stuck."
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=ratio,
            limit=limit,
            baseline=usual,
            ratio=round(ratio / usual, 4) if usual else None,
            unit="tokens per million sent",
            action=self.limit_action,
            aspect=aspect,
            evidence={
                "model": past.model,
                "calls": context.calls,
                "finished_contexts": len(past.contexts),
                "multiple": multiple,
            },
            summary=summary,
            next_action=advice,
        )
