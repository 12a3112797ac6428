"""What people are shown of a notice: foreign text made harmless, amounts, a bar, and the facts in a fixed order.

Everything here is without a receiver's markup. Names, summaries and evidence come from agents and their tools, and
any of them may be hostile: nothing foreign leaves this module but through `clean`.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from alerting.notice import Notice
from schemas.alert import Alert
from schemas.money import format_usd

MOST_OF_A_NAME = 120
MOST_OF_A_SENTENCE = 600
MOST_OF_A_LINE = 220
MOST_EVIDENCE = 6
MOST_TOLD = 8
"""Incidents listed one by one in a message about several; the rest are counted."""
BAR_CELLS = 20
REPEATED = "This may be a repetition: it is unknown whether an earlier attempt arrived."

_REPLACED = "\N{REPLACEMENT CHARACTER}"
_MOST_MARKS_IN_A_ROW = 2
# Shown as nothing by most fonts, although Unicode counts them as letters, marks or symbols.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_LARGEST_SHOWN = 10**21
_LARGEST_SHARE = 99.99
_BASELINES_OF_A_FULL_BAR = 4
_STATES = {"open": "", "escalated": "worse", "reminder": "still open", "resolved": "resolved"}


def clean(text: str, most: int = MOST_OF_A_NAME) -> str:
    """Foreign text on one line, without anything invisible or that moves its neighbours, visibly cut to `most`.

    Control, zero-width, direction and unassigned characters become U+FFFD; stacks of combining marks are thinned;
    white space of any kind becomes one space. Markup is left to the receiver's own escaping.
    """
    shown = re.sub(f"{_REPLACED}+", _REPLACED, " ".join("".join(_visible(text[: 4 * most])).split()))
    if len(shown) <= most and len(text) <= 4 * most:
        return shown
    tail = f"… ({len(text):,} characters)"
    return shown[: most - len(tail)] + tail


def _visible(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MOST_MARKS_IN_A_ROW:
            continue
        if character.isspace() or category in ("Zl", "Zp"):
            yield " "
        elif character in _BLANK or not character.isprintable():
            yield _REPLACED
        else:
            yield character


def amount(value: float, unit: str) -> str:
    """A quantity for people: dollars where `unit` is `nanousd`, else the number with its unit.

    >>> [amount(41_000_000_000, "nanousd"), amount(12_345, "calls"), amount(0.0123456, "")]
    ['$41.00', '12,345 calls', '0.01235']
    """
    if abs(value) >= _LARGEST_SHOWN or math.isnan(value):
        return "beyond measure"
    if unit == "nanousd":
        return format_usd(int(value))
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return f"{number} {clean(unit, 40)}".rstrip()


def bar(share: float) -> str:
    """A share of one as a bar; everything from one on is full.

    >>> bar(0.82)
    '████████████████░░░░'
    """
    filled = min(BAR_CELLS, round(BAR_CELLS * max(0.0, share)))
    return "█" * filled + "░" * (BAR_CELLS - filled)


def gauge(alert: Alert) -> str:
    """The value against its limit, or against its baseline, as a bar and in words."""
    value = amount(alert.value, alert.unit)
    usual = f", {amount(alert.ratio, '')} x" if alert.ratio is not None else ""
    usual = f"{usual} the usual {amount(alert.baseline, alert.unit)}" if alert.baseline is not None else ""
    if alert.limit:
        share = _share(alert.value, alert.limit)
        return f"{bar(share)} {round(100 * share)} % — {value} of {amount(alert.limit, alert.unit)}{usual}"
    if alert.baseline:
        return f"{bar(_share(alert.value, alert.baseline) / _BASELINES_OF_A_FULL_BAR)} {value}{usual}"
    return value


def _share(value: float, whole: float) -> float:
    if whole <= 0 or any(abs(one) >= _LARGEST_SHOWN or math.isnan(one) for one in (value, whole)):
        return 1.0
    return min(value / whole, _LARGEST_SHARE)


def clock(ts_ms: int) -> str:
    """A time of day with its date, in UTC."""
    at = _at(ts_ms)
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "an impossible time"


def timestamp(ts_ms: int) -> str | None:
    """A time as machines want it (RFC 3339); None if it is beyond their calendar."""
    at = _at(ts_ms)
    return at.isoformat(timespec="milliseconds") if at else None


def _at(ts_ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(ts_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def title(notice: Notice) -> str:
    """A few words on how bad it is and what watches over it: the heading of a message."""
    alert = notice.alert
    if notice.kind == "watchdog":
        return "Spendfuse is watching"
    if notice.kind == "digest":
        count = len(notice.alerts) + notice.more
        return f"{count:,} {'incident' if count == 1 else 'incidents'} for {clean(alert.owner or alert.tenant_id, 60)}"
    words = [_word(alert), clean(alert.rule, 64), clean(alert.tenant_id, 40)]
    if notice.kind == "flapping":
        words.insert(0, "FLAPPING")
    return " · ".join(words)


def _word(alert: Alert) -> str:
    if alert.state == "resolved":
        return "RESOLVED"
    severity = clean(alert.severity, 20).upper()
    return f"{severity}, {_STATES[alert.state]}" if _STATES.get(alert.state) else severity


def sentence(notice: Notice) -> str:
    """What has happened, in one line: what a lock screen shows."""
    if notice.kind in ("watchdog", "digest"):
        return f"{title(notice)}: {clean(notice.alert.summary, MOST_OF_A_LINE)}"
    flapping = "FLAPPING: " if notice.kind == "flapping" else ""
    return f"{flapping}{_word(notice.alert)}: {clean(notice.alert.summary, MOST_OF_A_SENTENCE - 60)}"


def step(notice: Notice) -> str:
    """What has changed since the incident's first message: a line of its history."""
    return f"{clock(notice.alert.ts_ms)}: {sentence(notice)} {gauge(notice.alert)}"


def facts(alert: Alert) -> list[tuple[str, str]]:
    """Whose it is, where and when: at most five labelled lines."""
    # The tenant stands in the title.
    scope = [f"{clean(name, 40)} {clean(value, 60)}" for name, value in alert.scope.items() if value != alert.tenant_id]
    window = ""
    if alert.window_start_ms is not None and alert.window_end_ms is not None:
        start, end = clock(alert.window_start_ms), clock(alert.window_end_ms)
        window = f"{start.removesuffix(':00 UTC')} to {end.replace(':00 UTC', ' UTC')}"
    labelled = [
        ("Owner", clean(alert.owner or "") or "unknown"),
        ("Run", clean(alert.run_id or "")),
        ("Scope", clean(", ".join(scope[:4]), MOST_OF_A_LINE)),
        ("Window", window),
        ("Mode", f"{clean(alert.mode, 20)} ({clean(alert.detector, 64)})"),
    ]
    return [(label, text) for label, text in labelled if text]


def evidence(alert: Alert) -> list[str]:
    """The numbers behind it, most telling first, one to a line."""
    rest = dict(alert.evidence)
    lines = []
    runs = rest.pop("top_runs", None)
    if isinstance(runs, list) and runs:
        lines.append(clean("top runs: " + ", ".join(_run(one) for one in runs[:3]), MOST_OF_A_LINE))
    forecast_ms = rest.pop("forecast_limit_reached_ms", None)
    if isinstance(forecast_ms, int) and forecast_ms:
        lines.append(f"at this pace the limit is reached at {clock(forecast_ms)}")
    items = [(name, value) for name, value in rest.items() if value not in (None, "", [], {})]
    shown = items[: MOST_EVIDENCE - len(lines)]
    lines += [_item(name, value) for name, value in shown]
    left_out = len(items) - len(shown)
    return [*lines, f"and {left_out} more"] if left_out else lines


def _run(run: Any) -> str:
    if not isinstance(run, dict):
        return clean(str(run), 60)
    cost = run.get("cost_nanousd")
    name = clean(str(run.get("run_id", "?")), 60)
    return f"{name} {amount(cost, 'nanousd')}" if isinstance(cost, int | float) else name


def _item(name: str, value: Any) -> str:
    label = clean(name.removesuffix("_nanousd").removesuffix("_ms").replace("_", " "), 40)
    if isinstance(value, bool):
        return f"{label}: {'yes' if value else 'no'}"
    if not isinstance(value, int | float):
        text = ", ".join(clean(str(one), 60) for one in value[:5]) if isinstance(value, list) else str(value)
        return f"{label}: {clean(text, MOST_OF_A_LINE - 50)}"
    if name.endswith("_nanousd"):
        return f"{label}: {amount(value, 'nanousd')}"
    if name.endswith("_ms"):
        is_time = value > 10**12
        return f"{label}: {clock(int(value))}" if is_time else f"{label}: {amount(value, 'ms')}"
    return f"{label}: {amount(value, '')}"


def what_to_do(alert: Alert) -> str:
    """The next action, as a sentence for a tired person."""
    return f"What to do: {clean(alert.next_action, MOST_OF_A_SENTENCE)}" if alert.next_action else ""


def told_together(notice: Notice) -> list[str]:
    """One line for each incident of a message about several, and how many were left out."""
    lines = [
        f"{_word(alert)} · {clean(alert.summary, 160)} · {gauge(alert) if alert.unit else ''}".rstrip(" ·")
        for alert in notice.alerts[:MOST_TOLD]
    ]
    more = max(0, len(notice.alerts) - MOST_TOLD) + notice.more
    return [*lines, f"and {more:,} more"] if more else lines


def plain_text(notice: Notice) -> str:
    """The whole notice as lines of text, for a terminal and for receivers without a format of their own."""
    alert = notice.alert
    lines = [title(notice)]
    if notice.kind == "watchdog":
        return f"{title(notice)}, {clock(alert.ts_ms)}"
    if notice.kind == "digest" or len(notice.alerts) > 1:
        lines += told_together(notice)
    else:
        lines += [clean(alert.summary, MOST_OF_A_SENTENCE), gauge(alert)]
        lines += [f"{label}: {text}" for label, text in facts(alert)]
        lines += [*evidence(alert), what_to_do(alert)]
    if notice.maybe_repeated:
        lines.append(REPEATED)
    return "\n".join(line for line in lines if line)


def links(alert: Alert, templates: Mapping[str, str]) -> list[tuple[str, str]]:
    """Label and address of each of the operator's link templates, such as `https://runs.example/{tenant_id}/{run_id}`.

    Foreign values are percent-encoded, so that they stay inside their part of the path. A template whose value is
    missing or absurdly long is left out.
    """
    values = {
        "tenant_id": alert.tenant_id,
        "incident_id": alert.incident_id,
        "run_id": alert.run_id or "",
        "rule": alert.rule,
        "detector": alert.detector,
    }
    found = []
    for label, template in templates.items():
        used = [name for name in values if f"{{{name}}}" in template]
        if any(not 0 < len(values[name]) <= 4 * MOST_OF_A_NAME for name in used):
            continue
        address = template
        for name in used:
            # A part that is only dots would be a step up the path.
            part = quote(values[name], safe="", errors="replace")
            address = address.replace(f"{{{name}}}", part.replace(".", "%2E") if not part.strip(".") else part)
        if address.startswith(("https://", "http://")) and len(address) <= 2_000:
            found.append((label, address))
    return found
