"""`context_growth`: what a run pays for sending its context again and again."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import Field

from models.detectors.base import NEVER, ContextDetector, Look, commanded, register
from models.detectors.run_shape.resent import Resent, resent_by, thousands
from models.rules.finding import Finding
from models.state.spend.model_cohort import ANSWERS, GROWTH, LARGEST, REBUILDS, STILL
from models.state.units.context import LARGE, Rebuilds
from schemas.money import usd_to_nanousd
from schemas.policy import Action, Limit, RuleSettings, Severity, Steps, Usd

ONE_IN_TWENTY = 1.64
"""Standard deviations of the logarithm of growth. It has to be large and dear as well, so that it need not be rare."""
UNPRICED_TOKENS = 1_000_000
"""Tokens sent again that are worth a word where nobody knows what they cost."""
REFILLED = "Stop it or cap it: what it loads after each compaction fills its context again. Have it load less."


class ContextGrowthSettings(RuleSettings):
    """Of a run's context with one model; below `min_tokens` and `min_usd` nobody is told."""

    steps: ClassVar[Steps] = {"multiplier": (0.67, 1.5, 2), "min_usd": (0.5, 2, 5)}
    multiplier: Annotated[float, Field(gt=1, le=1000)] = 3.0
    """Times the context's own start."""
    growth_multiplier: Annotated[float, Field(gt=1, le=1000)] = 2.0
    """Times the growth that is usual of the workflow's runs with the model; more where that spreads."""
    size_multiplier: Annotated[float, Field(gt=1, le=1000)] = 1.5
    """Times the size that their contexts usually reach."""
    min_tokens: Annotated[int, Field(ge=LARGE, le=10**9)] = 50_000
    min_usd: Usd = Decimal(3)
    """Of what sending it again has cost."""
    min_runs: Annotated[int, Field(ge=5, le=64)] = 20
    rebuilds_at: Annotated[int, Field(ge=2, le=1000)] = 4
    """Compactions and reloads in a row, each within 20 calls of the one before; and `usual_times` as many as is usual
    of the workflow's runs with the model."""
    still_at: Annotated[int, Field(ge=2, le=1000)] = 10
    """Calls in a row with which a context does not grow, most of it at full price; looked at each fifth time. And
    `usual_times` as many as is usual."""
    usual_times: Annotated[float, Field(ge=1, le=1000)] = 3.0
    severity: Severity = "warning"
    at_limit: Limit = "alert"


@register
class ContextGrowth(ContextDetector[ContextGrowthSettings]):
    """Fires when a run's context has grown to 3 x its own start and beyond what the workflow's runs with that model
    reach, or is compacted and soon full again 4 times in a row, or is sent again 10 times without growing: says what
    sending it again has cost. A context belongs to one agent (`agent`) of the run and one model. Growth is judged once
    20 runs with the model have finished; what is sent again and again needs no past.
    """

    name = "context_growth"
    settings_class = ContextGrowthSettings
    defaults = ({"name": "context-growth"},)

    def __init__(self, settings: ContextGrowthSettings) -> None:
        super().__init__(settings)
        self.floor_nanousd = usd_to_nanousd(settings.min_usd)

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    @property
    def floors(self) -> tuple[int, int]:
        return self.settings.min_tokens, NEVER

    def trips(self, look: Look) -> tuple[int, int]:
        tokens = look.call.input_tokens
        limit = self._limit(look)
        if limit is None:
            # Not known yet: look again at the floor, then at each doubling.
            return max(self.settings.min_tokens, 2 * tokens), NEVER
        return limit if tokens < limit else tokens + max(1, tokens // 8), NEVER

    def judge(self, look: Look) -> Iterable[Finding]:
        tokens = look.call.input_tokens
        if tokens < self.settings.min_tokens:
            return
        limit, rebuilds = self._limit(look), look.context.rebuilds
        has_grown = limit is not None and tokens >= limit and self._answers_little(look)
        again = None if rebuilds is None else self._again(look, rebuilds)
        if not has_grown and again is None:
            return
        resent = resent_by(look)
        if not self._costs_enough(resent):
            return
        if has_grown:
            yield self._growth(look, resent, limit)
        if again is not None:
            what, advice = again
            yield self._finding(look, resent, "again", what, advice or resent.advice(), None)

    def _limit(self, look: Look) -> int | None:
        """The smallest input that stands out, None while too little is known of such runs."""
        settings, past = self.settings, look.past
        if past is None or len(past.contexts) < settings.min_runs:
            return None
        known = past.contexts
        growth = known.multiple(GROWTH, settings.growth_multiplier, ONE_IN_TWENTY) * known.median(GROWTH) / 100
        of_its_own = round(max(settings.multiplier, growth) * 10_000) * look.context.first // 10_000
        of_others = round(settings.size_multiplier * 10_000) * known.median(LARGEST) // 10_000
        return max(settings.min_tokens, of_its_own, of_others) + 1

    def _answers_little(self, look: Look) -> bool:
        """Whether it gets no more for what it sends than others do: a run that writes much is for `output_ratio`."""
        return look.past is not None and look.context.answers() <= look.past.contexts.median(ANSWERS)

    def _costs_enough(self, resent: Resent) -> bool:
        if resent.nanousd is None:
            return resent.tokens >= UNPRICED_TOKENS
        return resent.nanousd >= self.floor_nanousd

    def _again(self, look: Look, rebuilds: Rebuilds) -> tuple[str, str] | None:
        """What goes on again and again, as the beginning of a sentence, and what to do if that is something special;
        None if nothing does.
        """
        tokens = thousands(look.call.input_tokens)
        rebuilds_at, still_at = self._at(look, REBUILDS), self._at(look, STILL)
        if rebuilds.in_a_row >= rebuilds_at:
            if not rebuilds.compactions:
                return (
                    f"A context of {tokens} tokens was sent again without a cache {rebuilds.in_a_row} times in a row",
                    "",
                )
            what = "compacted or reloaded" if rebuilds.reloads else "compacted"
            times = f"{rebuilds.in_a_row} times in a row"
            return f"The context was {what} {times}, and soon full again ({tokens} tokens)", REFILLED
        if rebuilds.still >= still_at:
            tools = f"{rebuilds.tools_between:,} tool calls" if rebuilds.tools_between else "no tool call"
            times = f"{rebuilds.still:,} times without growing"
            return f"A context of {tokens} tokens was sent again {times}, with {tools} in between", ""
        return None

    def _at(self, look: Look, place: int) -> float:
        """From how many on it is told, of rebuilds or of calls without growth."""
        least = self.settings.rebuilds_at if place == REBUILDS else self.settings.still_at
        if look.past is None or len(look.past.contexts) < self.settings.min_runs:
            return least
        return max(least, self.settings.usual_times * look.past.contexts.median(place))

    def _growth(self, look: Look, resent: Resent, limit: int | None) -> Finding:
        summary = (
            f"The context has grown from {thousands(look.context.first)} to {thousands(look.call.input_tokens)} tokens "
            f"in {look.context.calls:,} calls"
        )
        return self._finding(look, resent, "", summary, resent.advice(), limit)

    def _finding(self, look: Look, resent: Resent, aspect: str, what: str, advice: str, limit: int | None) -> Finding:
        tokens, known = look.call.input_tokens, look.past.contexts if look.past and limit is not None else None
        usual = None if known is None else known.median(LARGEST)
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=tokens,
            limit=limit,
            baseline=usual,
            ratio=round(tokens / usual, 2) if usual else None,
            unit="tokens",
            action=self.limit_action,
            aspect=aspect,
            evidence={**_evidence(look, resent), **({"finished_contexts": len(known)} if known else {})},
            summary=f"{what}; {resent.in_words(look.context.cost_nanousd)}",
            next_action=advice,
        )


def _evidence(look: Look, resent: Resent) -> dict[str, Any]:
    rebuilds = look.context.rebuilds or Rebuilds()
    return {
        "model": look.call.model,
        "agent": look.context.agent,
        "first_tokens": look.context.first,
        "compactions": rebuilds.compactions,
        "context_reloads": rebuilds.reloads or None,
        "calls": look.context.calls,
        "most_tokens": look.context.most_tokens(),
        "resent_tokens": resent.tokens,
        "resent_nanousd": resent.nanousd,
        "full_price_percent": round(100 * resent.full_price_share),
    }
