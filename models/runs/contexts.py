"""What runs send again and again: judged by the rules where a call stands out."""

from typing import Any

from models.detectors.base import NEVER, ContextDetector, Look
from models.prices.book import PriceBook
from models.rules.finding import Finding
from models.state.units.route import Route
from models.state.units.runs import Run
from schemas.policy import PolicyHeader
from schemas.usage import LlmCall


class Contexts:
    """The contexts of a partition's runs."""

    def __init__(self, header: PolicyHeader) -> None:
        self.prices = PriceBook(header)

    def look(
        self, run: Run, route: Route, call: LlmCall, cost_nanousd: int
    ) -> list[tuple[ContextDetector[Any], Finding]]:
        """Ask the rules about a call that stands out in its context, the run's latest."""
        context = run.context
        if context is None:
            return []
        run.settle()
        past = route.cohort.models.get(call.model)
        look = Look(context, call, cost_nanousd, past, self.prices)
        found = []
        if run.state == "live":
            found = [(rule, finding) for rule in route.context_rules for finding in rule.judge(look)]
        trips = [rule.trips(look) for rule in route.context_rules]
        context.set_trips(
            min([tokens for tokens, _ in trips], default=NEVER), min([tokens for _, tokens in trips], default=NEVER)
        )
        return found
