"""A file of usage.v1 messages, one JSON object a line, plain or gzip'd, as a stream of stimuli."""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from models.stimuli import RecordRefused, UsageSeen
from schemas.codec import dead_letter, decode_usage
from schemas.errors import SettingsError, Undecodable

MOST_JUMP_MS = 366 * 24 * 3_600_000
LAST_PLAUSIBLE_MS = 7_258_118_400_000
"""2200-01-01: a time after it is in the wrong unit, most likely nanoseconds."""


class AppendTimes:
    """When each event of a file counts as appended: at its own time.

    A broker would refuse a record dated after its own clock. A file has no clock, so that a time that leaps more than
    a year ahead, or past the year 2199, is taken for a broken one: it counts as appended when its neighbours were.
    """

    def __init__(self) -> None:
        self.latest_ms = 0

    def of(self, ts_ms: int) -> int:
        """The append time of the next event in the file."""
        leaps = self.latest_ms and ts_ms > self.latest_ms + MOST_JUMP_MS
        if leaps or ts_ms >= LAST_PLAUSIBLE_MS:
            return self.latest_ms
        self.latest_ms = max(self.latest_ms, ts_ms)
        return ts_ms


def read_log(path: Path, on_bytes: Callable[[int], object] | None = None) -> Iterator[UsageSeen | RecordRefused]:
    """Every line of the file as a stimulus; a line that cannot be read is refused with its number as the offset.

    `on_bytes` is told how many bytes of the file have been read since the last call.
    """
    times = AppendTimes()
    with open_log(path) as (lines, raw):
        told = 0
        for number, line in enumerate(lines):
            if on_bytes is not None and number % 4096 == 0:
                position = raw.tell()
                on_bytes(position - told)
                told = position
            if not line.strip():
                continue
            try:
                message = decode_usage(line.rstrip(b"\r\n"))
            except Undecodable as fault:
                yield RecordRefused(dead_letter(str(path), 0, number, None, line, fault, times.latest_ms))
                continue
            yield UsageSeen(message, times.of(message.ts_ms))


class open_log:  # noqa: N801  # used like the built-in open
    """The lines of a file and the file below them, whose position shows the progress."""

    def __init__(self, path: Path) -> None:
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
        zipped = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0, os.SEEK_SET)
        self._lines = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw)) if zipped else self._raw

    def __enter__(self) -> tuple[Iterator[bytes], IO[bytes]]:
        return self._read(), self._raw

    def _read(self) -> Iterator[bytes]:
        try:
            yield from self._lines
        except (OSError, EOFError) as error:
            raise SettingsError(f"{self._raw.name} is damaged: {error}") from None

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._raw.close()
