"""A notice as a Slack message in Block Kit. Pure.

Foreign text stands in `plain_text` objects only, escaped all the same; mrkdwn is for our own words. Limits are those of
https://docs.slack.dev/reference/block-kit/blocks; the whole stays below 8,000 characters.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alerting.notice import Notice
from alerting.rendering.evidence import evidence
from alerting.rendering.figures import amount, clock
from alerting.rendering.links import links
from alerting.rendering.render import (
    REPEATED,
    and_more,
    facts,
    gauge,
    is_about_several,
    line,
    plain_text,
    reference,
    sentence,
    step,
    title,
    what_to_do,
    what_was_done,
)
from schemas.alert import PAGING, Alert
from schemas.control import Target, TargetType
from schemas.policy import Severity

Block = dict[str, Any]

MOST_OF_A_MESSAGE = 8_000
MOST_OF_A_HEADER = 150
MOST_OF_A_FIELD = 1_000
"""Room for a name whose every character is escaped: an identifier that is cut could be another's."""
MOST_OF_A_SECTION = 2_400
MOST_OF_A_NOTIFICATION = 600
MOST_OF_THE_SHORT = 1_200
MOST_LINKS = 5
MOST_OF_THE_LINKS = 1_000
MOST_OF_A_VALUE = 900
"""Of a button: identifiers that do not fit are not cut, because they would name something else."""

ACKNOWLEDGE = "spendfuse.acknowledge"
SNOOZE = "spendfuse.snooze_1h"
RESUME = "spendfuse.resume_run"
"""Of whatever the alert is about: the button's label and value say what."""
RESUMED: dict[str, str] = {"run": "run", "session": "session", "run_tree": "run tree"}
"""What the button can let go on, as it calls it."""
USEFUL = "spendfuse.useful"
NOISE = "spendfuse.noise"
PLANNED = "spendfuse.planned"

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_EMOJI_CODE = re.compile(r":(?=[\w+'-]*[A-Za-z][\w+'-]*:)")
_DOTS: dict[Severity, str] = {"critical": "🔴", "error": "🟠", "warning": "🟡", "info": "🔵"}
_RESOLVED_DOT = "🟢"


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """What chat.postMessage and chat.update take: `text` is what a notification shows."""

    text: str
    blocks: list[Block]

    def __len__(self) -> int:
        return len(self.text) + len(json.dumps(self.blocks, ensure_ascii=False))


def slack_message(notice: Notice, templates: Mapping[str, str], *, short: bool = False) -> SlackMessage:
    """The message about a notice; `short` is for a receiver that found the whole one too long."""
    text = _notification(f"{_dot(notice)} {sentence(notice)}")
    if not short:
        message = SlackMessage(text, _blocks(notice, templates))
        if len(message) < MOST_OF_A_MESSAGE:
            return message
    first, *_ = _sections(plain_text(notice).split("\n"), MOST_OF_THE_SHORT)
    remark = f"Shortened. {REPEATED}" if notice.maybe_repeated else "Shortened."
    return SlackMessage(text, [first, *_buttons(notice), _context(*_linked(notice, templates), _plain(remark, 200))])


def thread_reply(notice: Notice) -> SlackMessage:
    """A line in the thread of the incident's first message: what has changed."""
    text = f"{_dot(notice)} {step(notice)}"
    return SlackMessage(_notification(text), [_section(text)])


def escape(text: str, most: int) -> str:
    """Text that Slack shows as it is: no mention, no link. Cut between characters, never inside an entity."""
    parts = [_ENTITIES.get(character, character) for character in text]
    if sum(map(len, parts)) <= most:
        return "".join(parts)
    kept: list[str] = []
    room = most - 1
    for part in parts:
        room -= len(part)
        if room < 0:
            break
        kept.append(part)
    return "".join(kept) + "…"


def _notification(text: str) -> str:
    """The text of a notification. Slack reads emoji codes in it, which `plain_text` objects are spared."""
    return escape(_EMOJI_CODE.sub("\N{RATIO}", text), MOST_OF_A_NOTIFICATION)


def _dot(notice: Notice) -> str:
    """How bad it is, for an eye that runs down a channel: the worst in it, green once all of it is over."""
    worst = [dot for severity, dot in _DOTS.items() if any(_is(alert, severity) for alert in notice.alerts)]
    return worst[0] if worst else _RESOLVED_DOT


def _is(alert: Alert, severity: Severity) -> bool:
    return alert.severity == severity and alert.state != "resolved"


def _blocks(notice: Notice, templates: Mapping[str, str]) -> list[Block]:
    if notice.kind == "watchdog":
        return [_section(sentence(notice))]
    body = _several(notice) if is_about_several(notice) else _one(notice)
    heading = f"{_dot(notice)} {title(notice)}"
    header = {"type": "header", "text": _plain(heading, MOST_OF_A_HEADER)}
    whole = [_section(title(notice))] if len(escape(heading, MOST_OF_A_SECTION)) > MOST_OF_A_HEADER else []
    return [header, *whole, *body, *_buttons(notice), _footer(notice, templates)]


def _one(notice: Notice) -> Iterator[Block]:
    """One incident: bar, what was done, what to do, whose, evidence."""
    alert = notice.alert
    if bars := gauge(alert):
        yield _section(bars)
    if was_done := what_was_done(notice):
        yield {"type": "section", "text": {"type": "mrkdwn", "text": f"*{was_done}*"}}
    if notice.note:
        yield _section(notice.note)
    if action := what_to_do(notice):
        yield _section(f"What to do: {action}")
    fields = [_plain(f"{label}: {text}", MOST_OF_A_FIELD) for label, text in facts(alert)]
    yield {"type": "section", "fields": fields}
    yield from _sections([f"• {each}" for each in evidence(alert)])


def _several(notice: Notice) -> Iterator[Block]:
    """One line for each incident, and how many were left out."""
    lines = [f"{_dot(Notice('incident', (alert,)))} {line(alert)}" for alert in notice.alerts]
    yield from _sections(lines)
    if more := and_more(notice):
        yield _section(more)
    if action := what_to_do(notice):
        yield _section(f"What to do: {action}")


def _buttons(notice: Notice) -> list[Block]:
    """What can be done about the incident; none for a message about several, which a button could not tell apart."""
    alert = notice.alert
    if notice.kind == "watchdog" or is_about_several(notice):
        return []
    target = stopped_target(alert)
    value = _value(alert)
    resume_value = _value(alert, **({"target_type": target.type, "target_id": target.id} if target else {}))
    if len(resume_value) > MOST_OF_A_VALUE:
        return [_context(_plain("No buttons: the identifiers are too long. Use the command line.", 200))]
    buttons = [_button("Planned", PLANNED, value), _button("Noise", NOISE, value)]
    if alert.state == "resolved":
        buttons.insert(0, _button("Useful", USEFUL, value))
    elif notice.kind != "acknowledged":
        acknowledge = _button("Acknowledge", ACKNOWLEDGE, value)
        style = {"style": "primary"} if alert.severity in PAGING else {}
        buttons = [{**acknowledge, **style}, _button("Snooze 1 h", SNOOZE, value), *buttons]
    if target is not None:
        buttons.append(_resume_button(alert, target, resume_value))
    return [{"type": "actions", "elements": buttons}]


def stopped_target(alert: Alert) -> Target | None:
    """What a command stands on because of the alert: its run, session or run tree; None if nothing was stopped."""
    if alert.command not in ("kill", "pause", "downgrade"):
        return None
    if alert.run_id:
        return Target("run", alert.run_id)
    units: tuple[TargetType, ...] = ("session", "run_tree")
    return next((Target(unit, alert.scope[unit]) for unit in units if alert.scope.get(unit)), None)


def _value(alert: Alert, **more: str) -> str:
    """Whom a button is about, whole. Escaped so that no character of it means anything to Slack on either way."""
    ids = {"tenant_id": alert.tenant_id, "incident_id": alert.incident_id, **more}
    value = json.dumps(ids, separators=(",", ":"))
    return value.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _button(label: str, action_id: str, value: str) -> Block:
    return {"type": "button", "text": _plain(label, 75), "action_id": action_id, "value": value}


def _resume_button(alert: Alert, target: Target, value: str) -> Block:
    noun = RESUMED[target.type]
    allowance = f": {amount(alert.limit, alert.unit)} more" if alert.limit and alert.unit == "nanousd" else ""
    terms = f"It may go on, with one more allowance of the limit that stopped it{allowance}."
    confirm = {
        "title": _plain(f"Resume this {noun}?", 100),
        "text": _plain(terms, 300),
        "confirm": _plain("Resume", 30),
        "deny": _plain("Leave it stopped", 30),
        "style": "danger",
    }
    return {**_button(f"Resume {noun}", RESUME, value), "confirm": confirm}


def _footer(notice: Notice, templates: Mapping[str, str]) -> Block:
    latest_ms = max(each.ts_ms for each in notice.alerts)
    origin = clock(latest_ms) if is_about_several(notice) else reference(notice.alert)
    repeated = [_plain(REPEATED, 200)] if notice.maybe_repeated else []
    return _context(*_linked(notice, templates), _plain(origin, 600), *repeated)


def _linked(notice: Notice, templates: Mapping[str, str]) -> Iterator[Block]:
    """The links about what the notice is about, as many as there is room for."""
    shown = ""
    for label, address in links(notice.alerts, templates)[:MOST_LINKS]:
        link = f"<{address.replace('&', '&amp;')}|{escape(label, 60)}>"
        if len(shown) + len(link) < MOST_OF_THE_LINKS:
            shown += f" · {link}" if shown else link
    if shown:
        yield {"type": "mrkdwn", "text": shown}


def _sections(lines: list[str], most: int = MOST_OF_A_SECTION) -> Iterator[Block]:
    """Lines in as few sections as hold them. None is cut that fits by itself."""
    together: list[str] = []
    for each in lines:
        if together and len(escape("\n".join([*together, each]), MOST_OF_A_MESSAGE)) > most:
            yield _section("\n".join(together), most)
            together = []
        together.append(each)
    if together:
        yield _section("\n".join(together), most)


def _context(*elements: Block) -> Block:
    return {"type": "context", "elements": list(elements)}


def _section(text: str, most: int = MOST_OF_A_SECTION) -> Block:
    """Foreign text, unfolded: without `expand` Slack may hide the end of it."""
    return {"type": "section", "text": _plain(text, most), "expand": True}


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": escape(text, most) or "-", "emoji": False}
