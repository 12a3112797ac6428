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

from schemas.duration import HOUR_MS
from streams.clock import sleepless_ms, wall_ms

ALL_TENANTS: Final = "spendfuse/all-tenants"
PRUNE_EVERY: Final = 1_000
"""Commands taken between two looks for expired ones."""
EXPIRED_KEPT_MS: Final = HOUR_MS
"""How long what has expired is kept, by the wall clock and by one that nobody sets: a clock that was ahead, and is set
right, lets no run go on that was told to stop. Whoever is sent it judges by a clock of its own.
"""
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

    Of each action on a target it keeps the last record until that has expired for a while: compaction keeps less.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._tenants: dict[str, dict[_About, Standing]] = {}
        """Each tenant's records; those taken last are at the end."""
        self._ends: Cursor = {}
        self._expired_ms: dict[int, int] = {}
        """Number of a record -> when it was first seen to have expired long ago."""
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
                self._forget_expired(wall_ms(), sleepless_ms())
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

    def _forget_expired(self, now_ms: int, steady_ms: int) -> None:
        """What has expired for long, by two looks an hour apart."""
        seen, self._expired_ms = self._expired_ms, {}
        for tenant_id, standings in list(self._tenants.items()):
            for about, standing in list(standings.items()):
                if standing.expires_ms + EXPIRED_KEPT_MS > now_ms:
                    continue
                since_ms = seen.get(standing.number, steady_ms)
                if steady_ms < since_ms + EXPIRED_KEPT_MS:
                    self._expired_ms[standing.number] = since_ms
                else:
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
