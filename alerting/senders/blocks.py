"""A notice as a Slack message in Block Kit. Pure.

Foreign text stands in `plain_text` objects only, escaped all the same; mrkdwn is for our own words. Limits are those of
https://docs.slack.dev/reference/block-kit/blocks; the whole stays below 8,000 characters.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alerting.notice import Notice
from alerting.render import (
    MOST_OF_A_SENTENCE,
    REPEATED,
    clean,
    clock,
    evidence,
    facts,
    gauge,
    links,
    plain_text,
    sentence,
    step,
    title,
    told_together,
    what_to_do,
)
from schemas.alert import Alert

Block = dict[str, Any]

MOST_OF_A_MESSAGE = 8_000
MOST_OF_A_HEADER = 150
MOST_OF_A_FIELD = 240
MOST_OF_A_SECTION = 2_400
MOST_OF_THE_SHORT = 600
MOST_OF_A_VALUE = 300
"""Of a button: identifiers that do not fit are not cut, because they would name something else."""

ACKNOWLEDGE = "spendfuse.acknowledge"
SNOOZE = "spendfuse.snooze_1h"
RESUME = "spendfuse.resume_run"
NOISE = "spendfuse.noise"
PLANNED = "spendfuse.planned"

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """What chat.postMessage and chat.update take: `text` is what a notification shows."""

    text: str
    blocks: list[Block]

    def __len__(self) -> int:
        return len(self.text) + len(json.dumps(self.blocks, ensure_ascii=False))


def slack_message(notice: Notice, templates: Mapping[str, str], *, short: bool = False) -> SlackMessage:
    """The message about a notice; `short` is for a receiver that found the whole one too long."""
    if not short:
        message = SlackMessage(escape(sentence(notice), MOST_OF_THE_SHORT), _blocks(notice, templates))
        if len(message) < MOST_OF_A_MESSAGE:
            return message
    text = escape(sentence(notice), MOST_OF_THE_SHORT)
    section = {"type": "section", "text": _plain(plain_text(notice), MOST_OF_THE_SHORT)}
    remark = f"Shortened. {REPEATED}" if notice.maybe_repeated else "Shortened."
    return SlackMessage(text, [section, *_buttons(notice), _context(_plain(remark, 200))])


def thread_reply(notice: Notice) -> SlackMessage:
    """A line in the thread of the incident's first message: what has changed."""
    text = step(notice)
    return SlackMessage(escape(text, MOST_OF_THE_SHORT), [_plain_section(text)])


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


def _blocks(notice: Notice, templates: Mapping[str, str]) -> list[Block]:
    alert = notice.alert
    if notice.kind == "watchdog":
        return [_plain_section(plain_text(notice))]
    blocks: list[Block] = [{"type": "header", "text": _plain(title(notice), MOST_OF_A_HEADER)}]
    if notice.kind == "digest" or len(notice.alerts) > 1:
        blocks.append(_plain_section("\n".join(told_together(notice))))
    else:
        blocks.append(_plain_section(f"{clean(alert.summary, MOST_OF_A_SENTENCE)}\n{gauge(alert)}".strip()))
        blocks.append({"type": "section", "fields": _fields(alert)})
        blocks += [_plain_section("\n".join(part)) for part in (evidence(alert), [what_to_do(alert)]) if any(part)]
    return [*blocks, *_buttons(notice), _footer(notice, templates)]


def _fields(alert: Alert) -> list[Block]:
    """Label and text side by side: Slack lays fields out in two columns, ten at most."""
    labelled = facts(alert)
    return [
        one
        for label, text in labelled[:5]
        for one in ({"type": "mrkdwn", "text": f"*{label}*"}, _plain(text, MOST_OF_A_FIELD))
    ]


def _buttons(notice: Notice) -> list[Block]:
    """What can be done about the incident; none for a message about several, which a button could not tell apart."""
    alert = notice.alert
    if notice.kind not in ("incident", "flapping") or len(notice.alerts) > 1:
        return []
    ids = {"tenant_id": alert.tenant_id, "incident_id": alert.incident_id}
    value = json.dumps(ids, separators=(",", ":"))
    run_value = json.dumps({**ids, "run_id": alert.run_id}, separators=(",", ":"))
    if len(run_value) > MOST_OF_A_VALUE:
        return [_context(_plain("No buttons: the identifiers are too long. Use the command line.", 200))]
    buttons = [_button("Noise", NOISE, value), _button("Planned", PLANNED, value)]
    if alert.run_id and alert.mode == "enforce":
        buttons.insert(0, _resume_button(run_value))
    if alert.state != "resolved":
        buttons = [_button("Acknowledge", ACKNOWLEDGE, value), _button("Snooze 1 h", SNOOZE, value), *buttons]
    return [{"type": "actions", "elements": buttons}]


def _button(label: str, action_id: str, value: str) -> Block:
    return {"type": "button", "text": _plain(label, 75), "action_id": action_id, "value": value}


def _resume_button(value: str) -> Block:
    confirm = {
        "title": _plain("Resume this run?", 100),
        "text": _plain("It may go on spending.", 300),
        "confirm": _plain("Resume", 30),
        "deny": _plain("Leave it stopped", 30),
    }
    return {**_button("Resume run", RESUME, value), "style": "danger", "confirm": confirm}


def _footer(notice: Notice, templates: Mapping[str, str]) -> Block:
    alert = notice.alert
    elements = [_plain(f"{clock(alert.ts_ms)} · incident {clean(alert.incident_id, 60)}", 200)]
    linked = " · ".join(f"<{address}|{escape(label, 60)}>" for label, address in links(alert, templates)[:3])
    if linked and len(linked) <= 1_000:
        elements.insert(0, {"type": "mrkdwn", "text": linked})
    if notice.maybe_repeated:
        elements.append(_plain(REPEATED, 200))
    return _context(*elements)


def _context(*elements: Block) -> Block:
    return {"type": "context", "elements": list(elements)}


def _plain_section(text: str) -> Block:
    return {"type": "section", "text": _plain(text, MOST_OF_A_SECTION)}


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": escape(text, most) or "-", "emoji": False}
