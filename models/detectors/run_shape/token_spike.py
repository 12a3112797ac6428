"""`token_spike`: a single call that sends or gets far more than the workflow's calls of that model do."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from pydantic import Field

from models.detectors.base import NEVER, ContextDetector, Look, commanded, register
from models.detectors.run_shape.resent import thousands
from models.rules.finding import Finding
from models.state.spend.model_cohort import INPUT, LARGEST, OUTPUT
from schemas.money import format_usd
from schemas.policy import Action, Limit, RuleSettings, Severity, Steps

BEYOND_LARGEST: Final = 2
"""Times the input of a run's usual largest call: where calls differ by nature, a large one is no news."""

Tokens = Annotated[int, Field(ge=1, le=10**9)]


class TokenSpikeSettings(RuleSettings):
    """Of one call, against the usual one: the median of what finished runs' calls came to on average."""

    steps: ClassVar[Steps] = {"multiplier": (0.5, 1.5, 2)}
    multiplier: Annotated[float, Field(gt=1, le=1000)] = 10.0
    min_input_tokens: Tokens = 100_000
    min_output_tokens: Tokens = 16_000
    min_runs: Annotated[int, Field(ge=5, le=64)] = 20
    severity: Severity = "warning"
    at_limit: Limit = "alert"


@register
class TokenSpike(ContextDetector[TokenSpikeSettings]):
    """Fires when one model call sends or gets more than 10 x the tokens that are usual of the workflow's calls of that
    model. Input has to be twice that of a run's usual largest call as well, and twice that of the call before: what
    grows is for `context_growth`.
    """

    name = "token_spike"
    settings_class = TokenSpikeSettings
    defaults = ({"name": "token-spike"},)

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    @property
    def floors(self) -> tuple[int, int]:
        return self.settings.min_input_tokens, self.settings.min_output_tokens

    def trips(self, look: Look) -> tuple[int, int]:
        sends, gets = self._limit(look, INPUT), self._limit(look, OUTPUT)
        return NEVER if sends is None else max(sends, 2 * look.call.input_tokens), NEVER if gets is None else gets

    def judge(self, look: Look) -> Iterable[Finding]:
        call = look.call
        sends, gets = self._limit(look, INPUT), self._limit(look, OUTPUT)
        if sends is not None and call.input_tokens >= max(sends, 2 * look.context.tokens_before):
            yield self._finding(look, "sent", call.input_tokens, sends, INPUT)
        if gets is not None and call.output_tokens >= gets:
            yield self._finding(look, "wrote", call.output_tokens, gets, OUTPUT)

    def _limit(self, look: Look, place: int) -> int | None:
        """The smallest size of a call that stands out, None while too few runs have finished."""
        if look.past is None or len(look.past.contexts) < self.settings.min_runs:
            return None
        known = look.past.contexts
        usual = round(self.settings.multiplier * 10_000) * known.median(place) // 10_000
        if place == OUTPUT:
            return max(self.settings.min_output_tokens, usual + 1)
        return max(self.settings.min_input_tokens, usual + 1, BEYOND_LARGEST * known.median(LARGEST) + 1)

    def _finding(self, look: Look, what: str, tokens: int, limit: int, place: int) -> Finding:
        known = look.past.contexts if look.past else None
        usual = known.median(place) if known else 0
        ratio = round(tokens / usual, 2) if usual else None
        times = f", {ratio:,.3g} times the usual {thousands(usual)}" if ratio else ""
        advice = {
            "sent": "Look at what was put into the prompt, a whole file perhaps; cut it, or cap the run.",
            "wrote": "Look at what it wrote, and give the call a limit of output tokens.",
        }
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=tokens,
            limit=limit,
            baseline=usual,
            ratio=ratio,
            unit="tokens",
            action=self.limit_action,
            aspect=what,
            evidence={
                "model": look.call.model,
                "agent": look.context.agent,
                "call_nanousd": look.cost_nanousd,
                "finished_contexts": len(known) if known else 0,
            },
            summary=f"One call {what} {thousands(tokens)} tokens{times}, and cost {format_usd(look.cost_nanousd)}",
            next_action=advice[what],
        )
