"""`incident`: its evidence, how it went on, who was notified and when, and what people ordered."""

from collections.abc import Iterable, Sequence

from alerting.delivery.log import Delivery
from alerting.rendering.course import done
from alerting.rendering.evidence import evidence
from alerting.rendering.figures import part_of
from alerting.rendering.foreign import name
from alerting.rendering.meaning import author, meaning
from alerting.review.page.markup import Markup, Piece, element, join
from schemas.alert import Alert
from streams.console.state.book import InHand
from streams.console.state.incidents import Incident
from streams.console.views.pieces import (
    advice,
    badge,
    bar,
    definitions,
    empty,
    key_of,
    link,
    moment,
    plain_table,
    quoted,
    run_href,
    share_text,
    shown_name,
    shown_text,
    since,
)
from streams.tools.orders.audit import Audited

STATES = {"open": "opened", "escalated": "escalated", "resolved": "ended", "reminder": "still open"}
TOLD = {"sent": "notified", "pending": "waiting", "superseded": "replaced by a newer message", "not_news": "no news",
        "muted": "muted", "given_up": "given up"}  # fmt: skip
MUTED = {
    "shadow": "its rule is on trial", "ended": "it had ended", "acknowledged": "somebody has it in hand",
    "run_killed": "its run was killed", "inhibited": "another incident covers it", "silenced": "silenced",
    "planned": "planned", "office_hours": "outside office hours", "flapping": "it comes and goes",
}  # fmt: skip


def fragments(
    incident: Incident, orders: Sequence[Audited], *, may_operate: bool, in_hand: InHand | None = None
) -> dict[str, Markup]:
    """The parts of the page that change, by their places in it."""
    return {
        "head": _head(incident, in_hand),
        "actions": _actions(incident, in_hand) if may_operate else join([]),
        "evidence": _evidence(incident.newest),
        "history": _history(incident),
        "told": _told(incident.deliveries.values()),
        "orders": _orders(orders),
    }


def shape(found: dict[str, Markup]) -> Markup:
    """The page with its parts in their places."""
    sections = (("Evidence", "evidence"), ("How it went on", "history"), ("Who was notified", "told"),
                ("Orders", "orders"))  # fmt: skip
    return join(
        [
            element("header", found["head"], id="head", class_="run-head"),
            element("p", found["actions"], id="actions", class_="actions"),
            *(element("section", element("h2", title), element("div", found[key], id=key)) for title, key in sections),
        ]
    )


def _head(incident: Incident, in_hand: InHand | None) -> Markup:
    alert = incident.newest
    state = badge(alert.severity, alert.severity) if incident.is_open else badge("ended", "quiet")
    said = done(alert)
    return join(
        [
            element("p", state, " ", shown_name(alert.tenant_id), " · ", name(alert.rule, 60), class_="over-title"),
            element("h1", shown_text(alert.summary, 300)),
            element("p", said, class_="lead") if said else "",
            element("p", "Since ", moment(incident.since_ms), ", ", since(incident.since_ms), class_="sub"),
            element("p", element("strong", "What to do: "), advice(alert.next_action), class_="todo")
            if alert.next_action and incident.is_open
            else "",
            _in_hand(in_hand) if in_hand is not None and incident.is_open else "",
            element("p", "On trial: nobody is notified of it.", class_="sub") if alert.mode == "shadow" else "",
        ]
    )


def _in_hand(found: InHand) -> Markup:
    return element(
        "p", badge("in hand", "live"), " ", shown_text(author(found.order), 300), ", ", since(found.since_ms),
        class_="in-hand",
    )  # fmt: skip


def _actions(incident: Incident, in_hand: InHand | None) -> Markup:
    alert = incident.newest
    about = f"tenant={quoted(alert.tenant_id)}&incident={quoted(incident.incident_id)}"
    buttons = []
    if incident.is_open:
        buttons += [
            link(
                f"/order/ack?{about}",
                "Take over…" if in_hand else "Take in hand…",
                class_="button plain" if in_hand else "button",
            ),
            link(f"/order/snooze?{about}", "Snooze…", class_="button plain"),
        ]
    buttons.append(link(f"/order/feedback?{about}", "Feedback…", class_="button plain"))
    if alert.run_id:
        run = f"tenant={quoted(alert.tenant_id)}&run={quoted(alert.run_id)}"
        stopped = alert.command in ("kill", "pause") or "command_id" in alert.evidence
        words = (
            ("resume", "Let the run go on…", "button plain") if stopped else ("kill", "Kill the run…", "button danger")
        )
        buttons.append(link(f"/order/{words[0]}?{run}", words[1], class_=words[2]))
    return join(buttons)


def _evidence(alert: Alert) -> Markup:
    figure: list[tuple[str, Piece]] = []
    if alert.limit is not None:
        share = alert.value / alert.limit if alert.limit else 1.0
        text = f"{part_of(alert.value, alert.limit, alert.unit)}, {share_text(share)}"
        figure.append(("How much", join([text, bar(share)])))
    if alert.run_id:
        figure.append(("Run", link(run_href(alert.tenant_id, alert.run_id), shown_name(alert.run_id))))
    owners = [alert.owner] if alert.owner else alert.owners[:8]
    if owners:
        figure.append(("Owner", shown_name(", ".join(owners), 200)))
    figure += [
        (each.replace("_", " ").capitalize(), shown_name(value))
        for each, value in alert.attribution.items()
        if each != "owner"
    ]
    figure.append(("Policy", shown_name(alert.policy_version, 60)))
    facts = [element("li", _fact(line, alert)) for line in evidence(alert)]
    return join([definitions(figure), element("ul", *facts, class_="evidence") if facts else ""])


def _fact(line: str, alert: Alert) -> Markup:
    """A line of evidence; one that names a run leads to it."""
    runs = alert.evidence.get("top_runs")
    for one in runs if isinstance(runs, list) else ():
        run_id = one.get("run_id") if isinstance(one, dict) else one
        if isinstance(run_id, str) and line.endswith(f"run {name(run_id)}"):
            before = line.removesuffix(name(run_id))
            return join([before, link(run_href(alert.tenant_id, run_id), shown_name(run_id))])
    return shown_text(line, 300)


def _history(incident: Incident) -> Markup:
    items = [
        element(
            "li", moment(alert.ts_ms),
            element("div", badge(STATES[alert.state], alert.severity if alert.state != "resolved" else "quiet"), " ",
                    shown_text(alert.summary, 240)),
        )
        for alert in incident.alerts
    ]  # fmt: skip
    left_out = empty(f"{incident.left_out:,} in the middle are left out") if incident.left_out else ""
    return join([element("ol", *items, class_="timeline"), left_out])


def _told(deliveries: Iterable[Delivery]) -> Markup:
    found = sorted(deliveries, key=lambda one: one.at_ms)
    if not found:
        return empty("Nobody has been notified so far.")
    heads = [("When", ""), ("Receiver", ""), ("Of", ""), ("What became of it", "")]
    rows = [
        element(
            "tr", element("td", moment(one.at_ms)), element("th", shown_name(one.receiver), scope="row"),
            element("td", _step(one.alert), data_label="Of"),
            element("td", _outcome(one), data_label="What became of it"), data_key=key_of(one.key),
        )
        for one in found
    ]  # fmt: skip
    return plain_table("Who was notified, and when", heads, rows, "told")


def _step(alert: Alert) -> Markup:
    """Which step of the incident a message was about."""
    level = f" at {share_text(alert.level)}" if alert.state in ("open", "escalated") and alert.level < 1 else ""
    return join([badge(STATES[alert.state], alert.severity if alert.state != "resolved" else "quiet"), level])


def _outcome(one: Delivery) -> str:
    text = TOLD.get(one.status, one.status)
    if one.muted:
        text += f": {MUTED[one.muted]}"
    if one.failure:
        text += f": {one.failure.replace('_', ' ')}"
    if one.attempts > 1:
        text += f", {one.attempts} attempts"
    return text


def _orders(orders: Sequence[Audited]) -> Markup:
    if not orders:
        return empty("Nobody has ordered anything about it.")
    items = [
        element(
            "li", moment(one.record.appended_ms),
            element("div", element("strong", shown_text(author(one.order), 300)), ": ", meaning(one.order), " ",
                    badge(one.status, "quiet"), f" {one.refused}" if one.refused else ""),
        )
        for one in orders
        if one.order is not None
    ]  # fmt: skip
    return element("ol", *items, class_="timeline")
