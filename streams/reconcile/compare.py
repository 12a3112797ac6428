"""Our figures beside a provider's: by day, key and model, tokens and money apart. What is not known is never a zero."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from schemas.edge.provider_usage import Report
from streams.reconcile.config import Console
from streams.reconcile.days import Days, end_of, start_of
from streams.reconcile.makers import model_name
from streams.reconcile.ours import Counted, Sums
from streams.reconcile.sources import totals_of
from streams.reconcile.sources.report import Cell, Fetched, Row

Standing = Literal["agrees", "differs", "only ours", "only theirs", "nothing", "not known"]
"""How a day stands. `agrees`: no difference is above the console's share and floor."""
Measure = Literal["input tokens", "cached tokens", "output tokens", "usd"]

ALL: Final = "all"
NO_KEY: Final = "(no key)"
NO_TAG: Final = "(no tag)"
NO_MODEL: Final = "(no model)"
NONE: Final = Sums()


class Line(NamedTuple):
    """One figure of both sides. None: that side has nothing there. Money is in nano-dollars."""

    key: str
    model: str
    measure: str
    ours: int | None
    theirs: int | None
    is_told: bool

    @property
    def difference(self) -> int:
        """By how much ours is more."""
        return (self.ours or 0) - (self.theirs or 0)

    @property
    def share(self) -> float:
        """The difference as a share of the larger figure."""
        return _share(self.difference, self.ours, self.theirs)


class DayDifference(NamedTuple):
    """One day of one report of a console."""

    console: str
    day: str
    report: Report
    standing: Standing
    lines: tuple[Line, ...] = ()
    why: str = ""
    """Why it is not known."""
    too_late: Sums = NONE
    """Calls of ours that came too late to count, and are in no line."""

    @property
    def told(self) -> list[Line]:
        """What is above the share and the floor, the largest first."""
        return sorted((line for line in self.lines if line.is_told), key=lambda line: -abs(line.difference))

    @property
    def told_share(self) -> float:
        """How much of the day's figures the differences that are told come to, by the measure where that is most."""
        measures = {line.measure for line in self.lines}
        return max((self._share_of(measure) for measure in measures), default=0.0)

    def _share_of(self, measure: str) -> float:
        lines = [line for line in self.lines if line.measure == measure]
        whole = sum(max(abs(line.ours or 0), abs(line.theirs or 0)) for line in lines)
        return sum(abs(line.difference) for line in lines if line.is_told) / whole if whole else 0.0


Figures = dict[tuple[str, str], dict[str, int]]
"""(key, model) -> measure -> figure."""


def compare(
    console: Console, fetched: Iterable[Fetched], counted: Counted, days: Days, now_ms: int, kept_since_ms: int
) -> list[DayDifference]:
    """Every day that is long enough over, the oldest first. `kept_since_ms`: before it, ours is not whole any more."""
    settled = [day for day in days.names if end_of(day) + console.lag_ms <= now_ms]
    return [_day(console, report, counted, day, kept_since_ms) for day in settled for report in fetched]


def _day(console: Console, report: Fetched, counted: Counted, day: str, kept_since_ms: int) -> DayDifference:
    def stands(standing: Standing, lines: tuple[Line, ...] = (), why: str = "") -> DayDifference:
        too_late = counted.too_late.get((console.name, day), NONE)
        return DayDifference(console.name, day, report.report, standing, lines, why, too_late)

    if report.fault is not None:
        return stands("not known", why=report.fault)
    if day not in report.days:
        return stands("not known", why="the report does not speak of this day")
    if start_of(day) < kept_since_ms:
        return stands("not known", why="usage.v1 does not go back so far")
    ours, theirs = _ours(console, report, counted, day), _theirs(console, report, day)
    lines = tuple(_lines(console, ours, theirs))
    if not ours and not theirs:
        return stands("nothing")
    if not theirs:
        return stands("only ours", lines)
    if not ours:
        return stands("only theirs", lines)
    return stands("differs" if any(line.is_told for line in lines) else "agrees", lines)


def _ours(console: Console, report: Fetched, counted: Counted, day: str) -> Figures:
    found: Figures = defaultdict(lambda: defaultdict(int))
    for place, sums in counted.sums.items():
        if place.console != console.name or place.day != day or console.leaves_out(place.model):
            continue
        key = (place.key or NO_TAG) if report.by_key and console.key_tag else ALL
        for measure, figure in _measures(report.report, sums).items():
            found[key, place.model if report.by_model else ALL][measure] += figure
    return found


def _measures(report: Report, sums: Sums) -> dict[Measure, int]:
    if report == "cost":
        return {"usd": sums.cost_nanousd}
    return {
        "input tokens": sums.input_tokens,
        "cached tokens": sums.cached_tokens,
        "output tokens": sums.output_tokens,
    }


def _theirs(console: Console, report: Fetched, day: str) -> Figures:
    found: Figures = defaultdict(lambda: defaultdict(int))
    for cell, row in report.day_rows(day).items():
        if console.leaves_out(cell.model, cell.item, cell.model and model_name(cell.model)):
            continue
        key = (cell.key or NO_KEY) if report.by_key and console.key_tag else ALL
        for measure, figure in _figures(console, report, row).items():
            found[key, _model(cell) if report.by_model else ALL][measure] += figure
    return found


def _model(cell: Cell) -> str:
    return model_name(cell.model) if cell.model else cell.item or NO_MODEL


def _figures(console: Console, report: Fetched, row: Row) -> Mapping[str, int]:
    if report.report == "cost":
        return {} if row.cost_nanousd is None else {"usd": row.cost_nanousd}
    return totals_of(console.source, row.counts)


def _lines(console: Console, ours: Figures, theirs: Figures) -> Iterator[Line]:
    for place in sorted(ours.keys() | theirs.keys()):
        left, right = ours.get(place), theirs.get(place)
        for measure in sorted((left or {}).keys() | (right or {}).keys()):
            if left is not None and right is not None and not (measure in left and measure in right):
                continue  # one side does not count it
            mine, others = (left or {}).get(measure), (right or {}).get(measure)
            yield Line(*place, measure, mine, others, _is_told(console, measure, mine, others))


def _is_told(console: Console, measure: str, ours: int | None, theirs: int | None) -> bool:
    difference = abs((ours or 0) - (theirs or 0))
    floor = console.floor_nanousd if measure == "usd" else console.floor_tokens
    return difference > floor and _share(difference, ours, theirs) > console.tell_above


def _share(difference: int, ours: int | None, theirs: int | None) -> float:
    larger = max(abs(ours or 0), abs(theirs or 0))
    return abs(difference) / larger if larger else 0.0
