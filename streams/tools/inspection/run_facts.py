"""What the topics say of one run: the command that reaches it, the alerts about that, and what operators ordered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from alerting.rendering.foreign import name
from models.commands.standing import STRENGTH
from schemas.alert import Alert
from schemas.codec import decode_usage
from schemas.control import Command
from schemas.errors import BrokerError, SettingsError, Undecodable
from schemas.operator import Kill, Resume
from schemas.usage import ATTRIBUTION, UNATTRIBUTED, UsageMessage
from streams.kafka.admin import existing_topics
from streams.kafka.order_reader import OrderReader
from streams.settings import Settings
from streams.tools.inspection.incident_facts import readable_alerts
from streams.tools.order import TopicFacts, holds, recent_usage
from streams.tools.orders.audit import Audited, audit, read_orders
from streams.tools.orders.verb import UnknownFactError, the_one

TOPICS = ("control.v1", "alerts.v1", "operator.v1", "usage.v1")
OF_CALLS = ("model", "provider", "route")
"""Dimensions of single calls, of which a run as a whole has none."""


class RunKey(NamedTuple):
    """Which run."""

    tenant_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run and all that bears on whether it is stopped."""

    key: RunKey
    command: Command | None = None
    """What stands against it or against what it belongs to; else what stood against itself last."""
    alerts: tuple[Alert, ...] = ()
    """Those about the run or about the command, oldest first."""
    orders: tuple[Audited, ...] = ()
    """Operators' orders about the command's target, those that were refused among them, oldest first."""
    unknown: tuple[str, ...] = ()
    """What could not be looked at."""


def run_facts(settings: Settings, typed: str, tenant_id: str | None, now_ms: int) -> RunFacts:
    """The facts about the run whose id begins as was typed, of one tenant or any.

    Raises:
        SettingsError: there is none, or several.
        BrokerError: a topic cannot be read.
    """
    existing_topics(settings, TOPICS)
    commands = [one for one in _commands(settings, now_ms) if tenant_id in (None, one.tenant_id)]
    alerts = [one for one in readable_alerts(settings) if tenant_id in (None, one.tenant_id)]
    known = _named(commands, alerts, typed)
    used: dict[RunKey, dict[str, str]] = {}
    unknown: list[str] = []
    if not known or _could_be_reached_widely(commands, known, now_ms):
        try:
            used = _used(settings, typed, tenant_id, now_ms)
        except UnknownFactError as error:
            unknown.append(str(error))
    unsure = f" ({'; '.join(unknown)})" if unknown else ""
    key = the_run(typed, tenant_id, known or set(used), f"no usage of the last day names it{unsure}")
    dimensions = of_alerts(alerts, key) | used.get(key, {})
    command = command_on(commands, key, dimensions, now_ms)
    return RunFacts(
        key,
        command,
        tuple(alerts_about(alerts, key, command)),
        tuple(_orders(settings, command, now_ms)),
        tuple(unknown),
    )


def command_on(commands: Iterable[Command], key: RunKey, dimensions: dict[str, str], now_ms: int) -> Command | None:
    """The strongest command in force that reaches a run; the last one to the run itself where none is in force."""
    reaching = [one for one in commands if one.tenant_id == key.tenant_id and reaches(one, key.run_id, dimensions)]
    holding = [one for one in reaching if holds(one, now_ms)]
    if holding:
        return max(holding, key=lambda one: (STRENGTH[one.action], one.target.type == "run", one.issued_ms))
    return next((one for one in reaching if one.target.type == "run"), None)


def reaches(command: Command, run_id: str, dimensions: dict[str, str]) -> bool:
    """Whether a command of the run's tenant is for the run or for what it belongs to."""
    match command.target.type:
        case "run":
            return command.target.id == run_id
        case "session":
            return command.target.id == dimensions.get("session_id")
        case "run_tree":
            return command.target.id == dimensions.get("root_run_id", run_id)
        case "workflow":
            return command.target.id == dimensions.get("workflow")
        case "tenant":
            return True
        case "scope":
            own = {"tenant_id": command.tenant_id, **dimensions}
            asked = {each: values for each, values in (command.scope or {}).items() if each not in OF_CALLS}
            return bool(dimensions) and all(own.get(each, UNATTRIBUTED) in values for each, values in asked.items())


def _named(commands: list[Command], alerts: list[Alert], typed: str) -> set[RunKey]:
    """Runs that commands or alerts name, whose ids begin as was typed; where it is one of them, no others."""
    found = {RunKey(one.tenant_id, one.target.id) for one in commands if one.target.type == "run"}
    found |= {RunKey(one.tenant_id, one.run_id) for one in alerts if one.run_id}
    return {key for key in found if key.run_id == typed} or {key for key in found if key.run_id.startswith(typed)}


def _could_be_reached_widely(commands: list[Command], known: set[RunKey], now_ms: int) -> bool:
    """Whether something stands against more than single runs, and nothing against one of these itself."""
    tenants = {key.tenant_id for key in known}
    holding = [one for one in commands if one.tenant_id in tenants and holds(one, now_ms)]
    directly = {RunKey(one.tenant_id, one.target.id) for one in holding if one.target.type == "run"}
    return not directly & known and any(one.target.type != "run" for one in holding)


def the_run(typed: str, tenant_id: str | None, found: set[RunKey], no_usage: str) -> RunKey:
    """The run that was meant, of those found; `no_usage` says how far usage was looked at. Raises `SettingsError`."""
    whose = "" if tenant_id is None else f" of {tenant_id}"
    nothing = (
        f"nobody has heard of a run {typed!r}{whose}: no command, no alert, and {no_usage}. Look at the id and the "
        "tenant"
    )
    run_id = the_one(typed, {key.run_id for key in found}, nothing)
    tenants = sorted(key.tenant_id for key in found if key.run_id == run_id)
    if len(tenants) > 1:
        names = ", ".join(map(name, tenants[:5]))
        raise SettingsError(f"several tenants have a run {name(run_id)}: {names}. Say which with --tenant")
    return RunKey(tenants[0], run_id)


def _commands(settings: Settings, now_ms: int) -> list[Command]:
    try:
        return TopicFacts(settings, now_ms).commands()
    except UnknownFactError as error:
        raise BrokerError(str(error)) from None


def of_alerts(alerts: Iterable[Alert], key: RunKey) -> dict[str, str]:
    """The run's attribution, as alerts about it have it."""
    dimensions: dict[str, str] = {}
    for alert in alerts:
        if (alert.tenant_id, alert.run_id) == key:
            dimensions |= alert.attribution | ({"owner": alert.owner} if alert.owner else {})
    return dimensions


def _used(settings: Settings, typed: str, tenant_id: str | None, now_ms: int) -> dict[RunKey, dict[str, str]]:
    """Runs of the last day whose ids begin as was typed, each with what it has said of itself."""
    found: dict[RunKey, dict[str, str]] = {}
    for record in recent_usage(settings, now_ms):
        try:
            usage = decode_usage(record.value())
        except Undecodable:
            continue
        if usage.run_id.startswith(typed) and tenant_id in (None, usage.tenant_id):
            found.setdefault(RunKey(usage.tenant_id, usage.run_id), {}).update(dimensions_of(usage))
    return {key: each for key, each in found.items() if key.run_id == typed} or found


def dimensions_of(usage: UsageMessage) -> dict[str, str]:
    """What a message says of what its run belongs to."""
    names = (*ATTRIBUTION, "session_id", "root_run_id")
    given: dict[str, Any] = {each: getattr(usage, each) for each in names}
    given |= {f"tags.{each}": value for each, value in (usage.tags or {}).items()}
    return {each: value for each, value in given.items() if value}


def alerts_about(alerts: Iterable[Alert], key: RunKey, command: Command | None) -> Iterator[Alert]:
    """The alerts about a run, or about what stopped it."""
    for alert in alerts:
        if alert.tenant_id != key.tenant_id:
            continue
        is_cause = command is not None and (
            alert.incident_id == command.incident_id or alert.evidence.get("command_id") == command.command_id
        )
        if is_cause or alert.run_id == key.run_id or alert.evidence.get("held_target") == f"run/{key.run_id}":
            yield alert


def _orders(settings: Settings, command: Command | None, now_ms: int) -> Iterator[Audited]:
    """Operators' orders about what the command is for; none where no key is known to check them with."""
    reader = OrderReader.of(settings)
    if command is None or reader.believes_nobody:
        return
    for one in audit(read_orders(settings), reader, now_ms):
        order = one.order
        if isinstance(order, Kill | Resume) and (order.tenant_id, order.target) == (command.tenant_id, command.target):
            yield one
