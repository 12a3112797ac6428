"""May it be sent now? Predicates that keep an alert from a receiver, with a named reason and a time to ask again.

What is muted for a time stays pending: it is sent when the time is over, if it still is true then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from alerting.dedup import is_over
from alerting.muting.acknowledgements import Acknowledgements
from alerting.muting.ended import EndedIncidents
from alerting.muting.hours import next_opening_ms
from alerting.muting.inhibition import Inhibition
from alerting.muting.killed_runs import KilledRuns
from alerting.muting.orders import MutingOrder
from alerting.muting.silences import Silences
from alerting.routing.labels import labels, matches
from schemas.alert import PAGING, Alert
from schemas.operator import Resume, Silence
from schemas.routing import Routing

MuteReason = Literal[
    "shadow", "ended", "acknowledged", "run_killed", "inhibited", "silenced", "planned", "office_hours", "flapping"
]
LOOK_AGAIN_MS = 5 * 60_000
"""How often to see whether what covers an incident is over."""


@dataclass(frozen=True, slots=True)
class Mute:
    """Why an alert is not sent. `until_ms` is when to ask again; None closes it."""

    reason: MuteReason
    detail: str
    until_ms: int | None


class Mutes:
    """All that mutes, and what must be known for it."""

    def __init__(self, routing: Routing) -> None:
        self.quiet = routing.quiet
        self.silences = Silences()
        self.acknowledgements = Acknowledgements()
        self.killed_runs = KilledRuns()
        self.ended = EndedIncidents()
        self.inhibition = Inhibition(routing.inhibit)

    def observe(self, alert: Alert) -> None:
        """Take in an alert, whoever is notified of it."""
        self.killed_runs.observe(alert)
        self.ended.observe(alert)
        self.inhibition.observe(alert)

    def obey(self, order: MutingOrder) -> None:
        """Take in an operator's order. The same one twice is one."""
        match order:
            case Silence():
                self.silences.add(order)
            case Resume():
                self.killed_runs.resumed(order)
            case _:
                self.acknowledgements.add(order)

    def sent(self, alert: Alert, receiver: str) -> None:
        """A receiver has a message of this alert."""
        if is_over(alert) or not self.ended.has(alert):
            self.inhibition.sent(alert, receiver)

    def muted(self, alert: Alert, receiver: str, now_ms: int) -> Mute | None:
        """The first reason not to send an alert to a receiver now; None if there is none."""
        question = Question(alert, receiver, now_ms, self)
        return next((mute for reason in REASONS if (mute := reason(question)) is not None), None)

    def forget(self, now_ms: int) -> None:
        """Drop what is over."""
        for memory in (self.silences, self.acknowledgements, self.killed_runs, self.ended, self.inhibition):
            memory.forget(now_ms)


@dataclass(frozen=True, slots=True)
class Question:
    """May this alert be sent to this receiver now, given all that mutes?"""

    alert: Alert
    receiver: str
    now_ms: int
    mutes: Mutes


def shadow(asked: Question) -> Mute | None:
    """A rule on trial reaches nobody."""
    return Mute("shadow", f"{asked.alert.rule} is on trial", None) if asked.alert.mode == "shadow" else None


def ended(asked: Question) -> Mute | None:
    """Nobody is reminded of what is over, by its end or by that of its window."""
    alert, now_ms = asked.alert, asked.now_ms
    if alert.state != "reminder":
        return None
    window_is_over = alert.window_end_ms is not None and alert.window_end_ms <= now_ms
    return Mute("ended", "the incident is over", None) if window_is_over or asked.mutes.ended.has(alert) else None


def acknowledged(asked: Question) -> Mute | None:
    """Somebody acts on the incident, or has said that nobody need: no reminders."""
    order = asked.mutes.acknowledgements.of(asked.alert)
    if asked.alert.state != "reminder" or order is None:
        return None
    return Mute("acknowledged", f"by {order.who}: {order.why}", None)


def run_killed(asked: Question) -> Mute | None:
    """What a killed run would warn of has been dealt with. What pages is sent all the same, and so is the kill."""
    alert = asked.alert
    may_be_the_kill = alert.mode == "enforce" and alert.level >= 1
    if alert.severity in PAGING or may_be_the_kill or alert.run_id is None:
        return None
    if not asked.mutes.killed_runs.has(alert.tenant_id, alert.run_id):
        return None
    return Mute("run_killed", f"run {alert.run_id} was killed", None)


def inhibited(asked: Question) -> Mute | None:
    """An incident that the receiver was sent covers it."""
    other = asked.mutes.inhibition.inhibitor(asked.alert, asked.receiver, asked.now_ms)
    if other is None:
        return None
    return Mute("inhibited", f"{other.incident_id} covers it: {other.summary}", asked.now_ms + LOOK_AGAIN_MS)


def silenced(asked: Question) -> Mute | None:
    """Somebody has asked for silence, and said why and until when."""
    order = asked.mutes.silences.covering(asked.alert, asked.now_ms)
    return Mute("silenced", f"by {order.who}: {order.why}", order.until_ms) if order else None


def planned(asked: Question) -> Mute | None:
    """The policy says that this spend is meant to happen."""
    found = labels(asked.alert)
    for window in asked.mutes.quiet.planned:
        if window.start_ms <= asked.now_ms < window.until_ms and matches(window.match, found):
            return Mute("planned", window.why, window.until_ms)
    return None


def outside_office_hours(asked: Question) -> Mute | None:
    """What pages nobody waits until somebody is there."""
    hours = asked.mutes.quiet.office_hours
    if hours is None or asked.alert.severity in PAGING:
        return None
    if (opens_ms := next_opening_ms(hours, asked.now_ms)) == asked.now_ms:
        return None
    return Mute("office_hours", f"outside of {hours.opens:%H:%M} to {hours.closes:%H:%M} {hours.timezone}", opens_ms)


REASONS: tuple[Callable[[Question], Mute | None], ...] = (
    shadow,
    ended,
    acknowledged,
    run_killed,
    inhibited,
    silenced,
    planned,
    outside_office_hours,
)
"""In the order in which they are asked: what closes an alert comes before what only puts it off."""
