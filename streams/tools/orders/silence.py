"""`silence`: tell nobody of what matches, for a while. Mutes people, never brakes."""

import argparse
import re
from collections.abc import Iterator
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from schemas.alert import AlertState
from schemas.errors import SettingsError
from schemas.operator import Silence
from schemas.policy import Mode, Severity
from schemas.routing import Label
from streams.tools.orders.verb import Audit, Facts, Fields, Options, Status, Verb, add_end, needed_end_ms

MOST_DAYS = 30
CLOSED_LABELS = {"severity": get_args(Severity), "mode": get_args(Mode), "state": get_args(AlertState)}
"""Labels with few values: a misspelt one would match nothing, and nobody would notice."""

_label = TypeAdapter(Label)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--match", action="append", default=[], metavar="rule=run-cost", help="a label of alerts; more narrow it down"
    )
    parser.add_argument("--all", action="store_true", help="every alert of the tenant, in place of --match")
    add_end(parser.add_mutually_exclusive_group(required=True))


def _build(options: Options, common: Fields, now_ms: int) -> Silence:
    if bool(options.match) == options.all:
        raise SettingsError("say what to be silent about: --match label=value, or --all for everything of the tenant")
    match = _labels(options.match)
    if match.get("tenant_id", options.tenant) != options.tenant:
        raise SettingsError(f"--match tenant_id={match['tenant_id']} matches nothing: --tenant is {options.tenant}")
    return Silence(**common, match=match, until_ms=needed_end_ms(options, now_ms, MOST_DAYS))


def _look(order: Silence, facts: Facts) -> Iterator[str]:
    found = [alert for alert in facts.incidents(order.tenant_id).values() if alert.state != "resolved"]
    rule = order.match.get("rule")
    if rule is not None and rule not in {alert.rule for alert in found} and rule not in facts.policy().rules:
        yield f"There is no rule {rule!r} in the policy in force, and no open incident of one: is it spelt right?"


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


def _status(order: Silence, now_ms: int) -> Status:
    return "in force" if now_ms < order.until_ms else "over"


VERB = Verb(
    "silence",
    "tell nobody of what matches, for a while; stops no brake",
    Silence,
    _add_arguments,
    _build,
    _look,
    Audit(_status),
)
