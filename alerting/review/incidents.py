"""From alerts, commands and operators' orders to what was told, stopped and muted in a week, and how it was judged.

An incident counts once, however many messages it took, in the week in which it opened, with the worst severity it has
reached by now. What people said of it counts whenever they said it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alerting.review.facts import (
    EXPIRES_WITHIN_MS,
    Fate,
    Incidents,
    Kill,
    PolicyException,
    SilenceGiven,
    Verdicts,
)
from alerting.review.week import Week
from schemas.alert import WATCHDOG, Alert
from schemas.control import Command, CommandAction
from schemas.operator import Feedback, LimitException, OperatorMessage, Resume, Silence
from schemas.policy import Severity

SEVERITIES: tuple[Severity, ...] = ("critical", "error", "warning", "info")
"""Worst first."""
AFTER_KILL = "spending_after_kill"
"""The detector of kills that nobody obeyed."""

Judged = Mapping[str, Feedback]
"""Incident -> the newest feedback on it."""


def is_of_interest(alert: Alert, week: Week) -> bool:
    """Whether a review of the week looks at an alert: not at older ones, reminders, and signs of life."""
    return alert.ts_ms >= week.start_ms and alert.state != "reminder" and alert.detector != WATCHDOG


def incidents_of(alerts: Iterable[Alert], week: Week, until_ms: int) -> dict[str, list[Alert]]:
    """The incidents that opened in the week, each with its alerts in the order of their time."""
    found: dict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        if is_of_interest(alert, week):
            found[alert.incident_id].append(alert)
    for incident in found.values():
        incident.sort(key=lambda alert: (alert.ts_ms, alert.state == "resolved"))
    return {
        incident_id: incident
        for incident_id, incident in found.items()
        if any(alert.state == "open" and alert.ts_ms < until_ms for alert in incident)
    }


def judged(orders: Iterable[OperatorMessage]) -> dict[str, Feedback]:
    """The newest feedback on each incident: a change of mind replaces what was said."""
    newest: dict[str, Feedback] = {}
    for order in orders:
        if isinstance(order, Feedback):
            known = newest.get(order.incident_id)
            if known is None or (order.ts_ms, order.message_id) >= (known.ts_ms, known.message_id):
                newest[order.incident_id] = order
    return newest


def by_rule(
    incidents: Mapping[str, Sequence[Alert]], said: Judged, thresholds: Mapping[str, tuple[str, ...]]
) -> tuple[Incidents, ...]:
    """Incidents counted by rule, most first; `thresholds` are those of each rule of the policy."""
    rules: dict[str, list[str]] = defaultdict(list)
    for incident_id, alerts in incidents.items():
        rules[alerts[-1].rule].append(incident_id)
    found = [_of_rule(rule, ids, incidents, said, thresholds.get(rule, ())) for rule, ids in rules.items()]
    return tuple(sorted(found, key=lambda one: (-one.total, one.rule)))


def _of_rule(
    rule: str, ids: list[str], incidents: Mapping[str, Sequence[Alert]], said: Judged, thresholds: tuple[str, ...]
) -> Incidents:
    worst = Counter(min((alert.severity for alert in incidents[one]), key=SEVERITIES.index) for one in ids)
    return Incidents(
        rule=rule,
        severities={severity: worst[severity] for severity in SEVERITIES if worst[severity]},
        verdicts=verdicts(ids, said),
        open=sum(incidents[one][-1].state != "resolved" for one in ids),
        thresholds=thresholds,
    )


def verdicts(incident_ids: Iterable[str], said: Judged) -> Verdicts:
    """What people made of these incidents."""
    counts = Counter(said[one].verdict if one in said else None for one in incident_ids)
    return Verdicts(counts["useful"], counts["noise"], counts["planned"], counts[None])


def commands_given(commands: Iterable[Command], week: Week, until_ms: int) -> dict[CommandAction, int]:
    """How often each action was ordered in the week."""
    issued = {one.command_id: one.action for one in commands if week.start_ms <= one.issued_ms < until_ms}
    return dict(sorted(Counter(issued.values()).items()))


def kills(
    commands: Iterable[Command],
    alerts: Iterable[Alert],
    orders: Iterable[OperatorMessage],
    said: Judged,
    week: Week,
    until_ms: int,
) -> tuple[Kill, ...]:
    """The kills ordered in the week, in the order of their time, with all that is known of them by now."""
    ordered = {
        one.command_id: one for one in commands if one.action == "kill" and week.start_ms <= one.issued_ms < until_ms
    }
    evidence, disobeyed = _evidence(alerts)
    lifts = [order for order in orders if isinstance(order, Resume)]
    return tuple(
        _kill(
            command,
            evidence.get(command.command_id, {}),
            lifted=_lifted(command, lifts),
            verdict=said.get(command.incident_id),
            disobeyed=command.command_id in disobeyed,
        )
        for command in sorted(ordered.values(), key=lambda one: (one.issued_ms, one.command_id))
    )


def _kill(
    command: Command, known: Mapping[str, Any], *, lifted: Resume | None, verdict: Feedback | None, disobeyed: bool
) -> Kill:
    said = lifted or verdict
    return Kill(
        tenant_id=command.tenant_id,
        target_type=command.target.type,
        target_id=command.target.id,
        rule=command.rule,
        incident_id=command.incident_id,
        issued_ms=command.issued_ms,
        fate="lifted" if lifted else _fate(known, disobeyed=disobeyed),
        overshoot_nanousd=_count(known.get("overshoot_nanousd")),
        cause_to_stop_ms=_count(known.get("cause_to_stop_ms")),
        verdict=verdict.verdict if verdict else None,
        remark=said.why if said else "",
        who=said.who if said else "",
    )


def _evidence(alerts: Iterable[Alert]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Command -> what the alerts know of it, the newest standing; and the commands that were not obeyed."""
    known: dict[str, dict[str, Any]] = defaultdict(dict)
    disobeyed = set()
    for alert in sorted(alerts, key=lambda one: one.ts_ms):
        command_id = alert.evidence.get("command_id")
        if not isinstance(command_id, str):
            continue
        known[command_id] |= {
            name: alert.evidence[name] for name in ("overshoot_nanousd", "cause_to_stop_ms") if name in alert.evidence
        }
        if alert.state == "resolved":
            known[command_id]["over"] = True
        if alert.detector == AFTER_KILL:
            disobeyed.add(command_id)
    return known, disobeyed


def _fate(known: Mapping[str, Any], *, disobeyed: bool) -> Fate:
    if disobeyed:
        return "went on"
    if "cause_to_stop_ms" in known:
        return "stopped"
    return "ended" if known.get("over") else "not known"


def _lifted(command: Command, lifts: Iterable[Resume]) -> Resume | None:
    """The first order that let this target go on after the kill."""
    after = [
        one
        for one in lifts
        if one.tenant_id == command.tenant_id and one.target == command.target and one.ts_ms >= command.issued_ms
    ]
    return min(after, key=lambda one: one.ts_ms, default=None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def silences_given(orders: Iterable[OperatorMessage], week: Week, until_ms: int) -> tuple[SilenceGiven, ...]:
    """Silences and snoozes of the week, in the order of their time."""
    given = {one.message_id: one for one in orders if isinstance(one, Silence)}
    found = [
        SilenceGiven(one.tenant_id, one.who, one.why, dict(one.match), one.ts_ms, one.until_ms)
        for one in given.values()
        if week.start_ms <= one.ts_ms < until_ms
    ]
    return tuple(sorted(found, key=lambda one: (one.given_ms, one.tenant_id)))


def exceptions_given(orders: Iterable[OperatorMessage], week: Week, until_ms: int) -> tuple[PolicyException, ...]:
    """Budgets that operators raised in the week, in the order of their time."""
    given = {one.message_id: one for one in orders if isinstance(one, LimitException)}
    ordered = sorted(given.values(), key=lambda one: (one.ts_ms, one.message_id))
    return tuple(_exception(one) for one in ordered if week.start_ms <= one.ts_ms < until_ms)


def exceptions_expiring(
    policy: Iterable[PolicyException], orders: Iterable[OperatorMessage], until_ms: int
) -> tuple[PolicyException, ...]:
    """Raised budgets that end within seven days after `until_ms`, soonest first. An operator's newest order stands."""
    standing: dict[tuple[str, str, str], LimitException] = {}
    for order in orders:
        if isinstance(order, LimitException) and order.ts_ms < until_ms:
            key = (order.tenant_id, order.rule, order.scope)
            if key not in standing or order.ts_ms >= standing[key].ts_ms:
                standing[key] = order
    all_of_them = [*policy, *(_exception(one) for one in standing.values())]
    soon = [one for one in all_of_them if until_ms < one.until_ms <= until_ms + EXPIRES_WITHIN_MS]
    return tuple(sorted(soon, key=lambda one: (one.until_ms, one.rule, one.scope)))


def _exception(order: LimitException) -> PolicyException:
    return PolicyException(order.rule, order.scope, order.limit_nanousd, order.until_ms, order.why, order.who)


def models_without_price(incidents: Mapping[str, Sequence[Alert]]) -> tuple[str, ...]:
    """The models that alerts about missing prices name."""
    found = [alerts[-1].evidence.get("models") for alerts in incidents.values() if alerts[-1].detector == "unpriced"]
    names = {name for models in found if isinstance(models, list) for name in models}
    return tuple(sorted(name for name in names if isinstance(name, str)))
