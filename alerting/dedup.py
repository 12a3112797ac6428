"""Is it news? What was last said against what is true now."""

from typing import Literal

from schemas.alert import PAGING, Alert
from schemas.policy import Severity

News = Literal["first", "joined", "escalated", "resolved", "repeat", "flapping", "nothing"]
"""`joined`: an earlier alert of the incident is still unsaid, and this one is told in its place."""

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
    said: Alert | None,
    said_ms: int,
    owed: Alert | None,
    owed_binds: bool,
    owed_is_muted: bool,
    renotify_ms: int,
    now_ms: int,
) -> News:
    """What an alert adds to what a receiver was told (`said`) and is going to be told (`owed`) of its incident.

    An incident that is over before anybody heard of it is no news, unless it would have woken somebody who had not
    asked for silence: that is told as over. `owed_binds` says that what is owed cannot be taken back, because it may
    have arrived already: what overtakes it is news.
    """
    if owed is not None and owed_binds and overtakes(alert, owed):
        return "joined"
    told = said is not None and not is_over(said)
    if is_over(alert):
        if told:
            return "resolved"
        pages = owed is not None and owed.severity in PAGING and not is_over(owed)
        return "joined" if pages and not owed_is_muted else "nothing"
    if owed is not None and not is_over(owed):
        if outranks(alert, owed):
            return "joined"
        if outranks(owed, alert):
            return "nothing"
    if said is None or not told:
        return "first" if owed is None else "joined"
    if outranks(alert, said):
        return "escalated" if owed is None else "joined"
    if alert.state == "reminder" and now_ms - said_ms >= renotify_ms:
        return "repeat"
    return "nothing"


def overtakes(alert: Alert, owed: Alert) -> bool:
    """Whether an alert takes back what is owed: the incident ended, or came back to what was said before."""
    return is_over(alert) != is_over(owed)
