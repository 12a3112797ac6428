"""The topics, as data: `schemas/topics/<topic>.toml` says who writes, who reads, and how the broker keeps each one."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, cast, get_args

PartitionGroup = Literal["tenant", "spread", "single"]
"""How many partitions a topic has.

`tenant`: as many as every other topic of this group, because one worker must own the same partition of all of them.
`spread`: as many at first; nothing depends on the number.
`single`: one.
"""

FOLDER: Final = Path(__file__).with_name("topics")
OF_A_GENERATION: Final = ("spend.v1", "state.v1")
"""What workers alone read and write, made from the input: every generation of the state has topics of its own."""

_WORDS: Final = ("description", "key", "value", "owner")
_LISTS: Final = ("producers", "consumers")
_REQUIRED_CONFIG: Final = ("cleanup.policy", "retention.ms", "max.message.bytes", "message.timestamp.type")
_SET_BY_REPLICATION: Final = ("min.insync.replicas", "unclean.leader.election.enable")
_LEGAL_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class TopicFileError(ValueError):
    """Topic files break their rules; the message lists every fault with its file."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: what it carries and how the broker keeps it."""

    name: str
    description: str
    key: str
    value: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    owner: str
    partition_group: PartitionGroup
    config: Mapping[str, str]
    """The broker's settings of this topic, by Kafka's own names, without those that follow from the replication."""

    @property
    def compacted(self) -> bool:
        """Whether the broker keeps the last record of each key."""
        return "compact" in self.config["cleanup.policy"].split(",")

    @property
    def retention_ms(self) -> int | None:
        """How long a record is kept; None means without end."""
        value = int(self.config["retention.ms"])
        return None if value == -1 else value

    @property
    def max_message_bytes(self) -> int:
        """The largest batch the broker takes, as compressed by the producer; also the largest record."""
        return int(self.config["max.message.bytes"])

    def partition_count(self, asked: int) -> int:
        """How many partitions the topic gets where `asked` is the number for the deployment."""
        return 1 if self.partition_group == "single" else asked

    def broker_config(self, replication: int) -> dict[str, str]:
        """All settings the broker must have for this topic, with `replication` copies of each partition.

        One copy may be away without stopping writes, and a copy that lags never becomes the leader: either would lose
        acknowledged records.
        """
        return dict(self.config) | {
            "min.insync.replicas": str(max(1, replication - 1)),
            "unclean.leader.election.enable": "false",
        }


def topic_name(prefix: str, name: str) -> str:
    """The topic's name on the broker: `prefix` as it is, its separator included (`"staging."`), then `name`.

    Raises:
        ValueError: Kafka would refuse the name.
    """
    full = prefix + name
    if not _LEGAL_NAME.fullmatch(full):
        raise ValueError(f"{full!r} is not a legal topic name: 1 to 249 of letters, digits, dot, underscore, hyphen")
    return full


def of_generation(name: str, generation: int) -> str:
    """The topic that stands for `name` in a generation of the state: the first has the names that the files give."""
    return f"{name}.g{generation}" if name in OF_A_GENERATION and generation > 1 else name


def load_topics(folder: Path = FOLDER, generation: int = 1) -> dict[str, TopicSpec]:
    """Every declared topic by its name without prefix, in the order of the names; last those of a later `generation` of
    the state, beside the first one's: by these the workers' group shares the partitions out, whatever the generation.

    Raises:
        TopicFileError: some file breaks a rule; all faults are reported together.
    """
    faults: list[str] = []
    topics: dict[str, TopicSpec] = {}
    for path in sorted(folder.glob("*.toml")):
        name = path.name.removesuffix(".toml")
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            faults.append(f"{path.name}: not TOML: {error}")
            continue
        found = _faults(name, table)
        faults += [f"{path.name}: {fault}" for fault in found]
        if not found:
            topics[name] = _spec(name, table)
    if not topics and not faults:
        faults.append(f"{folder} holds no topic files")
    if faults:
        raise TopicFileError("\n".join(faults))
    own = {of_generation(name, generation): topics[name] for name in OF_A_GENERATION if name in topics}
    return topics | {name: replace(spec, name=name) for name, spec in own.items()}


def _spec(name: str, table: Mapping[str, object]) -> TopicSpec:
    return TopicSpec(
        name=name,
        description=str(table["description"]),
        key=str(table["key"]),
        value=str(table["value"]),
        producers=tuple(cast("list[str]", table["producers"])),
        consumers=tuple(cast("list[str]", table["consumers"])),
        owner=str(table["owner"]),
        partition_group=cast("PartitionGroup", table["partitions"]),
        config=MappingProxyType({k: _kafka_text(v) for k, v in cast("dict[str, object]", table["config"]).items()}),
    )


def _kafka_text(value: object) -> str:
    """A setting as Kafka writes it: booleans in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _faults(name: str, table: Mapping[str, object]) -> list[str]:
    faults = [] if _LEGAL_NAME.fullmatch(name) else [f"{name!r} is not a legal topic name"]
    known = {*_WORDS, *_LISTS, "partitions", "config"}
    faults += [f"unknown entry {entry!r}" for entry in sorted(table.keys() - known)]
    faults += [f"{word!r} must be text" for word in _WORDS if not _is_text(table.get(word))]
    faults += [
        f"{entry!r} must be a list of names, at least one" for entry in _LISTS if not _is_names(table.get(entry))
    ]
    if table.get("partitions") not in get_args(PartitionGroup):
        faults.append(f"'partitions' must be one of {', '.join(get_args(PartitionGroup))}")
    config = table.get("config")
    return [*faults, *(_config_faults(config) if isinstance(config, dict) else ["there must be a [config] table"])]


def _config_faults(config: Mapping[str, object]) -> list[str]:
    faults = [f"[config] lacks {entry!r}" for entry in _REQUIRED_CONFIG if entry not in config]
    faults += [f"[config] {e!r} follows from the replication, leave it out" for e in _SET_BY_REPLICATION if e in config]
    scalars = (str, int, float, bool)
    faults += [
        f"[config] {k!r} must be text, a number or a boolean" for k, v in config.items() if type(v) not in scalars
    ]
    for entry in ("retention.ms", "max.message.bytes"):
        if entry in config and type(config[entry]) is not int:
            faults.append(f"[config] {entry!r} must be a whole number")
    return faults


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_text(each) for each in value)
