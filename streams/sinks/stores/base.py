"""What a store of the wide event table can do: one small interface, one module a store."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from schemas.errors import SpendfuseError, StateError
from streams.sinks.tables import VERSION, Rows

Place = tuple[str, int]
"""Topic, by its declared name, and partition."""


class Move(NamedTuple):
    """How far a partition was read: the offset that is to be read next, before and after a batch."""

    before: int
    after: int


Moves = Mapping[Place, Move]


class StoreError(SpendfuseError):
    """The store cannot be reached, or refuses what we need: nothing is lost, it is written when it can be."""

    exit_code = 4


class MovedError(Exception):
    """Somebody else has written what follows on this place: nothing of the batch was written."""


class Identity(NamedTuple):
    """What a store says of itself."""

    store_id: str
    """Made up when the store was: whoever writes into it shares a consumer group named after it."""
    source: str
    """Cluster and prefix that it was filled from."""


class Store(Protocol):
    """A store that one sink writes into, from one thread."""

    name: str
    """For people, without a password."""
    is_transactional: bool
    """Whether offsets are written with the rows they are about, or not at all."""

    def prepare(self, source: str) -> Identity:
        """Make the tables, or bring them to the current version. Nothing changes where they are.

        Raises:
            StateError: the store is newer than this code.
            StoreError: it cannot be reached.
        """

    def offsets(self) -> dict[Place, int]:
        """The next offset to read of each partition of which anything was written. Raises `StoreError`."""

    def write(self, rows: Rows, moves: Moves, before_commit: Callable[[], None] = lambda: None) -> None:
        """Write rows and offsets: all of it or nothing, or, in a store without transactions, rows before offsets.
        `before_commit` is called when the rows are there and the offsets are not.

        Raises:
            MovedError: another process has gone on from where a move begins.
            StoreError: the store cannot be reached, or refused.
        """

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a question. Raises `StoreError`."""

    def literal(self, text: str) -> str:
        """Text as a question holds it, whatever is in it."""

    def let_tenant_read(self, tenant_id: str) -> str:
        """Make a schema with the views of one tenant alone; returns its name. Raises `StoreError`."""

    def rest(self) -> None:
        """There is nothing to write at the moment: let others at it, where a store has one user at a time."""

    def close(self) -> None:
        """Let go of it."""


def check_version(found: int, name: str) -> None:
    """Raises `StateError` for a store that a newer version of this code has made."""
    if found > VERSION:
        raise StateError(
            f"the tables in {name} are of version {found}, and this is for version {VERSION} at most: use the newer "
            "release that made them, or another store"
        )


def schema_of(tenant_id: str) -> str:
    """The name of a tenant's schema: no other tenant has it, and any store takes it."""
    plain = re.sub(r"[^a-z0-9]+", "_", tenant_id.lower())[:32]
    return f"tenant_{plain}_{hashlib.sha256(tenant_id.encode()).hexdigest()[:12]}"


def quoted(text: str) -> str:
    """Text as SQL writes it, where a backslash means itself."""
    return "'" + text.replace("'", "''") + "'"


def escaped(text: str) -> str:
    """The same where a backslash means something: in ClickHouse and BigQuery."""
    for one, written in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(one, written)
    return f"'{text}'"


@contextmanager
def faults_of(name: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise a client library's errors as `StoreError`."""
    try:
        yield
    except kinds as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StoreError(f"{name} does not take it: {said[0]}") from error
