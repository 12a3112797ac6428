"""What the finished runs of a workflow came to, day by day of the last four weeks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.baselines.hourly_history import MAX_NANOUSD
from schemas.duration import DAY_MS

KEPT_MS: Final = 28 * DAY_MS


@dataclass(frozen=True, slots=True)
class RunDay:
    """A day by its start, or several together."""

    start_ms: int
    runs: int = 0
    cost_nanousd: int = 0
    logs: int = 0
    """Sum of the logarithms of costs, in thousandths."""
    squares: int = 0
    """Sum of their squares."""
    accepted: int = 0
    """Outputs that were accepted or edited on that day, whenever their runs ended."""

    @property
    def mean(self) -> float:
        """Of the logarithms of costs. There have to be runs."""
        return self.logs / self.runs

    @property
    def variance(self) -> float:
        """Of the logarithms of costs. There have to be runs."""
        return max(0.0, self.squares / self.runs - self.mean**2)

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithms, in thousandths. There have to be runs."""
        return math.sqrt(self.variance)


class RunDays:
    """The days on which runs finished or outputs were accepted, the oldest first."""

    __slots__ = ("_days",)

    def __init__(self) -> None:
        self._days: list[RunDay] = []

    def add(self, day_ms: int, cost_nanousd: int) -> None:
        """Takes in a run that finished on the day that starts then."""
        log = round(1000 * math.log(cost_nanousd or 1))
        days = self._days
        if days and (day := days[-1]).start_ms == day_ms:  # nearly all runs finish on the latest day
            cost_nanousd = min(day.cost_nanousd + cost_nanousd, MAX_NANOUSD)
            days[-1] = RunDay(
                day_ms, day.runs + 1, cost_nanousd, day.logs + log, day.squares + log * log, day.accepted
            )  # fmt: skip
        else:
            self._include(RunDay(day_ms, 1, cost_nanousd, log, log * log))

    def accept(self, day_ms: int) -> None:
        """Takes in an output that was accepted on that day."""
        self._include(RunDay(day_ms, accepted=1))

    def begins(self, day_ms: int) -> bool:
        """Whether a run that finishes on the day that starts then is the first to do so, and no later one is known."""
        latest = self._days[-1] if self._days else None
        return latest is None or latest.start_ms < day_ms or (latest.start_ms == day_ms and not latest.runs)

    def closed(self) -> Sequence[RunDay]:
        """All days but the latest, which is still running."""
        return self._days[:-1]

    def _include(self, part: RunDay) -> None:
        days = self._days
        if days and part.start_ms < days[-1].start_ms - KEPT_MS:
            return
        for place in range(len(days) - 1, -1, -1):
            if days[place].start_ms == part.start_ms:
                days[place] = together((days[place], part))
                return
            if days[place].start_ms < part.start_ms:
                days.insert(place + 1, part)
                break
        else:
            days.insert(0, part)
        oldest_ms = days[-1].start_ms - KEPT_MS
        self._days = [day for day in days if day.start_ms >= oldest_ms]

    def fields(self) -> list[tuple[int, ...]]:
        """As a row holds them."""
        return [(day.start_ms, day.runs, day.cost_nanousd, day.logs, day.squares, day.accepted) for day in self._days]

    @classmethod
    def read(cls, rows: Iterable[Sequence[Any]]) -> "RunDays":
        """What `fields` wrote."""
        days = cls()
        days._days = [RunDay(*row) for row in rows]
        return days


def together(days: Iterable[RunDay]) -> RunDay:
    """What several days come to, by the start of the first."""
    days = list(days)
    return RunDay(
        days[0].start_ms,
        sum(day.runs for day in days),
        min(sum(day.cost_nanousd for day in days), MAX_NANOUSD),
        sum(day.logs for day in days),
        sum(day.squares for day in days),
        sum(day.accepted for day in days),
    )
