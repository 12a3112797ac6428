"""The page's sections on money: where it went, when, what was out of the ordinary, and what it bought."""

from collections.abc import Sequence

from alerting.review.facts import (
    HIGH_RETRY_SHARE,
    LOW_ACCEPTANCE,
    MIN_CALLS,
    MIN_OUTCOMES,
    SPIKE_RATIO,
    Line,
    Ranking,
    Review,
    Scope,
    Workflow,
)
from alerting.review.page.markup import Column, Markup, Piece, element, join, table
from alerting.review.page.plots import SERIES, days_plot, heat_edges, hours_plot
from alerting.review.words import UNKNOWN, change, count, day, named, percent, usd

MOST_ROWS = 12
"""Of a table; more are counted, and stand in the data."""
WEEKDAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def where(review: Review) -> Markup:
    """Spend by day, tenant and workflow."""
    return join([
        element("h2", "Where the money went"),
        _days(review),
        element(
            "div",
            _ranking("Tenants that cost most", "Tenant", review.tenants, review),
            _ranking("Workflows that cost most", "Workflow", review.workflows, review),
            class_="pair",
        ),
    ])  # fmt: skip


def _days(review: Review) -> Markup:
    names = day_names(review)
    swatches = [
        element("li", element("i", class_=f"s{_colour(number, one.workflow)}"), _workflow_name(one.workflow))
        for number, one in enumerate(review.days)
    ]
    if review.before_days_nanousd is not None:
        swatches.append(element("li", element("i", class_="mark"), "the same day of the week before"))
    drawn = _both(days_plot(review, names, narrow=False), days_plot(review, WEEKDAY_NAMES, narrow=True))
    columns = [
        Column("Day", "name"),
        *(Column(_workflow_name(one.workflow)) for one in review.days),
        Column("Together"),
    ]
    rows = [_day_row(review, number, name) for number, name in enumerate(names)]
    if review.before_days_nanousd is not None:
        columns.append(Column("Week before"))
        rows = [[*row, usd(before)] for row, before in zip(rows, review.before_days_nanousd, strict=True)]
    return element(
        "figure",
        element("figcaption", "Spend per day, by workflow", class_="note"),
        drawn,
        element("ul", *swatches, class_="legend"),
        _as_table(table("Spend per day, by workflow", columns, rows)),
        aria_label="Spend per day, by workflow; the same figures stand in the table below it",
    )


def _day_row(review: Review, number: int, name: str) -> list[str]:
    if review.week.days_ms[number] >= review.until_ms:
        return [name, *(UNKNOWN for _ in review.days), UNKNOWN]
    parts = [one.days_nanousd[number] for one in review.days]
    return [name, *map(usd, parts), usd(sum(parts))]


def _both(wide: str, narrow: str) -> Markup:
    return join([
        element("div", Markup(wide), class_="wide"),
        element("div", Markup(narrow), class_="narrow"),
    ])  # fmt: skip


def _as_table(content: Markup) -> Markup:
    return element("details", element("summary", "The same as a table"), content)


def _colour(number: int, workflow: str | None) -> int:
    return SERIES - 1 if workflow is None else number


def _workflow_name(workflow: str | None) -> str:
    return "all others" if workflow is None else named(workflow)


def day_names(review: Review) -> list[str]:
    """The seven days, as in `Mon 16 Nov`."""
    return [day(start_ms, review.week.timezone) for start_ms in review.week.days_ms[:-1]]


def _ranking(caption: str, what: str, ranked: Ranking, review: Review) -> Markup:
    most = max((max(line.cost_nanousd, line.before_nanousd or 0) for line in ranked.lines), default=0)
    columns = [Column(what, "name"), Column("", "text"), Column("Spend"), Column("Change")]
    rows: list[list[Piece]] = [
        [named(line.name), _bar(line, most), usd(line.cost_nanousd), change(line.cost_nanousd, line.before_nanousd)]
        for line in ranked.lines
    ]
    if ranked.others or ranked.others_before_nanousd:
        others = f"{ranked.others:,} others" if ranked.others else "others, nothing this week"
        rows.append(
            [others, "", usd(ranked.others_nanousd), change(ranked.others_nanousd, ranked.others_before_nanousd)]
        )
    if review.comparable:
        caption += "; the mark is the week before"
    total, before = review.totals.cost_nanousd, review.before.cost_nanousd if review.before else None
    return element("div", table(caption, columns, rows, ["All", "", usd(total), change(total, before)]))


def _bar(line: Line, most: int) -> Markup:
    """The spend as a bar, with a mark where the week before stood."""
    mark = element("b", style=f"left:{_width(line.before_nanousd, most)}") if line.before_nanousd else ""
    filled = element("i", style=f"width:{_width(line.cost_nanousd, most)}")
    return element("span", filled, mark, class_="bar", aria_hidden="true")


def _width(nanousd: int, most: int) -> str:
    return f"{100 * nanousd / most:.1f}%" if most else "0"


def when(review: Review) -> Markup:
    """Spend by hour of the week."""
    names = day_names(review)
    edges = heat_edges(review)
    steps = [element("li", element("i", class_="h0"), "$0")]
    steps += [
        element("li", element("i", class_=f"h{number}"), f"to {usd(edge)}") for number, edge in enumerate(edges, 1)
    ]
    columns = [Column("Hour", "name"), *(Column(name) for name in names)]
    rows = [
        [f"{hour:02}:00", *(usd(of_day[hour]) for of_day in review.hours_nanousd)]
        for hour in range(len(review.hours_nanousd[0]))
    ]
    return element(
        "figure",
        element("figcaption", f"Spend per hour of the day ({review.week.timezone})", class_="note"),
        _both(hours_plot(review, names, narrow=False), hours_plot(review, WEEKDAY_NAMES, narrow=True)),
        element("ul", *steps, class_="legend"),
        _as_table(table("Spend per hour", columns, rows)),
        aria_label="Spend per hour of the week; the same figures stand in the table below it",
    )


def unusual(review: Review) -> Markup:
    """Days out of the ordinary, and workflows that came or went."""
    parts: list[Piece] = [element("h2", "Out of the ordinary")]
    if review.spikes:
        columns = [
            Column("Workflow", "name"), Column("Tenant", "text"), Column("Worst day", "text"), Column("Spend"),
            Column("Usual day"), Column("Times"), Column("Days"), Column("In excess"),
        ]  # fmt: skip
        rows = [
            [
                named(one.workflow), named(one.tenant_id), day(one.day_ms, review.week.timezone), usd(one.cost_nanousd),
                usd(one.usual_nanousd), f"{one.ratio:,.1f} x", f"{one.days}", usd(one.excess_nanousd),
            ]
            for one in review.spikes[:MOST_ROWS]
        ]  # fmt: skip
        caption = f"Days that cost more than {SPIKE_RATIO:g} x the median day of the week before"
        parts += [table(caption, columns, rows), *_left_out(len(review.spikes))]
    else:
        parts.append(_none(f"No day cost more than {SPIKE_RATIO:g} x the median day of the week before."))
    parts.append(element("div", *_came_and_went(review), class_="pair"))
    return join(parts)


def _came_and_went(review: Review) -> list[Markup]:
    found = []
    for caption, scopes, label in (
        ("New this week", review.new, "Spend"),
        ("Silent this week", review.silent, "Week before"),
    ):
        if scopes:
            found.append(element("div", _scopes(caption, scopes, label), *_left_out(len(scopes))))
    return found


def _scopes(caption: str, scopes: Sequence[Scope], label: str) -> Markup:
    columns = [Column("Workflow", "name"), Column("Tenant", "text"), Column(label)]
    rows = [[named(one.workflow), named(one.tenant_id), usd(one.cost_nanousd)] for one in scopes[:MOST_ROWS]]
    return table(caption, columns, rows)


def bought(review: Review) -> Markup:
    """Cost per accepted outcome, retries, and what a run and an hour cost."""
    parts: list[Piece] = [element("h2", "What it bought")]
    if review.outcomes:
        parts += [_outcomes(review), *_left_out(len(review.outcomes))]
        parts.append(
            element(
                "p",
                "Each figure is all spend of the workflow by its known outcomes, so that it is too high where few runs "
                "report one. Acceptance is the share accepted or edited; “low” is below "
                f"{percent(LOW_ACCEPTANCE)} of at least {MIN_OUTCOMES} outcomes.",
                class_="note",
            )
        )
    else:
        parts.append(_none("No run said what became of its output, so that nobody knows what the spend bought."))
    parts.append(element("div", _costs(review), _retries(review), class_="pair" if review.high_retries else "half"))
    return join(parts)


def _outcomes(review: Review) -> Markup:
    columns = [
        Column("Workflow", "name"), Column("Spend"), Column("Runs that report"), Column("Accepted"), Column("Edited"),
        Column("Rejected"), Column("Escalated"), Column("Acceptance"), Column("Per accepted"),
        Column("With edited"),
    ]  # fmt: skip
    low = {one.name for one in review.low_acceptance}
    rows: list[list[Piece]] = []
    for one in review.outcomes[:MOST_ROWS]:
        share: Piece = percent(one.acceptance)
        if one.name in low:
            share = element("span", f"{share} low", class_="flag")
        sums = one.totals
        rows.append([
            named(one.name), usd(sums.cost_nanousd), percent(min(1.0, one.reported)) if one.reported else "–",
            f"{sums.accepted:,}", f"{sums.edited:,}", f"{sums.rejected:,}", f"{sums.escalated:,}", share,
            usd(one.nanousd_per_accepted), usd(one.nanousd_per_accepted_or_edited),
        ])  # fmt: skip
    return table("Cost per accepted outcome", columns, rows)


def _costs(review: Review) -> Markup:
    shown = list({one.name: one for one in (*review.expensive_runs, *review.expensive_hours)}.values())
    if not shown:
        return element("div", _none("No run cost anything."))
    columns = [Column("Workflow", "name"), Column("Runs"), Column("Per run"), Column("Median hour"), Column("p99 hour")]
    rows = [
        [
            named(one.name), f"{one.totals.runs_started:,}", usd(one.nanousd_per_run), usd(one.median_hour_nanousd),
            usd(one.p99_hour_nanousd),
        ]
        for one in shown
    ]  # fmt: skip
    note = "By hours with spend: totals are kept by the hour, so that there is no percentile of single runs."
    return element("div", table("Most expensive runs and hours", columns, rows), element("p", note, class_="note"))


def _retries(review: Review) -> Markup:
    if not review.high_retries:
        text = f"No workflow of {MIN_CALLS} or more model calls retried {percent(HIGH_RETRY_SHARE)} of them or more."
        return element("div", _none(text))
    columns = [Column("Workflow", "name"), Column("Model calls"), Column("Retries"), Column("Share"), Column("Spend")]
    rows = [_retry_row(one) for one in review.high_retries[:MOST_ROWS]]
    caption = f"Workflows that retry {percent(HIGH_RETRY_SHARE)} of their calls or more"
    return element("div", table(caption, columns, rows), *_left_out(len(review.high_retries)))


def _retry_row(one: Workflow) -> list[str]:
    sums = one.totals
    return [
        named(one.name), f"{sums.calls:,}", f"{sums.retries:,}", percent(one.retry_share), usd(sums.cost_nanousd)
    ]  # fmt: skip


def missing(review: Review) -> Markup:
    """Calls without a price."""
    heading = element("h2", "Calls without a price")
    if not review.unpriced:
        return join([heading, _none("Every call had a price.")])
    columns = [Column("Workflow", "name"), Column("Tenant", "text"), Column("Calls"), Column("Tokens")]
    rows = [
        [named(one.workflow), named(one.tenant_id), f"{one.calls:,}", f"{one.tokens:,}"]
        for one in review.unpriced[:MOST_ROWS]
    ]
    foot = ["All", "", f"{review.totals.unpriced_calls:,}", f"{review.totals.unpriced_tokens:,}"]
    counted = (
        "They are charged at the policy's price for unknown models."
        if review.charges_unpriced
        else "They count as $0 in every figure of this page."
    )
    models = (
        f" Models: {', '.join(named(one, 40) for one in review.unpriced_models[:10])}."
        if review.unpriced_models
        else ""
    )
    return join([
        heading,
        element("p", counted + models),
        table("Most tokens first", columns, rows, foot),
        *_left_out(len(review.unpriced)),
    ])  # fmt: skip


def _left_out(found: int) -> list[Markup]:
    if found <= MOST_ROWS:
        return []
    return [element("p", f"{count(found - MOST_ROWS, 'more', 'more')} in the data (--json).", class_="note")]


def _none(text: str) -> Markup:
    return element("p", text, class_="quiet")
