"""The commands that stand, as agents without Kafka follow them: each tenant's own, in the order in which they came.

A place in it is told in offsets of control.v1, which every gateway has: an agent goes on where it was at any of them.
"""

import re
import threading
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Final, NamedTuple

import msgspec
from spendfuse import Command, ControlRecord

from streams.clock import wall_ms

ALL_TENANTS: Final = "spendfuse/all-tenants"
PRUNE_EVERY: Final = 1_000
"""Commands taken between two looks for expired ones."""
_CURSOR: Final = re.compile(r"\d{1,6}-\d{1,18}(\.\d{1,6}-\d{1,18}){0,999}")

Cursor = dict[int, int]
"""Partition -> offset up to which its records were sent."""
_About = tuple[str, str, str]
"""Action, target type, target id."""


class Standing(NamedTuple):
    """A record that stands."""

    number: int
    """In the order in which this process has taken them."""
    partition: int
    offset: int
    expires_ms: int
    data: bytes
    """The record as an agent gets it: JSON, on one line."""


class ControlLog:
    """Takes commands in one thread, and shows them in any.

    Of each action on a target it keeps the last record until that expires: compaction keeps less.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._tenants: dict[str, dict[_About, Standing]] = {}
        """Each tenant's records; those taken last are at the end."""
        self._ends: Cursor = {}
        self._taken = 0
        self._hearers: set[Callable[[], object]] = set()

    def take(self, record: ControlRecord, command: Command) -> None:
        """Take in a command whose origin is established."""
        if record.place is None or record.value is None:
            return
        partition, offset = record.place
        with self._changing:
            self._taken += 1
            self._ends[partition] = offset + 1
            standings = self._tenants.setdefault(command.tenant_id, {})
            about = (command.action, *command.target)
            standings.pop(about, None)  # so that it comes last
            standings[about] = Standing(self._taken, partition, offset, command.expires_ms, _data(record))
            if not self._taken % PRUNE_EVERY:
                self._forget_expired(wall_ms())
            hearers = tuple(self._hearers)
        for wake in hearers:
            wake()

    def after(self, number: int, tenant_id: str) -> list[Standing]:
        """What stands for a tenant's runs and was taken after `number`, in that order."""
        with self._changing:
            found = [
                standing
                for owner in (tenant_id, ALL_TENANTS)
                for standing in takewhile(
                    lambda standing: standing.number > number, reversed(self._tenants.get(owner, {}).values())
                )
            ]
        return sorted(found)

    def knows(self, cursor: Mapping[int, int]) -> bool:
        """Whether it has come as far as whoever gave that place."""
        with self._changing:
            return all(offset <= self._ends.get(partition, 0) for partition, offset in cursor.items())

    def hear(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Call `wake` after each command, in the thread that takes it; return what ends that."""
        with self._changing:
            self._hearers.add(wake)

        def end() -> None:
            with self._changing:
                self._hearers.discard(wake)

        return end

    def _forget_expired(self, now_ms: int) -> None:
        for tenant_id, standings in list(self._tenants.items()):
            for about in [about for about, standing in standings.items() if standing.expires_ms <= now_ms]:
                del standings[about]
            if not standings:
                del self._tenants[tenant_id]


def read_cursor(text: str) -> Cursor | None:
    """The place that an event id names; None for anything else."""
    if not _CURSOR.fullmatch(text):
        return None
    return {int(partition): int(offset) for partition, offset in (part.split("-") for part in text.split("."))}


def cursor_text(cursor: Cursor) -> str:
    """A place as an event id."""
    return ".".join(f"{partition}-{offset}" for partition, offset in sorted(cursor.items()))


def _data(record: ControlRecord) -> bytes:
    headers = [(name, (value or b"").decode("utf-8", "replace")) for name, value in record.headers]
    return msgspec.json.encode({"value": (record.value or b"").decode("utf-8", "replace"), "headers": headers})
