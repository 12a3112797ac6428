"""repeat, cycle, retry_storm and error_streak: when they warn, when they page, and when they must not."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from models.detectors.cycle import Cycle, CycleSettings
from models.detectors.error_streak import ErrorStreak, ErrorStreakSettings
from models.detectors.repeat import Repeat, RepeatSettings
from models.detectors.retry_storm import RetryStorm, RetryStormSettings
from models.rules.finding import Finding
from schemas.policy import RuleSettings
from schemas.usage import CallStatus, LlmCall, ToolCall
from tests.support.runs import drive


def tools(*steps: str, tool: str = "search", status: CallStatus = "ok") -> list[ToolCall]:
    """Steps as `arguments/result` or, without a result hash, `arguments`; `name:arguments/result` names the tool."""
    calls = []
    for at, step in enumerate(steps):
        signature, _, result = step.partition("/")
        named, _, args = signature.rpartition(":")
        call = ToolCall(
            event_id=str(at), ts_ms=at * 1000, tenant_id="t", run_id="r", tool=named or tool, args_hash=args,
            result_hash=result or None, status=status,
        )  # fmt: skip
        calls.append(call)
    return calls


def models(count: int, **fields: Any) -> list[LlmCall]:
    """Model calls one after another, two seconds apart, each one second long."""
    return [
        LlmCall(
            event_id=str(at), ts_ms=at * 2000 + 1000, latency_ms=1000, tenant_id="t", run_id="r",
            **{"model": "gpt-5", "input_tokens": 900, "output_tokens": 40, **fields},
        )
        for at in range(count)
    ]  # fmt: skip


def repeat(calls: Iterable[ToolCall | LlmCall], **settings: Any) -> list[Finding]:
    return drive([Repeat(RepeatSettings(name="repeat", **settings))], calls)


def cycle(calls: Iterable[ToolCall | LlmCall], **settings: Any) -> list[Finding]:
    return drive([Cycle(CycleSettings(name="cycle", **settings))], calls)


def retry_storm(calls: Iterable[ToolCall | LlmCall], **settings: Any) -> list[Finding]:
    return drive([RetryStorm(RetryStormSettings(name="retry_storm", **settings))], calls)


def error_streak(calls: Iterable[ToolCall | LlmCall], **settings: Any) -> list[Finding]:
    return drive([ErrorStreak(ErrorStreakSettings(name="error_streak", **settings))], calls)


def levels(findings: list[Finding]) -> list[tuple[float, float]]:
    return [(finding.level, finding.value) for finding in findings]


# repeat


def test_repeat_warns_at_three_and_pages_at_five() -> None:
    """The same call with the same result: a notice, then a page that asks for the kill."""
    findings = repeat(tools(*["a/1"] * 5))
    assert levels(findings) == [(0.5, 3), (1.0, 5)]
    notice, page = findings
    assert (notice.severity, notice.action) == ("warning", None)
    assert (page.severity, page.action) == ("critical", "kill")
    assert (
        page.summary
        == "Tool search was called 5 times in a row with the same arguments, each time with the same result."
    )
    assert page.evidence["results_verified"] is True


def test_repeat_goes_on_paging_while_the_loop_goes_on() -> None:
    """A rule that comes into force in the middle of a loop still sees it."""
    assert levels(repeat(tools(*["a/1"] * 7)))[1:] == [(1.0, 5), (1.0, 6), (1.0, 7)]


def test_repeat_takes_a_changed_result_for_progress() -> None:
    """Scrolling and polling make the same call and see something else: silence, however long."""
    assert repeat(tools(*[f"scroll/{at}" for at in range(300)])) == []


def test_repeat_without_results_warns_once_and_never_pages() -> None:
    """Without result hashes a loop cannot be told from progress."""
    assert levels(repeat(tools(*["a"] * 50))) == [(0.5, 3)]


def test_repeat_pages_without_results_where_the_policy_trusts_the_tool() -> None:
    """`trust_without_result` speaks for tools whose same call is always a repetition; a changed result still counts."""
    assert levels(repeat(tools(*["a"] * 5), trust_without_result=["sea*"])) == [(0.5, 3), (1.0, 5)]
    assert repeat(tools(*[f"a/{at}" for at in range(9)]), trust_without_result=["sea*"]) == []


@pytest.mark.parametrize("tool", ["wait_for_job", "getJobStatus", "sleep", "BashOutput", "poll"])
def test_repeat_never_pages_a_poller(tool: str) -> None:
    """A tool that waits says the same until what it waits for has happened."""
    assert levels(repeat(tools(*["a/pending"] * 40, tool=tool))) == [(0.5, 3)]


def test_repeat_lets_the_policy_name_pollers() -> None:
    """The list in the policy replaces the default one."""
    assert levels(repeat(tools(*["a/1"] * 9), pollers=["SEARCH"])) == [(0.5, 3)]
    assert levels(repeat(tools(*["a/1"] * 5, tool="wait"), pollers=[]))[-1] == (1.0, 5)


def test_repeat_does_not_judge_calls_whose_arguments_are_unknown() -> None:
    """Five writes that all answer `ok` are not one write."""
    unknown = [
        ToolCall(event_id=str(at), ts_ms=at, tenant_id="t", run_id="r", tool="write", result_hash="ok")
        for at in range(9)
    ]
    assert repeat(unknown) == []


# cycle


@pytest.mark.parametrize(
    ("steps", "pages_at"),
    [("ab", 6), ("aab", 9), ("abc", 9), ("abcd", 12), ("abcdef", 18), ("abcdefgh", 24)],
)
def test_cycle_pages_in_the_third_round(steps: str, pages_at: int) -> None:
    """Any circle of 2 to 8 calls with equal results is found when its third round is complete, and not earlier."""
    calls = tools(*[f"{steps[at % len(steps)]}/1" for at in range(pages_at)])
    assert cycle(calls[:-1]) == []
    (page,) = cycle(calls)
    assert (page.level, page.value, page.action) == (1.0, pages_at, "kill")
    assert page.evidence["period"] == len(steps)


def test_cycle_leaves_one_call_over_and_over_to_repeat() -> None:
    """One loop, one incident; also when its results alternate, as those of a blinking poller do."""
    assert cycle(tools(*["a/1"] * 60)) == []
    assert cycle(tools(*[f"a/{at % 2}" for at in range(60)])) == []


def test_cycle_takes_other_arguments_or_another_result_for_work() -> None:
    """Edit and test, read the same files between edits, and watch two things that change: silence."""
    assert cycle(tools(*[step for at in range(30) for step in (f"edit:{at}/ok", "test:all/failed")])) == []
    reads = ("read:a/1", "read:b/2")
    assert cycle(tools(*[step for at in range(30) for step in (*reads, f"edit:{at}/ok")])) == []
    assert cycle(tools(*[step for at in range(30) for step in (f"a/{at}", f"b/{at}")])) == []


def test_cycle_without_results_or_with_a_poller_warns_once() -> None:
    """Neither is sure; `trust_without_result` must cover every tool of the circle."""
    assert levels(cycle(tools(*["a", "b"] * 20))) == [(0.5, 6)]
    assert levels(cycle(tools(*["job_status:1/pending", "sleep:5/done"] * 20))) == [(0.5, 6)]
    assert levels(cycle(tools(*["x:a", "y:b"] * 3), trust_without_result=["x"])) == [(0.5, 6)]
    assert levels(cycle(tools(*["x:a", "y:b"] * 3), trust_without_result=["x", "y"])) == [(1.0, 6)]


def test_cycle_names_its_tools_in_order() -> None:
    """Whoever is woken sees at once what goes round."""
    (page,) = cycle(tools(*["read:a/1", "grep:b/2", "ls:c/3"] * 3))
    assert page.evidence["tools"] == ["read", "grep", "ls"]
    assert "(read, grep, ls), 3 times so far, with the same results" in page.summary


# retry_storm


def test_retry_storm_warns_at_three_and_pages_at_five() -> None:
    """The same prompt, sent one after another, is charged each time."""
    assert levels(retry_storm(models(5, prompt_hash="p"))) == [(0.5, 3), (0.5, 4), (1.0, 5)]


def test_retry_storm_believes_attempt() -> None:
    """Attempt 5 means five attempts, even if it is the first event seen."""
    assert levels(retry_storm(models(1, attempt=5))) == [(1.0, 5)]
    assert levels(retry_storm(models(1, attempt=3))) == [(0.5, 3)]


def test_retry_storm_pages_failures_known_by_their_size_only() -> None:
    """Timed-out attempts are charged too, with or without a prompt hash."""
    assert levels(retry_storm(models(5, status="cancelled")))[-1] == (1.0, 5)


def test_retry_storm_does_not_page_a_batch_of_prompts_of_one_length() -> None:
    """Classifying padded rows makes calls of one size: a warning at most, and none if the answers differ in length."""
    assert {level for level, _ in levels(retry_storm(models(40, output_tokens=1)))} == {0.5}
    varied = [call for at in range(40) for call in models(1, output_tokens=at % 7 + 1)]
    assert retry_storm(varied) == []


def test_retry_storm_does_not_count_parallel_samples() -> None:
    """Twenty samples of one prompt at once are a choice, not a storm."""
    samples = [call for _ in range(20) for call in models(1, prompt_hash="p")]
    assert retry_storm(samples) == []


def test_retry_storm_counts_overlapping_calls_that_failed() -> None:
    """A time-out measured by two clocks may seem to overlap with its retry."""
    failed = [call for _ in range(5) for call in models(1, prompt_hash="p", status="error")]
    assert levels(retry_storm(failed))[-1] == (1.0, 5)


def test_retry_storm_is_silent_while_an_agent_works() -> None:
    """A context that grows with every turn is a new prompt every time."""
    rng = random.Random(7)
    calls: list[LlmCall | ToolCall] = []
    for at in range(200):
        calls += models(1, prompt_hash=f"p{at}", input_tokens=1000 + 50 * at, output_tokens=rng.randrange(10, 400))
        calls += tools(f"{at}/{at}")
    assert retry_storm(calls) == []


# error_streak


def test_error_streak_warns_at_five_failures_and_never_pages_by_default() -> None:
    """Failing in different ways is exploration; what it may cost is for the cap."""
    findings = error_streak(tools(*[f"{at}/{at}" for at in range(30)], status="error"))
    assert levels(findings)[0] == (0.5, 5)
    assert {finding.level for finding in findings} == {0.5}


def test_error_streak_pages_where_the_policy_says_so() -> None:
    """`page_at` is for runs in which ten failures in a row mean that nothing works."""
    findings = error_streak(models(10, status="error"), page_at=10)
    assert levels(findings)[-1] == (1.0, 10)
    assert findings[-1].action == "kill"


def test_error_streak_ends_with_a_success_of_the_same_kind() -> None:
    """Four failures, one success, four failures: no streak of five."""
    calls = [*tools(*"abcd", status="error"), *tools("e"), *tools(*"fghi", status="error")]
    assert error_streak(calls) == []


# settings


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (RepeatSettings, {"notice_at": 5, "page_at": 3}),
        (RepeatSettings, {"notice_at": 1}),
        (RetryStormSettings, {"page_at": -1}),
        (ErrorStreakSettings, {"page_at": 4}),
        (CycleSettings, {"rounds": 1}),
        (CycleSettings, {"poller": ["wait"]}),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: type[RuleSettings], wrong: dict[str, Any]) -> None:
    """A misspelt or contradictory limit is no limit."""
    with pytest.raises(ValidationError):
        settings(name="rule", **wrong)


def test_severity_and_action_of_the_page_are_policy() -> None:
    """The rule says what a page is worth and whether it stops anything."""
    page = repeat(tools(*["a/1"] * 5), severity="error", action="alert")[-1]
    assert (page.severity, page.action) == ("error", None)
