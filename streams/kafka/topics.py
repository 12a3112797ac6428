"""Make the broker's topics what `schemas/topics/` says, and say in people's words where they are not.

Nothing here deletes a topic or changes how many partitions one has: both lose or misplace data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    TopicMetadata,
)

from schemas.topics import TopicSpec, load_topics, topic_name
from streams.kafka.admin import (
    REQUEST_TIMEOUT_S,
    BrokerRefusedError,
    answer,
    await_leaders,
    topics_on_broker,
)
from streams.kafka.client import Admin, missing_right
from streams.settings import Settings

_RETENTION: Final = frozenset({"retention.ms", "retention.bytes"})
LOSES: Final = "Records are deleted that are needed still."
PARTS: Final = "Records of a tenant part from the state made of them."
GONE: Final = "Workers commit nothing, and give no commands, while a topic is missing that they write to."
_TEMPORARY: Final = frozenset({"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"})
"""Settings that Kafka's own tools put on a topic while they move it: no drift, and not to be taken away."""


class PartitionsRefusedError(BrokerRefusedError):
    """The topics on the broker cannot get the partition counts asked for; nothing was changed. Says why."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, one line each, and what it saw and left as it was."""

    created: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A declared topic as the broker has it."""

    spec: TopicSpec
    name: str
    partitions: int
    replication: int
    without_leader: tuple[int, ...]
    config: Mapping[str, ConfigEntry]

    def drift(self) -> dict[str, str | None]:
        """Settings to change: the value each should have; None where a setting should not be there at all."""
        declared = self.spec.broker_config(self.replication)
        wrong: dict[str, str | None] = {k: v for k, v in declared.items() if not _same(self._value(k), v)}
        undeclared = [
            name
            for name, entry in self.config.items()
            if _is_override(entry) and name not in declared and name not in _TEMPORARY
        ]
        return wrong | dict.fromkeys(undeclared)

    @property
    def loses_records(self) -> bool:
        """Whether the broker throws away what the declaration keeps: by age, by size, or in place of compaction."""
        wrong = self.drift()
        deletes = (
            "delete" in (self._value("cleanup.policy") or "") and "delete" not in self.spec.config["cleanup.policy"]
        )
        return deletes or any(_keeps_less(self._value(each), wrong[each]) for each in _RETENTION.intersection(wrong))

    def drift_lines(self) -> list[str]:
        """`drift` in words."""
        return [
            f"{self.name}: {setting} is {self._value(setting)}, "
            + ("which no file declares" if wanted is None else f"should be {wanted}")
            for setting, wanted in sorted(self.drift().items())
        ]

    def _value(self, setting: str) -> str | None:
        entry = self.config.get(setting)
        return None if entry is None else entry.value


def apply(admin: Admin, prefix: str, partitions: int, replication: int, generation: int = 1) -> Applied:
    """Create the topics that are missing and mend settings that differ; returns when every topic can be used.

    Args:
        admin: a client of the broker.
        prefix: put before every topic's name, its separator included.
        partitions: how many partitions new topics get; what the co-partitioned ones must have already.
        replication: how many copies of each partition new topics get.
        generation: of the state, whose topics are among them.

    Raises:
        PartitionsRefusedError: co-partitioned topics have another number of partitions. Nothing was changed.
        BrokerRefusedError: the broker does not allow what was asked, for instance more copies than it has nodes.
        BrokerUnreachableError: the broker did not answer in time.
    """
    specs = load_topics(generation=generation)
    found = _look(admin, prefix, specs)
    _refuse_other_partitions(found, partitions, "Nothing was changed.")
    missing = [spec for name, spec in specs.items() if name not in found]
    created = _create(admin, prefix, missing, partitions, replication)
    await_leaders(admin, [topic_name(prefix, name) for name in specs])
    if len(created) < len(missing):
        # Somebody else made topics in the same moment: they are judged like any that were there before.
        found = {k: v for k, v in _look(admin, prefix, specs).items() if v.name not in created}
        _refuse_other_partitions(found, partitions, "Somebody else creates topics at the same time.")
    altered = tuple(line for each in found.values() for line in each.drift_lines())
    _alter(admin, {each.name: each.drift() for each in found.values() if each.drift()})
    return Applied(created, altered, left=tuple(_left_alone(found.values(), partitions, replication)))


def check(admin: Admin, prefix: str, generation: int = 1) -> list[str]:
    """Every difference between the declared topics and the broker's, one line each; empty where there is none.

    Raises:
        BrokerRefusedError: the broker does not let this client look.
        BrokerUnreachableError: the broker did not answer in time.
    """
    specs = load_topics(generation=generation)
    found = _look(admin, prefix, specs)
    differences = [f"{topic_name(prefix, name)}: missing" for name in specs if name not in found]
    for each in found.values():
        if each.without_leader:
            differences.append(f"{each.name}: partitions {_listed(each.without_leader)} have no leader")
        if each.spec.partition_group == "single" and each.partitions != 1:
            differences.append(f"{each.name}: has {each.partitions} partitions, must have 1")
        differences += each.drift_lines()
    return differences + _unequal(found)


class Drift(NamedTuple):
    """How a topic differs from its declaration."""

    text: str
    effect: str = ""
    """What it does from now on, in a sentence; empty where it does nothing at once."""


def drifted(admin: Admin, prefix: str, generation: int = 1, *, seen: set[str] | None = None) -> list[Drift]:
    """How the topics that this client may see differ from their declarations. Raises as `check` does.

    `seen` holds those that it saw before, and takes those that it sees: one that is not there any more was deleted,
    where another may be one that it has no right to see.
    """
    by_name = _look(admin, prefix, load_topics(generation=generation))
    found = by_name.values()
    before = set() if seen is None else seen
    gone = [Drift(f"{topic_name(prefix, name)}: missing", GONE) for name in sorted(before - by_name.keys())]
    before.update(by_name)
    settings = [Drift(line, LOSES if each.loses_records else "") for each in found for line in each.drift_lines()]
    return [*gone, *settings, *(Drift(line, PARTS) for line in _unequal({each.spec.name: each for each in found}))]


def run_apply(settings: Settings) -> int:
    """`topics apply` for the command line: says what it did. Raises `BrokerError`."""
    try:
        done = apply(
            Admin(settings), settings.prefix, settings.partitions, settings.replication, settings.state_generation
        )
    except BrokerRefusedError as refused:
        if missing := missing_right(refused.code):
            raise BrokerRefusedError(f"{refused} {missing}", refused.code) from None
        raise
    for name in done.created:
        print(f"created {name}")
    for line in done.altered:
        print(f"mended {line}")
    for line in done.left:
        print(f"left as it is: {line}")
    if not (done.created or done.altered):
        print("all topics were there as declared")
    return 0


def run_check(settings: Settings) -> int:
    """`topics check` for the command line: prints the differences; 0 none, 1 some. Raises `BrokerError`."""
    differences = check(Admin(settings), settings.prefix, settings.state_generation)
    for line in differences:
        print(line)
    if differences:
        print("create and mend them: python -m streams topics apply")
    else:
        print("all topics are as declared")
    return 1 if differences else 0


def _look(admin: Admin, prefix: str, specs: Mapping[str, TopicSpec]) -> dict[str, _Found]:
    """The declared topics that the broker has, by their name without prefix."""
    on_broker = topics_on_broker(admin)
    present = {name: topic_name(prefix, name) for name in specs if topic_name(prefix, name) in on_broker}
    configs = _configs(admin, present.values())
    return {
        name: _found(specs[name], full, on_broker[full], configs[full])
        for name, full in present.items()
        if full in configs
    }


def _found(spec: TopicSpec, name: str, metadata: TopicMetadata, config: Mapping[str, ConfigEntry]) -> _Found:
    parts = metadata.partitions.values()
    return _Found(
        spec=spec,
        name=name,
        partitions=len(parts),
        replication=min((len(part.replicas) for part in parts), default=1),
        without_leader=tuple(sorted(part.id for part in parts if part.leader < 0)),
        config=config,
    )


def _configs(admin: Admin, names: Iterable[str]) -> dict[str, Mapping[str, ConfigEntry]]:
    """The settings of each topic, without topics that were deleted since they were listed."""
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    if not resources:
        return {}
    configs: dict[str, Mapping[str, ConfigEntry]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            configs[resource.name] = answer(future, f"describe the settings of {resource.name}")
        except BrokerRefusedError as error:
            if error.code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return configs


def _refuse_other_partitions(found: Mapping[str, _Found], asked: int, preface: str) -> None:
    refused = [
        f"{each.name} has {each.partitions} partitions, {asked} were asked for. It is co-partitioned: a tenant's "
        "records and the state made from them lie in the partition that the count gives; another count would part them."
        for each in found.values()
        if each.spec.partition_group == "tenant" and each.partitions != asked
    ]
    if refused:
        raise PartitionsRefusedError("\n".join([preface, *refused, *_unequal(found)]))


def _unequal(found: Mapping[str, _Found]) -> list[str]:
    counts = {each.name: each.partitions for each in found.values() if each.spec.partition_group == "tenant"}
    if len(set(counts.values())) <= 1:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [f"co-partitioned topics must have the same number of partitions, but have: {listed}"]


def _left_alone(found: Iterable[_Found], partitions: int, replication: int) -> list[str]:
    left: list[str] = []
    for each in found:
        wanted = each.spec.partition_count(partitions)
        if each.partitions != wanted:
            left.append(f"{each.name} has {each.partitions} partitions, a new one would get {wanted}")
        if each.replication != replication:
            left.append(f"{each.name} has {each.replication} copies, a new one would get {replication}")
    return left


def _create(admin: Admin, prefix: str, specs: list[TopicSpec], partitions: int, replication: int) -> tuple[str, ...]:
    """Create topics; the names of those that were not there yet."""
    if not specs:
        return ()
    new = [
        NewTopic(
            topic_name(prefix, spec.name),
            num_partitions=spec.partition_count(partitions),
            replication_factor=replication,
            config=spec.broker_config(replication),
        )
        for spec in specs
    ]
    created: list[str] = []
    futures = admin.create_topics(new, request_timeout=REQUEST_TIMEOUT_S, operation_timeout=REQUEST_TIMEOUT_S)
    for name, future in futures.items():
        try:
            answer(future, f"create {name}")
        except BrokerRefusedError as error:
            if error.code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        else:
            created.append(name)
    return tuple(created)


def _alter(admin: Admin, drifted: Mapping[str, Mapping[str, str | None]]) -> None:
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[_change(setting, wanted) for setting, wanted in changes.items()],
        )
        for name, changes in drifted.items()
    ]
    if not resources:
        return
    futures = admin.incremental_alter_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    for resource, future in futures.items():
        answer(future, f"change settings of {resource.name}")


def _change(setting: str, wanted: str | None) -> ConfigEntry:
    operation = AlterConfigOpType.DELETE if wanted is None else AlterConfigOpType.SET
    return ConfigEntry(setting, wanted, incremental_operation=operation)


def _is_override(entry: ConfigEntry) -> bool:
    # The client hands out the plain number, whatever its annotation says; the enumeration takes both.
    return ConfigSource(entry.source) is ConfigSource.DYNAMIC_TOPIC_CONFIG


def _same(found: str | None, wanted: str) -> bool:
    """Whether two settings mean the same: Kafka writes numbers and lists in its own way."""
    if found is None:
        return False
    if found == wanted:
        return True
    try:
        return float(found) == float(wanted)
    except ValueError:
        return sorted(found.split(",")) == sorted(wanted.split(","))


def _keeps_less(found: str | None, wanted: str | None) -> bool:
    """Of two retentions, where below 0 is without end."""
    if found is None or wanted is None or float(found) < 0:
        return False
    return float(wanted) < 0 or float(found) < float(wanted)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
