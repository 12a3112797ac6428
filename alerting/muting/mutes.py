"""May we? Predicates that keep an alert from people, each with a named reason and the time to ask again.

What is muted for a time stays owed: it is told when the time is over, if it still is true then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from alerting.muting.hours import next_opening_ms
from alerting.muting.inhibition import Standing
from alerting.muting.orders import Orders
from alerting.routing.router import labels, matches
from schemas.alert import PAGING, Alert
from schemas.routing import OfficeHours, PlannedWindow, Quiet

MuteReason = Literal[
    "shadow", "acknowledged", "run_killed", "inhibited", "silenced", "planned", "office_hours", "flapping"
]
LOOK_AGAIN_MS = 5 * 60_000
"""How often to see whether what covers an incident is over."""


@dataclass(frozen=True, slots=True)
class Mute:
    """Why nobody is told. `until_ms` is when to ask again; None says that it is settled."""

    reason: MuteReason
    detail: str
    until_ms: int | None


def muted(alert: Alert, receiver: str, *, orders: Orders, standing: Standing, quiet: Quiet, now_ms: int) -> Mute | None:
    """The first reason not to tell a receiver of an alert now; None if there is none."""
    return (
        shadow(alert)
        or acknowledged(alert, orders)
        or run_killed(alert, orders)
        or inhibited(alert, receiver, standing, now_ms)
        or silenced(alert, orders, now_ms)
        or planned(alert, quiet.planned, now_ms)
        or outside_office_hours(alert, quiet.office_hours, now_ms)
    )


def shadow(alert: Alert) -> Mute | None:
    """A rule on trial reaches nobody."""
    return Mute("shadow", f"{alert.rule} is on trial", None) if alert.mode == "shadow" else None


def acknowledged(alert: Alert, orders: Orders) -> Mute | None:
    """Somebody acts on the incident, or has said that nobody need: no reminders."""
    if alert.state != "reminder" or (order := orders.dealt_with(alert)) is None:
        return None
    return Mute("acknowledged", f"by {order.who}: {order.why}", None)


def run_killed(alert: Alert, orders: Orders) -> Mute | None:
    """What a killed run would warn of has been dealt with. What pages is told all the same, and so is the kill."""
    may_be_the_kill = alert.mode == "enforce" and alert.level >= 1
    if alert.severity in PAGING or may_be_the_kill or alert.run_id is None:
        return None
    if not orders.is_killed(alert.tenant_id, alert.run_id):
        return None
    return Mute("run_killed", f"run {alert.run_id} was killed", None)


def inhibited(alert: Alert, receiver: str, standing: Standing, now_ms: int) -> Mute | None:
    """A worse incident, told to the same receiver, says it already."""
    other = standing.inhibitor(alert, receiver)
    if other is None:
        return None
    return Mute("inhibited", f"{other.incident_id} covers it: {other.summary}", now_ms + LOOK_AGAIN_MS)


def silenced(alert: Alert, orders: Orders, now_ms: int) -> Mute | None:
    """Somebody has asked for silence, and said why and until when."""
    order = orders.silence(alert, now_ms)
    return Mute("silenced", f"by {order.who}: {order.why}", order.until_ms) if order else None


def planned(alert: Alert, windows: Iterable[PlannedWindow], now_ms: int) -> Mute | None:
    """The policy says that this spend is meant to happen."""
    found = labels(alert)
    for window in windows:
        if window.start_ms <= now_ms < window.until_ms and matches(window.match, found):
            return Mute("planned", window.why, window.until_ms)
    return None


def outside_office_hours(alert: Alert, hours: OfficeHours | None, now_ms: int) -> Mute | None:
    """What wakes nobody waits until somebody is there."""
    if hours is None or alert.severity in PAGING or (opens_ms := next_opening_ms(hours, now_ms)) == now_ms:
        return None
    return Mute("office_hours", f"outside of {hours.opens:%H:%M} to {hours.closes:%H:%M} {hours.timezone}", opens_ms)
