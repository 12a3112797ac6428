"""Is it news? What was last sent against what is true now."""

from typing import Literal

from schemas.alert import PAGING, Alert
from schemas.policy import Severity

News = Literal["first", "joined", "escalated", "resolved", "repeat", "flapping", "nothing"]
"""`joined`: an earlier alert of the incident is still pending, and this one is sent in its place."""

RANK: dict[Severity, int] = {"info": 0, "warning": 1, "error": 2, "critical": 3}


def outranks(one: Alert, other: Alert) -> bool:
    """Whether an alert is about more than another: a higher level, or the same at a higher severity."""
    return (one.level, RANK[one.severity]) > (other.level, RANK[other.severity])


def is_over(alert: Alert) -> bool:
    """Whether it says that the incident has ended."""
    return alert.state == "resolved"


def news(
    alert: Alert,
    *,
    sent: Alert | None,
    sent_ms: int,
    pending: Alert | None,
    pending_binds: bool,
    pending_is_muted: bool,
    renotify_ms: int,
    now_ms: int,
) -> News:
    """What an alert adds to what a receiver was sent of its incident and to what is pending there.

    An incident that is over before anybody heard of it is no news, unless it would have paged somebody who had not
    asked for silence: that is sent as over. Nobody is reminded of what is over, or of a note (`info`).
    `pending_binds` says that what is pending may have arrived already: what overtakes it is news.
    """
    if pending is not None and pending_binds and overtakes(alert, pending):
        return "joined"
    knows = sent is not None and not is_over(sent)
    if is_over(alert):
        if knows:
            return "resolved"
        pages = pending is not None and pending.severity in PAGING and not is_over(pending)
        return "joined" if pages and not pending_is_muted else "nothing"
    if alert.state == "reminder" and (alert.severity == "info" or (sent is not None and is_over(sent))):
        return "nothing"
    if pending is not None and not is_over(pending):
        if outranks(alert, pending):
            return "joined"
        if outranks(pending, alert):
            return "nothing"
    if sent is None or not knows:
        return "first" if pending is None else "joined"
    if outranks(alert, sent):
        return "escalated" if pending is None else "joined"
    if alert.state == "reminder" and now_ms - sent_ms >= renotify_ms:
        return "repeat"
    return "nothing"


def overtakes(alert: Alert, pending: Alert) -> bool:
    """Whether an alert takes back what is pending: the incident ended, or came back to what was sent before."""
    return is_over(alert) != is_over(pending)
