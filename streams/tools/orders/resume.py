"""`resume`: lift what stands on a target, a kill included, on terms."""

import argparse
from collections.abc import Iterator
from typing import get_args

import msgspec

from alerting.rendering.figures import clock
from alerting.rendering.foreign import clean, name
from models.commands.commands import CLOCKS_DIFFER_MS
from schemas.control import Command, Target, TargetType
from schemas.duration import format_duration
from schemas.errors import SettingsError
from schemas.internal.spend import ALL_TENANTS
from schemas.money import format_usd
from schemas.operator import Resume
from streams.tools.orders.target import WORDS, about, add_targets, described, shown, target_of
from streams.tools.orders.verb import (
    Audit,
    Facts,
    Fields,
    Options,
    Status,
    Verb,
    add_end,
    end_ms,
    limit_nanousd,
    the_one,
)

MOST_DAYS = 366
MOST_SHOWN = 3
MOST_OF_A_NAME = 64
LIMITED: tuple[TargetType, ...] = ("run", "session", "run_tree")
"""What has a limit of its own, that a resume can raise."""
POSITIONAL = tuple(kind for kind in get_args(TargetType) if kind != "tenant")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", choices=POSITIONAL, help="what is let go on; or one of the options")
    parser.add_argument("id", nargs="?", metavar="ID")
    add_targets(parser, tuple(WORDS))
    terms = parser.add_mutually_exclusive_group()
    terms.add_argument("--limit-usd", metavar="12", help="what it may spend in all, the past included")
    add_end(terms)


def _build(options: Options, common: Fields, now_ms: int) -> Resume:
    target = target_of(options)
    if options.target is not None and options.id and target is None:
        target = Target(options.target, options.id)
    elif options.target is not None or target is None:
        raise SettingsError("say once what may go on: run ID, or --run ID, or another of the options")
    limit = None if options.limit_usd is None else limit_nanousd(options.limit_usd)
    if limit is not None and target.type not in LIMITED:
        raise SettingsError(f"--limit-usd: a {target.type} has budgets; raise one with the verb exception")
    return Resume(**common, target=target, limit_nanousd=limit, until_ms=end_ms(options, now_ms, MOST_DAYS))


def _complete(order: Resume, facts: Facts) -> Resume:
    """What stands, or will as soon as a worker runs, else what a limit holds back or an incident is about: there is
    something to lift.
    """
    kind, typed = order.target.type, order.target.id
    targets = [one.target for one in facts.commanded(order.tenant_id)]
    targets += [one.target for one in facts.pending_kills(order.tenant_id)]
    standing = sorted({target.id for target in targets if target.type == kind})
    nothing = f"nothing stands against the {kind.replace('_', ' ')} {typed!r} of {order.tenant_id}"
    others = [shown(target) for target in targets if target.type != kind]
    stands = [*map(name, standing), *sorted(others)]
    instead = f"; what stands: {', '.join(stands[:MOST_SHOWN])}" if stands else ""
    known = set(standing) if any(one.startswith(typed) for one in standing) else _held(order.tenant_id, kind, facts)
    found = the_one(typed, known, f"{nothing}: look at the id and the tenant{instead}")
    return msgspec.structs.replace(order, target=Target(kind, found))


def _held(tenant_id: str, kind: TargetType, facts: Facts) -> set[str]:
    """Targets that incidents name, whose commands may be held back."""
    alerts = facts.incidents(tenant_id).values()
    held = {str(alert.evidence["held_target"]) for alert in alerts if "held_target" in alert.evidence}
    named = {one.removeprefix(f"{kind}/") for one in held if one.startswith(f"{kind}/")}
    return named | ({alert.run_id for alert in alerts if alert.run_id} if kind == "run" else set())


def _look(order: Resume, facts: Facts) -> Iterator[str]:
    command = facts.active_command(order.tenant_id, order.target)
    yield from _still_stopped(order, facts)
    for kill in facts.pending_kills(order.tenant_id):
        if kill.target == order.target:
            yield (
                f"The kill of {clock(kill.ts_ms)} by {clean(kill.who, MOST_OF_A_NAME)} waits on operator.v1: no worker "
                "has obeyed it yet. This order lifts it as soon as one does."
            )
            return
    if command is None:
        yield f"Nothing on control.v1 stands against {shown(order.target)} now."
        return
    yield described(command)
    if (behind_ms := command.issued_ms - order.ts_ms) > CLOCKS_DIFFER_MS:
        raise SettingsError(
            f"the clock of this host is {format_duration(behind_ms)} behind that of the command, so that workers would "
            "take this order for an older one and lift nothing. Set the clock (NTP), and give it again"
        )
    if order.target.type == "scope":
        terms = "one more allowance of it until its period ends" if order.until_ms is None else "as much as it likes"
        yield f"The budget {name(command.rule)} is used up: the scope may spend {terms}, and its runs go on."
    if order.limit_nanousd is not None:
        _check_limit(order, order.limit_nanousd, command, facts)


def _still_stopped(order: Resume, facts: Facts) -> Iterator[str]:
    """What else stops runs, and more of them than the target: whoever belongs to that does not go on by this order."""
    if order.target.type not in LIMITED:
        return
    stopped = [
        shown(one.target)
        for whose in (order.tenant_id, ALL_TENANTS)
        for one in facts.commanded(whose)
        if one.action in ("kill", "pause") and one.target.type != "run" and one.target != order.target
    ]
    if stopped:
        more = f" and {len(stopped) - MOST_SHOWN} more" if len(stopped) > MOST_SHOWN else ""
        yield (
            f"Stopped as well: {', '.join(sorted(stopped)[:MOST_SHOWN])}{more}. What belongs to one of them goes on "
            "only when that is lifted, too."
        )


def _check_limit(order: Resume, limit: int, command: Command, facts: Facts) -> None:
    """A limit that is used up already, or of another kind than what stopped the target, would change nothing."""
    alert = facts.incidents(order.tenant_id).get(command.incident_id)
    if alert is None:
        return
    if alert.unit != "nanousd":
        raise SettingsError(
            f"--limit-usd: {shown(order.target)} was stopped by {name(command.rule)}, which counts no money; give "
            "--until, or no terms for one more allowance"
        )
    if limit <= alert.value:
        spent = format_usd(int(alert.value))
        raise SettingsError(f"--limit-usd: {shown(order.target)} has spent {spent} already; the limit must lie above")


def _status(order: Resume, now_ms: int) -> Status:
    if order.until_ms is None:
        return "done"
    return "in force" if now_ms < order.until_ms else "over"


def _subject(order: Resume) -> tuple[str, ...]:
    return about(order.tenant_id, order.target)


VERB = Verb(
    "resume",
    "lift the command that stands on a target, a kill included; one more allowance of its limit unless told otherwise",
    Resume,
    _add_arguments,
    _build,
    _look,
    Audit(_status, _subject),
    _complete,
)
