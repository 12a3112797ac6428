"""`expected_outcome`: runs that end without what they announced, or that cost far more than it usually does."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import Field

from models.calendar import Window
from models.detectors.base import ResultDetector, register
from models.rules.finding import Finding
from models.state.spend.results import OUTCOMES, UNKNOWN, ResultBook, Results, total
from schemas.duration import DAY_MS, HOUR_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RuleSettings, Severity, Steps, Usd

GOOD = ("accepted", "edited")
"""Outcomes that are as good as whatever was announced."""
WORSE_BY = 1.5
"""A share of misses is told if it is so many times that of before as well: a task that is hard is no news."""


class ExpectedOutcomeSettings(RuleSettings):
    """What the runs of one day that announced one outcome have come to, once a day and workflow."""

    steps: ClassVar[Steps] = {"missed_share": (0.5, 1.4, 1.8), "multiplier": (0.5, 1.5, 2)}
    missed_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """So many of the day's runs have to end without it."""
    min_runs: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Nothing is said of a day with fewer; twice as many have to be known for a comparison with the days before."""
    multiplier: Annotated[float, Field(gt=1, le=1000)] = 10.0
    """A run is dear at so many times what a run costs that gets there."""
    min_usd: Usd = Decimal(1)
    """Of what was missed, or of a dear run; less is not told."""
    grace_hours: Annotated[int, Field(ge=1, le=7 * 24)] = 24
    """How long after a run's end its outcome is waited for."""
    severity: Severity = "warning"


@register
class ExpectedOutcome(ResultDetector[ExpectedOutcomeSettings]):
    """Fires once a day for a workflow when half of the day's runs end without the outcome they announced, and clearly
    more than before, or when some cost more than 10 x what a run costs that gets there.
    """

    name = "expected_outcome"
    settings_class = ExpectedOutcomeSettings
    defaults = ({"name": "expected-outcome"},)
    per = "expected_outcome"

    def __init__(self, settings: ExpectedOutcomeSettings) -> None:
        super().__init__(settings)
        self.grace_ms = settings.grace_hours * HOUR_MS
        self._floor_nanousd = usd_to_nanousd(settings.min_usd)

    def usual_nanousd(self, book: ResultBook, now_ms: int) -> int:
        met = _met(book.value)
        known = total(list(book.closed(now_ms, self.grace_ms).values()))
        return known.cost_nanousd(*met) // known.runs(*met) if known.runs(*met) >= 2 * self.settings.min_runs else 0

    def is_dear(self, usual_nanousd: int, cost_nanousd: int) -> bool:
        return 0 < usual_nanousd * self.settings.multiplier < cost_nanousd and cost_nanousd >= self._floor_nanousd

    def judge(self, book: ResultBook, now_ms: int) -> Iterable[Finding]:
        closed = book.closed(now_ms, self.grace_ms)
        for day_ms in book.recent_days():
            past = total([results for before_ms, results in closed.items() if before_ms < day_ms])
            yield from self._missed(book, day_ms, closed.get(day_ms, Results()), past)
            yield from self._dear(book, day_ms)

    def _missed(self, book: ResultBook, day_ms: int, day: Results, past: Results) -> Iterator[Finding]:
        met = _met(book.value)
        runs, missed = day.runs(), day.runs() - day.runs(*met)
        cost_nanousd = day.cost_nanousd() - day.cost_nanousd(*met)
        share = missed / runs if runs >= self.settings.min_runs else 0.0
        before = 1 - past.runs(*met) / past.runs() if past.runs() >= 2 * self.settings.min_runs else 0.0
        if share < max(self.settings.missed_share, WORSE_BY * before) or cost_nanousd < max(1, self._floor_nanousd):
            return
        usually = f", where {before:.0%} did before" if before else ""
        yield Finding(
            level=1.0,
            severity=self.settings.severity,
            value=missed,
            limit=runs,
            unit="runs",
            aspect="missed",
            window=Window(day_ms, day_ms + DAY_MS),
            ends_ms=day_ms + DAY_MS + self.grace_ms + HOUR_MS,
            evidence={
                "missed_nanousd": cost_nanousd,
                **{f"{outcome}_runs": day.runs(outcome) for outcome in OUTCOMES[:-1] if outcome not in met},
                "unreported_runs": day.runs(UNKNOWN),
            },
            summary=(
                f"{missed:,} of {runs:,} runs that announced {book.value} ended without it and cost "
                f"{format_usd(cost_nanousd)}{usually}"
            ),
            next_action="Look at some of them: what they announce should be what they can do, and be reported.",
        )

    def _dear(self, book: ResultBook, day_ms: int) -> Iterator[Finding]:
        day = book.day(day_ms)
        if not day.dear_runs:
            return
        runs = "1 run" if day.dear_runs == 1 else f"{day.dear_runs:,} runs"
        yield Finding(
            level=1.0,
            severity=self.settings.severity,
            value=day.dear_nanousd,
            unit="nanousd",
            aspect="cost",
            window=Window(day_ms, day_ms + DAY_MS),
            ends_ms=day_ms + DAY_MS + self.grace_ms + HOUR_MS,
            evidence={"dear_runs": day.dear_runs, "latest_dear_runs": list(book.latest_dear)},
            summary=(
                f"{runs} for {book.value} cost {format_usd(day.dear_nanousd)}, more than "
                f"{self.settings.multiplier:g} times what one usually costs ({format_usd(book.usual_nanousd)})"
            ),
            next_action="Look at what these runs did that others do not; a cap on a run would stop the next one.",
        )


def _met(announced: str) -> tuple[str, ...]:
    """The outcomes that are what was announced: where that is none of the four, an output that is used."""
    return GOOD if announced not in OUTCOMES else tuple(dict.fromkeys((*GOOD, announced)))
