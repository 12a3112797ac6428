"""A file of events as a stream: plain or gzip'd, whole or damaged, with honest and broken times."""

import gzip
import json
from pathlib import Path

import pytest

from models.stimuli import RecordRefused, UsageSeen
from schemas.errors import SettingsError
from streams.tools.event_log import AppendTimes, read_log

T0_MS = 1_795_000_000_000
DAY_MS = 24 * 3_600_000


def line(event_id: str, ts_ms: int = T0_MS) -> bytes:
    """One usage message."""
    return json.dumps(
        {"type": "tool_call", "event_id": event_id, "ts_ms": ts_ms, "tenant_id": "a", "run_id": "r", "tool": "t"}
    ).encode()


@pytest.mark.parametrize("zipped", [False, True])
def test_every_line_becomes_a_stimulus(tmp_path: Path, zipped: bool) -> None:
    """Good lines are seen in order; a bad one is refused with its line number, and its neighbours are not."""
    data = b"\n".join([line("1"), b"{nonsense", b"", line("2", T0_MS + 5), b'{"type":"tool_call"}']) + b"\r\n"
    path = tmp_path / "events.jsonl"
    path.write_bytes(gzip.compress(data) if zipped else data)
    stimuli = list(read_log(path))
    assert [one.message.event_id for one in stimuli if isinstance(one, UsageSeen)] == ["1", "2"]
    refused = [one.letter for one in stimuli if isinstance(one, RecordRefused)]
    assert [(letter.offset, letter.reason) for letter in refused] == [(1, "not_json"), (4, "missing_field")]


def test_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that ends in the middle of its compression is an error that names the file, never a shorter log."""
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(line(str(n)) for n in range(5000)))[:-200])
    with pytest.raises(SettingsError, match=r"events\.jsonl\.gz is damaged"):
        list(read_log(path))


def test_progress_covers_the_whole_file(tmp_path: Path) -> None:
    """What is told about progress adds up to no more than the file, and moves."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(line(str(n)) for n in range(20_000)))
    told: list[int] = []
    list(read_log(path, told.append))
    assert 0 < sum(told) <= path.stat().st_size


@pytest.mark.parametrize(
    ("times_ms", "expected_ms"),
    [
        ([T0_MS, T0_MS + 1], [T0_MS, T0_MS + 1]),
        ([T0_MS + 9, T0_MS], [T0_MS + 9, T0_MS]),
        ([T0_MS, T0_MS + 30 * DAY_MS], [T0_MS, T0_MS + 30 * DAY_MS]),
        ([T0_MS, 4_070_908_800_000, T0_MS + 1], [T0_MS, T0_MS, T0_MS + 1]),
        ([T0_MS, T0_MS * 1_000_000, T0_MS + 1], [T0_MS, T0_MS, T0_MS + 1]),
        ([T0_MS * 1_000_000, T0_MS], [0, T0_MS]),
    ],
    ids=["in order", "out of order", "a month's gap", "the year 2099", "nanoseconds", "nanoseconds first"],
)
def test_append_times(times_ms: list[int], expected_ms: list[int]) -> None:
    """An event counts as appended at its own time, unless that time is broken: then when its neighbours were."""
    times = AppendTimes()
    assert [times.of(ts_ms) for ts_ms in times_ms] == expected_ms
