"""no_progress: calls that tell a run nothing new, whatever stands between, and what is progress all the same."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from models.detectors.loops.no_progress import NoProgress, NoProgressSettings
from models.rules.finding import Finding
from schemas.usage import ToolCall
from tests.support.runs import drive

MINUTE = 60.0


def call(step: str, at_s: float, **fields: Any) -> ToolCall:
    """A step as `tool:arguments/result`; a leading `!` writes, a leading `-` fails."""
    mark = step[0] if step[0] in "!-" else ""
    tool, _, rest = step.removeprefix(mark).partition(":")
    args, _, result = rest.partition("/")
    return ToolCall(
        event_id=f"{at_s}", ts_ms=round(at_s * 1000), tenant_id="t", run_id="r", tool=tool, args_hash=args,
        result_hash=result or None, **{"writes": mark == "!", "status": "error" if mark == "-" else "ok", **fields},
    )  # fmt: skip


def calls(steps: Iterable[str], every_s: float = 4, **fields: Any) -> list[ToolCall]:
    return [call(step, at * every_s, **fields) for at, step in enumerate(steps)]


def no_progress(steps: Iterable[ToolCall], **settings: Any) -> list[Finding]:
    return drive([NoProgress(NoProgressSettings(name="no_progress", **settings))], steps)


def highest(findings: list[Finding]) -> float:
    return max((finding.level for finding in findings), default=0.0)


def between(step: str, times: int, others: str = "read:{n}/r{n}") -> list[str]:
    """The step again and again, each time with a call between that was never made before."""
    return [each for n in range(times) for each in (step, others.format(n=n))]


def test_the_same_call_among_others_warns_at_the_third_and_pages_at_the_fifth() -> None:
    """Whatever stands between. Both say how often, and the page what to do."""
    found = no_progress(calls(between("search:a/x", 5)))
    assert [(finding.level, finding.value) for finding in found] == [(0.5, 3), (0.5, 4), (1.0, 5)]
    assert found[-1].summary == (
        "Tool search was called 5 times among the last 9 calls with the same arguments and result, no write between."
    )
    assert "Stop it" in found[-1].next_action


def test_one_of_a_dozen_queries_at_random_pages() -> None:
    """Within forty calls, and no call need be made twice in a row for it."""
    for seed in range(20):
        rng = random.Random(seed)
        queries = [rng.randrange(12) for _ in range(40)]
        assert highest(no_progress(calls(f"search:{query}/r{query}" for query in queries))) == 1.0, f"seed {seed}"


def test_a_few_calls_in_any_order_page() -> None:
    """Half of the last ten calls told nothing new."""
    steps = [f"read:{n}/r{n}" for n in "abcdebadcea"]
    found = no_progress(calls(steps))
    assert highest(found) == 1.0
    assert found[-1].evidence["calls_in_a_row"] >= 5


@pytest.mark.parametrize(
    "others",
    [
        pytest.param("!edit:{n}/ok", id="a write"),
        pytest.param("!run:format/ok", id="a write that is repeated, with another before it"),
    ],
)
def test_what_was_written_may_change_what_is_found(others: str) -> None:
    """Test, edit, test: the same result is news, because it is about something else."""
    steps = [each for n in range(8) for each in ("test:a/red", f"!edit:{n}/ok", others.format(n=n))]
    assert no_progress(calls(steps)) == []


def test_a_write_that_fails_or_does_the_same_again_changes_nothing() -> None:
    """Two edits refused in turn, with whatever is read between; and an edit that changes nothing, over and over."""
    refused = [each for n in range(6) for each in ("-edit:a/no", f"read:{n}/{n}", "-edit:b/no")]
    assert highest(no_progress(calls(refused))) == 1.0
    again = between("!sed:a/done", 6)
    assert highest(no_progress(calls(again))) == 1.0


def test_results_that_change_are_progress() -> None:
    """Scrolling, paging and watching something move are none of its business."""
    steps = [each for n in range(40) for each in (f"scroll:down/{n}", f"look:at/{n}x")]
    assert no_progress(calls(steps)) == []


def test_without_results_it_warns_and_never_pages() -> None:
    """And only when most of the last ten calls had been made before."""
    steps = [f"read:{n}" for n in "abcabdcbadcbadbcabdcbda"]
    found = no_progress(calls(steps))
    assert highest(found) == 0.5
    assert "result_hash" in found[0].next_action
    assert no_progress(calls(between("test:a", 20))) == []


@pytest.mark.parametrize(
    ("every_s", "fields"),
    [
        pytest.param(10, {}, id="at an even pace"),
        pytest.param(4, {"latency_ms": 3500}, id="slow calls"),
    ],
)
def test_waiting_warns_and_does_not_page(every_s: float, fields: dict[str, Any]) -> None:
    """Something is looked at again and again, and takes its time; other calls stand between."""
    steps = calls(between("job_status:a/running", 12), every_s, **fields)
    assert highest(no_progress(steps)) == 0.5


def test_slow_calls_that_fail_wait_for_nothing() -> None:
    """A time-out again and again is no look at something that takes its time."""
    steps = [call(step, at * 9, latency_ms=8000) for at, step in enumerate(between("-fetch:a/timeout", 5))]
    assert highest(no_progress(steps)) == 1.0


def test_pollers_never_page() -> None:
    """The last resort, for waiting that its pace does not show."""
    assert highest(no_progress(calls(between("wait:a/x", 12)))) == 0.5


def test_what_repeats_in_a_row_or_in_a_circle_is_for_other_rules() -> None:
    """One fact, one page."""
    assert no_progress(calls(["search:a/x"] * 30)) == []
    assert no_progress(calls(["search:a/x", "read:b/y", "list:c/z"] * 10)) == []


def test_a_heartbeat_is_no_loop() -> None:
    """The same dozen checks every half hour are made anew each time."""
    steps = [call(f"check:{n}/fine", beat * 30 * MINUTE + n) for beat in range(10) for n in range(12)]
    assert no_progress(steps) == []


def test_calls_that_differ_in_a_counter_only_are_told_of_once_there_are_thirty() -> None:
    """Never as a page: a tool that changes something and does not say so looks the same."""
    found = no_progress(calls(f"noop:{n}/empty" for n in range(80)))
    assert (found[0].level, found[0].value, highest(found)) == (0.5, 30, 0.5)
    turns = [each for n in range(40) for each in (f"noop:{n}/empty", f"look:{n}/nothing")]
    assert no_progress(calls(turns))[0].value == 30
    assert no_progress(calls(f"!send:{n}/ok" for n in range(80))) == []
    shapes = [call(f"price:{n}/{n} $", n * 4, result_shape_hash="0 $") for n in range(80)]
    assert no_progress(shapes) == []


def test_it_says_what_it_has_cost_since_the_first_of_the_calls() -> None:
    """In the summary, so that whoever is woken knows it at once."""
    steps = calls(between("search:a/x", 5))
    found = drive([NoProgress(NoProgressSettings(name="no_progress"))], steps, cost_of_a_call_nanousd=20_000_000)
    assert found[-1].summary.endswith("; $0.16 spent since the first.")


def test_settings_that_contradict_each_other_are_refused() -> None:
    """It would page before it warns."""
    with pytest.raises(ValidationError, match="page_at"):
        NoProgressSettings(name="no_progress", notice_at=6)


def test_whoever_has_found_a_way_out_is_left_alone() -> None:
    """What follows a circle is new: neither calls that work nor one that fails are part of it."""
    circle = ["search:a/x", "read:b/y", "list:c/z"] * 5
    assert no_progress(calls([*circle, "-edit:d/no", "!edit:e/ok", "-test:f/red", "read:b/y"])) == []
