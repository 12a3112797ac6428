"""`import`: a recorded log of what others have written down, so that a policy can be tried on last month."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from schemas.codec import decode_usage, encode
from schemas.errors import SettingsError, Undecodable
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.tools.event_log import Record, Until, open_log
from streams.tools.imports.registry import SOURCES
from streams.tools.imports.source import Event, Line, Source, Unread
from streams.tools.record import whole_file


@dataclass(slots=True)
class Tally:
    """What an import has seen."""

    files: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    runs: set[str] = field(default_factory=set)
    repeated: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    """Reason -> how many lines."""
    first_unread: dict[str, str] = field(default_factory=dict)
    """Reason -> where the first of them stands."""

    def add(self, message: UsageMessage) -> None:
        """Count a message that is in the log."""
        self.kinds[_kind(message)] += 1
        self.runs.add(message.run_id)

    def add_unread(self, path: Path, number: int, reason: str) -> None:
        """Count a line that is not."""
        self.unread[reason] += 1
        self.first_unread.setdefault(reason, f"{path}, line {number}")


def run_import(name: str, path: Path, tenant_id: str, out: Path) -> int:
    """Write what a file, or the files of a folder, say as a recorded log, in the order of time.

    Returns the exit code: 0 if there is anything to try a policy on. Raises `SettingsError`.
    """
    source = SOURCES.get(name)
    if source is None:
        raise SettingsError(f"--from {name}: not known; one of {', '.join(sorted(SOURCES))}")
    files = _files(source, path)
    tally = Tally(len(files))
    events = _events(source, files, tenant_id, tally)
    if not events:
        for line in _told(tally):
            print(line)
        raise SettingsError(f"{path}: nothing in it says what was used; are these files of {name}?")
    with whole_file(out) as lines:
        for ts_ms, value in events:
            lines.write(encode(Record("usage.v1", ts_ms, msgspec.Raw(value))) + b"\n")
        lines.write(encode(Until(events[-1][0])) + b"\n")
    print(f"{out}: {_counts(tally)}, {_day(events[0][0])} to {_day(events[-1][0])}")
    for line in _told(tally):
        print(line)
    print(f"try a policy on it: python -m streams backtest --policy P.toml --events {out} --out effects.jsonl")
    return 0


def _events(source: Source, files: list[Path], tenant_id: str, tally: Tally) -> list[tuple[int, bytes]]:
    """Every event that counts, by its time. The first of an id does, files that were written earlier first."""
    found: dict[str, tuple[int, bytes]] = {}
    with _bar(files) as bar:
        for path in files:
            for number, event in _read(source, path, tally, bar):
                try:
                    message = decode_usage(encode(event | {"tenant_id": tenant_id}))
                except Undecodable as fault:
                    tally.add_unread(path, number, f"{fault.reason}: {fault.detail}")
                    continue
                if message.event_id in found:
                    tally.repeated += 1
                    continue
                found[message.event_id] = (message.ts_ms, encode(message))
                tally.add(message)
    return sorted(found.values())


def _read(source: Source, path: Path, tally: Tally, bar: "tqdm[Any]") -> Iterator[tuple[int, Event]]:
    """The events of a file, each with the line at which it was known."""
    at = 0

    def lines() -> Iterator[Line]:
        nonlocal at
        with open_log(path) as (all_lines, raw):
            read = 0
            for at, data in enumerate(all_lines, 1):
                bar.update(raw.tell() - read)
                read = raw.tell()
                yield Line(at, data.rstrip(b"\r\n"))

    for found in source.read(lines()):
        if isinstance(found, Unread):
            tally.add_unread(path, found.number, found.reason)
        else:
            yield at, found


def _files(source: Source, path: Path) -> list[Path]:
    """The file itself, or those of a folder, the oldest first. Raises `SettingsError` if there is none."""
    if not path.is_dir():
        return [path]
    found = [file for pattern in (source.files, f"{source.files}.gz") for file in path.glob(pattern) if file.is_file()]
    if not found:
        raise SettingsError(f"{path}: there is no {source.files} in this folder")
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file))


def _bar(files: list[Path]) -> "tqdm[Any]":
    size = sum(path.stat().st_size for path in files if path.is_file())
    return tqdm(total=size, unit="B", unit_scale=True, desc=f"reading {len(files)} files", leave=False)


def _counts(tally: Tally) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.kinds.items()))
    return f"{kinds} of {len(tally.runs):,} runs from {tally.files:,} files"


def _told(tally: Tally) -> list[str]:
    """What people must know of what is not in the log."""
    lines = [
        f"not read: {count:,} lines, {reason} (the first: {tally.first_unread[reason]})"
        for reason, count in tally.unread.most_common()
    ]
    if tally.repeated:
        lines.append(f"counted once: {tally.repeated:,} that stand in several places")
    return lines


def _kind(message: UsageMessage) -> str:
    match message:
        case LlmCall():
            return "model calls"
        case ToolCall():
            return "tool calls"
        case _:
            return "other messages"


def _day(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d")
