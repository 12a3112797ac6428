"""The recount that judges the integration proofs, judged itself: it agrees with the engine, and sees what is wrong."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import UsageSeen
from schemas.alert import Alert
from schemas.codec import decode_usage
from schemas.control import Command
from tests.integration.recount import compare
from tests.support import oracle
from tests.support.load import POLICY, Shape, usage_log

Alerts = list[Alert]
Commands = list[Command]


@pytest.fixture(scope="module")
def said() -> tuple[list[oracle.Record], Alerts, Commands]:
    """A small load, and what the engine makes of it."""
    engine, records, values = Engine(read_policy_toml(POLICY)), [], list[Any]()
    for logged in usage_log(Shape(6000, 7, tenants=8, history_hours=30, busy_hours=4)):
        if logged.reason is None and logged.value is not None:
            records.append((decode_usage(logged.value), logged.ts_ms))
            engine.handle(UsageSeen(*records[-1]))
            values += [effect.value for effect in engine.drain_effects()]
    alerts = [value for value in values if isinstance(value, Alert)]
    return records, alerts, [value for value in values if isinstance(value, Command)]


def test_it_agrees_with_the_engine(said: tuple[list[oracle.Record], Alerts, Commands]) -> None:
    """Hundreds of levels, kills and pauses are the same, although nothing is shared but the messages."""
    compare(*said, "a small load")


def of_budgets(alerts: Alerts) -> int:
    """Where the first alert of a budget stands."""
    return next(place for place, one in enumerate(alerts) if one.rule == "workflow-daily")


def of_caps(commands: Commands) -> int:
    """Where the first kill by the cap on runs stands."""
    return next(place for place, one in enumerate(commands) if (one.rule, one.action) == ("run-cost", "kill"))


def other_cause(command: Command) -> Command:
    """The same command for another reason."""
    return msgspec.structs.replace(command, cause_event_id="another")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda alerts, commands: alerts.pop(of_budgets(alerts)), "levels of budgets: 1 missing"),
        (lambda alerts, commands: alerts.append(alerts[of_budgets(alerts)]), "levels of budgets: 1 too many"),
        (lambda alerts, commands: commands.append(commands[of_caps(commands)]), "killed twice"),
        (lambda alerts, commands: commands.pop(of_caps(commands)), "over the cap and never killed"),
        (
            lambda alerts, commands: commands.insert(0, other_cause(commands.pop(of_caps(commands)))),
            "killed by another event",
        ),
        (
            lambda alerts, commands: commands.remove(
                next(one for one in commands if one.rule == "tenant-hourly" and one.target.type == "scope")
            ),
            "scopes paused by",
        ),
    ],
)
def test_it_sees_what_is_wrong(
    said: tuple[list[oracle.Record], Alerts, Commands], spoil: Callable[[Alerts, Commands], object], words: str
) -> None:
    """A level or a command that is missing, told twice or caused by something else is named."""
    records, alerts, commands = said[0], [*said[1]], [*said[2]]
    spoil(alerts, commands)
    with pytest.raises(AssertionError, match=words):
        compare(records, alerts, commands, "a small load")
