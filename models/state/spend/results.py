"""What the finished runs of a workflow have come to, and what they cost: sums by the day on which the runs ended.

The latest ones are kept by the hour. The runs that ended in one hour are a cohort, closed once the outcome of each is
known, or its grace has passed. What is said of a run may change for as long as the run is remembered, and then the sums
change with it, exactly.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from xxhash import xxh3_64_intdigest

from models.state.rows import PLAIN, Row
from models.state.units.unit import MAX_NANOUSD
from schemas.duration import DAY_MS, HOUR_MS

OUTCOMES: Final = ("accepted", "edited", "rejected", "escalated", "unknown")
"""What may become of a run's output, in the order of the sums. `unknown`: nobody has said it."""
UNKNOWN: Final = "unknown"
DAYS_KEPT: Final = 36
"""One more than a run is remembered for at most, so that what is said of it later finds its day."""
SPREAD_S: Final = 600
"""Within so many seconds after a full hour all books are looked at."""
_SUMS: Final = 3 * len(OUTCOMES) + 2


class Booked(NamedTuple):
    """Where a finished run stands in the books, and with what: enough to take it out again."""

    hour_ms: int
    cost_nanousd: int
    retried_nanousd: int
    books: tuple[tuple[str, str, str, bool], ...]
    """Key of each book, and whether the run cost far more there than was usual."""


class Results:
    """Sums over some runs."""

    __slots__ = ("_sums", "dearest_nanousd")

    def __init__(self, sums: list[int] | None = None, dearest_nanousd: int = 0) -> None:
        self._sums = sums or [0] * _SUMS
        self.dearest_nanousd = dearest_nanousd
        """What the dearest run cost that was ever among them."""

    def add(self, outcome: str, cost_nanousd: int, retried_nanousd: int, *, dear: bool, sign: int) -> None:
        """Count a run in, or out again with a `sign` of -1."""
        place, sums = 3 * OUTCOMES.index(outcome), self._sums
        sums[place] += sign
        sums[place + 1] += sign * cost_nanousd
        sums[place + 2] += sign * retried_nanousd
        if dear:
            sums[-2] += sign
            sums[-1] += sign * cost_nanousd
        self.dearest_nanousd = max(self.dearest_nanousd, cost_nanousd)

    def include(self, other: "Results") -> None:
        """Count in what others came to."""
        mine = self._sums
        for place, theirs in enumerate(other._sums):
            mine[place] += theirs
        self.dearest_nanousd = max(self.dearest_nanousd, other.dearest_nanousd)

    def runs(self, *outcomes: str) -> int:
        """How many runs came to one of these, or all of them."""
        return sum([self._sums[3 * OUTCOMES.index(outcome)] for outcome in outcomes or OUTCOMES])

    def cost_nanousd(self, *outcomes: str) -> int:
        """What the runs cost that came to one of these, or all of them."""
        return sum([self._sums[3 * OUTCOMES.index(outcome) + 1] for outcome in outcomes or OUTCOMES])

    @property
    def wasted_nanousd(self) -> int:
        """What went into rejected output, and into calls that were sent again for any other."""
        retried = sum(self._sums[2 : 3 * len(OUTCOMES) : 3])
        place = 3 * OUTCOMES.index("rejected")
        return retried - self._sums[place + 2] + self._sums[place + 1]

    @property
    def dear_runs(self) -> int:
        """How many runs cost far more than was usual."""
        return self._sums[-2]

    @property
    def dear_nanousd(self) -> int:
        """What these cost."""
        return self._sums[-1]

    def fields(self) -> tuple[Any, ...]:
        """In the constructor's order, as a row holds them."""
        return self.sums(), self.dearest_nanousd

    def sums(self) -> tuple[int, ...]:
        """The sums: three for each outcome, two of dear runs."""
        if max(self._sums) > MAX_NANOUSD:
            return tuple([min(one, MAX_NANOUSD) for one in self._sums])
        return tuple(self._sums)


class ResultBook(Row):
    """The finished runs of one workflow of a tenant, or of one prompt version, feature or announced outcome of it."""

    __slots__ = ("book_id", "days", "due_ms", "hours", "latest_dear", "merged_ms", "offset_ms", "owner", "tenant_id",
                 "usual_nanousd", "value", "workflow")  # fmt: skip
    kind = "results"

    def __init__(self, tenant_id: str, book_id: str, workflow: str, value: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.book_id = book_id
        """What is booked here: which runs, cut by what."""
        self.workflow = workflow
        self.value = value
        """The prompt version, feature or announced outcome; empty for all runs of the workflow."""
        self.hours: dict[int, Results] = {}
        """By the start of the hour in which the runs ended, from `merged_ms` on."""
        self.days: dict[int, Results] = {}
        """By the start of the day (UTC), of all hours before `merged_ms`."""
        self.merged_ms = 0
        self.owner: str | None = None
        """Of the run that was booked last."""
        self.usual_nanousd = 0
        """What a run costs here that comes to what it announced, 0 while too few have: worked out every hour."""
        self.latest_dear: list[str] = []
        """The last runs that cost far more than that."""
        self.due_ms = 0
        self.offset_ms = xxh3_64_intdigest("\0".join((tenant_id, *self.key)).encode()) % SPREAD_S * 1000
        """How long after a full hour it is looked at: not all books of a partition at once."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from the tenant's other books."""
        return (self.book_id, self.workflow, self.value)

    def add(
        self, hour_ms: int, outcome: str, cost_nanousd: int, retried_nanousd: int, *, dear: bool, sign: int
    ) -> None:
        """Count a run that ended in the hour that began then, in or out."""
        kept, start_ms = (self.hours, hour_ms) if hour_ms >= self.merged_ms else (self.days, day_of(hour_ms))
        results = kept.get(start_ms)
        if results is None:
            if sign < 0:
                return  # so long ago that the day is gone
            results = kept[start_ms] = Results()
        results.add(outcome, cost_nanousd, retried_nanousd, dear=dear, sign=sign)
        if not results.runs():
            del kept[start_ms]

    def merge(self, now_ms: int, grace_ms: int) -> None:
        """Hours whose grace is over become part of their day; days that nobody asks for any more go."""
        self.merged_ms = max(self.merged_ms, now_ms - grace_ms - (now_ms - grace_ms) % HOUR_MS)
        for hour_ms in sorted(hour_ms for hour_ms in self.hours if hour_ms < self.merged_ms):
            self.days.setdefault(day_of(hour_ms), Results()).include(self.hours.pop(hour_ms))
        for day_ms in [day_ms for day_ms in self.days if day_ms + DAYS_KEPT * DAY_MS <= now_ms]:
            del self.days[day_ms]

    def next_hour_ms(self, now_ms: int) -> int:
        """The book's moment of the hour, after `now_ms`."""
        since_ms = (now_ms - self.offset_ms) % HOUR_MS
        return now_ms - since_ms + HOUR_MS

    def next_due_ms(self, now_ms: int, graces_ms: Iterable[int]) -> int:
        """When something changes by itself: an hour ends, its grace is over, a day goes; 0 for never."""
        ends_ms = [hour_ms + HOUR_MS + self.offset_ms for hour_ms in self.hours]
        closings_ms = [end_ms + grace_ms for end_ms in ends_ms for grace_ms in (0, *graces_ms)]
        due_ms = min([at_ms for at_ms in closings_ms if at_ms > now_ms], default=0)
        if due_ms or self.hours:
            return due_ms or self.next_hour_ms(now_ms)
        return min(self.days) + DAYS_KEPT * DAY_MS if self.days else 0

    def closed(self, now_ms: int, grace_ms: int) -> dict[int, Results]:
        """Day -> what the runs came to that ended on it, closed cohorts only, newest day first. Not to be changed."""
        found: dict[int, Results] = {}
        for hour_ms, results in self.hours.items():
            end_ms = hour_ms + HOUR_MS
            if end_ms <= now_ms and (end_ms + grace_ms <= now_ms or not results.runs(UNKNOWN)):
                found.setdefault(day_of(hour_ms), Results()).include(results)
        for day_ms, results in self.days.items():
            if day_ms in found:
                found[day_ms].include(results)
            else:
                found[day_ms] = results
        return dict(sorted(found.items(), reverse=True))

    def day(self, day_ms: int) -> Results:
        """What the runs of a day have come to so far, closed or not."""
        found = Results()
        if day_ms in self.days:
            found.include(self.days[day_ms])
        for hour_ms, results in self.hours.items():
            if day_of(hour_ms) == day_ms:
                found.include(results)
        return found

    def recent_days(self) -> list[int]:
        """The days of which some hour may still be open, oldest first."""
        return sorted({day_of(hour_ms) for hour_ms in self.hours})

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.key)

    def header(self) -> tuple[int, int, int]:
        return self.due_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        hours = {hour_ms: results.fields() for hour_ms, results in self.hours.items()}
        days = {day_ms: results.fields() for day_ms, results in self.days.items()}
        return hours, days, self.merged_ms, self.owner, self.usual_nanousd, self.latest_dear

    @classmethod
    def read(cls, parts: tuple[str, ...], due_ms: int, fields: tuple[Any, ...]) -> "ResultBook":
        """A book as its row holds it."""
        book = cls(parts[0], parts[1], parts[2], parts[3])
        hours, days, book.merged_ms, book.owner, book.usual_nanousd, book.latest_dear = fields
        book.hours = {hour_ms: Results(list(sums), dearest) for hour_ms, (sums, dearest) in hours.items()}
        book.days = {day_ms: Results(list(sums), dearest) for day_ms, (sums, dearest) in days.items()}
        book.due_ms = due_ms
        return book


def total(results: list[Results]) -> Results:
    """All of them together."""
    together = Results()
    for one in results:
        together.include(one)
    return together


def day_of(at_ms: int) -> int:
    """When the day (UTC) around a moment began."""
    return at_ms - at_ms % DAY_MS
