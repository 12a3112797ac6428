"""Facts out of what the topics hold: a sentence each, with the ids that others know it by. No text of any agent."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from alerting.delivery.log import Delivery
from alerting.rendering.foreign import MOST_OF_A_SENTENCE, clean, name
from alerting.rendering.meaning import author, meaning
from schemas.alert import Alert
from schemas.control import Command
from schemas.edge.enforcement import Enforcement
from schemas.signing import KID_HEADER, REPEAT_HEADER, SIGNED_HEADERS, EngineKeys
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage
from streams.tools.orders.audit import Audited
from streams.tools.orders.target import shown
from streams.tools.story.fact import Fact, Place, Used
from streams.tools.story.records import Recorded

MOST_OF_A_NAME: Final = 60
SHORT: Final = 12
"""Characters of an id that is only to be told from others."""
_STATES: Final = {"open": "opened", "escalated": "escalated", "reminder": "reminder", "resolved": "resolved"}
_STEPS: Final = {"closing": "is closing", "closed": "has closed", "opening": "is opening", "open": "has opened"}
_OF_USAGE: Final = (
    "type", "run_id", "model", "tool", "status", "attempt", "cost_nanousd", "input_tokens", "output_tokens",
    "args_hash", "result_hash", "outcome", "command_id", "acted", "denied_by",
)  # fmt: skip


def short(text: str) -> str:
    """The beginning of an id of ours."""
    return clean(text)[:SHORT]


def usage_fact(one: Recorded[UsageMessage], run_id: str | None) -> Fact:
    """A call, a tool, an answer, or what a run says of itself; of another run than the story's, with which."""
    message = one.value
    said = msgspec.to_builtins(message)
    alike, text = _used_for(message)
    if message.run_id != run_id:
        text = f"{text} · run {name(message.run_id, MOST_OF_A_NAME)}"
        alike = (*alike, message.run_id) if alike else ()
    return Fact(
        place=one.place,
        at_ms=one.at_ms,
        kind="ack" if isinstance(message, CommandAck) else "usage",
        text=text,
        id=message.event_id,
        cause=message.command_id if isinstance(message, CommandAck) else None,
        alike=alike,
        used=_used(message),
        data={each: said[each] for each in _OF_USAGE if each in said},
    )


def _used_for(message: UsageMessage) -> tuple[tuple[str, ...], str]:
    """What is alike with it, the finest last, and the words for it."""
    match message:
        case LlmCall():
            again = "again" if message.attempt > 1 else ""
            text = f"call of {name(message.model, MOST_OF_A_NAME)}{_failed(message.status)}"
            return ("call", message.model, message.status, again), f"{text}, again" if again else text
        case ToolCall():
            text = f"tool {name(message.tool, MOST_OF_A_NAME)}{_failed(message.status)}"
            return ("tool", message.tool, message.status, message.args_hash or ""), text
        case RunStarted():
            whose = (getattr(message, each) for each in ("workflow", "owner", "environment"))
            return (), " · ".join(["the run begins", *(name(each, MOST_OF_A_NAME) for each in whose if each)])
        case RunFinished():
            return (), f"the run ends: {message.status}"
        case Outcome():
            return (), f"its output was {message.outcome}"
        case CommandAck():
            by = f", denied by {name(message.denied_by, MOST_OF_A_NAME)}" if message.denied_by else ""
            command = short(message.command_id)
            return (
                "ack",
                message.command_id,
                message.acted,
                message.denied_by or "",
            ), f"{message.acted}{by} ({command})"


def _failed(status: str) -> str:
    return "" if status == "ok" else f": {status}"


def _used(message: UsageMessage) -> Used | None:
    match message:
        case LlmCall():
            cost = 0 if message.cache_hit else message.cost_nanousd
            return Used(cost or 0, message.input_tokens, message.output_tokens, int(cost is None))
        case ToolCall():
            return Used(message.cost_nanousd or 0)
        case _:
            return None


def alert_fact(one: Recorded[Alert]) -> Fact:
    """Word of an incident."""
    alert = one.value
    trial = ", on trial" if alert.mode == "shadow" else ""
    heading = f"{_STATES[alert.state]} {name(alert.rule, MOST_OF_A_NAME)}, {alert.severity}{trial}"
    kept = ("incident_id", "state", "rule", "severity", "mode", "level", "value", "limit", "unit", "policy_version")
    return Fact(
        place=one.place,
        at_ms=one.at_ms,
        kind="alert",
        text=f"{heading} ({short(alert.incident_id)}): {clean(alert.summary, MOST_OF_A_SENTENCE)}",
        id=alert.alert_id,
        cause=alert.cause_event_id,
        data={each: getattr(alert, each) for each in kept},
    )


def command_facts(records: Iterable[Recorded[Command]], keys: EngineKeys | None) -> Iterator[Fact]:
    """Commands, each once: what was written again later is counted."""
    first: dict[str, Recorded[Command]] = {}
    times: dict[str, int] = {}
    for one in records:
        first.setdefault(one.value.command_id, one)
        times[one.value.command_id] = times.get(one.value.command_id, 0) + 1
    for command_id, one in first.items():
        yield _command_fact(one, times[command_id] - 1, keys)


def _command_fact(one: Recorded[Command], repeats: int, keys: EngineKeys | None) -> Fact:
    command = one.value
    signer = signed_by(one, keys)
    is_repeat = any(each == REPEAT_HEADER for each, _ in one.headers)
    again = ", written again" if is_repeat else f", written again {repeats} times" if repeats else ""
    reason = clean(command.reason, MOST_OF_A_SENTENCE)
    return Fact(
        place=one.place,
        at_ms=one.at_ms,
        kind="command",
        text=f"{command.action} {shown(command.target)} ({short(command.command_id)}), {signer}{again}: {reason}",
        id=command.command_id,
        cause=command.cause_event_id,
        data={
            "action": command.action,
            "target": {"type": command.target.type, "id": command.target.id},
            "rule": command.rule,
            "incident_id": command.incident_id,
            "seq": command.seq,
            "issued_ms": command.issued_ms,
            "expires_ms": command.expires_ms,
            "signed_by": signer,
            "repeats": repeats,
        },
    )


def signed_by(one: Recorded[Command], keys: EngineKeys | None) -> str:
    """Who signed a command, as far as that can be known here."""
    given = {each: text or b"" for each, text in one.headers if each in SIGNED_HEADERS}
    if not given:
        return "unsigned"
    on_word = " on an operator's word" if given.get(KID_HEADER) == b"operator" else ""
    if keys is None:
        return f"signed by the engine{on_word}, which nobody can check here"
    if keys.has_signed(one.value, one.data, one.headers):
        return f"signed by the engine{on_word}"
    return "with a signature that is not the engine's"


def order_fact(one: Audited, *, is_checked: bool) -> Fact:
    """What a person ordered; of what was refused, what it claims."""
    assert one.order is not None, "what cannot be read is nobody's order"
    record = one.record
    status = one.status if is_checked else "not checked: no operator's key is known here"
    refused = f": {clean(one.refused, MOST_OF_A_SENTENCE)}" if is_checked and one.refused else ""
    return Fact(
        place=Place("operator.v1", record.partition, record.offset),
        at_ms=record.appended_ms,
        kind="order",
        text=f"{author(one.order)} · {meaning(one.order)} ({status}{refused})",
        id=one.order.message_id,
        data={"status": status, "order": msgspec.to_builtins(one.order)},
    )


def told_facts(records: Iterable[Recorded[Delivery]]) -> Iterator[Fact]:
    """What each receiver was told, or is to be told, as it stands now."""
    newest = {one.value.key: one for one in records}
    for one in newest.values():
        delivery = one.value
        kept = ("receiver", "status", "kind", "attempts", "maybe_sent", "muted", "failure", "at_ms", "due_ms", "place")
        yield Fact(
            place=one.place,
            at_ms=one.at_ms,
            kind="told",
            text=f"{name(delivery.receiver, MOST_OF_A_NAME)}: {_answer(delivery)}",
            id=delivery.key,
            cause=delivery.alert.alert_id,
            data={"incident_id": delivery.alert.incident_id} | {each: getattr(delivery, each) for each in kept},
        )


def _answer(delivery: Delivery) -> str:
    what = f"{_STATES[delivery.alert.state]} {name(delivery.alert.rule, MOST_OF_A_NAME)}"
    match delivery.status:
        case "sent":
            attempts = f" at attempt {delivery.attempts}" if delivery.attempts > 1 else ""
            place = ", ".join(f"{each} {clean(text, MOST_OF_A_NAME)}" for each, text in delivery.place.items() if text)
            return f"has taken `{what}`{attempts}" + (f" ({place})" if place else "")
        case "pending":
            failed = f", failed with {delivery.failure}" if delivery.failure else ""
            muted = f", muted: {delivery.muted}" if delivery.muted else ""
            return f"is still to be told `{what}`{failed}{muted}"
        case "muted":
            return f"was not told `{what}`: {delivery.muted or 'muted'}"
        case "given_up":
            return f"was not told `{what}`: given up, {delivery.failure or 'it failed'}"
        case "superseded":
            return f"was told something newer in place of `{what}`"
        case _:
            return f"was not told `{what}`: no news to it"


def enforcer_facts(records: Iterable[Recorded[Enforcement]], command_ids: set[str], tenant_id: str) -> Iterator[Fact]:
    """What enforcers did to keys at providers for these commands; the newest record of each has its steps."""
    newest = {one.value.enforcer: one for one in records if one.value.tenant_id == tenant_id}
    for one in newest.values():
        done = one.value
        for step in done.steps:
            if step.command_id not in command_ids:
                continue
            key = f"{name(done.provider, MOST_OF_A_NAME)} {name(done.key, MOST_OF_A_NAME)}"
            yield Fact(
                place=one.place,
                at_ms=step.at_ms,
                kind="enforcer",
                text=f"{name(done.enforcer, MOST_OF_A_NAME)} {_STEPS[step.state]} {key}: {clean(step.reason)}",
                id=f"{done.enforcer}/{step.state}/{step.at_ms}",
                cause=step.command_id,
                data={
                    "enforcer": done.enforcer,
                    "provider": done.provider,
                    "state": step.state,
                    "is_ours": step.is_ours,
                },
            )
