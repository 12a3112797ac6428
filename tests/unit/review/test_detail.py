"""What the wide event table adds to the review's message and page."""

from dataclasses import replace
from typing import Any

from alerting.review.data import as_data
from alerting.review.facts import (
    AgentCosts,
    Detail,
    Line,
    Margin,
    ModelShare,
    PerAccepted,
    PromptAcceptance,
    Ranking,
    Reconciled,
    RunCosts,
)
from alerting.review.message import MOST_OF_THE_MESSAGE, review_blocks, review_text
from alerting.review.page.page import page
from tests.support.hostile_review import hostile_review
from tests.support.messages import USD
from tests.support.reviews import hour, reviewed

HOSTILE = "<script>*_`~<!channel>\u202e\n" + "x" * 100


def detail_of(name: str, **fields: Any) -> Detail:
    """Something of everything, about things of that name."""
    ranked = Ranking(tuple(Line(f"{name}{number}", USD, 2 * USD) for number in range(5)), 3, USD, USD)
    given: dict[str, Any] = {
        "cost_nanousd": 10**15,
        "rankings": dict.fromkeys(("owner", "project", "feature", "agent", "model", "prompt_version"), ranked),
        "accepted": {"owner": (PerAccepted(name, 2, USD, USD // 2, None),)},
        "runs": (RunCosts(name, 9, USD, 0.5, None),),
        "mix": (ModelShare(name, name, 0.7, 0.1),),
        "agents": (AgentCosts(name, 9, USD, 0.25),),
        "low_prompts": (PromptAcceptance(name, 12, 0.25),),
        "margins": (Margin(name, "month", "2026-11-01", USD, 2 * USD),),
        "reconciled": (Reconciled(name, name, USD, 2 * USD),),
    }
    return Detail(**(given | fields))


def test_the_message_says_it_and_what_costs_more_than_it_pays_comes_first() -> None:
    """In text and in Slack's blocks."""
    review = replace(reviewed(hour(-7, 1), hour(0, 2)), detail=detail_of("n"))
    text = review_text(review)
    assert "n costs $2.00 in the month from 2026-11-01, and pays $1.00" in text
    assert "Owners: n0 $1.00 (−50 %), n1 $1.00 (−50 %), n2 $1.00 (−50 %)" in text
    assert text.index("n costs") < text.index("Owners") < text.index("report weekly")
    assert "Prompt n: 25 % accepted of 12 outcomes" in text
    shown = str(review_blocks(review))
    assert "n costs $2.00" in shown


def test_a_table_that_is_behind_is_said_to_be() -> None:
    """Its figures are smaller than the others, and a reader must know why."""
    review = replace(reviewed(hour(0, 20)), detail=detail_of("n", cost_nanousd=USD))
    assert "The table holds $1.00 of this week so far: its sink is behind" in review_text(review)
    assert "The table holds $1.00 of $20.00: its sink is behind." in page(review)
    whole = replace(reviewed(hour(0, 20)), detail=detail_of("n", cost_nanousd=20 * USD))
    assert "behind" not in review_text(whole) + page(whole)


def test_hostile_names_stay_names_and_the_message_stays_short() -> None:
    """Whatever they hold, and however much there is to say."""
    review = replace(hostile_review(HOSTILE), detail=detail_of(HOSTILE))
    assert len(review_text(review)) <= MOST_OF_THE_MESSAGE
    assert "<script" not in page(review)
    assert "\u202e" not in review_text(review)
    for block in review_blocks(review):
        assert len(str(block.get("text", {}))) < MOST_OF_THE_MESSAGE
    assert "<!channel>" not in str(review_blocks(review))


def test_the_page_has_a_table_of_everything() -> None:
    """With what each figure means; without a table of calls there is nothing of it."""
    review = replace(reviewed(hour(-7, 1), hour(0, 2)), detail=detail_of("n"))
    shown = page(review)
    for caption in (
        "Owners that cost most", "Prompts that cost most", "Cost per accepted output: owners", "What single runs cost",
        "Most expensive agents", "Models whose share has changed", "Prompts that are seldom accepted",
        "What tenants pay and cost", "Our figures and the provider", "p99 run, variation",
    ):  # fmt: skip
        assert caption in shown, caption
    without = replace(review, detail=None)
    assert "that cost most" in page(without)
    assert "Owners" not in page(without)
    assert "detail" not in as_data(without)
    assert as_data(review)["detail"]["margins"][0]["tenant_id"] == "n"
