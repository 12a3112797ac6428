"""What has been done about an incident, and how it ended: whether anything was stopped, how fast, at what cost.

Our own words and numbers, nothing foreign: receivers may set them in bold.
"""

from typing import get_args

from alerting.rendering.figures import time_of_day
from schemas.alert import Alert
from schemas.duration import format_duration
from schemas.money import format_usd
from schemas.policy import Action, Period

SECOND_MS = 1_000
ABOUT_DATA = frozenset({"data_quality", "unpriced"})
"""Detectors of records that cannot be right."""
_ONLY_ALERTS = "Nothing was stopped: this rule only alerts."
_SENT: dict[Action, str] = {
    "kill": "A kill was sent to {whom}, not yet confirmed.",
    "pause": "A pause was sent to {whom}: it is to wait until it may go on.",
    "downgrade": "Nothing was stopped: {whom} goes on, and was sent a downgrade to a cheaper model.",
    "resume": "{Whom} was allowed to go on.",
}
_ORDERED = {
    "alert": _ONLY_ALERTS,
    "kill": "Runs that spend here are being killed.",
    "pause": "Runs that spend here are being paused.",
    "downgrade": "Nothing was stopped: runs that spend here are sent a downgrade to a cheaper model.",
}
_ENDS = {
    "completed": "{Whom} has finished",
    "failed": "{Whom} has failed",
    "cancelled": "{Whom} was cancelled",
    "killed": "{Whom} was stopped",
    "idle": "{Whom} has gone quiet",
}
_OBEYED: dict[str, str] = {"kill": "stopped", "pause": "was paused", "downgrade": "went on with a cheaper model"}


def done(alert: Alert) -> str:
    """What was done about it, in a sentence or two; empty where the alert does not say."""
    if alert.state == "resolved":
        return _ended(alert)
    lasts = f"It has been open for {lasted}. " if alert.state == "reminder" and (lasted := _lasted(alert)) else ""
    return f"{lasts}{_so_far(alert)}{_told(alert)}".strip()


def _so_far(alert: Alert) -> str:
    if "killed_by" in alert.evidence:
        several = "runs_going_on" in alert.evidence
        if alert.evidence.get("is_silent"):
            return f"It is not known whether {'they have' if several else 'it has'} stopped."
        return f"Not stopped: the {'kills have' if several else 'kill has'} had no effect so far."
    if alert.detector in ABOUT_DATA:
        return "Nothing was stopped: this is about records, not about a run."
    if isinstance(stopped := alert.evidence.get("runs_stopped"), int):
        return f"Each of these {stopped:,} runs was sent a command to stop."
    if alert.command is not None:
        return _SENT[alert.command].format(whom=_whom(alert), Whom=_whom(alert).capitalize())
    if alert.mode == "alert":
        return _ONLY_ALERTS
    if alert.evidence.get("late"):
        return "Nothing was stopped: it was reported when its time was over."
    if _is_about_a_unit(alert) or alert.level < 1:
        return f"Nothing was stopped{_why_not(alert)}."
    return _ORDERED.get(str(alert.evidence.get("at_limit")), "")


def _told(alert: Alert) -> str:
    """Whether the agent itself knows of it."""
    delivered_ms = alert.evidence.get("nudge_delivered_ms")
    if isinstance(delivered_ms, int):
        return f" The agent was told at {time_of_day(delivered_ms)}."
    is_under_way = "nudged_ms" in alert.evidence and alert.state == "open"
    return " Its agent was sent a word about it." if is_under_way else ""


def _why_not(alert: Alert) -> str:
    """Why nothing was stopped, where the alert knows it."""
    until_ms = alert.evidence.get("allowed_until_ms")
    if isinstance(until_ms, int) and until_ms > alert.ts_ms:
        return ": an operator has let it go on until then"
    if "resumed_by" in alert.evidence:
        return ": an operator has let it go on"
    if isinstance(alert.evidence.get("accepted_ms"), int):
        return ": its output was accepted, and only what it used since then counts"
    return ""


def _ended(alert: Alert) -> str:
    lasted = f" The incident lasted {lasted}." if (lasted := _lasted(alert)) else ""
    if "runs_going_on" in alert.evidence:
        spent = _overshoot(alert)
        return f"No call of them was seen for an hour; {spent} was spent after their kills.{lasted}"
    return f"{_how(alert)}{_unconfirmed(alert)}{_cost(alert)}.{lasted}{_told(alert)}"


def _lasted(alert: Alert) -> str:
    """For how long, since the first alert of the incident."""
    since_ms = alert.evidence.get("since_ms")
    if not isinstance(since_ms, int):
        return ""
    lasted_ms = alert.ts_ms - since_ms
    return format_duration(lasted_ms) if lasted_ms >= SECOND_MS else "less than a second"


def _how(alert: Alert) -> str:
    """How it ended: by a command that was obeyed, by the end of the run or of the period, or by an operator."""
    status = _ENDS.get(str(alert.evidence.get("run_status")), "").format(Whom=_whom(alert).capitalize())
    if isinstance(took_ms := alert.evidence.get("cause_to_stop_ms"), int):
        return _obeyed(alert, took_ms, status)
    if status:
        return status
    if "stopped_by" in alert.evidence:
        return f"{_whom(alert).capitalize()} was stopped by another rule"
    if alert.evidence.get("back_to_normal"):
        return "Runs cost again what they did before"
    if alert.evidence.get("limit_raised"):
        return "The limit was raised, or a new allowance has begun"
    if alert.window_end_ms is not None and alert.ts_ms >= alert.window_end_ms:
        period = alert.evidence.get("period")
        return f"The {period} is over" if period in get_args(Period) else "Its time is over"
    return "An operator has let it go on" if "released" in alert.evidence else "It is over"


def _obeyed(alert: Alert, took_ms: int, status: str) -> str:
    """What a command did, how fast after its cause, and what was spent until then.

    An end that comes with the answer itself has its time; one that comes with the run's end does not know it.
    """
    action, whom = _action(alert), _whom(alert).capitalize()
    within = f"within {format_duration(took_ms)}"
    if action != "kill" and status and alert.evidence.get("run_status") != "killed":
        return f"{status}; before, it {_OBEYED[action]} {within}"
    at = "" if status else f" at {time_of_day(alert.ts_ms)},"
    spent = f" and spent {_overshoot(alert)} more" if action != "downgrade" and _overshoot(alert) else ""
    return f"{whom} {_OBEYED[action]}{at} {within}{spent}"


def _action(alert: Alert) -> str:
    """The command whose outcome it is; alerts of earlier versions know kills alone."""
    action = alert.evidence.get("action", alert.command)
    return action if action in _OBEYED else "kill"


def _unconfirmed(alert: Alert) -> str:
    """What came of a command that nobody answered."""
    if not {"command_id", "overshoot_nanousd"} <= alert.evidence.keys() or "released" in alert.evidence:
        return ""
    if "cause_to_stop_ms" in alert.evidence:
        return ""
    action = _action(alert)
    spent = f", and {_overshoot(alert)} was spent after it" if action == "kill" and _overshoot(alert) else ""
    return f"; the {action} was never confirmed{spent}"


def _overshoot(alert: Alert) -> str:
    """What was spent after the command; `nothing` is an amount as well, and empty says that nobody knows."""
    overshoot = alert.evidence.get("overshoot_nanousd")
    if not isinstance(overshoot, int):
        return ""
    return format_usd(overshoot) if overshoot else "nothing"


def _cost(alert: Alert) -> str:
    cost = alert.evidence.get("cost_nanousd")
    if not isinstance(cost, int) or alert.detector in ABOUT_DATA or "runs_stopped" in alert.evidence:
        return ""
    return f"; it cost {format_usd(cost)} in all"


def _is_about_a_unit(alert: Alert) -> bool:
    return alert.run_id is not None or not alert.scope.keys().isdisjoint(("session", "run_tree"))


def _whom(alert: Alert) -> str:
    if alert.run_id is not None:
        return "the run"
    return "the session" if "session" in alert.scope else "the run tree" if "run_tree" in alert.scope else "the runs"
