"""Remembered event ids as changelog rows: one row a batch, deleted with its generation."""

from models.state.rows import HEADER, row_digest, row_key_of
from models.state.seen import SeenIds

SEEN = "seen"


class SeenRows:
    """Numbers the rows of each generation, so that they can be found again when it is dropped."""

    __slots__ = ("_rows", "ids")

    def __init__(self) -> None:
        self.ids = SeenIds()
        self._rows: dict[int, dict[int, int]] = {}
        """Generation -> row number -> digest."""

    def take(self) -> tuple[list[tuple[bytes, bytes | None]], int]:
        """Records since the last call, and by how much they change the sum of digests."""
        records: list[tuple[bytes, bytes | None]] = []
        change = 0
        for new in self.ids.take_new():
            rows = self._rows.setdefault(new.generation, {})
            number = max(rows, default=-1) + 1
            key = _key(new.generation, number)
            value = HEADER.pack(new.started_ms, 0, 0) + new.hashes
            rows[number] = row_digest(key, value)
            change += rows[number]
            records.append((key, value))
        for generation in self.ids.dropped_generations():
            for number, digest in self._rows.pop(generation, {}).items():
                records.append((_key(generation, number), None))
                change -= digest
        return records, change

    def restore(self, key: bytes, parts: tuple[str, ...], value: bytes) -> int:
        """Take back one row; returns its digest."""
        generation, number = int(parts[1]), int(parts[2])
        started_ms, *_ = HEADER.unpack_from(value)
        self.ids.restore(generation, started_ms, value[HEADER.size :])
        digest = row_digest(key, value)
        self._rows.setdefault(generation, {})[number] = digest
        return digest


def _key(generation: int, number: int) -> bytes:
    return row_key_of(SEEN, str(generation), str(number))
