"""The review as a message: lines of text, and the same in Slack's blocks. Both stay under 3,000 characters."""

from statistics import median
from typing import Any

from alerting.notice import Notice, Ready
from alerting.receivers.slack.blocks import escape
from alerting.review.data import as_data
from alerting.review.detail import detail_lines
from alerting.review.facts import Line, Review
from alerting.review.words import (
    change,
    compared_with,
    count,
    days_of,
    moment,
    named,
    percent,
    precision,
    usd,
)
from schemas.duration import format_duration

MOST_OF_THE_MESSAGE = 3_000
MOST_OF_A_LEAD = 180
MOST_OF_A_TEXT = 420
MOST_RULES = 4
MOST_OF_THE_RULES = 400
MOST_OF_THE_DETAIL = 600
BY_MORE = "By owner, project, feature, agent, model and prompt"
NOTHING_STANDS_OUT = "Nothing stands out."

Block = dict[str, Any]


def review_notice(review: Review) -> Notice:
    """The review as senders take it. Its delivery is told apart by the week: `Notice.ready.subject`."""
    return Notice(
        kind="review",
        alerts=(),
        ready=Ready(
            subject=review.week.label,
            ts_ms=review.until_ms,
            text=review_text(review),
            slack_text=escape(f"{title(review)}: {_spend(review)}", 600),
            blocks=tuple(review_blocks(review)),
            data=as_data(review),
        ),
    )


def review_text(review: Review) -> str:
    """The message as text."""
    figures = [f"{label:<9} {text}" for label, text in headline(review)]
    ahead = [f"{number}. {lead} {text}" for number, (lead, text) in enumerate(_attention(review), 1)]
    lines = [title(review), "", *figures, "", "What to look at", *(ahead or [NOTHING_STANDS_OUT]), ""]
    for name, ranked in (("Tenants", review.tenants), ("Workflows", review.workflows)):
        if ranked.lines:
            lines += [f"{name} that cost most", *map(_ranked_line, ranked.lines[:3]), ""]
    if judged := _judged_rules(review):
        lines += ["Rules, by what people said of them", *(f"  {line}" for line in judged), ""]
    footer = _footer(review)
    room = MOST_OF_THE_MESSAGE - len("\n".join([*lines, BY_MORE, *footer])) - len("\n\n")
    if said := _fitting([f"  {line}" for line in detail_lines(review)], room):
        lines += [BY_MORE, *said, ""]
    return "\n".join([*lines, *footer])


def review_blocks(review: Review) -> list[Block]:
    """The message as Slack's blocks: foreign text in plain_text only, escaped all the same."""
    figures = [
        one for label, text in headline(review) for one in ({"type": "mrkdwn", "text": f"*{label}*"}, _plain(text, 240))
    ]
    ahead = [
        _section(_plain(f"{number}. {lead} {text}", MOST_OF_A_LEAD + MOST_OF_A_TEXT))
        for number, (lead, text) in enumerate(_attention(review), 1)
    ]
    return [
        {"type": "header", "text": _plain(title(review), 150)},
        {"type": "section", "fields": figures},
        _section({"type": "mrkdwn", "text": "*What to look at*"}),
        *(ahead or [_section(_plain(NOTHING_STANDS_OUT, 100))]),
        *_rule_blocks(review),
        *_detail_blocks(review),
        {"type": "context", "elements": [_plain("\n".join(_footer(review)), 400)]},
    ]


def _rule_blocks(review: Review) -> list[Block]:
    judged = _judged_rules(review)
    heading = _section({"type": "mrkdwn", "text": "*Rules, by what people said of them*"})
    return [heading, _section(_plain("\n".join(judged), MOST_OF_THE_RULES))] if judged else []


def _detail_blocks(review: Review) -> list[Block]:
    said = _fitting(detail_lines(review), MOST_OF_THE_DETAIL)
    return (
        [_section({"type": "mrkdwn", "text": f"*{BY_MORE}*"}), _section(_plain("\n".join(said), 2000))] if said else []
    )


def _fitting(lines: list[str], room: int) -> list[str]:
    """As many of the lines, from the first on, as have room."""
    found: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        found.append(line)
    return found


def _judged_rules(review: Review) -> list[str]:
    """A line for each rule of which people said something, those with the most noise first."""
    judged = [one for one in review.incidents if one.verdicts.judged]
    judged.sort(key=lambda one: (-one.verdicts.noise, -one.verdicts.judged, one.rule))
    return [
        f"{named(one.rule, 40)}: {count(one.pages, 'page')}, {count(one.notices, 'notice')}; {precision(one)}"
        for one in judged[:MOST_RULES]
    ]


def title(review: Review) -> str:
    """What it is about, as in `Weekly review, 16 – 22 November 2026`."""
    so_far = "" if review.is_over else f", until {moment(review.until_ms, review.week.timezone)}"
    return f"Weekly review, {days_of(review.week)}{so_far}"


def headline(review: Review) -> list[tuple[str, str]]:
    """The four figures of a week, each with its label."""
    return [
        ("Spend", _spend(review)),
        ("Outcomes", _outcomes(review)),
        ("Kills", _kills(review)),
        ("Alerts", _alerts(review)),
    ]


def _spend(review: Review) -> str:
    spent = usd(review.totals.cost_nanousd)
    if review.before is None:
        return f"{spent} ({compared_with(review)})"
    was = usd(review.before.cost_nanousd)
    return (
        f"{spent}, {change(review.totals.cost_nanousd, review.before.cost_nanousd)} on {compared_with(review)} ({was})"
    )


def _outcomes(review: Review) -> str:
    totals = review.totals
    if not totals.outcomes:
        return "none reported, so that nobody knows what the spend bought"
    parts = f"{totals.accepted:,} accepted and {totals.edited:,} edited of {totals.outcomes:,} reported"
    if not totals.accepted or not totals.cost_nanousd:
        return f"{parts}; a cost per accepted one does not exist"
    return f"{parts}; {usd(totals.cost_nanousd // totals.accepted)} per accepted one"


def _kills(review: Review) -> str:
    if not review.kills:
        return "none"
    parts = [f"{len(review.kills):,}"]
    if review.overshoot_nanousd is not None:
        parts.append(f"{usd(review.overshoot_nanousd)} spent after the order")
    if review.rehearsed:
        return ", ".join([*parts, "since nobody obeys in a backtest"])
    times = [kill.cause_to_stop_ms for kill in review.kills if kill.cause_to_stop_ms is not None]
    if times:
        parts.append(f"stopped within {format_duration(int(median(times)))} (median)")
    disobeyed = sum(kill.fate == "went on" for kill in review.kills)
    if disobeyed:
        parts.append(f"{disobeyed} not obeyed")
    return ", ".join(parts)


def _alerts(review: Review) -> str:
    total = sum(one.total for one in review.incidents)
    if not total:
        return "none"
    said = review.verdicts
    worth = (
        "no verdicts yet"
        if said.precision is None
        else f"{percent(said.precision)} useful ({said.useful} of {said.judged} judged)"
    )
    return f"{count(total, 'incident')}, {count(review.pages, 'page')}; {worth}"


def _attention(review: Review) -> list[tuple[str, str]]:
    return [(one.lead[:MOST_OF_A_LEAD], one.text[:MOST_OF_A_TEXT]) for one in review.attention]


def _ranked_line(line: Line) -> str:
    return (
        f"  {named(line.name, 40):<40} {usd(line.cost_nanousd):>12} {change(line.cost_nanousd, line.before_nanousd):>8}"
    )


def _footer(review: Review) -> list[str]:
    counts = [
        (len(review.silences), "silence", "silences"),
        (len(review.exceptions_expiring), "exception that ends within 7 days", "exceptions that end within 7 days"),
        (review.totals.unpriced_calls, "call without a price", "calls without a price"),
    ]
    also = [count(number, one, many) for number, one, many in counts if number]
    page = f"The page: python -m streams report weekly --week {review.week.label} --html review.html"
    return [f"Also: {', '.join(also)}.", page] if also else [page]


def _section(text: Block) -> Block:
    return {"type": "section", "text": text}


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": escape(text, most) or "-", "emoji": False}
