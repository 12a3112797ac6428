"""What an operator's verb is, and the words that several verbs share: ends, incidents, money."""

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.control import Command, Target, TargetType
from schemas.duration import DAY_MS, UNITS_MS
from schemas.errors import SettingsError, SpendfuseError
from schemas.money import usd_to_nanousd
from schemas.operator import Kill, OperatorMessage
from schemas.policy import epoch_ms

Options = argparse.Namespace
Fields = dict[str, Any]

Status = Literal["in force", "until the incident ends", "done", "over", "replaced", "lifted", "repeated", "refused"]
"""What has become of an order. `lifted`: a resume ended it. `repeated`: the same order once more, which changes
nothing. `refused`: nobody obeys it, and why stands beside it."""


class UnknownFactError(SpendfuseError):
    """What was to be looked at cannot be: the topic is missing, or could not be read."""


class Facts(Protocol):
    """What can be known before an order is written. Each raises `UnknownFactError` where it cannot be."""

    def policy(self) -> Policy:
        """The policy in force."""

    def active_command(self, tenant_id: str, target: Target) -> Command | None:
        """The last command to a target if it still holds."""

    def commanded(self, tenant_id: str) -> list[Command]:
        """Every command that holds."""

    def pending_kills(self, tenant_id: str) -> list[Kill]:
        """Operators' kills that no worker has obeyed yet."""

    def seen(self, tenant_id: str, kind: TargetType, typed: str) -> set[str]:
        """The ids of that kind which anybody has heard of within a day and which begin as was typed; the typed one
        alone if it is one of them.
        """

    def incidents(self, tenant_id: str) -> dict[str, Alert]:
        """The tenant's incidents by id, each with its newest alert."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What becomes of the orders of one kind."""

    status: Callable[[Any, int], Status]
    """Of an order, at a time in epoch milliseconds."""
    subject: Callable[[Any], tuple[str, ...] | None] = lambda _: None
    """What an order is about, so that a later one about the same takes its place; None if it stands for itself."""


@dataclass(frozen=True, slots=True)
class Verb:
    """An order that operators can give: its words on the command line, what is looked at first, and its audit."""

    name: str
    help: str
    message: type[OperatorMessage]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    build: Callable[[Options, Fields, int], OperatorMessage]
    """The message, from the words, the fields of every order, and the time. Raises `SettingsError`."""
    look: Callable[[Any, Facts], Iterator[str]]
    """What the order would meet, in sentences. Raises `SettingsError` if it would change nothing that was meant."""
    audit: Audit
    complete: Callable[[Any, Facts], Any] = lambda order, _: order
    """The order with the ids that were typed made whole. Raises `SettingsError` for one that there is not, or for the
    beginning of several."""


def span_ms(text: str, name: str) -> int:
    """A length of time such as `90m`, `2h` or `7d`. Raises `SettingsError`, with `name` for the word at fault."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if found is None or not int(found[1]):
        raise SettingsError(f"{name} {text!r}: write a number and s, m, h, d or w, such as 90m or 2h")
    return int(found[1]) * UNITS_MS[found[2]]


def add_end(group: Any) -> None:
    """Declare `--for` and `--until` in a group of options of which one may be given."""
    group.add_argument("--for", dest="span", metavar="2h", help="how long")
    group.add_argument("--until", metavar="2026-12-01T00:00Z", help="when it ends")


def end_ms(options: Options, now_ms: int, most_days: int, otherwise: str | None = None) -> int | None:
    """When the order ends, in epoch milliseconds; None if the words don't say. Raises `SettingsError`."""
    span = otherwise if options.span is None and options.until is None else options.span
    if span is None and options.until is None:
        return None
    ends_ms = _moment_ms(options.until) if span is None else now_ms + span_ms(span, "--for")
    if ends_ms <= now_ms:
        raise SettingsError(f"--until {options.until} is past")
    if ends_ms > now_ms + most_days * DAY_MS:
        raise SettingsError(f"it would last more than {most_days} days; what is meant to last belongs in the policy")
    return ends_ms


def needed_end_ms(options: Options, now_ms: int, most_days: int, otherwise: str | None = None) -> int:
    """`end_ms` of an order that must have an end."""
    ends_ms = end_ms(options, now_ms, most_days, otherwise)
    if ends_ms is None:
        raise SettingsError("say how long, with --for 2h or --until 2026-12-01T00:00Z")
    return ends_ms


def limit_nanousd(text: str) -> int:
    """The amount of `--limit-usd`. Raises `SettingsError`."""
    try:
        return usd_to_nanousd(text)
    except ValueError as error:
        raise SettingsError(f"--limit-usd: {error}") from None


def add_incident(parser: argparse.ArgumentParser) -> None:
    """Declare the id of an incident."""
    parser.add_argument("incident", metavar="INCIDENT", help="the incident's id, as in its message")


def the_one(typed: str, known: Iterable[str], nothing: str) -> str:
    """What was typed if it is known, else the one that begins so.

    Raises:
        SettingsError: none does, with the text `nothing`, or several do.
    """
    ids = set(known)
    alike = [typed] if typed in ids else sorted(each for each in ids if typed and each.startswith(typed))
    if len(alike) == 1:
        return alike[0]
    if not alike:
        raise SettingsError(nothing)
    more = f", or one of {len(alike) - 3} more" if len(alike) > 3 else ""
    raise SettingsError(f"{typed!r} is the beginning of several ids; did you mean {' or '.join(alike[:3])}{more}?")


def whole_incident_id(tenant_id: str, typed: str, facts: Facts) -> str:
    """The id of the incident that was meant. Raises `SettingsError`."""
    nothing = f"alerts.v1 holds no incident {typed!r} of {tenant_id}: look at the id and the tenant"
    return the_one(typed, facts.incidents(tenant_id), nothing)


def complete_incident(order: Any, facts: Facts) -> Any:
    """An order about an incident with its whole id. Raises `SettingsError`."""
    found = whole_incident_id(order.tenant_id, order.incident_id, facts)
    return msgspec.structs.replace(order, incident_id=found)


def look_at_incident(tenant_id: str, incident_id: str, facts: Facts) -> Iterator[str]:
    """Say what an incident is about."""
    alert = facts.incidents(tenant_id)[incident_id]
    yield f"It is about: {alert.summary}"
    if alert.state == "resolved":
        yield "That incident has ended: the order is for the record."


def _moment_ms(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--until {text!r}: write a time such as 2026-12-01T00:00Z") from None
    if at.tzinfo is None:
        minutes = at.isoformat(timespec="minutes")
        raise SettingsError(f"--until {text!r}: say in which time zone, such as {minutes}Z or {minutes}+01:00")
    return epoch_ms(at)
