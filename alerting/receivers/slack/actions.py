"""Buttons: from what Slack says of a press to the order that it gives, and what the person reads. Pure.

https://docs.slack.dev/reference/interaction-payloads/block_actions-payload has the payload's fields.
"""

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from alerting.receivers.slack import blocks
from alerting.rendering.foreign import clean, name
from alerting.rendering.meaning import meaning, subject
from schemas.codec import undecodable
from schemas.control import Target
from schemas.errors import Undecodable
from schemas.operator import Acknowledge, Feedback, OperatorMessage, Resume, Silence
from schemas.usage import Id

LABELS = {
    blocks.ACKNOWLEDGE: "Acknowledge",
    blocks.SNOOZE: "Snooze 1 h",
    blocks.RESUME: "Resume",
    blocks.USEFUL: "Useful",
    blocks.NOISE: "Noise",
    blocks.PLANNED: "Planned",
}
SNOOZE_MS = 3_600_000
MOST_OF_A_REPLY = 2_900
"""Of a section's 3,000 characters."""
MOST_OF_A_COMMAND = 800

SlackId = Annotated[str, Meta(pattern=r"^[A-Z0-9]{1,64}\Z")]
SlackTime = Annotated[str, Meta(pattern=r"^[0-9]{1,12}\.[0-9]{1,9}\Z")]


class _User(msgspec.Struct, frozen=True):
    id: SlackId
    name: str = ""
    username: str = ""


class _Action(msgspec.Struct, frozen=True):
    action_id: str
    action_ts: SlackTime
    value: str = ""


class _Interaction(msgspec.Struct, frozen=True, tag_field="type", tag="block_actions"):
    user: _User
    trigger_id: Annotated[str, Meta(min_length=1, max_length=256)]
    actions: Annotated[list[_Action], Meta(min_length=1)]
    response_url: str = ""


class _Value(msgspec.Struct, frozen=True):
    """Whom a button is about, as `blocks.py` wrote it."""

    tenant_id: Id
    incident_id: Id
    target_type: Literal["run", "session", "run_tree"] | None = None
    target_id: Id | None = None
    run_id: Id | None = None
    """In messages of earlier versions, which could only name a run."""

    @property
    def target(self) -> Target | None:
        """What the button lets go on."""
        if self.target_type is not None and self.target_id is not None:
            return Target(self.target_type, self.target_id)
        return None if self.run_id is None else Target("run", self.run_id)


_interaction: Final = msgspec.json.Decoder(_Interaction)
_value: Final = msgspec.json.Decoder(_Value)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Press:
    """A button of ours that somebody pressed."""

    order: OperatorMessage
    refused: str
    """Why they may not, for them to read; empty if they may."""
    reply_to: str
    """Where Slack takes an answer; empty if it does not say."""


def read_press(payload: bytes, may_resume: Collection[str]) -> Press | None:
    """What a press of a button orders; None for a button that is not ours.

    The same press gives the same order, however often Slack reports it. `may_resume` has the ids of the Slack users
    who may let a stopped run go on.

    Raises:
        Undecodable: this is no press of a button, or one of ours with nothing sensible behind it.
    """
    interaction = _decode(_interaction, payload)
    action = next((action for action in interaction.actions if action.action_id in LABELS), None)
    if action is None:
        return None
    order = _order(interaction, action)
    refused = ""
    if isinstance(order, Resume) and interaction.user.id not in may_resume:
        whose = "you are not among those who may" if may_resume else "nobody may do that by a button"
        refused = f"Nothing was ordered: it would let a stopped run spend again, and {whose}.{instead(order)}"
    return Press(order, refused, interaction.response_url)


def instead(order: OperatorMessage) -> str:
    """The command that gives the order of a button, as a sentence; it may need somebody else's rights."""
    match order:
        case Resume(target=target):
            words = ["resume", target.type, target.id]
        case Acknowledge(incident_id=incident_id):
            words = ["ack", incident_id]
        case Feedback(incident_id=incident_id, verdict=verdict):
            words = ["feedback", incident_id, verdict]
        case Silence(match=match):
            words = ["snooze", match.get("incident_id", "")]
        case _:
            return ""
    command = shlex.join(["python", "-m", "streams", *words, "--tenant", order.tenant_id, "--why", "…"])
    if clean(command, MOST_OF_A_COMMAND) != command:
        return " The command line can do it: python -m streams --help"  # what cannot be shown whole must not be copied
    return f" The command that does it: {command}"


def reply(text: str) -> dict[str, Any]:
    """What Slack is sent to show to nobody but who pressed, beside the message as it stands."""
    shown = blocks.escape(text, MOST_OF_A_REPLY)
    section = {"type": "section", "text": {"type": "plain_text", "text": shown, "emoji": False}}
    return {"response_type": "ephemeral", "replace_original": False, "text": shown, "blocks": [section]}


def ordered(order: OperatorMessage) -> str:
    """What somebody reads whose order was written."""
    return f"Ordered. {meaning(order)}"


def not_stopped(order: Resume) -> str:
    """What somebody reads who would let something go on that is not held back."""
    return (
        f"Nothing was ordered: {subject(order.target, name(order.tenant_id))} is not stopped any more, "
        "or what holds it back stands on something else."
    )


def not_ordered(order: OperatorMessage) -> str:
    """What somebody reads whose order may not have been written."""
    return (
        "The order could not be written down, as far as is known; pressing again does no harm. "
        f"It was: {meaning(order)}{instead(order)}"
    )


def _order(interaction: _Interaction, action: _Action) -> OperatorMessage:
    ids = _decode(_value, action.value.encode("utf-8", "replace"))
    at_ms = _ms(action.action_ts)
    user = interaction.user
    common: dict[str, Any] = {
        "message_id": _message_id(interaction, action),
        "ts_ms": at_ms,
        "tenant_id": ids.tenant_id,
        "who": f"{clean(user.name or user.username)} ({user.id})".lstrip(),
        "why": f"pressed {_label(action, ids)} in Slack",
    }
    match action.action_id:
        case blocks.ACKNOWLEDGE:
            return Acknowledge(**common, incident_id=ids.incident_id)
        case blocks.SNOOZE:
            return Silence(**common, match={"incident_id": ids.incident_id}, until_ms=at_ms + SNOOZE_MS)
        case blocks.USEFUL:
            return Feedback(**common, incident_id=ids.incident_id, verdict="useful")
        case blocks.NOISE:
            return Feedback(**common, incident_id=ids.incident_id, verdict="noise")
        case blocks.PLANNED:
            return Feedback(**common, incident_id=ids.incident_id, verdict="planned")
        case _:
            if ids.target is None:
                raise Undecodable("missing_field", "a resume that names nothing to go on")
            return Resume(**common, target=ids.target)


def _label(action: _Action, ids: _Value) -> str:
    """What stands on the button."""
    label = LABELS[action.action_id]
    is_resume = action.action_id == blocks.RESUME and ids.target is not None
    return f"{label} {blocks.RESUMED[ids.target.type]}" if is_resume and ids.target else label


def _message_id(interaction: _Interaction, action: _Action) -> str:
    parts = [interaction.trigger_id, action.action_ts, action.action_id, interaction.user.id]
    return f"slack-{sha256(msgspec.json.encode(parts)).hexdigest()[:32]}"


def _ms(slack_time: str) -> int:
    """Epoch milliseconds of Slack's seconds with a fraction."""
    whole, _, fraction = slack_time.partition(".")
    return int(whole) * 1000 + int(fraction[:3].ljust(3, "0"))


def _decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except Exception as error:
        raise undecodable(error) from None
