"""Targets of orders: how they are named on the command line, and what stands against them now."""

import argparse

from alerting.rendering.figures import clock
from alerting.rendering.foreign import clean, name
from schemas.control import Command, Target, TargetType
from schemas.errors import SettingsError
from streams.tools.orders.verb import Options

WORDS: dict[str, TargetType] = {
    "run": "run", "session": "session", "tree": "run_tree", "workflow": "workflow", "scope": "scope",
}  # fmt: skip
"""Option -> what it names. The tenant is meant with `--all`."""
_SHOWN = {kind: word for word, kind in WORDS.items()} | {"run_tree": "run tree", "tenant": "tenant"}
STANDS = {"kill": "is killed", "pause": "is paused", "downgrade": "must use a cheaper model"}
MOST_OF_A_REASON = 240


def add_targets(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
    """Declare the options that name a target, one for each of the words, and `--all` for the whole tenant."""
    group = parser.add_mutually_exclusive_group()
    for word in words:
        group.add_argument(f"--{word}", dest=f"target_{word}", metavar="ID", help=f"this {word}, by its id or name")
    group.add_argument("--all", action="store_true", help="the whole tenant")


def target_of(options: Options) -> Target | None:
    """The target that the options name; None if they name none. Raises `SettingsError` for an empty name."""
    if options.all:
        return Target("tenant", options.tenant)
    for word, kind in WORDS.items():
        given = getattr(options, f"target_{word}", None)
        if given == "":
            raise SettingsError(f"--{word} is empty: name what the order is about")
        if given is not None:
            return Target(kind, given)
    return None


def shown(target: Target) -> str:
    """A target for people: `run r1`."""
    return f"{_SHOWN[target.type]} {name(target.id)}"


def described(command: Command) -> str:
    """What stands against a target, since when, until when, and why."""
    span = f"since {clock(command.issued_ms)}, until {clock(command.expires_ms)}"
    reason = clean(command.reason, MOST_OF_A_REASON)
    text = f"{shown(command.target)} {STANDS[command.action]} by {name(command.rule)} {span}: {reason}"
    return text[0].upper() + text[1:]


def about(tenant_id: str, target: Target) -> tuple[str, ...]:
    """The subject of an order about a target."""
    return (tenant_id, "target", target.type, target.id)
