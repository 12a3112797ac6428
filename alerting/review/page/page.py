"""The review as a page: one file without scripts or addresses, for a desk, a phone, paper and the dark."""

from alerting.review.facts import Review
from alerting.review.message import NOTHING_STANDS_OUT, title
from alerting.review.page import detail_sections, incident_sections, spend_sections
from alerting.review.page.definitions import DEFINITIONS, OF_THE_TABLE
from alerting.review.page.markup import Markup, Piece, element, join
from alerting.review.page.style import STYLE
from alerting.review.words import UNKNOWN, change, compared_with, count, days_of, moment, percent, usd

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""A browser that reads it runs and fetches nothing, whatever a name may hold."""


def page(review: Review) -> str:
    """The whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        # An attribute of this name cannot be written as a keyword.
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="robots", content="noindex"),
        element("title", title(review)),
        element("style", Markup(STYLE)),
    )
    body = element("body", _header(review), element("main", *_sections(review)), _footer(review))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(review: Review) -> Markup:
    week = review.week
    remarks = []
    if not review.is_over:
        remarks.append(f"This week is not over: it is counted until {moment(review.until_ms, week.timezone)}.")
    if not review.comparable:
        why = compared_with(review)
        remarks.append(f"{why[0].upper()}{why[1:]}.")
    if review.rehearsed:
        remarks.append(
            "From a backtest: no agent could obey, and what was spent after a kill is what it would have saved."
        )
    return element(
        "header",
        element("h1", "Weekly review"),
        element("p", f"{days_of(week)} · {week.label} · {week.timezone}", class_="sub"),
        *([element("p", " ".join(remarks), class_="partly")] if remarks else []),
        _figures(review),
    )


def _figures(review: Review) -> Markup:
    """The four figures of the week."""
    return element("dl", *(_figure(*one) for one in (_spend(review), _outcomes(review), _kills(review), _told(review))),
                   class_="figures")  # fmt: skip


def _figure(label: str, value: str, more: list[str]) -> Markup:
    lines = [element("dd", line, class_="more") for line in more]
    return element("div", element("dt", label), element("dd", value, class_="value"), *lines)


def _spend(review: Review) -> tuple[str, str, list[str]]:
    totals, before = review.totals, review.before
    more = [f"{count(totals.runs_started, 'run')}, {count(totals.calls, 'model call')}"]
    if before is not None:
        against = "the week before" if review.is_over else "its same stretch"
        more.insert(0, f"{change(totals.cost_nanousd, before.cost_nanousd)} on {against} ({usd(before.cost_nanousd)})")
    return "Spend", usd(totals.cost_nanousd), more


def _outcomes(review: Review) -> tuple[str, str, list[str]]:
    totals = review.totals
    if not totals.outcomes:
        return "Per accepted outcome", UNKNOWN, ["no outcome was reported"]
    each = usd(totals.cost_nanousd // totals.accepted) if totals.accepted else UNKNOWN
    more = [f"{totals.accepted:,} accepted of {totals.outcomes:,} reported"]
    if totals.runs_finished:
        more.append(f"by {percent(min(1.0, totals.outcomes / totals.runs_finished))} of the finished runs")
    return "Per accepted outcome", each, more


def _kills(review: Review) -> tuple[str, str, list[str]]:
    if not review.kills:
        return "Kills", "0", ["nothing had to be stopped"]
    disobeyed = sum(kill.fate == "went on" for kill in review.kills)
    more = [f"{usd(review.overshoot_nanousd)} spent after the order"]
    if review.rehearsed:
        return "Kills", f"{len(review.kills):,}", [*more, "in a backtest, where nobody obeys"]
    more.append(f"{disobeyed} not obeyed" if disobeyed else "all obeyed, so far as is known")
    return "Kills", f"{len(review.kills):,}", more


def _told(review: Review) -> tuple[str, str, list[str]]:
    total = sum(one.total for one in review.incidents)
    if not total:
        return "Incidents", "0", ["nobody was told of anything"]
    said = review.verdicts
    judged = f"{percent(said.precision)} useful ({said.useful:,} of {said.judged:,} judged)"
    return "Incidents", f"{total:,}", [count(review.pages, "page"), judged if said.judged else "no verdicts yet"]


def _sections(review: Review) -> list[Piece]:
    parts: list[Piece] = [_attention(review)]
    if review.totals.calls or review.totals.tool_calls or review.totals.cost_nanousd:
        parts += [
            spend_sections.where(review),
            spend_sections.when(review),
            spend_sections.unusual(review),
            spend_sections.bought(review),
            *detail_sections.by_more(review),
        ]
    else:
        parts.append(element("p", "Nothing was spent in this week.", class_="quiet"))
    parts += [
        incident_sections.stopped(review),
        incident_sections.told(review),
        incident_sections.quiet(review),
        spend_sections.missing(review),
        _how(review),
    ]
    return parts


def _attention(review: Review) -> Markup:
    items = [element("li", element("div", element("strong", one.lead), f" {one.text}")) for one in review.attention]
    shown = element("ol", *items, class_="look") if items else element("p", NOTHING_STANDS_OUT, class_="quiet")
    return join([element("h2", "What to look at"), shown])


def _how(review: Review) -> Markup:
    meanings = DEFINITIONS if review.detail is None else DEFINITIONS | OF_THE_TABLE
    rows = [join([element("dt", term), element("dd", meaning)]) for term, meaning in meanings.items()]
    return join([element("h2", "How these figures are made"), element("dl", *rows, class_="how")])


def _footer(review: Review) -> Markup:
    until = moment(review.until_ms, review.week.timezone)
    return element(
        "footer",
        f"Spendfuse. Counted until {until} from rollups.v1, alerts.v1, control.v1 and operator.v1. Messages that come "
        "up to a day late can still change the last day, and what is booked later (backfill) any; what people say "
        "later changes verdicts.",
    )
