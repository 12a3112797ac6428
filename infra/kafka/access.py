"""Who may do what on the cluster: `access.toml` as bindings for the admin client, and as commands to copy."""

import argparse
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from streams.process.ending import run_to_end
from streams.settings import read_settings

FILE: Final = Path(__file__).with_name("access.toml")
OPERATIONS: Final = {
    "read": (AclOperation.READ,),
    "write": (AclOperation.WRITE,),
    "create": (AclOperation.CREATE, AclOperation.DESCRIBE),
    "describe": (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS),
    "configure": (AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS),
    "groups": (AclOperation.READ,),
    "groups_described": (AclOperation.DESCRIBE,),
    "groups_without_prefix": (AclOperation.READ,),
    "transactions": (AclOperation.WRITE,),
}
"""What a key of the file allows."""
RESOURCES: Final = {
    "groups": ResourceType.GROUP,
    "groups_described": ResourceType.GROUP,
    "groups_without_prefix": ResourceType.GROUP,
    "transactions": ResourceType.TRANSACTIONAL_ID,
}
"""What the names under a key are; topics where it is not listed."""


class Right(NamedTuple):
    """One operation on one resource, or on all whose names begin so."""

    resource: ResourceType
    name: str
    every: bool
    operation: AclOperation

    def binding(self, principal: str) -> AclBinding:
        """The right as the admin client grants it, from any host."""
        pattern = ResourcePatternType.PREFIXED if self.every else ResourcePatternType.LITERAL
        name = self.name or "*"
        if not self.name:
            pattern = ResourcePatternType.LITERAL  # Kafka's own wildcard: a prefix may not be empty
        return AclBinding(self.resource, name, pattern, principal, "*", self.operation, AclPermissionType.ALLOW)


def roles() -> dict[str, str]:
    """The roles by name, each with the commands that need it."""
    return {name: str(role["what"]) for name, role in _read().items()}


def rights(role: str, prefix: str = "") -> list[Right]:
    """What a role may do under a prefix.

    Raises:
        KeyError: there is no such role.
    """
    return list(_rights(_read()[role], prefix))


def commands(role: str, principal: str, prefix: str = "") -> Iterator[str]:
    """The same for `kafka-acls.sh`, one command a resource."""
    grouped: dict[tuple[ResourceType, str, bool], list[AclOperation]] = {}
    for right in rights(role, prefix):
        grouped.setdefault(right[:3], []).append(right.operation)
    for (resource, name, every), operations in grouped.items():
        flag = "--transactional-id" if resource is ResourceType.TRANSACTIONAL_ID else f"--{resource.name.lower()}"
        words = ["--add", "--allow-principal", principal, flag, name or "*"]
        if every and name:
            words += ["--resource-pattern-type", "prefixed"]
        for operation in operations:
            words += ["--operation", "".join(part.capitalize() for part in operation.name.split("_"))]
        yield f"kafka-acls.sh --bootstrap-server $SPENDFUSE_KAFKA_BOOTSTRAP {shlex.join(words)}"


def _rights(role: Mapping[str, Iterable[str]], prefix: str) -> Iterator[Right]:
    for key, operations in OPERATIONS.items():
        for name in role.get(key, ()):
            full = name if key == "groups_without_prefix" else f"{prefix}{name}"
            for operation in operations:
                resource = RESOURCES.get(key, ResourceType.TOPIC)
                yield Right(resource, full.removesuffix("*"), full.endswith("*"), operation)


def _read() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the commands that grant one role."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.access", description=main.__doc__)
    parser.add_argument(
        "role", choices=list(_read()), help="; ".join(f"{name}: {what}" for name, what in roles().items())
    )
    parser.add_argument("--principal", required=True, metavar="User:NAME", help="to whom")
    parser.add_argument("--prefix", help="of the installation; SPENDFUSE_PREFIX unless given")
    asked = parser.parse_args(arguments)
    prefix = read_settings().prefix if asked.prefix is None else asked.prefix
    print("\n".join(commands(asked.role, asked.principal, prefix)))
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
