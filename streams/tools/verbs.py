"""Operators' orders as commands: words on the line to a message, checked before anything is sent.

Every order says who gives it and why. Its id follows from what it says and when, so that however often a client sends
it, it is one order.
"""

import argparse
import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, get_args

import msgspec
from pydantic import TypeAdapter, ValidationError

from schemas.alert import AlertState
from schemas.codec import decode_operator, encode
from schemas.control import Target
from schemas.errors import SettingsError, Undecodable
from schemas.money import usd_to_nanousd
from schemas.operator import Acknowledge, Feedback, LimitException, OperatorMessage, Resume, Silence, Verdict
from schemas.policy import Mode, Severity, epoch_ms
from schemas.routing import Label

Options = argparse.Namespace
Fields = dict[str, Any]
Build = Callable[[Options, Fields, int], OperatorMessage]

DAY_MS = 24 * 3_600_000
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}
SNOOZE = "1h"
MOST_SILENCE_DAYS = 30
MOST_EXCEPTION_DAYS = 366
TARGETS = ("run", "session", "run_tree")
"""What can be stopped, and so be let go on."""
CLOSED_LABELS = {"severity": get_args(Severity), "mode": get_args(Mode), "state": get_args(AlertState)}
"""Labels with few values: a misspelt one would match nothing, and nobody would notice."""

_label = TypeAdapter(Label)


def add_verbs(subparsers: Any, run: Callable[[Options], int]) -> None:
    """Declare the orders. `run` is given the options; `order_of` makes the message of them."""
    silence = _add(subparsers, "silence", run, _silence, "tell nobody of what matches, for a while; stops no brake")
    silence.add_argument(
        "--match", action="append", default=[], metavar="rule=run-cost", help="a label of alerts; more narrow it down"
    )
    silence.add_argument("--all", action="store_true", help="every alert of the tenant, in place of --match")
    _add_end(silence, required=True)
    snooze = _add(subparsers, "snooze", run, _snooze, "tell nobody of one incident, for an hour unless told otherwise")
    snooze.add_argument("incident", metavar="INCIDENT", help="the incident's id, as in its message")
    _add_end(snooze, required=False)
    ack = _add(subparsers, "ack", run, _acknowledge, "say that you act on an incident: nobody is reminded of it")
    ack.add_argument("incident", metavar="INCIDENT", help="the incident's id, as in its message")
    exception = _add(subparsers, "exception", run, _exception, "raise a budget for a while")
    exception.add_argument("--rule", required=True, help="the budget's name in the policy")
    exception.add_argument("--scope", help="as in the policy's overrides, such as acme/docs; the tenant unless given")
    exception.add_argument("--limit-usd", required=True, metavar="300", help="what may be spent in a period meanwhile")
    _add_end(exception, required=True)
    resume = _add(subparsers, "resume", run, _resume, "lift the command that stands on a target, a kill included")
    resume.add_argument("target", choices=TARGETS)
    resume.add_argument("id", metavar="ID")
    feedback = _add(subparsers, "feedback", run, _feedback, "say what you make of an incident")
    feedback.add_argument("incident", metavar="INCIDENT", help="the incident's id, as in its message")
    feedback.add_argument("verdict", choices=get_args(Verdict))


def order_of(options: Options, operator_name: str | None, now_ms: int) -> OperatorMessage:
    """The order that the words stand for, given at `now_ms`.

    Raises:
        SettingsError: a word is wrong, with what to write.
    """
    who = options.who or operator_name
    if not who:
        raise SettingsError("nobody knows who you are: say --who, or set SPENDFUSE_OPERATOR_NAME")
    if not options.why.strip():
        raise SettingsError("--why: say in a few words why; others read it when they wonder")
    common: Fields = {"message_id": "-", "ts_ms": now_ms, "tenant_id": options.tenant, "who": who, "why": options.why}
    for word in ("tenant", "incident", "id", "rule"):
        if getattr(options, word, None) == "":
            raise SettingsError(f"{word.upper()} is empty: name what the order is about")
    build: Build = options.build
    order = build(options, common, now_ms)
    try:
        order = msgspec.structs.replace(order, message_id=f"op-{hashlib.sha256(encode(order)).hexdigest()[:32]}")
        return decode_operator(encode(order))
    except (Undecodable, UnicodeEncodeError) as error:
        detail = error.detail if isinstance(error, Undecodable) else "it is no text in UTF-8"
        raise SettingsError(f"such an order would not be read: {detail}") from None


def span_ms(text: str, name: str) -> int:
    """A length of time such as `90m`, `2h` or `7d`. Raises `SettingsError`, with `name` for the word at fault."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if found is None or not int(found[1]):
        raise SettingsError(f"{name} {text!r}: write a number and s, m, h, d or w, such as 90m or 2h")
    return int(found[1]) * UNITS_MS[found[2]]


def _add(subparsers: Any, name: str, run: Callable[[Options], int], build: Build, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
    parser.add_argument("--tenant", required=True, metavar="acme", help="whom it is about")
    parser.add_argument("--who", help="who gives the order; your login name unless given")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for those who wonder later")
    parser.set_defaults(run=run, build=build)
    return parser


def _add_end(parser: argparse.ArgumentParser, *, required: bool) -> None:
    end = parser.add_mutually_exclusive_group(required=required)
    end.add_argument("--for", dest="span", metavar="2h", help="how long")
    end.add_argument("--until", metavar="2026-12-01T00:00Z", help="when it ends")


def _silence(options: Options, common: Fields, now_ms: int) -> OperatorMessage:
    if bool(options.match) == options.all:
        raise SettingsError("say what to be silent about: --match label=value, or --all for everything of the tenant")
    match = _labels(options.match)
    if match.get("tenant_id", options.tenant) != options.tenant:
        raise SettingsError(f"--match tenant_id={match['tenant_id']} matches nothing: --tenant is {options.tenant}")
    return Silence(**common, match=match, until_ms=_end_ms(options, now_ms, MOST_SILENCE_DAYS))


def _snooze(options: Options, common: Fields, now_ms: int) -> OperatorMessage:
    until_ms = _end_ms(options, now_ms, MOST_SILENCE_DAYS, otherwise=SNOOZE)
    return Silence(**common, match={"incident_id": options.incident}, until_ms=until_ms)


def _acknowledge(options: Options, common: Fields, now_ms: int) -> OperatorMessage:
    del now_ms
    return Acknowledge(**common, incident_id=options.incident)


def _exception(options: Options, common: Fields, now_ms: int) -> OperatorMessage:
    try:
        limit_nanousd = usd_to_nanousd(options.limit_usd)
    except ValueError as error:
        raise SettingsError(f"--limit-usd: {error}") from None
    return LimitException(
        **common,
        rule=options.rule,
        scope=options.scope or options.tenant,
        limit_nanousd=limit_nanousd,
        until_ms=_end_ms(options, now_ms, MOST_EXCEPTION_DAYS),
    )


def _resume(options: Options, common: Fields, now_ms: int) -> OperatorMessage:
    del now_ms
    return Resume(**common, target=Target(options.target, options.id))


def _feedback(options: Options, common: Fields, now_ms: int) -> OperatorMessage:
    del now_ms
    return Feedback(**common, incident_id=options.incident, verdict=options.verdict)


def _labels(given: list[str]) -> dict[str, str]:
    """Label -> value, of `label=value` one by one or with commas between."""
    pairs = [pair.partition("=") for text in given for pair in re.split(r",\s*(?=[\w.]+=)", text)]
    match: dict[str, str] = {}
    for label, equals, value in pairs:
        if not equals:
            raise SettingsError(f"--match {label!r}: write label=value")
        _check_label(label, value)
        if match.setdefault(label, value) != value:
            raise SettingsError(f"--match {label}: an alert has one {label}; give one order for each")
    return match


def _check_label(label: str, value: str) -> None:
    try:
        _label.validate_python(label)
    except ValidationError as error:
        raise SettingsError(f"--match: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    known = CLOSED_LABELS.get(label)
    if known and value not in known:
        raise SettingsError(f"--match {label}={value}: use one of {', '.join(known)}")


def _end_ms(options: Options, now_ms: int, most_days: int, otherwise: str | None = None) -> int:
    span = otherwise if options.span is None and options.until is None else options.span
    end_ms = _moment_ms(options.until) if span is None else now_ms + span_ms(span, "--for")
    if end_ms <= now_ms:
        raise SettingsError(f"--until {options.until} is past")
    if end_ms > now_ms + most_days * DAY_MS:
        raise SettingsError(f"it would last more than {most_days} days; what is meant to last belongs in the policy")
    return end_ms


def _moment_ms(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--until {text!r}: write a time such as 2026-12-01T00:00Z") from None
    if at.tzinfo is None:
        minutes = at.isoformat(timespec="minutes")
        raise SettingsError(f"--until {text!r}: say in which time zone, such as {minutes}Z or {minutes}+01:00")
    return epoch_ms(at)
