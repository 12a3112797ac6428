"""What has been done about an incident, and how it ended: whether anything was stopped, how fast, at what cost."""

from typing import get_args

from schemas.alert import Alert
from schemas.duration import format_duration
from schemas.money import format_usd
from schemas.policy import Action, Period

SECOND_MS = 1_000
_SENT: dict[Action, str] = {
    "kill": "A kill was sent to {whom}, not yet confirmed.",
    "pause": "A pause was sent to {whom}.",
    "downgrade": "{Whom} was told to use a cheaper model.",
    "resume": "{Whom} was allowed to go on.",
}
_ORDERED = {
    "alert": "Nothing was stopped: this rule only tells.",
    "kill": "Runs that spend here are being killed.",
    "pause": "Runs that spend here are being paused.",
    "downgrade": "Runs that spend here are told to use a cheaper model.",
}
_ENDS = {
    "completed": "{Whom} has finished",
    "failed": "{Whom} has failed",
    "cancelled": "{Whom} was cancelled",
    "killed": "{Whom} was stopped",
    "idle": "{Whom} has gone quiet",
}


def done(alert: Alert) -> str:
    """What was done about it, in a sentence or two of our own words; empty where the alert does not say."""
    if alert.state == "resolved":
        return _ended(alert)
    lasts = f"It has been open for {lasted}. " if alert.state == "reminder" and (lasted := _lasted(alert)) else ""
    return f"{lasts}{_so_far(alert)}".rstrip()


def _so_far(alert: Alert) -> str:
    if "killed_by" in alert.evidence:
        return "Not stopped: the kill has had no effect so far."
    if alert.command is not None:
        return _SENT[alert.command].format(whom=_whom(alert), Whom=_whom(alert).capitalize())
    if alert.mode == "alert":
        return _ORDERED["alert"]
    if _is_about_a_unit(alert) or alert.level < 1 or alert.evidence.get("late"):
        return "Nothing was stopped."
    return _ORDERED.get(str(alert.evidence.get("at_limit")), "")


def _ended(alert: Alert) -> str:
    lasted = f" The incident lasted {lasted}." if (lasted := _lasted(alert)) else ""
    return f"{_how(alert)}{_unconfirmed(alert)}{_cost(alert)}.{lasted}"


def _lasted(alert: Alert) -> str:
    """For how long, since the first alert of the incident."""
    since_ms = alert.evidence.get("since_ms")
    if not isinstance(since_ms, int):
        return ""
    lasted_ms = alert.ts_ms - since_ms
    return format_duration(lasted_ms) if lasted_ms >= SECOND_MS else "less than a second"


def _how(alert: Alert) -> str:
    """How it ended; where a command stopped it, how fast, and what was spent until then."""
    took_ms = alert.evidence.get("cause_to_stop_ms")
    if isinstance(took_ms, int):
        spent = f" and spent {overshoot} more" if (overshoot := _overshoot(alert)) else ""
        return f"{_whom(alert).capitalize()} stopped within {format_duration(took_ms)}{spent}"
    status = _ENDS.get(str(alert.evidence.get("run_status")))
    if status is not None:
        return status.format(Whom=_whom(alert).capitalize())
    if alert.window_end_ms is not None and alert.ts_ms >= alert.window_end_ms:
        period = alert.evidence.get("period")
        return f"The {period} is over" if period in get_args(Period) else "Its time is over"
    return "An operator has lifted the kill" if "released" in alert.evidence else "It is over"


def _unconfirmed(alert: Alert) -> str:
    """What came of a command that nobody answered."""
    if not {"command_id", "overshoot_nanousd"} <= alert.evidence.keys() or "released" in alert.evidence:
        return ""
    if "cause_to_stop_ms" in alert.evidence:
        return ""
    return f"; the kill was never confirmed, and {_overshoot(alert)} was spent after it"


def _overshoot(alert: Alert) -> str:
    overshoot = alert.evidence.get("overshoot_nanousd")
    return format_usd(overshoot) if isinstance(overshoot, int) else ""


def _cost(alert: Alert) -> str:
    cost = alert.evidence.get("cost_nanousd")
    return f"; it cost {format_usd(cost)} in all" if isinstance(cost, int) else ""


def _is_about_a_unit(alert: Alert) -> bool:
    return alert.run_id is not None or not alert.scope.keys().isdisjoint(("session", "run_tree"))


def _whom(alert: Alert) -> str:
    if alert.run_id is not None:
        return "the run"
    return "the session" if "session" in alert.scope else "the run tree" if "run_tree" in alert.scope else "the runs"
