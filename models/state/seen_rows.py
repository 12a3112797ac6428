"""Remembered event ids as changelog rows: one a batch, gathered a few thousand ids at a time, deleted together."""

import struct
from typing import Final

from models.state.rows import row_digest, row_key_of
from models.state.seen import WINDOW_MS, NewIds, SeenIds

SEEN: Final = "seen"
_SEED: Final = struct.Struct("<Q")
_HEADER: Final = struct.Struct("<qq")
"""When the generation began; 1 for a sealed row."""
SEED_KEY: Final = row_key_of(SEEN, "seed")
"""The row of the secret under which ids are hashed. It goes where the state goes, so that ids stay known."""
Record = tuple[bytes, bytes | None]


class _Rows:
    """The rows of one generation: number -> digest."""

    __slots__ = ("following", "open", "sealed")

    def __init__(self) -> None:
        self.following = 0
        """The number of the next row."""
        self.open: dict[int, int] = {}
        """Rows of single batches: a sealed one will stand in for them."""
        self.sealed: dict[int, int] = {}

    def take_open(self) -> dict[int, int]:
        """The open rows, which are none any more."""
        taken, self.open = self.open, {}
        return taken


class SeenRows:
    """Numbers the rows of each generation, so that they can be found again when they are no longer wanted.

    What a batch costs here depends on what the batch brought, and on the rows that it replaces or drops: each is
    written once and deleted once.
    """

    __slots__ = ("_rows", "_seed_digest", "ids")

    def __init__(self, window_ms: int = WINDOW_MS, seed: int = 0) -> None:
        """`seed` keys the hashes of ids that nobody has written down yet; 0 where nobody could gain by knowing it."""
        self.ids = SeenIds(window_ms, seed)
        self._seed_digest = 0
        """Of the row that holds the seed; 0 while there is none."""
        self._rows: dict[int, _Rows] = {}

    def __len__(self) -> int:
        """How many rows the changelog has of these ids."""
        return sum(len(rows.open) + len(rows.sealed) for rows in self._rows.values())

    def take(self) -> tuple[list[Record], int]:
        """Records since the last call, and by how much they change the sum of digests."""
        records: list[Record] = []
        change = 0
        for new in self.ids.take_new():
            change += self._write(new, records)
        if self.ids.seed and not self._seed_digest:
            seed = _SEED.pack(self.ids.seed)
            self._seed_digest = row_digest(SEED_KEY, seed)
            records.append((SEED_KEY, seed))
            change += self._seed_digest
        for generation in self.ids.dropped_generations():
            rows = self._rows.pop(generation, None)
            if rows is not None:
                change -= _delete(generation, rows.open, records) + _delete(generation, rows.sealed, records)
        return records, change

    def restore(self, key: bytes, parts: tuple[str, ...], value: bytes) -> int:
        """Take back one row; returns its digest."""
        if key == SEED_KEY:
            (self.ids.seed,) = _SEED.unpack(value)
            self._seed_digest = row_digest(key, value)
            return self._seed_digest
        generation, number = int(parts[1]), int(parts[2])
        started_ms, sealed = _HEADER.unpack_from(value)
        self.ids.restore(generation, started_ms, value[_HEADER.size :], bool(sealed))
        digest = row_digest(key, value)
        rows = self._rows.setdefault(generation, _Rows())
        (rows.sealed if sealed else rows.open)[number] = digest
        rows.following = max(rows.following, number + 1)
        return digest

    def _write(self, new: NewIds, records: list[Record]) -> int:
        """Add a row, and delete those that it stands in for; returns the change of the sum of digests."""
        rows = self._rows.setdefault(new.generation, _Rows())
        change = -_delete(new.generation, rows.take_open(), records) if new.sealed else 0
        key = _key(new.generation, rows.following)
        value = _HEADER.pack(new.started_ms, new.sealed) + new.hashes
        digest = row_digest(key, value)
        (rows.sealed if new.sealed else rows.open)[rows.following] = digest
        rows.following += 1
        records.append((key, value))
        return change + digest


def _delete(generation: int, rows: dict[int, int], records: list[Record]) -> int:
    """Delete these rows; returns the sum of their digests."""
    records += [(_key(generation, number), None) for number in rows]
    return sum(rows.values())


def _key(generation: int, number: int) -> bytes:
    return row_key_of(SEEN, str(generation), str(number))
