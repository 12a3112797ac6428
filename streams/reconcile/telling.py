"""What is told of a pass: a text for people, and the same as data."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from schemas.edge.provider_usage import ProviderUsage
from schemas.money import format_usd
from streams.reconcile.compare import DayDifference, Line

MOST_LINES = 20
"""Of one day and report in the text; the data have all."""


def as_text(differences: Sequence[DayDifference], corrected: Iterable[ProviderUsage]) -> str:
    """Every day of every report in a line, and below it what differs."""
    lines: list[str] = []
    for one in differences:
        lines.append(f"{one.console}  {one.day}  {one.report:5}  {_standing(one)}")
        lines += _too_late(one)
        lines += _table(one.told)
    if not differences:
        lines.append("no day is long enough over to be compared")
    for fact in corrected:
        place = "  ".join(filter(None, (fact.key, fact.item or fact.model)))
        lines.append(f"{fact.console}  {fact.day}  {fact.report:5}  corrected by the provider: {place}")
    return "\n".join(lines)


def as_data(differences: Iterable[DayDifference], corrected: Iterable[ProviderUsage]) -> dict[str, Any]:
    """The same, with every line; money in nano-dollars."""
    return {
        "days": [
            {
                "console": one.console, "day": one.day, "report": one.report, "standing": one.standing,
                "why": one.why or None, "told_share": round(one.told_share, 6),
                "too_late": {"calls": one.too_late.calls, "cost_nanousd": one.too_late.cost_nanousd},
                "lines": [
                    {
                        "key": line.key, "model": line.model, "measure": _measure(line), "ours": line.ours,
                        "theirs": line.theirs, "share": round(line.share, 6), "told": line.is_told,
                    }
                    for line in one.lines
                ],
            }
            for one in differences
        ],
        "corrected": list(corrected),
    }  # fmt: skip


def _standing(one: DayDifference) -> str:
    match one.standing:
        case "not known":
            return f"not known: {one.why}"
        case "agrees":
            largest = max((line.share for line in one.lines), default=0.0)
            return f"agrees: {len(one.lines)} figures, the largest difference {largest:.1%}"
        case "nothing":
            return "neither side has anything"
    return f"{one.standing}: {len(one.told)} of {len(one.lines)} figures above the share and the floor"


def _too_late(one: DayDifference) -> Iterator[str]:
    late = one.too_late
    if late.calls:
        yield f"    too late to count: {late.calls:,} of our calls, {format_usd(late.cost_nanousd)}; see `dlq`"


def _table(told: Sequence[Line]) -> Iterator[str]:
    rows = [
        (line.key, line.model, line.measure, _figure(line, line.ours), _figure(line, line.theirs), _signed(line))
        for line in told[:MOST_LINES]
    ]
    if not rows:
        return
    rows.insert(0, ("key", "model", "", "ours", "theirs", "difference"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        names = "  ".join(text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True))
        figures = "  ".join(text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True))
        yield f"    {names}  {figures}"
    if len(told) > MOST_LINES:
        yield f"    and {len(told) - MOST_LINES} more: --json has them all"


def _figure(line: Line, figure: int | None) -> str:
    if figure is None:
        return "-"
    return format_usd(figure) if line.measure == "usd" else f"{figure:,}"


def _signed(line: Line) -> str:
    return f"{'+' if line.difference > 0 else '-'}{line.share:.1%}"


def _measure(line: Line) -> str:
    return "nanousd" if line.measure == "usd" else line.measure.replace(" ", "_")
