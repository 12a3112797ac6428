"""`story`: everything that happened to a run or an incident, in order, from the topics."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from alerting.delivery.log import Delivery, decode_entry
from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command, decode_usage
from schemas.control import Command
from schemas.edge.enforcement import Enforcement
from schemas.errors import Undecodable
from schemas.signing import EngineKeys, is_key_check
from schemas.usage import UsageMessage
from streams.clock import wall_ms
from streams.kafka.admin import existing_topics
from streams.kafka.order_reader import OrderReader
from streams.settings import Settings
from streams.tools.inspection.run_facts import RunKey, the_run
from streams.tools.orders.audit import OrderRecord, audit, order_record
from streams.tools.orders.verb import the_one
from streams.tools.story.chapters import alert_fact, command_facts, enforcer_facts, order_fact, told_facts, usage_fact
from streams.tools.story.fact import Fact
from streams.tools.story.lines import story_data, story_lines
from streams.tools.story.notes import notes
from streams.tools.story.policies import policy_facts
from streams.tools.story.records import Reading, Recorded, recorded
from streams.tools.story.sequence import in_order
from streams.tools.story.subject import (
    Belonging,
    Subject,
    belonging,
    is_ordered_about,
    is_told_about,
    is_used_by,
)

Value = TypeVar("Value")
TOPICS = ("policy.v1", "operator.v1", "usage.v1", "alerts.v1", "control.v1", "enforcements.v1", "deliveries.v1")


@dataclass(slots=True)
class Story:
    """Facts in order, and what could not be known."""

    subject: Subject
    facts: list[Fact]
    notes: list[str]


def run_story(
    settings: Settings, tenant_id: str | None, *, run: str | None, incident: str | None, as_json: bool
) -> int:
    """Tell it. Raises `SettingsError` for one that nobody has heard of, or `BrokerError`."""
    story = story_of(settings, tenant_id, run=run, incident=incident)
    lines = (
        story_data(story.subject, story.facts, story.notes)
        if as_json
        else story_lines(story.subject, story.facts, story.notes)
    )
    for line in lines:
        print(line)
    return 0


def story_of(settings: Settings, tenant_id: str | None, *, run: str | None, incident: str | None) -> Story:
    """The story of the run or the incident whose id begins so, of one tenant or any. Reads usage.v1 whole as far as the
    tenant's partition goes.
    """
    existing_topics(settings, TOPICS)
    reading = Reading(settings)
    alerts = list(reading.values("alerts.v1", decode_alert, tenant_id))
    commands = list(_commands(reading))
    if incident is None:
        subject = _run(reading, run or "", tenant_id, alerts, commands)
    else:
        subject = _incident(incident, tenant_id, alerts)
    return _Teller(settings, reading, subject).told(alerts, commands)


def _incident(typed: str, tenant_id: str | None, alerts: list[Recorded[Alert]]) -> Subject:
    """The incident that was meant; ids follow from the tenant too, so that no two tenants have the same."""
    whose = "" if tenant_id is None else f" of {tenant_id}"
    mine = [one.value for one in alerts if tenant_id in (None, one.value.tenant_id)]
    nothing = f"alerts.v1 holds no incident {typed!r}{whose}: look at the id and the tenant"
    found = the_one(typed, {one.incident_id for one in mine}, nothing)
    newest = next(one for one in reversed(mine) if one.incident_id == found)
    return Subject(newest.tenant_id, newest.run_id, found)


def _run(
    reading: Reading,
    typed: str,
    tenant_id: str | None,
    alerts: list[Recorded[Alert]],
    commands: list[Recorded[Command]],
) -> Subject:
    """The run that was meant: usage is asked where no alert and no command names one so."""
    named = {RunKey(one.value.tenant_id, one.value.run_id) for one in alerts if one.value.run_id}
    named |= {RunKey(one.value.tenant_id, one.value.target.id) for one in commands if one.value.target.type == "run"}
    found = {key for key in named if key.run_id == typed and tenant_id in (None, key.tenant_id)}
    if not found:
        used = (one.value for one in reading.values("usage.v1", decode_usage, tenant_id))
        named |= {RunKey(one.tenant_id, one.run_id) for one in used if one.run_id.startswith(typed)}
        found = {key for key in named if key.run_id.startswith(typed) and tenant_id in (None, key.tenant_id)}
        found = {key for key in found if key.run_id == typed} or found
    key = the_run(typed, tenant_id, found, "no usage that is left names it")
    return Subject(key.tenant_id, key.run_id)


def _commands(reading: Reading) -> Iterable[Recorded[Command]]:
    for message in reading.messages("control.v1"):
        if is_key_check(message.key()):
            continue
        try:
            yield recorded("control.v1", message, decode_command(message.value()))
        except Undecodable:
            continue


class _Teller:
    """Finds what belongs to one subject."""

    def __init__(self, settings: Settings, reading: Reading, subject: Subject) -> None:
        self._settings = settings
        self._reading = reading
        self._subject = subject
        self._sent_again = 0

    def told(self, alerts: list[Recorded[Alert]], commands: list[Recorded[Command]]) -> Story:
        """All of it, in order."""
        subject = self._subject
        usage = self._usage(alerts, commands)
        of_run = [one for one in usage if one.value.run_id == subject.run_id]
        known = belonging(subject, alerts, commands, of_run)
        facts = [usage_fact(one, subject.run_id) for one in usage if is_used_by(one.value, subject, known)]
        facts += map(alert_fact, known.alerts)
        facts += command_facts(known.commands, self._keys())
        facts += self._orders(known)
        facts += told_facts(self._deliveries(known))
        done = self._decoded("enforcements.v1", msgspec.json.Decoder(Enforcement).decode)
        facts += enforcer_facts(done, known.command_ids, subject.tenant_id)
        facts += self._policies(facts)
        return Story(subject, in_order(facts), list(notes(known, facts, self._reading.dropped, self._sent_again)))

    def _usage(self, alerts: list[Recorded[Alert]], commands: list[Recorded[Command]]) -> list[Recorded[UsageMessage]]:
        """What may belong, each event once: which causes do is known when the run is."""
        possible = belonging(self._subject, alerts, commands, ())
        if self._subject.incident_id is None:
            possible = Belonging(alerts, commands)
        found: dict[str, Recorded[UsageMessage]] = {}
        for one in self._reading.values("usage.v1", decode_usage, self._subject.tenant_id):
            if is_used_by(one.value, self._subject, possible):
                self._sent_again += one.value.event_id in found
                found.setdefault(one.value.event_id, one)
        return list(found.values())

    def _keys(self) -> EngineKeys | None:
        root = self._settings.engine_root_key
        return None if root is None else EngineKeys(root)

    def _orders(self, known: Belonging) -> Iterator[Fact]:
        reader = OrderReader.of(self._settings)
        for one in audit(self._order_records(), reader, wall_ms()):
            is_ours = one.order is not None and is_ordered_about(one.order, self._subject, known)
            if is_ours and one.status != "repeated":
                yield order_fact(one, is_checked=not reader.believes_nobody)

    def _order_records(self) -> Iterator[OrderRecord]:
        return map(order_record, self._reading.messages("operator.v1", self._subject.tenant_id))

    def _deliveries(self, known: Belonging) -> Iterator[Recorded[Delivery]]:
        for one in self._decoded("deliveries.v1", decode_entry, self._subject.tenant_id):
            entry = one.value
            if isinstance(entry, Delivery) and is_told_about(entry, self._subject, known):
                yield Recorded(one.place, one.at_ms, entry)

    def _decoded(
        self, name: str, decode: Callable[[bytes], Value], tenant_id: str | None = None
    ) -> Iterator[Recorded[Value]]:
        """Values of a topic whose codec is its writer's own."""
        for message in self._reading.messages(name, tenant_id):
            with suppress(Undecodable, msgspec.DecodeError, UnicodeDecodeError):
                yield recorded(name, message, decode(message.value()))

    def _policies(self, facts: list[Fact]) -> list[Fact]:
        times = [one.at_ms for one in facts]
        named = self._settings.policy_name.encode()
        records = (one for one in self._reading.messages("policy.v1") if one.key() == named)
        return list(policy_facts((recorded("policy.v1", one, one.value()) for one in records), min(times), max(times)))
