"""A process's slot: its name among its siblings, stable over restarts and held by one process at a time.

The slot names the static group member, and a worker's transactional producer, so that a restarted process takes its
partitions back at once and aborts what it left open. Where nobody gave one, the lowest free number on this host is
taken.
"""

import fcntl
import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import IO, Literal

from schemas.errors import SettingsError
from streams.settings import Settings

MOST_SLOTS = 256
Role = Literal["worker", "alerting", "gateway", "enforcer", "reconcile", "poller", "sink", "console"]


class Slot:
    """A claimed slot; the claim ends with the process, however it ends."""

    def __init__(self, name: str, lock: IO[bytes] | None = None) -> None:
        self.name = name
        self._lock = lock

    def release(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            self._lock.close()


def claim_slot(settings: Settings, role: Role) -> Slot:
    """The given slot, else the lowest number that no process of this role holds on this host.

    Raises:
        SettingsError: there are too many of them.
    """
    if settings.slot is not None:
        return Slot(settings.slot)
    cluster = hashlib.sha256(f"{settings.kafka_bootstrap}|{settings.prefix}".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir())
    for number in range(MOST_SLOTS):
        path = folder / f"spendfuse-{os.getuid()}-{cluster}-{role}-{number}.lock"
        lock = path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Slot(f"{socket.gethostname()}-{number}", lock)
    raise SettingsError(f"{MOST_SLOTS} processes ({role}) run on this host already; give this one a SPENDFUSE_SLOT")
