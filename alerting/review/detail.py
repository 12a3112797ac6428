"""What the wide event table adds to the message: what costs more than it brings first, then who spent what."""

from alerting.review.facts import Detail, Line, Review
from alerting.review.words import change, count, named, percent, usd

MOST_NAMES = 3
MOST_OF_A_NAME = 24
LABELS = {
    "owner": "Owners", "project": "Projects", "feature": "Features", "agent": "Agents", "model": "Models",
    "prompt_version": "Prompts",
}  # fmt: skip
"""Dimension -> what its names are called together."""


def detail_lines(review: Review) -> list[str]:
    """The lines, the most important first; none without a table."""
    detail = review.detail
    if detail is None:
        return []
    return [*_behind(review, detail), *_margins(detail), *_ranked(detail), *_prompts(detail), *_runs(detail)]


def is_behind(review: Review, detail: Detail) -> bool:
    """Whether the table holds less of the week than the topics do."""
    return detail.cost_nanousd < review.totals.cost_nanousd


def _behind(review: Review, detail: Detail) -> list[str]:
    if not is_behind(review, detail):
        return []
    return [f"The table holds {usd(detail.cost_nanousd)} of this week so far: its sink is behind"]


def _margins(detail: Detail) -> list[str]:
    return [
        f"{_name(one.tenant_id)} costs {usd(one.cost_nanousd)} in the {one.period} from {one.starts_on}, and pays "
        f"{usd(one.value_nanousd)}"
        for one in detail.margins[:MOST_NAMES]
        if one.cost_nanousd > one.value_nanousd
    ]


def _ranked(detail: Detail) -> list[str]:
    return [
        f"{LABELS[dimension]}: {', '.join(map(_line, ranked.lines[:MOST_NAMES]))}"
        for dimension, ranked in detail.rankings.items()
        if ranked.lines
    ]


def _line(one: Line) -> str:
    changed = "" if one.before_nanousd is None else f" ({change(one.cost_nanousd, one.before_nanousd)})"
    return f"{_name(one.name)} {usd(one.cost_nanousd)}{changed}"


def _prompts(detail: Detail) -> list[str]:
    return [
        f"Prompt {_name(one.name)}: {percent(one.acceptance)} accepted of {count(one.outcomes, 'outcome')}"
        for one in detail.low_prompts[:MOST_NAMES]
    ]


def _runs(detail: Detail) -> list[str]:
    return [
        f"{_name(one.workflow)}: the dearest run in a hundred costs {usd(one.p99_nanousd)}"
        for one in detail.runs[:MOST_NAMES]
    ]


def _name(text: str) -> str:
    return named(text, MOST_OF_A_NAME)
