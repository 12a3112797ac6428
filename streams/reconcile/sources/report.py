"""What sources bring home: reports by day, row by row, or why there is none."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from schemas.edge.provider_usage import Report
from schemas.money import usd_to_nanousd
from streams.provider_api import ProviderError

MOST_NAME = 256


class Cell(NamedTuple):
    """Which row of a report. Its parts are None where the provider does not say."""

    day: str
    key: str | None = None
    model: str | None = None
    item: str | None = None


class Row(NamedTuple):
    """What stands in it, by the provider's own names."""

    counts: dict[str, int]
    cost_nanousd: int | None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """One report of one console."""

    report: Report
    by_key: bool = False
    """Whether its rows tell keys apart."""
    by_model: bool = True
    days: frozenset[str] = frozenset()
    """Of which it speaks, with rows or with none."""
    rows: dict[Cell, Row] = field(default_factory=dict)
    fault: str | None = None
    """Why nothing of it is known; then it has neither days nor rows."""

    def day_rows(self, day: str) -> dict[Cell, Row]:
        """The rows of a day."""
        return {cell: row for cell, row in self.rows.items() if cell.day == day}


class Rows:
    """Rows as they are read: what stands in one cell is added up, and no day comes twice."""

    def __init__(self) -> None:
        self.days: set[str] = set()
        self.rows: dict[Cell, Row] = {}

    def begin(self, day: str) -> None:
        """The rows of a day follow. Raises `ProviderError` where they have come already."""
        if day in self.days:
            raise ProviderError(f"{day} comes twice: the pages overlap")
        self.days.add(day)

    def add(self, cell: Cell, counts: Mapping[str, int], cost_nanousd: int | None = None) -> None:
        """One row."""
        cell = Cell(cell.day, *(None if name is None else name[:MOST_NAME] for name in cell[1:]))
        before = self.rows.get(cell, Row({}, None))
        added = {name: before.counts.get(name, 0) + counts.get(name, 0) for name in {**before.counts, **counts}}
        cost = cost_nanousd if before.cost_nanousd is None else before.cost_nanousd + (cost_nanousd or 0)
        self.rows[cell] = Row(added, cost)


def fetched(report: Report, read: Callable[[], Rows], *, by_key: bool, by_model: bool = True) -> Fetched:
    """A report, or why there is none. One that holds nothing at all says nothing: it is never a zero."""
    try:
        found = read()
    except ProviderError as error:
        return Fetched(report=report, fault=str(error))
    if not found.rows:
        return Fetched(
            report=report,
            fault="the report is empty for all the days asked for: is this the right organization, and its credential?",
        )
    return Fetched(report=report, by_key=by_key, by_model=by_model, days=frozenset(found.days), rows=found.rows)


def nanousd(usd: object) -> int:
    """Dollars as a provider writes them, a float, a string or a Decimal; negative for credits.

    Raises:
        ProviderError: it is no amount.
    """
    if isinstance(usd, bool) or not isinstance(usd, int | float | str | Decimal):
        raise ProviderError(f"the answer has no amount where one should be, but {type(usd).__name__}")
    try:
        amount = Decimal(str(usd))
        return -usd_to_nanousd(-amount) if amount < 0 else usd_to_nanousd(amount)
    except (ValueError, ArithmeticError):
        raise ProviderError("the answer has an amount that nobody can read") from None


def require_usd(currency: object) -> None:
    """Raises `ProviderError` for money of another currency: it cannot be added up with ours."""
    if not isinstance(currency, str) or currency.upper() != "USD":
        raise ProviderError(f"the costs are in {str(currency)[:10]!r}, and only USD is understood")


def whole_numbers(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """The counts of a row, with those of parts within it by `part.name`."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from whole_numbers(value, f"{prefix}{name}.")
        elif type(value) is int:
            yield prefix + name, value
