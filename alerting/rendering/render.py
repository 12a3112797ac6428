"""What people are shown of a notice: the parts of a message, in no receiver's markup.

The first line says what happened, to whom, how bad it is; then come a bar, what was done, what to do, whose it is, and
the evidence. Each fact stands once. Nothing foreign gets here but through `alerting.rendering.foreign`.
"""

from collections.abc import Iterator

from alerting.muting.flapping import FLAPPING_OPENS, QUIET_MS
from alerting.notice import Notice
from alerting.rendering.course import done
from alerting.rendering.evidence import evidence
from alerting.rendering.figures import amount, bar, clock, part_of, percent, share, span, time_of_day
from alerting.rendering.foreign import MOST_OF_A_LINE, MOST_OF_A_SENTENCE, clean, name, names
from schemas.alert import Alert
from schemas.duration import format_duration
from schemas.internal.spend import ALL_TENANTS
from schemas.policy import Severity

MOST_FACTS = 6
MOST_OWNERS = 8
REPEATED = "This may be a repetition: it is unknown whether an earlier attempt arrived."
COMES_AND_GOES = (
    f"It opened {FLAPPING_OPENS} times within an hour. You are notified once, and again when it has been steady for "
    f"{format_duration(QUIET_MS)} or gets critical."
)

_STATES = {"reminder": "Still open: ", "resolved": "Resolved: "}
_SHARED_UNITS = ("nanousd", "ms", "count")
"""Units whose amounts are many: a share of them says more than they do."""
_UNITS = ("run", "session", "run_tree")
_ATTRIBUTION = ("environment", "project", "agent", "user", "feature", "tier", "task_category")
_UNATTRIBUTED = "unattributed"
_NOUNS: dict[Severity, tuple[str, str]] = {
    "critical": ("critical incident", "critical incidents"),
    "error": ("error", "errors"),
    "warning": ("warning", "warnings"),
    "info": ("note", "notes"),
}


def headline(alert: Alert) -> str:
    """What happened and to whom: the alert's summary, after whatever of its subject the summary leaves out."""
    summary = clean(alert.summary, MOST_OF_A_SENTENCE - 100).rstrip(". ") or clean(alert.rule)
    whom = " / ".join(name(each, 60) for each in _subject(alert))
    return f"{whom}: {summary}" if whom else summary


def _subject(alert: Alert) -> Iterator[str]:
    """Tenant, workflow and the rest of the scope, without what the summary names."""
    if alert.tenant_id == ALL_TENANTS or names(alert.summary, alert.tenant_id, at_start=True):
        return
    yield alert.tenant_id
    of_scope = {key: value for key, value in alert.scope.items() if key not in ("tenant_id", *_UNITS)}
    workflow = {"workflow": alert.attribution["workflow"]} if "workflow" in alert.attribution else {}
    for value in list({**workflow, **of_scope}.values())[:2]:
        if value not in ("", _UNATTRIBUTED, alert.tenant_id) and not names(alert.summary, value):
            yield value


def title(notice: Notice) -> str:
    """The first line of a message."""
    alert = notice.alert
    if notice.kind == "watchdog":
        return "Spendfuse is watching"
    if is_about_several(notice):
        return _several(notice)
    if notice.kind == "flapping":
        return f"Comes and goes: {headline(alert)}"
    return f"{_STATES.get(alert.state, '')}{headline(alert)}"


def is_about_several(notice: Notice) -> bool:
    """Whether it is about several incidents, or may be."""
    return notice.kind == "digest" or len(notice.alerts) + notice.more > 1


def _several(notice: Notice) -> str:
    """How many, of what, whose: as far as it is the same for all."""
    count = len(notice.alerts) + notice.more
    severities = {alert.severity for alert in notice.alerts}
    nouns = _NOUNS[notice.alert.severity] if len(severities) == 1 else ("incident", "incidents")
    over = "resolved " if all(alert.state == "resolved" for alert in notice.alerts) else ""
    owners = {alert.owner for alert in notice.alerts}
    whose = f" for {name(notice.alert.owner, 60)}" if len(owners) == 1 and notice.alert.owner else ""
    return f"{count:,} {over}{nouns[count != 1]}{whose}"


def sentence(notice: Notice) -> str:
    """What a lock screen shows."""
    if notice.kind == "watchdog":
        return f"{title(notice)}, {clock(notice.alert.ts_ms)}"
    if notice.kind == "acknowledged":
        return f"{notice.note}. {title(notice)}"
    if is_about_several(notice):
        return f"{title(notice)}, first of all: {headline(notice.alert)}"
    return " ".join(part for part in (f"{title(notice)}.", what_was_done(notice)) if part)


def step(notice: Notice) -> str:
    """What has changed since the incident's first message: a line of its history."""
    if notice.kind == "acknowledged":
        return f"{time_of_day(notice.alert.ts_ms)} · {notice.note}"
    what = "Resolved" if notice.alert.state == "resolved" else title(notice)
    return f"{time_of_day(notice.alert.ts_ms)} · {what}. {what_was_done(notice)}".rstrip()


def gauge(alert: Alert) -> str:
    """The value against its limit, or above what is usual, as bars; numbers only where the summary has none.

    Empty where there is nothing to hold the value against and the summary says it already.
    """
    rows = []
    most = max(alert.value, alert.limit or 0, alert.baseline or 0)
    if alert.limit and (alert.baseline is None or alert.value < alert.limit):
        part = share(alert.value, alert.limit)
        rows.append(f"{bar(part)} {_against_limit(alert, alert.limit, percent(part))}")
    elif alert.baseline is not None:
        rows.append(f"{bar(share(alert.value, most))} {_label(alert, alert.value, 'now')}")
    if alert.baseline is not None:
        rows.append(f"{bar(share(alert.baseline, most))} {_label(alert, alert.baseline, 'usual')}")
    return "\n".join(rows) or _label(alert, alert.value, "")


def _label(alert: Alert, value: float, word: str) -> str:
    number = amount(value, alert.unit)
    return word if names(alert.summary, number) else f"{word} {number}".strip()


def _against_limit(alert: Alert, limit: float, part: str) -> str:
    both = part_of(alert.value, limit, alert.unit)
    if alert.unit not in _SHARED_UNITS:
        return both
    is_named = all(names(alert.summary, amount(one, alert.unit)) for one in (alert.value, limit))
    return part if is_named else f"{part}, {both}"


def what_was_done(notice: Notice) -> str:
    """Whether anything was stopped, or how it ended: our own words and numbers, nothing foreign."""
    was_done = done(notice.alert)
    return f"{was_done} {COMES_AND_GOES}".strip() if notice.kind == "flapping" else was_done


def what_to_do(notice: Notice) -> str:
    """The next action; empty for what is over, and where several incidents ask for different ones."""
    actions = {alert.next_action for alert in notice.alerts if alert.state != "resolved"}
    if len(actions) != 1 or notice.kind == "watchdog":
        return ""
    return clean(actions.pop(), MOST_OF_A_SENTENCE)


def facts(alert: Alert) -> list[tuple[str, str]]:
    """Whose it is and where, labelled."""
    period = ""
    if alert.window_start_ms is not None and alert.window_end_ms is not None:
        period = span(alert.window_start_ms, alert.window_end_ms)
    known, heading = {**alert.attribution, **alert.scope}, headline(alert)
    more = [(key, known[key]) for key in _ATTRIBUTION if key in known and not names(heading, known[key])]
    labelled = [
        ("Owners", _owners(alert)) if alert.owners else ("Owner", name(alert.owner or "") or "unknown"),
        ("Run", name(alert.run_id or "")),
        *((key.replace("_", " ").capitalize(), name(alert.scope.get(key, ""))) for key in _UNITS[1:]),
        ("Period", period),
        *((key.replace("_", " ").capitalize(), name(value)) for key, value in more),
    ]
    return [(label, text) for label, text in labelled if text and text != _UNATTRIBUTED][:MOST_FACTS]


def _owners(alert: Alert) -> str:
    """All owners of a shared budget, as far as there is room."""
    shown = ", ".join(name(owner, 60) for owner in alert.owners[:MOST_OWNERS])
    return shown if len(alert.owners) <= MOST_OWNERS else f"{shown} and {len(alert.owners) - MOST_OWNERS:,} more"


def reference(alert: Alert) -> str:
    """What to name it by: severity, rule, time and incident."""
    severity = clean(alert.severity, 20).capitalize()
    return f"{severity} · rule {name(alert.rule, 64)} · {clock(alert.ts_ms)} · incident {name(alert.incident_id, 64)}"


def line(alert: Alert) -> str:
    """An incident as one of several."""
    run = f" · {name(alert.run_id, 64)}" if alert.run_id else ""
    return f"{_STATES.get(alert.state, '')}{clean(headline(alert), MOST_OF_A_LINE)}{run}"


def and_more(notice: Notice) -> str:
    """How many incidents there was no room for."""
    return f"and {notice.more:,} more" if notice.more > 0 else ""


def plain_text(notice: Notice) -> str:
    """The whole notice as lines of text, for a terminal and for receivers without a format of their own."""
    alert = notice.alert
    if notice.kind == "watchdog":
        return sentence(notice)
    if notice.kind == "acknowledged":
        return "\n".join([notice.note, title(notice), reference(alert)])
    lines = [f"{_word(notice)}  {title(notice).removeprefix(_STATES['resolved'])}"]
    if is_about_several(notice):
        lines += [f"{alert.severity}: {line(alert)}" for alert in notice.alerts]
        lines += [and_more(notice), _labelled_action(notice)]
    else:
        lines += [*gauge(alert).split("\n"), what_was_done(notice), _labelled_action(notice)]
        lines += [" · ".join(f"{label.lower()} {text}" for label, text in facts(alert)), *evidence(alert)]
        lines.append(reference(alert))
    if notice.maybe_repeated:
        lines.append(REPEATED)
    return "\n".join(each for each in lines if each)


def _word(notice: Notice) -> str:
    """How bad it is, in capitals."""
    over = all(alert.state == "resolved" for alert in notice.alerts)
    return "RESOLVED" if over else clean(notice.alert.severity, 20).upper()


def _labelled_action(notice: Notice) -> str:
    action = what_to_do(notice)
    return f"What to do: {action}" if action else ""
