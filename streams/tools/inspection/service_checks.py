"""The doctor's look at what we run there: keys, the policy in force, workers' state, guards, and health pages."""

import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, TopicPartition

from alerting.rendering.figures import clock
from alerting.rendering.foreign import name
from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.control import Command
from schemas.duration import DAY_MS, format_duration
from schemas.errors import PolicyError, SpendfuseError
from schemas.signing import EngineKeys, OperatorKey
from streams.broker_time import WORTH_TELLING_MS
from streams.clock import seconds
from streams.kafka.client import refuse_without_rights
from streams.kafka.positions import committed_ends, first_offsets
from streams.kafka.whole_topic import committed_records, make_reader
from streams.process.policies import read_published
from streams.settings import Settings
from streams.tools.inspection.finding import Finding, Surroundings
from streams.tools.inspection.incident_facts import readable_alerts
from streams.tools.keys import key_faults, signs_with_our_key
from streams.tools.order import TopicFacts
from streams.worker.fence import FENCE_KEY, Fence

ID_DIGITS: Final = 8
"""So much of a public key is shown."""
TAIL: Final = 16
"""Offsets at the end of a changelog among which its newest fence is."""
TAIL_S: Final = 10.0
PAGE_S: Final = 3.0
MOST_OTHERS: Final = 6
"""Other installations on the cluster whose key checks are read."""
SHARED: Final = "a key for each installation: python -m streams keys rotate engine; docs/stopping.md, Keys"
ANSWERED: Final = ("run", "session", "run_tree")


def keys(around: Surroundings) -> Iterator[Finding]:
    """Which keys are set here, and whether the workers' key checks hold against them."""
    settings = around.settings
    ours = list(key_ids(settings))
    if not ours:
        yield Finding(
            "ok", "none is set here, so none was compared: set SPENDFUSE_OPERATOR_PUBLIC_KEY or another to check it"
        )
        return
    found = dict(key_faults(settings, None))
    wrong = {tenant: faults for tenant, faults in found.items() if faults}
    shown = "; ".join(ours)
    if wrong:
        tenant, faults = next(iter(sorted(wrong.items())))
        text = f"{shown}. Not so {len(wrong)} of {len(found)} key checks of workers; {name(tenant)}: {faults[0]}"
        yield Finding("wrong", text, "python -m streams keys check; docs/stopping.md, Keys")
    elif not found:
        yield Finding("ok", f"{shown}. No worker with a key has seen a tenant yet, so nothing was compared")
    else:
        yield Finding("ok", f"{shown}. So say all key checks of workers ({len(found)})")
    shared = [prefix for prefix in around.other_prefixes[:MOST_OTHERS] if signs_with_our_key(settings, prefix)]
    if shared:
        text = f"the workers under the prefix {', '.join(map(repr, shared))} sign with this engine key as well"
        yield Finding("warning", f"{text}: guards here obey their commands, where they are copied", SHARED)


def key_ids(settings: Settings) -> Iterator[str]:
    """Each key that is set, by the beginning of its public half."""
    if settings.engine_root_key is not None:
        yield f"engine {EngineKeys(settings.engine_root_key).lift_key.hex()[:ID_DIGITS]}"
    if settings.operator_root_key is not None:
        yield f"signs orders as {OperatorKey(settings.operator_root_key).public_key.hex()[:ID_DIGITS]}"
    if settings.operator_public_keys:
        yield f"believes {', '.join(key.hex()[:ID_DIGITS] for key in settings.operator_public_keys)}"


@dataclass(frozen=True, slots=True)
class Published:
    """What policy.v1 holds."""

    policy: Policy | None = None
    """The newest that is valid."""
    since_ms: int = 0
    refused: str = ""
    """What is wrong with the newest record, where it is not that policy."""


def policy(around: Surroundings) -> Iterator[Finding]:
    """Which policy is published, which the workers' state follows, and whether the file here is another."""
    published = published_policy(around.settings, committed_records(around.settings, "policy.v1"))
    file = _file(around.settings)
    if isinstance(file, Finding):
        yield file
        file = None
    yield from policy_findings(published, file, list(_fences(around).values()))


def published_policy(settings: Settings, records: Iterable[Any]) -> Published:
    """The policy in force by what policy.v1 holds."""
    found = Published()
    for record in records:
        if record.key() != settings.policy_name.encode():
            continue
        try:
            found = Published(read_published(record.value()), record.timestamp()[1])
        except PolicyError as error:
            found = Published(found.policy, found.since_ms, error.faults[0])
    return found


def policy_findings(published: Published, file: Policy | None, fences: list[Fence]) -> Iterator[Finding]:
    """Whether everybody runs the same rules. `file` is what SPENDFUSE_POLICY names here, if it names any."""
    again = "python -m streams policy publish FILE"
    if published.refused:
        yield Finding("wrong", f"the newest record of policy.v1 is refused: {published.refused}", again)
    in_force = published.policy
    if in_force is None:
        says = "the defaults, which stop nothing" if file is None else f"the file's here is {name(file.version)}"
        text = f"policy.v1 is empty: worker and alerting each take their own SPENDFUSE_POLICY ({says})"
        yield Finding("warning", text, f"{again}, and all of them follow the same")
    else:
        rules = f"{len(in_force.rules)} rules"
        yield Finding("ok", f"{name(in_force.version)} is in force since {clock(published.since_ms)}: {rules}")
        if file is not None and file.stamp != in_force.stamp:
            text = f"the file that SPENDFUSE_POLICY names here is another: {name(file.version)}"
            yield Finding("warning", text, "python -m streams policy diff FILE; the published one counts")
    yield from _followed(in_force or file, fences)


def _followed(wanted: Policy | None, fences: list[Fence]) -> Iterator[Finding]:
    """Whether the workers' state follows it. One that has had nothing to do since may not have written it down."""
    if wanted is None:
        return
    others = sorted({each.policy_version for each in fences if each.policy_stamp not in (0, wanted.stamp)})
    if others:
        text = f"the state of some partitions still follows {', '.join(map(name, others))}"
        yield Finding("warning", text, "look again when events have come; where it stays: the worker's log")


def state(around: Surroundings) -> Iterator[Finding]:
    """How fresh the workers' state is."""
    fences = _fences(around)
    places = around.places("state.v1")
    if not fences:
        yield Finding("ok", "no partition has any: nothing was counted yet")
        return
    yield from generation_findings(around.settings.state_generation, fences)
    newest_ms = max(each.written_ms for each in fences.values())
    age = format_duration(max(0, around.now_ms - newest_ms))
    yield Finding("ok", f"{len(fences)} of {len(places)} partitions have state, the newest written {age} ago")


def generation_findings(generation: int, fences: Mapping[int, Fence]) -> Iterator[Finding]:
    """Whether workers keep the generation of the state that the settings here name."""
    moved = {number: fence.moved_on_to for number, fence in fences.items() if fence.moved_on_to}
    for other in sorted(set(moved.values())):
        numbers = ", ".join(str(number) for number, to in sorted(moved.items()) if to == other)
        text = f"workers of generation {other} of the state have taken partition {numbers} over from {generation}"
        if len(moved) < len(fences):
            text += "; the rest is to follow"
        yield Finding("warning", text, f"set SPENDFUSE_STATE_GENERATION={other}; docs/operations/upgrades.md")
    filled = sorted(number for number, fence in fences.items() if fence.is_being_filled)
    if filled:
        before = fences[filled[0]].predecessor
        text = (
            f"generation {generation} of partition {', '.join(map(str, filled))} is being filled, and workers keep "
            f"generation {before}"
        )
        yield Finding("warning", text, "replace the workers when `rebuild` says so; docs/operations/upgrades.md")


def hosts(around: Surroundings) -> Iterator[Finding]:
    """The clocks of the hosts on which workers run against the brokers'."""
    yield hosts_finding({number: each.host_ahead_ms for number, each in _fences(around).items() if each.time_ms})


def hosts_finding(ahead_ms: dict[int, int]) -> Finding:
    """What the newest commit of each partition says of the clock of the host on which it was made."""
    wrong = {number: each for number, each in ahead_ms.items() if abs(each) > WORTH_TELLING_MS}
    if not ahead_ms:
        return Finding("ok", "not known: no worker has committed anything yet that says how its host's clock goes")
    if not wrong:
        most = format_duration(max(map(abs, ahead_ms.values())))
        return Finding("ok", f"the clocks of the workers' hosts and the brokers agree to within {most}")
    listed = ", ".join(
        f"{number}: {format_duration(abs(each))} {'ahead' if each > 0 else 'behind'}"
        for number, each in sorted(wrong.items())
    )
    return Finding(
        "warning",
        f"the clock of the host whose worker has the partition differs from the brokers', {listed}",
        "set it (NTP); the worker goes by the brokers' time meanwhile. docs/runbooks/host-clock.md",
    )


def guards(around: Surroundings) -> Iterator[Finding]:
    """Whether those who were killed lately have answered."""
    since_ms = around.now_ms - DAY_MS
    alerts = [one for one in readable_alerts(around.settings) if one.ts_ms >= since_ms]
    commands = [one for one in TopicFacts(around.settings, around.now_ms).commands() if one.issued_ms >= since_ms]
    yield guards_finding(commands, alerts, around.now_ms)


def guards_finding(commands: list[Command], alerts: list[Alert], now_ms: int) -> Finding:
    """What a day's kills say about the guards. Of a guard that was never asked nothing is known."""
    answers = {one.evidence["command_id"]: one.ts_ms for one in alerts if "cause_to_stop_ms" in one.evidence}
    kills = {one.command_id for one in commands if one.action == "kill" and one.target.type in ANSWERED}
    kills |= answers.keys()
    newest = {one.incident_id: one for one in alerts if "killed_by" in one.evidence}
    silent = [one for one in newest.values() if one.state != "resolved"]
    if silent:
        text = f"{len(silent)} of {len(kills)} kills of the last day had no effect: {silent[-1].summary}"
        return Finding("wrong", text, "stop it by hand; docs/runbooks/kill-unanswered.md")
    if not kills:
        return Finding("ok", "not known: nobody was killed within a day, so that no guard had to answer")
    if not answers:
        return Finding("ok", f"{len(kills)} kills within a day; answers to them are not on alerts.v1")
    age = format_duration(max(0, now_ms - max(answers.values())))
    return Finding("ok", f"{len(answers)} of {len(kills)} kills within a day were answered, the last {age} ago")


def health(around: Surroundings) -> Iterator[Finding]:
    """What the processes of this host say of themselves."""
    settings = around.settings
    if not settings.metrics_port:
        yield Finding("ok", "not asked: SPENDFUSE_METRICS_PORT is not set here")
        return
    host = "127.0.0.1" if settings.metrics_host == "0.0.0.0" else settings.metrics_host  # noqa: S104 - where it answers
    url = f"http://{host}:{settings.metrics_port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=PAGE_S) as page:
            yield Finding("ok", f"{url} says {page.read().decode(errors='replace').strip()}")
    except urllib.error.HTTPError as sick:
        said = sick.read().decode(errors="replace").strip()
        yield Finding("wrong", f"{url} says: {said}", "docs/runbooks/README.md")
    except OSError as error:
        text = f"{url} does not answer ({getattr(error, 'reason', error)})"
        yield Finding("warning", text, "if a process should run on this host: python -m streams up")


def _file(settings: Settings) -> Policy | Finding | None:
    if settings.policy is None:
        return None
    try:
        return settings.file_policy()
    except SpendfuseError as error:
        return Finding("wrong", str(error).replace("\n", " "), f"python -m streams policy check {settings.policy}")


def _fences(around: Surroundings) -> dict[int, Fence]:
    """The newest fence of each partition's state: how far it goes, and under which policy. Raises `BrokerError`."""
    places = around.places("state.v1")
    ends, firsts = committed_ends(around.admin, places), first_offsets(around.admin, places)
    left = {number: ends[topic, number] for topic, number in places if ends[topic, number] > firsts[topic, number]}
    topic = around.settings.topic("state.v1")
    reader = make_reader(around.settings)
    found: dict[int, Fence] = {}
    try:
        reader.assign([TopicPartition(topic, number, max(0, end - TAIL)) for number, end in left.items()])
        deadline = seconds() + TAIL_S
        while left and seconds() < deadline:
            for message in reader.consume(1_000, 0.1):
                _take(message, found, left)
    finally:
        reader.close()
    return found


def _take(message: Any, found: dict[int, Fence], left: dict[int, int]) -> None:
    error, number = message.error(), message.partition()
    if error is not None:
        if error.code() != KafkaError._PARTITION_EOF:
            refuse_without_rights(error)
        elif message.offset() >= left.get(number, 0):
            left.pop(number, None)
        return
    if message.key() == FENCE_KEY and message.value() is not None:
        found[number] = msgspec.json.decode(message.value(), type=Fence)
    if message.offset() >= left.get(number, 0) - 1:
        left.pop(number, None)
