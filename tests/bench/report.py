"""Figures, and how they are shown: medians over rounds, spread, ratios. Nothing is judged here."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

OUTPUT = Path("out/bench.json")


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, once per round."""

    name: str
    unit: str
    rounds: Sequence[float]
    beside: float | None = None
    """The median of what it is compared with; shown as a ratio."""

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)

    @property
    def ratio(self) -> float | None:
        """The median over the compared one's."""
        return self.median / self.beside if self.beside else None


@dataclass(slots=True)
class Part:
    """The figures of one part of the bench, with what they were measured on."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, rounds: Iterable[float], beside: float | None = None) -> Figure:
        """Take in a figure. `beside` is the median of what it is compared with."""
        figure = Figure(name, unit, tuple(rounds), beside)
        self.figures.append(figure)
        return figure

    def add_side(self, label: str, figures: Mapping[str, tuple[str, list[float]]], base: dict[str, float]) -> None:
        """Take in all figures of one side, by name with their units. The first side's medians become the `base` of the
        others.
        """
        for name, (unit, rounds) in figures.items():
            added = self.add(f"{label}: {name}", unit, rounds, base.get(name))
            base.setdefault(name, added.median)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print what was measured on."""
    for name, value in facts.items():
        print(f"{name:>12}  {value}")
    print(flush=True)


def print_part(part: Part) -> None:
    """Print a part as a table."""
    width = max((len(figure.name) for figure in part.figures), default=0)
    print(f"{part.name}: {part.title}")
    print(f"  {'':{width}} {'median':>12} {'min .. max':>25}  {'unit':<18} ratio")
    for figure in part.figures:
        spread = f"{_number(min(figure.rounds))} .. {_number(max(figure.rounds))}" if len(figure.rounds) > 1 else ""
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        print(f"  {figure.name:{width}} {_number(figure.median):>12} {spread:>25}  {figure.unit:<18} {ratio}".rstrip())
    for note in part.notes:
        print(f"  * {note}")
    print(flush=True)


def write(parts: Iterable[Part], facts: Mapping[str, str], options: Mapping[str, object], path: Path = OUTPUT) -> None:
    """Write everything as JSON, every round included."""
    content = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(facts),
        "options": dict(options),
        "parts": [_plain(part) for part in parts],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def _plain(part: Part) -> dict[str, object]:
    figures = [
        {
            "name": figure.name,
            "unit": figure.unit,
            "median": figure.median,
            "rounds": list(figure.rounds),
            "ratio": figure.ratio,
        }
        for figure in part.figures
    ]
    return {"part": part.name, "title": part.title, "figures": figures, "notes": part.notes}


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least a `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}" if abs(value) < 10 else f"{value:,.1f}"
