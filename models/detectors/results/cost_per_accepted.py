"""`cost_per_accepted`: what an accepted outcome costs, against an amount and against its own past."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from models.detectors.base import ResultDetector, register
from models.rules.finding import Finding
from models.state.spend.results import UNKNOWN, ResultBook, Results, day_of, total
from schemas.duration import DAY_MS, HOUR_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RuleSettings, Severity, Steps, Usd

REPORTED = ("accepted", "edited", "rejected", "escalated")


class CostPerAcceptedSettings(RuleSettings):
    """All that the workflow's runs cost, by those whose output was accepted."""

    steps: ClassVar[Steps] = {"limit_usd": (0.5, 0.75, 1.5, 2), "multiplier": (0.67, 1.5, 2), "min_usd": (0.5, 2, 5)}
    per: Literal["workflow", "prompt_version", "feature"] = "workflow"
    limit_usd: Usd | None = None
    """What an accepted outcome may cost at most, whatever it cost before."""
    multiplier: Annotated[float, Field(gt=1, le=1000)] = 3.0
    """So many times what it cost in the `past_days` before."""
    grace_hours: Annotated[int, Field(ge=1, le=7 * 24)] = 24
    """How long after a run's end its outcome is waited for."""
    min_runs: Annotated[int, Field(ge=5, le=100_000)] = 50
    """As few days are looked at as have so many runs, and nothing is said of fewer."""
    days: Annotated[int, Field(ge=1, le=7)] = 7
    """How many days are looked at at most, today among them."""
    past_days: Annotated[int, Field(ge=1, le=28)] = 28
    min_accepted: Annotated[int, Field(ge=1, le=100_000)] = 20
    """So many were accepted in a past that is compared with."""
    min_usd: Usd = Decimal(10)
    """Nothing is said while the days looked at have cost less."""
    severity: Severity = "warning"


class Stretch(NamedTuple):
    """The days looked at, and those before them."""

    days: int
    now: Results
    past: Results


@register
class CostPerAccepted(ResultDetector[CostPerAcceptedSettings]):
    """Fires when an accepted outcome costs more than a limit or 3 x what it did in the four weeks before, or as much
    brought none: of runs whose outcome is known, or was not reported within a day of their end.
    """

    name = "cost_per_accepted"
    settings_class = CostPerAcceptedSettings
    defaults = ({"name": "accepted-3x"},)

    def __init__(self, settings: CostPerAcceptedSettings) -> None:
        super().__init__(settings)
        self.per = settings.per
        self.grace_ms = settings.grace_hours * HOUR_MS
        self._limit_nanousd = None if settings.limit_usd is None else usd_to_nanousd(settings.limit_usd)
        self._floor_nanousd = usd_to_nanousd(settings.min_usd)

    def judge(self, book: ResultBook, now_ms: int) -> Iterable[Finding]:
        stretch = self._stretch(book, now_ms)
        if stretch is None:
            return
        usual = self._usual_nanousd(stretch.past)
        limits = [] if self._limit_nanousd is None else [self._limit_nanousd]
        if usual is not None:
            limits.append(int(self.settings.multiplier * 10_000) * usual // 10_000)
        # One dear run is no news of a workflow, however dear: it has to hold without the dearest as well.
        others_nanousd = stretch.now.cost_nanousd() - stretch.now.dearest_nanousd
        if limits and others_nanousd > min(limits) * max(1, stretch.now.runs("accepted")):
            yield self._finding(book, stretch, min(limits), usual)

    def _stretch(self, book: ResultBook, now_ms: int) -> Stretch | None:
        """The latest days, as few as have enough runs; None if the longest stretch has not, or costs too little."""
        closed, today_ms = book.closed(now_ms, self.grace_ms), day_of(now_ms)
        now, oldest_ms = Results(), today_ms - (self.settings.days - 1) * DAY_MS
        for start_ms, results in closed.items():
            if start_ms < oldest_ms:
                break
            now.include(results)
            if now.runs() >= self.settings.min_runs and now.cost_nanousd() >= self._floor_nanousd:
                past_ms = start_ms - self.settings.past_days * DAY_MS
                past = [results for day_ms, results in closed.items() if past_ms <= day_ms < start_ms]
                return Stretch((today_ms - start_ms) // DAY_MS + 1, now, total(past))
        return None

    def _usual_nanousd(self, past: Results) -> int | None:
        """What an accepted outcome cost before, None while too few are known."""
        accepted = past.runs("accepted")
        return past.cost_nanousd() // accepted if accepted >= self.settings.min_accepted else None

    def _finding(self, book: ResultBook, stretch: Stretch, limit: int, usual: int | None) -> Finding:
        now, accepted = stretch.now, stretch.now.runs("accepted")
        value = now.cost_nanousd() // max(1, accepted)
        ratio = round(value / usual, 2) if usual and accepted else None
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=value,
            limit=limit,
            baseline=usual,
            ratio=ratio,
            unit="nanousd",
            lasts_ms=DAY_MS,
            evidence={"days": stretch.days, "spent_nanousd": now.cost_nanousd(), **_counts(now)},
            summary=_summary(stretch, value, limit, ratio, usual),
            next_action=_next_action(now),
        )


def _summary(stretch: Stretch, value: int, limit: int, ratio: float | None, usual: int | None) -> str:
    runs, since = stretch.now.runs(), "today" if stretch.days == 1 else f"in {stretch.days} days"
    if not stretch.now.runs("accepted"):
        before = f"; an accepted outcome cost {format_usd(usual)} before" if usual else ""
        return f"Nothing was accepted for {format_usd(value)}, of {runs:,} runs that ended {since}{before}"
    if ratio is not None and usual is not None:
        against = f"{ratio:,.3g} times the {format_usd(usual)} of before"
    else:
        against = f"more than the {format_usd(limit)} it may"
    return f"An accepted outcome costs {format_usd(value)}, {against}: {runs:,} runs that ended {since}"


def _next_action(now: Results) -> str:
    if not now.runs(*REPORTED):
        return "See whether outcomes are still reported: none of these runs said what became of its output."
    return "See what has changed: prompt version, model, or who accepts; look at some rejected runs."


def _counts(now: Results) -> dict[str, Any]:
    """What the runs came to, each outcome apart, and what went for nothing."""
    edited = now.runs("edited")
    counts: dict[str, Any] = {
        f"{outcome}_runs": now.runs(outcome) for outcome in ("accepted", "edited", "rejected", "escalated")
    }
    counts["unreported_runs"] = now.runs(UNKNOWN)
    counts["wasted_nanousd"] = now.wasted_nanousd
    if edited:
        counts["with_edited_nanousd"] = now.cost_nanousd() // (now.runs("accepted") + edited)
    return counts
