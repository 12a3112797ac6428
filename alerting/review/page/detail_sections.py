"""The page on what the wide event table knows: by every dimension, run by run, against contracts and bills."""

from collections.abc import Sequence

from alerting.review.detail import LABELS, is_behind
from alerting.review.facts import Detail, PerAccepted, Ranking, Review
from alerting.review.page.markup import Column, Markup, Piece, element, join, table
from alerting.review.words import UNKNOWN, change, named, percent, usd


def by_more(review: Review) -> list[Markup]:
    """The section; nothing without a table."""
    detail = review.detail
    if detail is None:
        return []
    parts: list[Piece] = [element("h2", "By owner, project, feature, agent, model and prompt")]
    if is_behind(review, detail):
        said = f"The table holds {usd(detail.cost_nanousd)} of {usd(review.totals.cost_nanousd)}: its sink is behind."
        parts.append(element("p", said, class_="partly"))
    ranked = [_ranking(dimension, one) for dimension, one in detail.rankings.items() if one.lines]
    accepted = [_accepted(dimension, one) for dimension, one in detail.accepted.items() if one]
    for tables in (ranked, accepted, _of_runs(detail), _against(detail)):
        parts += [element("div", *tables[place : place + 2], class_="pair") for place in range(0, len(tables), 2)]
    return [join(parts)]


def _ranking(dimension: str, ranked: Ranking) -> Markup:
    rows = [
        [named(one.name), usd(one.cost_nanousd), change(one.cost_nanousd, one.before_nanousd)] for one in ranked.lines
    ]
    if ranked.others:
        changed = change(ranked.others_nanousd, ranked.others_before_nanousd)
        rows.append([f"{ranked.others:,} others", usd(ranked.others_nanousd), changed])
    columns = [Column(LABELS[dimension], "name"), Column("Spend"), Column("Change")]
    return _table(f"{LABELS[dimension]} that cost most", columns, rows)


def _accepted(dimension: str, found: Sequence[PerAccepted]) -> Markup:
    columns = [Column(LABELS[dimension], "name"), Column("Accepted"), Column("Per accepted"), Column("Week before")]
    rows = [
        [named(one.name), f"{one.accepted:,}", usd(one.nanousd_per_accepted), usd(one.before_nanousd)] for one in found
    ]
    return _table(f"Cost per accepted output: {LABELS[dimension].lower()}", columns, rows)


def _of_runs(detail: Detail) -> list[Markup]:
    runs = [
        [
            named(one.workflow), f"{one.runs:,}", usd(one.p99_nanousd), percent(one.variation),
            percent(one.variation_before),
        ]
        for one in detail.runs
    ]  # fmt: skip
    agents = [
        [named(one.name), f"{one.runs:,}", usd(one.nanousd_per_run), percent(one.retry_share)] for one in detail.agents
    ]
    mix = [[named(one.workflow), named(one.model), percent(one.share), percent(one.before)] for one in detail.mix]
    prompts = [[named(one.name), f"{one.outcomes:,}", percent(one.acceptance)] for one in detail.low_prompts]
    shown = (
        ("What single runs cost", ("Workflow", "Runs", "p99 run", "Variation", "Week before"), runs),
        ("Most expensive agents", ("Agent", "Runs", "Per run", "Retries"), agents),
        ("Models whose share has changed", ("Workflow", "Model", "Share", "Week before"), mix),
        ("Prompts that are seldom accepted", ("Prompt", "Outcomes", "Acceptance"), prompts),
    )
    return [_table(caption, _columns(labels), rows) for caption, labels, rows in shown if rows]


def _against(detail: Detail) -> list[Markup]:
    margins = [
        [named(one.tenant_id), f"{one.period} from {one.starts_on}", usd(one.value_nanousd), usd(one.cost_nanousd)]
        for one in detail.margins
    ]
    bills = [[named(one.source), named(one.model), usd(one.our_nanousd), usd(one.nanousd)] for one in detail.reconciled]
    shown = (
        ("What tenants pay and cost", ("Tenant", "Period", "Pays", "Costs"), margins),
        ("Our figures and the provider's", ("Provider", "Model", "Ours", "Theirs"), bills),
    )
    return [_table(caption, _columns(labels), rows) for caption, labels, rows in shown if rows]


def _columns(labels: Sequence[str]) -> list[Column]:
    return [Column(label, "name" if not place else "number") for place, label in enumerate(labels)]


def _table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Markup:
    return element("div", table(caption, columns, [[cell or UNKNOWN for cell in row] for row in rows]))
