"""What was accepted while no broker answered: on disk, within bounds, until one has it."""

import fcntl
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from schemas.errors import SettingsError

SEGMENT_BYTES: Final = 4 << 20
_LENGTH: Final = struct.Struct("<I")


class SpoolFullError(Exception):
    """There is no room left: the caller has to send again."""


class Record(NamedTuple):
    """What is to be written: the topic without prefix, key and value, and how it came."""

    topic: str
    key: bytes
    value: bytes
    origin: str = ""
    """Source and key, for the record's header; empty in what a gateway of before has left on the disk."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Record).decode


class Spool:
    """A folder of numbered segments, oldest first. What `add` has returned from is on the disk.

    Args:
        folder: its own; made if it is not there, and held by one process at a time.
        most_bytes: all segments together.

    Raises:
        SettingsError: another process holds the folder.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = (folder / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SettingsError(
                f"{folder}: another gateway uses it; set SPENDFUSE_SPOOL_FOLDER to one of its own"
            ) from None
        self._changing = threading.Lock()
        segments = self._segments()
        self.size_bytes = sum(path.stat().st_size for path in segments)
        """Of all that is kept."""
        self._last = _number(segments[-1]) if segments else 0
        self._open_bytes = SEGMENT_BYTES  # a segment of before is not added to: its end may be torn

    @property
    def is_empty(self) -> bool:
        """Whether everything has been handed on."""
        return not self.size_bytes

    def add(self, records: Iterable[Record]) -> None:
        """Keep records, all or none.

        Raises:
            SpoolFullError: there is no room for them.
            OSError: the disk does not take them.
        """
        data = b"".join(_LENGTH.pack(len(frame)) + frame for frame in map(_encode, records))
        with self._changing:
            if self.size_bytes + len(data) > self._most_bytes:
                raise SpoolFullError(f"the spool is full ({self.size_bytes:,} of {self._most_bytes:,} bytes)")
            if self._open_bytes >= SEGMENT_BYTES:
                self._last += 1
                self._open_bytes = 0
            self._append(self._path(self._last), data)
            self._open_bytes += len(data)
            self.size_bytes += len(data)

    def oldest(self) -> tuple[Path, list[Record]] | None:
        """The oldest segment with its records, from now on closed; None if nothing is kept. `remove` it once the
        brokers have them.
        """
        with self._changing:
            segments = self._segments()
            if not segments:
                return None
            if _number(segments[0]) == self._last:
                self._open_bytes = SEGMENT_BYTES
        return segments[0], list(_read(segments[0].read_bytes()))

    def remove(self, segment: Path) -> None:
        """Everything in it is with the brokers."""
        with self._changing:
            self.size_bytes -= segment.stat().st_size
            segment.unlink()

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def _append(self, path: Path, data: bytes) -> None:
        before = path.stat().st_size if path.exists() else 0
        with path.open("ab") as segment:
            try:
                segment.write(data)
                segment.flush()
                os.fsync(segment.fileno())
            except OSError:
                segment.truncate(before)
                raise

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("*.spool"))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012}.spool"


def _read(data: bytes) -> Iterator[Record]:
    """The records of a segment. A torn end was never answered for."""
    at = 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            return
        yield _decode(data[at : at + length])
        at += length


def _number(path: Path) -> int:
    return int(path.stem)
