"""The questions of `docs/questions.md`, asked of a week whose answers are counted by hand (`question_week`)."""

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streams.sinks.stores.base import Store
from streams.sinks.tables import DIMENSIONS
from tests.support.question_week import fill

PAGE = Path(__file__).parents[2] / "docs" / "questions.md"
TUESDAY, WEDNESDAY, THURSDAY = date(2026, 11, 24), date(2026, 11, 25), date(2026, 11, 26)
FRIDAY_BEFORE = date(2026, 11, 20)

ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "top-tenants": [("acme", 10.5, 1), ("globex", 2, 0)],
    "top-of-a-dimension": [("support", 7, 1), ("coding", 5.5, 0)],
    "three-times-the-median": [("acme", "support", TUESDAY, 5, 1)],
    "cost-per-accepted": [("coding", 5.5, None), ("support", 7, 1)],
    "p99-of-runs": [("coding", 5.5, 1), ("support", 4, 3)],
    "high-retries": [("support", 0.2, 2)],
    "expensive-agents": [("coder", 5.5, 1), ("bot", 7 / 3, 3)],
    "low-acceptance": [("v2", 0, 1), ("v1", 1, 2)],
    "model-mix": [
        ("coding", "opus", 1, 0), ("support", "gpt", 2 / 7, 0), ("support", "haiku", 1 / 7, 0),
        ("support", "nobody-knows-it", 0, 0), ("support", "opus", 4 / 7, 1),
    ],
    "variance": [("support", ((4 - 7 / 3) ** 2 + (1 - 7 / 3) ** 2 + (2 - 7 / 3) ** 2) ** 0.5 / 3**0.5 / (7 / 3), 3)],
    "trend-without-usage": [
        ("chat", FRIDAY_BEFORE, 1, 1), ("chat", TUESDAY, 5 / 3, 3), ("chat", THURSDAY, 1, 2),
        ("review", WEDNESDAY, 5, 1),
    ],
    "output-to-input": [("coding", 0.1), ("support", 0.1)],
    "margin": [
        ("acme", "week", date(2026, 11, 23), 10, 10.5, -0.5), ("acme", "week", date(2026, 11, 16), 10, 1, 9),
        ("globex", "month", date(2026, 11, 1), 30, 2, 28),
    ],
    "precision-of-rules": [("run-cost", 2, 0.5, 1), ("loops", 1, None, 0)],
    "stopped-runs": [("acme", "A3", "run-cost", "stopped", 1.5)],
    "reported-twice": [("globex", "support", 1, 2, 2)],
    "near-a-limit": [("globex", "G1", "run-cost", 0.5)],
    "unpriced": [("nobody-knows-it", None, 1, 1100)],
    "cache-hits": [("coding", 0.4), ("support", 0.4)],
    "reconciliation": [
        (TUESDAY, "anthropic", "haiku", 1, 1, 1000), (TUESDAY, "anthropic", "opus", 4, 5, 2000),
        (WEDNESDAY, "anthropic", "opus", 5, 5, 1000),
    ],
    "totals-agree": [],
}  # fmt: skip
DIMENSION_ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "owner": [("ben", 5.5, 0), ("ana", 5, 1), ("cleo", 2, 0)],
    "project": [("p2", 5.5, 0), ("p1", 5, 1), ("p3", 2, 0)],
    "feature": [("chat", 7, 1), ("review", 5.5, 0)],
    "agent": [("bot", 7, 1), ("coder", 5.5, 0)],
    "prompt_version": [("v1", 11.5, 1), ("v2", 1, 0)],
    "model": [("opus", 9, 1), ("gpt", 2, 0), ("haiku", 1, 0), (None, 0.5, 0), ("nobody-knows-it", 0, 0)],
}
PER_ACCEPTED: dict[str, list[tuple[Any, ...]]] = {
    "owner": [("ana", 5, 1), ("ben", 5.5, None), ("cleo", None, None)],
    "prompt_version": [("v1", 11.5 / 2, 1), ("v2", None, None)],
}


def questions() -> dict[str, str]:
    """Name -> SQL, as the page has them."""
    found = re.findall(
        r"^### ([a-z0-9-]+)\n.*?```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return dict(found)


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows with numbers of one kind, rounded; a number that is not one is none."""
    return [tuple(_plain(value) for value in row) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, int | float | Decimal):
        return None if value != value else round(float(value), 6)
    return value


def test_every_question_of_the_page_is_answered_as_counted(store: Store) -> None:
    """Its SQL, as it stands on the page, gives the hand-counted answer, whichever store it is asked of."""
    fill(store)
    asked = questions()
    assert asked.keys() == ANSWERS.keys()
    answers = {name: plain(store.query(sql)) for name, sql in asked.items()}
    assert answers == {name: plain(rows) for name, rows in ANSWERS.items()}


def test_the_questions_by_dimension_are_answered_for_every_dimension(store: Store) -> None:
    """With another name put in place of `workflow`, as the page says."""
    fill(store)
    asked = questions()
    for name in (*DIMENSIONS, "model"):
        found = plain(store.query(re.sub(r"\bworkflow\b", name, asked["top-of-a-dimension"])))
        assert found, name
        if name in DIMENSION_ANSWERS:
            assert sorted(found, key=str) == sorted(plain(DIMENSION_ANSWERS[name]), key=str), name
        store.query(re.sub(r"\bworkflow\b", name, asked["cost-per-accepted"]))
    for name, expected in PER_ACCEPTED.items():
        assert plain(store.query(re.sub(r"\bworkflow\b", name, asked["cost-per-accepted"]))) == plain(expected), name


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_question_is_in_the_table_of_the_founders(name: str) -> None:
    """Whoever looks for a question finds the one that has its SQL."""
    table = PAGE.read_text(encoding="utf-8").split("## Every question", 1)[1]
    assert f"(#{name})" in table
