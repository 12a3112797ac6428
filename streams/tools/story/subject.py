"""What a story is about, and what of the topics belongs to it. Nothing of another tenant ever does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from alerting.delivery.log import Delivery
from alerting.routing.labels import labels, matches
from schemas.alert import WATCHDOG, Alert
from schemas.control import Command, Target
from schemas.duration import DAY_MS
from schemas.operator import Acknowledge, Feedback, Kill, LimitException, OperatorMessage, Resume, Silence
from schemas.usage import CommandAck, UsageMessage
from streams.tools.inspection.run_facts import RunKey, dimensions_of, of_alerts, reaches
from streams.tools.story.records import Recorded

RUN_GOES_ON_MS = DAY_MS
"""What is ordered so long after a run's last message still reached it; later it had ended without a word."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A run, or an incident; of an incident about a run, that run as well."""

    tenant_id: str
    run_id: str | None = None
    incident_id: str | None = None


@dataclass(slots=True)
class Belonging:
    """What belongs to a story, as it is found: incidents, commands with their targets, and causes."""

    alerts: list[Recorded[Alert]] = field(default_factory=list)
    commands: list[Recorded[Command]] = field(default_factory=list)

    @property
    def incident_ids(self) -> set[str]:
        """Its incidents."""
        return {one.value.incident_id for one in self.alerts}

    @property
    def command_ids(self) -> set[str]:
        """Its commands, with those whose record is gone and that an alert still names."""
        named = {one.value.evidence.get("command_id") for one in self.alerts}
        return {one.value.command_id for one in self.commands} | {str(each) for each in named if each}

    @property
    def targets(self) -> set[Target]:
        """What its commands are for."""
        return {one.value.target for one in self.commands}

    @property
    def causes(self) -> set[str]:
        """Ids of what alerts and commands follow from."""
        found = {one.value.cause_event_id for one in self.alerts} | {one.value.cause_event_id for one in self.commands}
        return {each for each in found if each}


def belonging(
    subject: Subject,
    alerts: Iterable[Recorded[Alert]],
    commands: Iterable[Recorded[Command]],
    usage: Sequence[Recorded[UsageMessage]],
) -> Belonging:
    """The alerts and commands of a story. `usage` is that of its run."""
    ours = [one for one in alerts if one.value.tenant_id == subject.tenant_id and one.value.detector != WATCHDOG]
    given = [one for one in commands if one.value.tenant_id == subject.tenant_id]
    if subject.incident_id is not None:
        return _of_incident(subject.incident_id, ours, given)
    assert subject.run_id is not None, "a story is about a run or about an incident"
    return _of_run(RunKey(subject.tenant_id, subject.run_id), ours, given, usage)


def _of_incident(incident_id: str, alerts: list[Recorded[Alert]], commands: list[Recorded[Command]]) -> Belonging:
    found = Belonging([one for one in alerts if one.value.incident_id == incident_id])
    named = found.command_ids
    by_it = [one for one in commands if one.value.incident_id == incident_id or one.value.command_id in named]
    since: dict[Target, int] = {}
    for one in by_it:
        if one.value.action != "nudge":
            since[one.value.target] = min(one.value.seq, since.get(one.value.target, one.value.seq))
    found.commands = [one for one in commands if one in by_it or _is_later(one.value, since)]
    return found


def _is_later(command: Command, since: dict[Target, int]) -> bool:
    """Whether it came to a target after the incident's first command, and may have lifted that."""
    return command.action != "nudge" and command.seq >= since.get(command.target, command.seq + 1)


def _of_run(
    key: RunKey,
    alerts: list[Recorded[Alert]],
    commands: list[Recorded[Command]],
    usage: Sequence[Recorded[UsageMessage]],
) -> Belonging:
    dimensions = of_alerts((one.value for one in alerts), key)
    for message in usage:
        dimensions |= dimensions_of(message.value)
    times = [one.at_ms for one in usage]
    reached = [one for one in commands if reaches(one.value, key.run_id, dimensions) and _in_time(one.value, times)]
    command_ids = {one.value.command_id for one in reached}
    incident_ids = {one.value.incident_id for one in reached}
    about = [
        one
        for one in alerts
        if one.value.run_id == key.run_id
        or one.value.incident_id in incident_ids
        or one.value.evidence.get("command_id") in command_ids
        or one.value.evidence.get("held_target") == f"run/{key.run_id}"
    ]
    return Belonging(about, reached)


def _in_time(command: Command, times: list[int]) -> bool:
    """Whether a command stood, or was given, while the run went on; one for the run itself always was."""
    if command.target.type == "run":
        return True
    if not times or command.issued_ms > max(times) + RUN_GOES_ON_MS:
        return False
    return command.issued_ms >= min(times) or (command.action != "resume" and command.expires_ms > min(times))


def is_used_by(message: UsageMessage, subject: Subject, known: Belonging) -> bool:
    """Whether a message of usage.v1 belongs: of the run, a cause, or an answer to one of the commands."""
    if message.tenant_id != subject.tenant_id:
        return False
    if message.run_id == subject.run_id or message.event_id in known.causes:
        return True
    is_answer = isinstance(message, CommandAck) and message.command_id in known.command_ids
    return is_answer and subject.incident_id is not None


def is_ordered_about(order: OperatorMessage, subject: Subject, known: Belonging) -> bool:
    """Whether an operator's order is about one of the targets, incidents or limits."""
    if order.tenant_id != subject.tenant_id:
        return False
    match order:
        case Kill(target=target) | Resume(target=target):
            return target in known.targets or (target.type, target.id) == ("run", subject.run_id)
        case Acknowledge(incident_id=incident_id) | Feedback(incident_id=incident_id):
            return incident_id in known.incident_ids
        case Silence():
            return any(_silences(order, one) for one in known.alerts)
        case LimitException():
            return any(
                (order.rule, order.scope) == (one.value.rule, "/".join(one.value.scope.values()) or order.tenant_id)
                for one in known.alerts
            )


def _silences(order: Silence, alert: Recorded[Alert]) -> bool:
    in_time = "incident_id" in order.match or order.ts_ms <= alert.at_ms < order.until_ms
    return in_time and matches(order.match, labels(alert.value))


def is_told_about(delivery: Delivery, subject: Subject, known: Belonging) -> bool:
    """Whether a delivery is of one of the incidents."""
    alert = delivery.alert
    return alert.tenant_id == subject.tenant_id and alert.incident_id in known.incident_ids
