"""repeat, cycle, retry_storm and error_streak: when they warn, when they page, and when they must not."""

import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from models.detectors.loops.cycle import Cycle, CycleSettings
from models.detectors.loops.error_streak import ErrorStreak, ErrorStreakSettings
from models.detectors.loops.repeat import Repeat, RepeatSettings
from models.detectors.loops.retry_storm import RetryStorm, RetryStormSettings
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
    """What would be told of each incident: its first finding, and the first of every higher level."""
    told: dict[str, list[tuple[float, float]]] = {}
    for finding in findings:
        of_it = told.setdefault(finding.aspect, [])
        if not of_it or finding.level > of_it[-1][0]:
            of_it.append((finding.level, finding.value))
    return [entry for of_it in told.values() for entry in of_it]


def paced(calls: list[ToolCall], seconds: float) -> list[ToolCall]:
    """The calls `seconds` apart."""
    return [msgspec.structs.replace(call, ts_ms=round(at * seconds * 1000)) for at, call in enumerate(calls)]


# repeat


def test_repeat_warns_at_three_and_pages_at_five() -> None:
    """The same call with the same result: a notice, then a page that asks for the kill."""
    findings = repeat(tools(*["a/1"] * 5))
    assert levels(findings) == [(0.5, 3), (1.0, 5)]
    notice, page = findings[0], findings[-1]
    assert (notice.severity, notice.action) == ("warning", None)
    assert (page.severity, page.action) == ("critical", "kill")
    assert page.summary == "Tool search was called 5 times in a row with the same arguments and the same result."
    assert page.evidence["results_verified"] is True


def test_repeat_finds_the_loop_at_every_call_while_it_goes_on() -> None:
    """A rule that comes into force in the middle of a loop still sees it, and the incident is not over before it is."""
    findings = repeat(tools(*["a/1"] * 7), within_minutes=4)
    assert [(finding.level, finding.value) for finding in findings[2:]] == [(1.0, 5), (1.0, 6), (1.0, 7)]
    assert {finding.lasts_ms for finding in findings} == {240_000}


def test_repeat_gives_another_thing_repeated_an_incident_of_its_own() -> None:
    """A second loop is a second fact; the first one met again is the first."""
    loops = repeat(tools(*["fetch:u/1"] * 6, *["deploy:v/1"] * 6, *["fetch:u/1"] * 6))
    assert levels(loops) == [(0.5, 3), (1.0, 5)] * 2
    assert all(finding.evidence["repeated"] == finding.aspect for finding in loops)


def test_repeat_does_not_count_a_heartbeat() -> None:
    """The same look every half hour, all day; a rule may allow longer pauses, and then it does count."""
    beats = paced(tools(*["todo/none"] * 48), 1800)
    assert repeat(beats) == []
    assert levels(repeat(beats, within_minutes=30)) == [(0.5, 3)]


def test_repeat_counts_parallel_calls_once() -> None:
    """Six identical reads of one turn are no loop; six turns of them are."""
    turns = [
        [msgspec.structs.replace(call, ts_ms=turn * 5000 + 20 * at, latency_ms=900) for at, call in enumerate(six)]
        for turn, six in enumerate([tools(*["a/1"] * 6)] * 6)
    ]
    assert repeat(turns[0]) == []
    assert levels(repeat([call for turn in turns for call in turn])) == [(0.5, 3), (1.0, 5)]


def test_repeat_takes_results_of_one_shape_for_the_same() -> None:
    """A failure whose text differs in a time stamp only is the same failure."""
    calls = [
        msgspec.structs.replace(call, result_shape_hash="failed at <time>")
        for call in tools(*[f"deploy/failed at 9:0{at}" for at in range(5)], status="error")
    ]
    assert levels(repeat(calls)) == [(0.5, 3), (1.0, 5)]


def test_repeat_pages_a_call_that_fails_ten_times_whatever_it_says() -> None:
    """Nobody makes the same failing call ten times with nothing in between; one that works in between starts anew."""
    failing = tools(*[f"deploy/failed at 9:0{at}" for at in range(12)], status="error")
    assert levels(repeat(failing)) == [(1.0, 10)]
    assert repeat(failing, failing_page_at=0) == repeat(failing, page_at=0) == []
    works = tools("deploy/ok")
    assert repeat(paced([*failing[:9], *works, *failing[:9]], 1)) == []


def test_repeat_takes_an_even_pace_for_waiting() -> None:
    """Every ten seconds and more, evenly or ever more rarely: a warning, and a page only after sixty looks in vain."""
    assert levels(repeat(paced(tools(*["job/pending"] * 70), 15))) == [(0.5, 3), (1.0, 60)]
    assert levels(repeat(paced(tools(*["job/pending"] * 70), 15), poll_page_at=0)) == [(0.5, 3)]
    backing_off = tools(*["job/pending"] * 8)
    backing_off = [msgspec.structs.replace(call, ts_ms=10_000 * 2**at) for at, call in enumerate(backing_off)]
    assert levels(repeat(backing_off, within_minutes=60)) == [(0.5, 3)]


def test_repeat_does_not_take_a_loop_for_waiting() -> None:
    """Hasty, uneven or failing calls wait for nothing, whatever the tool is called."""
    assert levels(repeat(paced(tools(*["git_status:x/clean"] * 9), 5))) == [(0.5, 3), (1.0, 5)]
    assert levels(repeat(paced(tools(*["job_status:x/429"] * 9, status="error"), 20))) == [(0.5, 3), (1.0, 5)]
    rng = random.Random(3)
    thinking = tools(*["a/1"] * 40)
    thinking = [
        msgspec.structs.replace(call, ts_ms=at * 20_000 + rng.randrange(15_000)) for at, call in enumerate(thinking)
    ]
    assert levels(repeat(thinking))[-1][0] == 1.0


def test_repeat_takes_a_changed_result_for_progress() -> None:
    """Scrolling and polling make the same call and see something else: silence, however long."""
    assert repeat(tools(*[f"scroll/{at}" for at in range(300)])) == []


def test_repeat_without_results_warns_and_never_pages() -> None:
    """Without result hashes a loop cannot be told from progress."""
    assert levels(repeat(tools(*["a"] * 50))) == [(0.5, 3)]


def test_repeat_pages_without_results_where_the_policy_trusts_the_tool() -> None:
    """`trust_without_result` speaks for tools whose same call is always a repetition; a changed result still counts."""
    assert levels(repeat(tools(*["a"] * 5), trust_without_result=["sea*"])) == [(0.5, 3), (1.0, 5)]
    assert repeat(tools(*[f"a/{at}" for at in range(9)]), trust_without_result=["sea*"]) == []


@pytest.mark.parametrize("tool", ["wait", "Sleep", "BashOutput"])
def test_repeat_never_pages_a_poller(tool: str) -> None:
    """A tool that does nothing but wait says the same until what it waits for has happened."""
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


def test_cycle_without_results_or_with_a_poller_warns() -> None:
    """Neither is sure; `trust_without_result` must cover every tool of the circle."""
    assert levels(cycle(tools(*["a", "b"] * 20))) == [(0.5, 6)]
    assert levels(cycle(tools(*["job_status:1/pending", "sleep:5/done"] * 20))) == [(0.5, 6)]
    assert levels(cycle(tools(*["x:a", "y:b"] * 3), trust_without_result=["x"])) == [(0.5, 6)]
    assert levels(cycle(tools(*["x:a", "y:b"] * 3), trust_without_result=["x", "y"])) == [(1.0, 6)]


def test_cycle_takes_a_pause_in_every_round_for_waiting() -> None:
    """Look, log, pause, look again: paged after sixty rounds. The same circle without a pause is a loop."""
    rounds = [step for _ in range(70) for step in ("check:job/pending", "log:job/pending")]
    waiting = [
        msgspec.structs.replace(call, ts_ms=at // 2 * 30_000 + at % 2 * 1000) for at, call in enumerate(tools(*rounds))
    ]
    assert levels(cycle(waiting)) == [(0.5, 6), (1.0, 120)]
    assert levels(cycle(tools(*rounds))) == [(1.0, 6)]


def test_cycle_does_not_count_over_a_pause() -> None:
    """A heartbeat that makes the same two calls every half hour goes nowhere, but slowly."""
    beats = [
        msgspec.structs.replace(call, ts_ms=at // 2 * 1_800_000 + at % 2 * 2000)
        for at, call in enumerate(tools(*["read:todo/none", "list:tasks/none"] * 30))
    ]
    assert cycle(beats) == []


def test_cycle_is_the_same_fact_wherever_it_is_met() -> None:
    """A circle left and entered again at another place is one incident; another circle is another."""
    first, again, other = ["x:a/1", "y:b/1", "z:c/1"] * 4, ["y:b/1", "z:c/1", "x:a/1"] * 4, ["x:a/1", "w:d/1"] * 4
    facts = {finding.aspect for finding in cycle(tools(*first, "e/1", *again))}
    assert len(facts) == 1
    assert len({finding.aspect for finding in cycle(tools(*first, "e/1", *again, *other))} - facts) == 1


def test_cycle_names_its_tools_in_order() -> None:
    """Whoever is woken sees at once what goes round."""
    (page,) = cycle(tools(*["read:a/1", "grep:b/2", "ls:c/3"] * 3))
    assert page.evidence["tools"] == ["read", "grep", "ls"]
    assert "(read, grep, ls), 3 times so far, with the same results" in page.summary


# retry_storm


def test_retry_storm_warns_at_three_and_pages_at_five() -> None:
    """The same prompt, sent one after another, is charged each time."""
    assert levels(retry_storm(models(5, prompt_hash="p"))) == [(0.5, 3), (1.0, 5)]


def test_retry_storm_counts_what_is_sent_soon() -> None:
    """The same prompt every half hour is a schedule; attempts are counted by whoever makes them, pause or not."""
    hourly = [
        msgspec.structs.replace(call, ts_ms=at * 1_800_000) for at, call in enumerate(models(20, prompt_hash="p"))
    ]
    assert retry_storm(hourly) == []
    backing_off = [msgspec.structs.replace(call, attempt=at) for at, call in enumerate(hourly[:5], 1)]
    assert levels(retry_storm(backing_off)) == [(0.5, 3), (1.0, 5)]


def test_retry_storm_gives_another_prompt_an_incident_of_its_own() -> None:
    """Where the prompt is known; calls known by their size are one incident."""
    both = [*models(5, prompt_hash="p"), *models(5, prompt_hash="q")]
    assert levels(retry_storm(both)) == [(0.5, 3), (1.0, 5)] * 2
    sizes = [*models(5, status="error"), *models(5, status="error", input_tokens=50)]
    assert levels(retry_storm(sizes)) == [(0.5, 3), (1.0, 5)]


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
    assert levels(findings) == [(0.5, 5)]


def test_error_streak_pages_where_the_policy_says_so() -> None:
    """`page_at` is for runs in which ten failures in a row mean that nothing works."""
    findings = error_streak(models(10, status="error"), page_at=10)
    assert levels(findings)[-1] == (1.0, 10)
    assert findings[-1].action == "kill"


def test_error_streak_counts_parallel_failures_once_and_only_soon() -> None:
    """Five tools that fail in one turn are one failure; failures half an hour apart are no streak."""
    at_once = [
        msgspec.structs.replace(call, ts_ms=at, latency_ms=900)
        for at, call in enumerate(tools(*"abcdefg", status="error"))
    ]
    assert error_streak(at_once) == []
    assert error_streak(paced(tools(*"abcdefg", status="error"), 1800)) == []


def test_error_streak_of_tools_and_of_models_are_two_facts() -> None:
    """A tool that does not work and a provider that does not answer have different owners."""
    both: list[ToolCall | LlmCall] = [*tools(*"abcde", status="error"), *models(5, status="error")]
    assert levels(error_streak(both)) == [(0.5, 5)] * 2


def test_error_streak_ends_with_a_success_of_the_same_kind() -> None:
    """Four failures, one success, four failures: no streak of five."""
    calls = paced([*tools(*"abcd", status="error"), *tools("e"), *tools(*"fghi", status="error")], 1)
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
        (CycleSettings, {"within_minutes": 0}),
        (ErrorStreakSettings, {"within_minutes": 61}),
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


def test_calls_that_take_their_time_wait_for_something() -> None:
    """Three seconds and more: a build or a run of tests that is looked at again and again. It pages at the sixtieth;
    a call that fails, or that takes less, is no waiting.
    """

    def calls(times: int, steps: Iterable[str] = ("a/x",), **fields: Any) -> list[ToolCall]:
        fields = {"latency_ms": 3000, **fields}
        return [
            msgspec.structs.replace(call, ts_ms=at * 8000 + (at % 3) * 2000, **fields)
            for at, call in enumerate(tools(*(list(steps) * times)))
        ]

    assert max(finding.level for finding in repeat(calls(59))) == 0.5
    assert max(finding.level for finding in repeat(calls(60))) == 1.0
    assert max(finding.level for finding in cycle(calls(20, ("a/x", "b/y")))) == 0.5
    assert max(finding.level for finding in repeat(calls(5, status="error"))) == 1.0
    assert max(finding.level for finding in repeat(calls(5, latency_ms=2900))) == 1.0
