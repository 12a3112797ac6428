"""`unpriced`: calls that nobody can put a price on, so that no limit on money sees them."""

from typing import Annotated

from pydantic import Field

from models.detectors.base import DataQualityDetector, register
from models.detectors.service.data_quality import counted, evidence_of, level_of
from models.rules.finding import Finding
from models.state.data_quality import Kind, Tally
from schemas.money import format_usd
from schemas.policy import RuleSettings, Severity


class UnpricedSettings(RuleSettings):
    """Both floors are per tenant and day (UTC)."""

    severity: Severity = "warning"
    """At least `error` while an enforced limit in money cannot bite because of these calls."""
    min_calls: Annotated[int, Field(ge=1)] = 10
    min_tokens: Annotated[int, Field(ge=1)] = 100_000


@register
class Unpriced(DataQualityDetector[UnpricedSettings]):
    """Fires when a tenant's calls without a price add up to 10 calls or 100,000 tokens in a day, as an error where an
    enforced limit in money cannot bite because of them.
    """

    name = "unpriced"
    settings_class = UnpricedSettings
    defaults = ({"name": "unpriced"},)
    always_on = True
    kinds = ("unpriced",)

    def judge(self, kind: Kind, tally: Tally, *, out_of_reach: bool) -> Finding | None:
        if tally.records < self.settings.min_calls and tally.tokens < self.settings.min_tokens:
            return None
        severity = self.settings.severity
        if tally.cost_nanousd:
            so = f"they are charged at the policy's pessimistic price, {format_usd(tally.cost_nanousd)}"
        elif out_of_reach:
            so = "no limit in money can stop them"
            severity = "critical" if severity == "critical" else "error"
        else:
            so = "no budget sees it" if tally.records == 1 else "no budget sees them"
        models = ", ".join(tally.models)
        return Finding(
            level=level_of(severity),
            severity=severity,
            value=tally.tokens,
            unit="tokens",
            evidence={"calls": tally.records, **evidence_of(tally)},
            summary=(
                f"{counted(tally.records, 'call')} to {models} today came without a price "
                f"({counted(tally.tokens, 'token')}): {so}"
            ),
            next_action=(
                "Add [[price]] for them to the policy, correct the model's name, have the producer send cost_nanousd, "
                "or set unpriced_usd_per_million_tokens."
            ),
        )
