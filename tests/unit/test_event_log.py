"""A file of the past as a stream: plain or gzip'd, bare messages or records, whole or damaged, true and wrong times."""

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.stimuli import OperatorSeen, RecordRefused, Ticked, UsageSeen
from schemas.errors import SettingsError
from streams.tools.event_log import Aside, PolicySeen, read_log, survey_log
from streams.tools.replay.append_times import append_times

T0_MS = 1_795_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
NANOSECONDS = 1_000_000


def message(event_id: str, ts_ms: int = T0_MS, tenant: str = "a", **more: Any) -> dict[str, Any]:
    """One usage message."""
    call = {"type": "tool_call", "event_id": event_id, "ts_ms": ts_ms, "tenant_id": tenant, "run_id": "r", "tool": "t"}
    return call | more


def line(event_id: str, ts_ms: int = T0_MS, tenant: str = "a") -> bytes:
    """One usage message as a line."""
    return json.dumps(message(event_id, ts_ms, tenant)).encode()


def written(folder: Path, lines: Sequence[bytes | dict[str, Any]]) -> Path:
    """A file of these lines."""
    path = folder / "events.jsonl"
    path.write_bytes(b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines))
    return path


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


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder cannot be read as a log; the error says so instead of the system's own words."""
    with pytest.raises(SettingsError, match="is no file"):
        list(read_log(tmp_path))


def test_progress_covers_the_whole_file(tmp_path: Path) -> None:
    """What is reported of the progress adds up to no more than the file, and moves."""
    path = written(tmp_path, [line(str(n)) for n in range(20_000)])
    told: list[int] = []
    list(read_log(path, told.append))
    assert 0 < sum(told) <= path.stat().st_size


def test_a_recorded_log_holds_all_that_was_decided_upon(tmp_path: Path) -> None:
    """Records count at the time of their append, operators' messages need no signature, and time can pass."""
    resume = {
        "type": "resume", "message_id": "o1", "ts_ms": T0_MS, "tenant_id": "a", "who": "ana", "why": "wanted",
        "target": {"type": "run", "id": "r"},
    }  # fmt: skip
    records: list[dict[str, Any]] = [
        {"topic": "usage.v1", "append_ms": T0_MS + HOUR_MS, "value": message("1")},
        {"value": message("2"), "append_ms": T0_MS + HOUR_MS + 1, "topic": "usage.v1"},
        {"topic": "operator.v1", "append_ms": T0_MS + HOUR_MS + 2, "value": resume},
        {"topic": "policy.v1", "append_ms": T0_MS + HOUR_MS + 3, "value": {"version": "2"}},
        {"until_ms": T0_MS + DAY_MS},
    ]
    first, second, order, policy, until = read_log(written(tmp_path, records))
    assert [(one.message.event_id, one.append_ms - T0_MS) for one in (first, second) if isinstance(one, UsageSeen)] == [
        ("1", HOUR_MS),
        ("2", HOUR_MS + 1),
    ]
    assert isinstance(order, OperatorSeen)
    assert (order.message.message_id, order.append_ms) == ("o1", T0_MS + HOUR_MS + 2)
    assert isinstance(policy, PolicySeen)
    assert (policy.policy.version, policy.append_ms) == ("2", T0_MS + HOUR_MS + 3)
    assert until == Ticked(T0_MS + DAY_MS)


def test_lines_that_change_nothing_say_why(tmp_path: Path) -> None:
    """A faulty policy, a policy's deletion and a topic that decides nothing are set aside, each with its reason."""
    at = {"append_ms": T0_MS}
    records: list[dict[str, Any]] = [
        {"topic": "policy.v1", "value": {"cap": [{"name": "x", "limit_usd": -1}]}, **at},
        {"topic": "policy.v1", "value": None, **at},
        {"topic": "alerts.v1", "value": {}, **at},
    ]
    asides = [one for one in read_log(written(tmp_path, records)) if isinstance(one, Aside)]
    assert [(one.kind, one.line) for one in asides] == [
        ("policy refused", 0),
        ("policy deletions ignored", 1),
        ("other topics ignored", 2),
    ]
    assert "cap[0]" in asides[0].detail


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"topic": "usage.v1", "value": message("1")}, "missing_field"),
        ({"topic": "usage.v1", "append_ms": "9", "value": message("1")}, "wrong_value"),
        ({"topic": "usage.v1", "append_ms": T0_MS // 1000, "value": message("1")}, "bad_time"),
        ({"topic": "usage.v1", "append_ms": T0_MS, "value": message("1", T0_MS // 1000)}, "bad_time"),
        ({"topic": "usage.v1", "append_ms": T0_MS}, "missing_field"),
        ({"topic": "usage.v1", "append_ms": T0_MS, "value": None}, "empty"),
        ({"topic": "usage.v1", "append_ms": T0_MS, "value": message("1"), "key": "b"}, "wrong_tenant"),
        ({"topic": "usage.v1", "append_ms": T0_MS, "base64": "%"}, "wrong_value"),
        ({"topic": "usage.v1", "append_ms": T0_MS, "base64": base64.b64encode(b"{no").decode()}, "not_json"),
        ({"topic": "operator.v1", "append_ms": T0_MS, "value": {"type": "resume"}}, "missing_field"),
        ({"until_ms": T0_MS * NANOSECONDS}, "bad_time"),
        ({"until_ms": None}, "wrong_value"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_faulty_record_is_refused_with_its_reason(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    """Whatever is wrong with a record, it is refused as the live service would, and the line after it is read."""
    refused, good = read_log(written(tmp_path, [record, line("2")]))
    assert isinstance(refused, RecordRefused)
    assert (refused.letter.reason, refused.letter.offset) == (reason, 0)
    assert isinstance(good, UsageSeen)
    assert good.append_ms == T0_MS


def test_a_message_with_fields_of_a_record_is_a_message(tmp_path: Path) -> None:
    """Unknown fields of a usage message are ignored, also those that a record has."""
    bare = message("1", topic="usage.v1", until_ms=5, append_ms="never", value={})
    (seen,) = read_log(written(tmp_path, [bare]))
    assert isinstance(seen, UsageSeen)
    assert seen.append_ms == T0_MS


def test_answers_are_known_beforehand(tmp_path: Path) -> None:
    """The survey of a file names every command that somebody answers in it, in either form of line."""
    ack = {"type": "command_ack", "event_id": "e", "ts_ms": T0_MS, "tenant_id": "a", "run_id": "r", "acted": "ignored"}
    lines = [ack | {"command_id": "c1"}, {"topic": "usage.v1", "append_ms": T0_MS, "value": ack | {"command_id": "c2"}}]
    assert survey_log(written(tmp_path, lines)).answered == {"c1", "c2"}


def test_a_wrong_time_of_one_tenant_is_none_of_anothers(tmp_path: Path) -> None:
    """A file may hold one tenant's log after the other's: each has neighbours of its own."""
    lines = [line("1", T0_MS + 9 * DAY_MS), line("2", T0_MS, tenant="b"), line("3", T0_MS + 1, tenant="b")]
    seen = [one for one in read_log(written(tmp_path, lines)) if isinstance(one, UsageSeen)]
    assert [one.append_ms - T0_MS for one in seen] == [9 * DAY_MS, 0, 1]


def test_a_refused_line_moves_no_other(tmp_path: Path) -> None:
    """Lines that are refused for something else are no neighbours, whatever their time."""
    bad = json.dumps(message("x", T0_MS + YEAR_MS) | {"tool": 5}).encode()
    lines = [bad, bad, line("1"), bad, line("2", T0_MS + 1), *[bad] * 90, line("3", T0_MS + 2)]
    seen = [one for one in read_log(written(tmp_path, lines)) if isinstance(one, UsageSeen)]
    assert [one.append_ms - T0_MS for one in seen] == [0, 1, 2]


HOURLY = [T0_MS + n * HOUR_MS for n in range(240)]


def wrong_at(place: int, offset_ms: int, count: int = 1) -> list[int]:
    """An hourly log of ten days, with so many times from `place` on that are off by so much."""
    times_ms = list(HOURLY)
    for at in range(place, place + count):
        times_ms[at] += offset_ms
    return times_ms


@pytest.mark.parametrize(
    "offset_ms", [YEAR_MS, DAY_MS, -DAY_MS - MINUTE_MS, -YEAR_MS], ids=["+1y", "+1d", "-1d", "-1y"]
)
@pytest.mark.parametrize("place", [0, 1, 100, 238, 239])
def test_one_wrong_time_moves_no_other_line(place: int, offset_ms: int) -> None:
    """Wherever the line with the wrong time stands, the others count at their own times and after no later one."""
    found = append_times(wrong_at(place, offset_ms))
    others = [at for at in range(len(HOURLY)) if at != place]
    assert [found[at] for at in others] == [HOURLY[at] for at in others]
    assert all(found[place] <= found[at] for at in others if at > place)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_burst_of_wrong_times_moves_no_other_line(count: int) -> None:
    """Some lines in a row from a clock a year ahead do not make the rest of the log late."""
    found = append_times(wrong_at(100, YEAR_MS, count))
    assert list(found[:100]) == HOURLY[:100]
    assert list(found[100 + count :]) == HOURLY[100 + count :]
    assert set(found[100 : 100 + count]) == {HOURLY[99]}


def test_a_producer_with_a_wrong_clock_moves_no_other() -> None:
    """Every second line from a clock a year ahead: the true ones keep their times."""
    times_ms = [T0_MS + n * MINUTE_MS + (YEAR_MS if n % 2 else 0) for n in range(400)]
    found = append_times(times_ms)
    assert list(found[::2]) == times_ms[::2]
    assert max(found) <= times_ms[398]


@pytest.mark.parametrize(
    ("times_ms", "expected_ms"),
    [
        ([T0_MS, T0_MS + 1], [T0_MS, T0_MS + 1]),
        ([T0_MS + 9, T0_MS], [T0_MS + 9, T0_MS]),
        ([T0_MS, T0_MS + 30 * DAY_MS], [T0_MS, T0_MS + 30 * DAY_MS]),
        ([T0_MS + n * 30 * DAY_MS for n in range(9)], [T0_MS + n * 30 * DAY_MS for n in range(9)]),
        (
            [T0_MS, T0_MS + 30 * DAY_MS, T0_MS + 30 * DAY_MS - HOUR_MS],
            [T0_MS, T0_MS + 30 * DAY_MS, T0_MS + 30 * DAY_MS - HOUR_MS],
        ),
        ([T0_MS + n * MINUTE_MS for n in (0, 60, 10, 120)], [T0_MS + n * MINUTE_MS for n in (0, 60, 10, 120)]),
        ([T0_MS, T0_MS + 70 * YEAR_MS, T0_MS + 1], [T0_MS, T0_MS, T0_MS + 1]),
        ([T0_MS + YEAR_MS, T0_MS, T0_MS + 1], [T0_MS, T0_MS, T0_MS + 1]),
        ([T0_MS], [T0_MS]),
        ([], []),
    ],
    ids=[
        "in order", "out of order", "a month's gap at the end", "monthly", "out of order after a gap",
        "late by an hour", "the year 2096", "a year ahead first", "one line", "none",
    ],
)  # fmt: skip
def test_append_times(times_ms: list[int], expected_ms: list[int]) -> None:
    """An event counts as appended at its own time, unless that time is wrong: then when its neighbours were."""
    assert list(append_times(times_ms)) == expected_ms
