"""`kill`: stop a run, session, run tree, workflow or the whole tenant, with what starts there later."""

import argparse
from collections.abc import Iterator

import msgspec

from schemas.control import Target
from schemas.errors import SettingsError
from schemas.operator import Kill
from streams.tools.orders.target import about, add_targets, described, target_of
from streams.tools.orders.verb import Audit, Facts, Fields, Options, Status, Verb, add_end, end_ms, the_one

MOST_DAYS = 366
TARGETS = ("run", "session", "tree", "workflow")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_targets(parser, TARGETS)
    add_end(parser.add_mutually_exclusive_group())
    parser.add_argument("--unseen", action="store_true", help="also what nobody has heard of: it has not begun yet")


def _build(options: Options, common: Fields, now_ms: int) -> Kill:
    target = target_of(options)
    if target is None:
        raise SettingsError(
            f"say what to stop: {', '.join(f'--{word} ID' for word in TARGETS)}, or --all for the tenant"
        )
    return Kill(**common, target=target, until_ms=end_ms(options, now_ms, MOST_DAYS))


def _complete(order: Kill, facts: Facts) -> Kill:
    kind, typed = order.target.type, order.target.id
    nothing = (
        f"nobody has heard of the {kind.replace('_', ' ')} {typed!r} of {order.tenant_id} within a day: look at the id "
        "and the tenant, or say --unseen to stop it before it begins"
    )
    found = the_one(typed, facts.seen(order.tenant_id, kind, typed), nothing)
    return msgspec.structs.replace(order, target=Target(kind, found))


def _look(order: Kill, facts: Facts) -> Iterator[str]:
    command = facts.active_command(order.tenant_id, order.target)
    if command is not None:
        yield described(command)


def _status(order: Kill, now_ms: int) -> Status:
    return "in force" if order.until_ms is None or now_ms < order.until_ms else "over"


def _subject(order: Kill) -> tuple[str, ...]:
    return about(order.tenant_id, order.target)


VERB = Verb(
    "kill",
    "stop a run, session, run tree, workflow or the whole tenant, and what starts there later",
    Kill,
    _add_arguments,
    _build,
    _look,
    Audit(_status, _subject),
    _complete,
)
