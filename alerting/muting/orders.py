"""Which operators' messages change what people are notified of, and for how long."""

from typing import TypeGuard

from alerting.muting import acknowledgements, killed_runs
from schemas.operator import Acknowledge, Feedback, OperatorMessage, Resume, Silence

MutingOrder = Silence | Acknowledge | Feedback | Resume
"""Orders that mute, or end a mute."""


def concerns_notifications(message: OperatorMessage) -> TypeGuard[MutingOrder]:
    """Whether an order changes what people are notified of: the others are for the worker or for the review."""
    match message:
        case Silence() | Acknowledge():
            return True
        case Feedback(verdict=verdict):
            return verdict != "useful"
        case Resume(target=target):
            return target.type == "run"
        case _:
            return False


def acknowledged_incident(message: OperatorMessage) -> str | None:
    """The incident that somebody has acknowledged, snoozed or judged with it; None if it is about something else."""
    match message:
        case Acknowledge(incident_id=incident_id):
            return incident_id
        case Feedback(incident_id=incident_id, verdict="noise" | "planned"):
            return incident_id
        case Silence(match={"incident_id": incident_id, **others}) if not others:
            return incident_id
        case _:
            return None


def expires_ms(order: MutingOrder) -> int:
    """When an order can no longer change what is sent."""
    match order:
        case Silence(until_ms=until_ms):
            return until_ms
        case Resume(ts_ms=ts_ms):
            return ts_ms + killed_runs.KEEP_MS
        case _:
            return order.ts_ms + acknowledgements.KEEP_MS
