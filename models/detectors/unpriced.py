"""`unpriced`: calls that nobody can put a price on, so that no limit on money sees them."""

from typing import Annotated

from pydantic import Field

from models.detectors.base import UnpricedDetector, register
from models.rules.finding import Finding
from schemas.policy import RuleSettings, Severity


class UnpricedSettings(RuleSettings):
    """Both floors are per tenant, model and day (UTC)."""

    severity: Severity = "warning"
    min_calls: Annotated[int, Field(ge=1)] = 10
    min_tokens: Annotated[int, Field(ge=1)] = 100_000


@register
class Unpriced(UnpricedDetector[UnpricedSettings]):
    """Fires when a tenant's calls to a model without a price add up to 10 calls or 100,000 tokens in a day."""

    name = "unpriced"
    settings_class = UnpricedSettings
    defaults = ({"name": "unpriced"},)
    always_on = True

    def counted(self, model: str, calls: int, tokens: int) -> Finding | None:
        if calls < self.settings.min_calls and tokens < self.settings.min_tokens:
            return None
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=tokens,
            unit="tokens",
            evidence={"model": model, "calls": calls, "tokens": tokens},
            summary=f"{calls} calls to {model} today came without a price ({tokens:,} tokens): no budget sees them",
            next_action=(
                "Have the producer send cost_nanousd, correct the model's name, or set "
                "unpriced_usd_per_million_tokens in the policy."
            ),
        )
