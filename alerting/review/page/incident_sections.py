"""The page's sections on people: what was stopped, whether telling was worth it, and what was kept quiet."""

from collections.abc import Sequence

from alerting.rendering.foreign import name
from alerting.review.facts import Fate, Incidents, Kill, PolicyException, Review, SilenceGiven
from alerting.review.page.markup import Column, Markup, Piece, element, join, table
from alerting.review.words import UNKNOWN, count, loosen, moment, named, percent, usd
from schemas.duration import format_duration
from schemas.operator import Verdict

MOST_ROWS = 20
_FATES: dict[Fate, str] = {
    "stopped": "stopped",
    "went on": "not obeyed",
    "ended": "ended, no answer",
    "lifted": "lifted by people",
    "not known": "not known yet",
}
_VERDICTS: dict[Verdict, str] = {"useful": "right", "noise": "wrong", "planned": "planned"}


def stopped(review: Review) -> Markup:
    """Kills, with what became of them."""
    heading = element("h2", "What was stopped")
    others = [count(number, action) for action, number in review.commands.items() if action != "kill"]
    also = [element("p", f"Beside that: {', '.join(others)}.", class_="note")] if others else []
    if not review.kills:
        return join([heading, element("p", "No run was killed.", class_="quiet"), *also])
    columns = [
        Column("Target", "name"), Column("Tenant", "text"), Column("When", "text"), Column("Rule", "text"),
        Column("Outcome", "text"), Column("Cause to stop"), Column("Overshoot"), Column("Verdict", "remark"),
    ]  # fmt: skip
    rows = [_kill(one, review) for one in review.kills[:MOST_ROWS]]
    foot = ["All", "", "", "", "", "", usd(review.overshoot_nanousd), ""]
    caption = f"{count(len(review.kills), 'kill')}; overshoot is what was spent after the order"
    return join([heading, table(caption, columns, rows, foot), *_left_out(len(review.kills)), *also])


def _kill(kill: Kill, review: Review) -> list[Piece]:
    fate: Piece = _FATES[kill.fate]
    if kill.fate == "went on":
        fate = "ran on" if review.rehearsed else element("span", fate, class_="flag")
    target = name(kill.target_id, 60)
    said = _VERDICTS[kill.verdict] if kill.verdict else UNKNOWN
    remark = f" “{named(kill.remark, 120)}” ({named(kill.who, 40)})" if kill.remark else ""
    return [
        target if kill.target_type == "run" else f"{kill.target_type.replace('_', ' ')} {target}",
        named(kill.tenant_id), moment(kill.issued_ms, review.week.timezone), named(kill.rule), fate,
        UNKNOWN if kill.cause_to_stop_ms is None else format_duration(kill.cause_to_stop_ms),
        usd(kill.overshoot_nanousd), said + remark,
    ]  # fmt: skip


def told(review: Review) -> Markup:
    """Incidents by rule, and what people made of them."""
    parts: list[Piece] = [element("h2", "Was it worth telling?")]
    said = review.verdicts
    if review.incidents:
        if said.precision is None:
            text = "No verdicts yet: nobody has called one of these incidents useful or noise."
        else:
            text = (
                f"{percent(said.precision)} of the judged incidents were useful: {said.useful:,} useful, "
                f"{said.noise:,} noise. Beside them {said.planned:,} planned, and {said.unjudged:,} not judged."
            )
        parts += [element("p", text), _incidents("Incidents by rule, and what people said of them", review.incidents)]
        parts += _left_out(len(review.incidents))
    else:
        parts.append(element("p", "There were no incidents.", class_="quiet"))
    if review.on_trial:
        parts.append(_incidents("On trial in shadow mode: nobody was told of these", review.on_trial))
    return join(parts)


def _incidents(caption: str, found: Sequence[Incidents]) -> Markup:
    columns = [
        Column("Rule", "name"), Column("Pages"), Column("Notices"), Column("Still open"), Column("Useful"),
        Column("Noise"), Column("Planned"), Column("Precision"), Column("Judged"),
    ]  # fmt: skip
    rows = [
        [
            named(one.rule), _or_dot(one.pages), _or_dot(one.notices), _or_dot(one.open), _or_dot(one.verdicts.useful),
            _or_dot(one.verdicts.noise), _or_dot(one.verdicts.planned), _precision(one),
            f"{one.verdicts.judged:,} of {one.total:,}",
        ]
        for one in found[:MOST_ROWS]
    ]  # fmt: skip
    sums = [sum(one.pages for one in found), sum(one.notices for one in found), sum(one.open for one in found)]
    hints = [
        element("p", f"{named(one.rule)} is mostly noise. {loosen(one)}", class_="note")
        for one in found
        if one.is_noisy
    ]
    return join([table(caption, columns, rows, ["All", *map(_or_dot, sums), "", "", "", "", ""]), *hints])


def _precision(one: Incidents) -> Piece:
    shown = percent(one.verdicts.precision)
    return element("span", f"{shown} low", class_="flag") if one.is_noisy else shown


def _or_dot(number: int) -> Piece:
    return f"{number:,}" if number else element("span", "0", class_="quiet")


def quiet(review: Review) -> Markup:
    """Silences given, budgets raised, and raised budgets that end soon."""
    zone = review.week.timezone
    parts: list[Piece] = [element("h2", "Silences and exceptions")]
    if review.silences:
        columns = [
            Column("Who", "name"), Column("Tenant", "text"), Column("What", "remark"), Column("From", "text"),
            Column("Until", "text"), Column("Why", "remark"),
        ]  # fmt: skip
        rows = [_silence(one, zone) for one in review.silences[:MOST_ROWS]]
        parts += [table("Silences and snoozes given", columns, rows), *_left_out(len(review.silences))]
    else:
        parts.append(element("p", "Nobody silenced anything.", class_="quiet"))
    for caption, found in (
        ("Budgets raised by operators", review.exceptions_given),
        ("Raised budgets that end within 7 days", review.exceptions_expiring),
    ):
        if found:
            parts += [_exceptions(caption, found, zone), *_left_out(len(found))]
    if not review.exceptions_expiring:
        parts.append(element("p", "No raised budget ends within 7 days.", class_="quiet"))
    return join(parts)


def _silence(one: SilenceGiven, zone: str) -> list[Piece]:
    what = (
        ", ".join(f"{named(label, 40)} {named(value)}" for label, value in list(one.match.items())[:5]) or "everything"
    )
    return [
        named(one.who), named(one.tenant_id), what, moment(one.given_ms, zone), moment(one.until_ms, zone),
        named(one.why, 200),
    ]  # fmt: skip


def _exceptions(caption: str, found: Sequence[PolicyException], zone: str) -> Markup:
    columns = [
        Column("Scope", "name"), Column("Budget", "text"), Column("Raised to"), Column("Until", "text"),
        Column("Who", "text"), Column("Why", "remark"),
    ]  # fmt: skip
    rows = [
        [
            named(one.scope), named(one.rule), usd(one.limit_nanousd), moment(one.until_ms, zone), named(one.who),
            named(one.why, 200),
        ]
        for one in found[:MOST_ROWS]
    ]  # fmt: skip
    return table(caption, columns, rows)


def _left_out(found: int) -> list[Markup]:
    if found <= MOST_ROWS:
        return []
    return [element("p", f"{found - MOST_ROWS:,} more in the data (--json).", class_="note")]
