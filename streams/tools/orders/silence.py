"""`silence`: tell nobody of what matches, for a while. Mutes people, never brakes."""

import argparse
import re
from collections.abc import Iterator
from typing import get_args

import msgspec
from pydantic import TypeAdapter, ValidationError

from schemas.alert import AlertState
from schemas.errors import SettingsError
from schemas.operator import Silence
from schemas.policy import Mode, Severity
from schemas.routing import Label
from streams.service_alert import IN_NO_POLICY, known_rules
from streams.tools.orders.verb import (
    Audit,
    Facts,
    Fields,
    Options,
    Status,
    Verb,
    add_end,
    needed_end_ms,
    the_one,
    whole_incident_id,
)

MOST_DAYS = 30
LOOKED_AT = frozenset({"rule", "incident_id", "run_id", "severity", "detector"})
"""Labels of which it is said what they mute now."""
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


def complete(order: Silence, facts: Facts) -> Silence:
    """The silence with whole ids of incident and run. Raises `SettingsError` for what there is not, a rule as well."""
    match = dict(order.match)
    if "incident_id" in match:
        match["incident_id"] = whole_incident_id(order.tenant_id, match["incident_id"], facts)
    if "run_id" in match:
        nothing = f"nobody has heard of the run {match['run_id']!r} of {order.tenant_id}: look at the id and the tenant"
        match["run_id"] = the_one(match["run_id"], facts.seen(order.tenant_id, "run", match["run_id"]), nothing)
    if "rule" in match:
        _check_rule(order.tenant_id, match["rule"], facts)
    return msgspec.structs.replace(order, match=match)


def _check_rule(tenant_id: str, rule: str, facts: Facts) -> None:
    if rule in IN_NO_POLICY.union(alert.rule for alert in facts.incidents(tenant_id).values()):
        return
    known = known_rules(facts.policy())
    if rule not in known:
        raise SettingsError(
            f"there is no rule {rule!r} in the policy in force, and no incident of one: is it spelt right? There are "
            f"{', '.join(sorted(known))}"
        )


def _look(order: Silence, facts: Facts) -> Iterator[str]:
    if not order.match or not LOOKED_AT.issuperset(order.match):
        return
    wanted = set(order.match.items())
    alerts = [alert for alert in facts.incidents(order.tenant_id).values() if alert.state != "resolved"]
    muted = [alert for alert in alerts if wanted <= {(label, getattr(alert, label)) for label in LOOKED_AT}]
    if muted:
        yield f"Open now, and muted by it: {len(muted)}, such as: {muted[0].summary}"


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
    complete,
)
