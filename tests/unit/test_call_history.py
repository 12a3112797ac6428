"""A run's call history: counts in a row, rounds, pauses, periods, re-sends, and that it survives being written down."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec
import pytest

from models.sequences.pauses import LONGEST_PAUSE_MINUTES
from models.sequences.tool_calls import LONGEST_PERIOD, STEPS
from models.state.units.call_history import CallHistory
from schemas.usage import CallStatus, LlmCall, ToolCall

MINUTE_MS = 60_000


def tool_call(
    args: str | None,
    result: str | None = "same",
    *,
    at_ms: int = 0,
    tool: str = "read",
    status: Literal["ok", "error", "cancelled"] = "ok",
    **fields: Any,
) -> ToolCall:
    return ToolCall(
        event_id="e", ts_ms=at_ms, tenant_id="t", run_id="r", tool=tool, args_hash=args, result_hash=result,
        status=status, **fields,
    )  # fmt: skip


def model_call(ts_ms: int, **fields: Any) -> LlmCall:
    return LlmCall(event_id="e", ts_ms=ts_ms, tenant_id="t", run_id="r", **{"model": "gpt-5", **fields})


def after_tools(*steps: tuple[str | None, str | None]) -> CallHistory:
    history = CallHistory()
    for at, (args, result) in enumerate(steps):
        history.tool(tool_call(args, result, at_ms=at * 1000))
    return history


def after(*calls: ToolCall | LlmCall) -> CallHistory:
    history = CallHistory()
    for call in calls:
        history.tool(call) if isinstance(call, ToolCall) else history.model(call)
    return history


@pytest.mark.parametrize(
    ("steps", "same_call", "alike", "verified"),
    [
        ([("a", "1")], 1, 1, 1),
        ([("a", "1"), ("a", "1"), ("a", "1")], 3, 3, 3),
        ([("a", "1"), ("a", "2"), ("a", "3")], 3, 1, 1),
        ([("a", "1"), ("a", "1"), ("a", "2"), ("a", "2")], 4, 2, 2),
        ([("a", None), ("a", None), ("a", None)], 3, 3, 1),
        ([("a", "1"), ("a", None), ("a", "1"), ("a", "1")], 4, 4, 2),
        ([("a", "1"), ("b", "1"), ("a", "1")], 1, 1, 1),
        ([(None, "1"), (None, "1"), (None, "1")], 1, 1, 1),
        ([("a", "1"), (None, "1"), ("a", "1")], 1, 1, 1),
    ],
)
def test_equal_calls_are_counted_by_what_their_results_say(
    steps: list[tuple[str | None, str | None]], same_call: int, alike: int, verified: int
) -> None:
    """Equal results verify, different results start anew, unknown ones do neither; unknown arguments equal nothing."""
    row = after_tools(*steps).tools
    assert (row.same_call, row.alike, row.verified) == (same_call, alike, verified)


def test_the_same_arguments_to_another_tool_are_another_call() -> None:
    """A signature is tool and arguments."""
    history = CallHistory()
    history.tool(tool_call("a", tool="read"))
    history.tool(tool_call("a", at_ms=1000, tool="write"))
    assert history.tools.same_call == 1


def test_model_calls_do_not_interrupt_a_loop_of_tool_calls() -> None:
    """An agent asks its model before every tool call, with a longer context each time."""
    history = CallHistory()
    for turn in range(5):
        history.model(model_call(turn * 1000, input_tokens=1000 + turn))
        history.tool(tool_call("a", at_ms=turn * 1000))
    assert history.tools.verified == 5


def test_matches_equal_a_count_by_hand_on_random_walks() -> None:
    """Over any sequence, the counters per period say what comparing the whole history says."""
    for seed in range(60):
        rng = random.Random(seed)
        steps = [(rng.choice("abc"), rng.choice(["1", "1", "1", "2", None])) for _ in range(80)]
        history = CallHistory()
        for length in range(1, len(steps) + 1):
            history.tool(tool_call(*steps[length - 1], at_ms=length * 1000))
            for period in range(1, LONGEST_PERIOD + 1):
                expected = matches_by_hand(steps[:length], period)
                assert history.tools.matches(period) == expected, f"seed {seed}, step {length}, period {period}"


def matches_by_hand(steps: list[tuple[str, str | None]], period: int) -> tuple[int, int]:
    alike = verified = 0
    for (args, result), (earlier_args, earlier_result) in zip(steps[period:], steps, strict=False):
        unknown = result is None or earlier_result is None
        same = args == earlier_args and (unknown or result == earlier_result)
        alike = alike + 1 if same else 0
        verified = verified + 1 if same and not unknown else 0
    return alike, verified


def test_distinct_counts_signatures_of_the_last_steps() -> None:
    """Only the asked number of steps is looked at, and results do not matter."""
    history = after_tools(("z", "0"), *[("ab"[step % 2], str(step)) for step in range(6)])
    assert history.tools.distinct(6) == 2
    assert history.tools.distinct(7) == 3


def test_failed_calls_are_counted_apart_for_tools_and_models() -> None:
    """A model that answers between two failed tool calls is no sign that the tool works again; cancelled is neither."""
    history = CallHistory()
    for turn in range(3):
        history.tool(tool_call(str(turn), at_ms=turn * 1000, status="error"))
        history.model(model_call(turn * 1000, input_tokens=turn + 1))
    history.tool(tool_call("x", at_ms=5000, status="cancelled"))
    assert (history.tools.failed, history.models.failed) == (3, 0)
    history.tool(tool_call("y", at_ms=6000))
    assert history.tools.failed == 0


def test_a_prompt_hash_with_rising_input_is_a_template_not_a_resend() -> None:
    """The same prompt has the same number of tokens; where they differ the hash is of something else."""
    history = after(*[model_call(n * 1000, prompt_hash="p", input_tokens=100 * n + 100) for n in range(6)])
    assert history.models.resends == 1


def test_a_failed_call_without_token_counts_still_is_the_same_prompt() -> None:
    """Providers report no usage for a failed call; 0 tokens contradict nothing, before or after."""
    tokens = [900, 0, 0, 900, 0]
    calls = [
        model_call(n * 1000, prompt_hash="p", input_tokens=count, status="ok" if count else "error")
        for n, count in enumerate(tokens)
    ]
    assert after(*calls).models.sure_resends == 5


def test_calls_without_prompt_hash_and_tokens_are_not_known_to_be_the_same() -> None:
    """Nothing known equals nothing, except what `attempt` says."""
    assert after(*[model_call(n * 1000) for n in range(6)]).models.resends == 1
    assert after(model_call(0, attempt=4)).models.sure_resends == 4


@pytest.mark.parametrize("how", ["started_ms", "latency_ms"])
def test_overlapping_calls_are_parallel_samples(how: str) -> None:
    """Five samples of one prompt drawn at once are one sending, and the next round is the second."""
    calls = [
        model_call(
            base + sample,
            prompt_hash="p",
            input_tokens=100,
            **({"started_ms": base - 900} if how == "started_ms" else {"latency_ms": 900}),
        )
        for base in (1_000, 3_000)
        for sample in range(5)
    ]
    assert after(*calls[:5]).models.resends == 1
    assert after(*calls).models.resends == 2


def test_calls_of_one_size_are_sure_only_around_failures() -> None:
    """Without a prompt hash, equal sizes are no proof; a failure between them is."""
    ok = [model_call(n * 1000, input_tokens=700, output_tokens=5) for n in range(4)]
    assert (after(*ok).models.resends, after(*ok).models.sure_resends) == (4, 1)
    failed = [model_call(n * 1000, input_tokens=700, status="error") for n in range(4)]
    assert after(*failed).models.sure_resends == 4


def test_calls_of_one_size_with_other_answers_or_tools_between_are_other_prompts() -> None:
    """Equal sizes happen in batches; answers of different length and tool calls in between show it."""
    assert after(*[model_call(n, input_tokens=700, output_tokens=n) for n in range(1, 6)]).models.resends == 1
    history = CallHistory()
    for turn in range(5):
        history.model(model_call(turn * 1000, input_tokens=700, status="error"))
        history.tool(tool_call(str(turn), at_ms=turn * 1000))
    assert history.models.resends == 1


def test_answers_from_a_semantic_cache_leave_no_trace() -> None:
    """They are not sent, not charged, and no proof that the provider works."""
    history = after(*[model_call(n, prompt_hash="p", cache_hit=True) for n in range(6)])
    assert history.to_row() == CallHistory().to_row()


def test_in_parallel_is_once() -> None:
    """Six identical reads of one turn, begun before any had an answer, are one; the next turn's six are the second."""
    turns = [
        [tool_call("a", at_ms=base + 20 * n, latency_ms=900, status="error") for n in range(6)] for base in (1000, 9000)
    ]
    first, both = after(*turns[0]).tools, after(*turns[0], *turns[1]).tools
    assert (first.same_call, first.verified, first.failing, first.failed) == (1, 1, 1, 1)
    assert (both.same_call, both.verified, both.failing, both.failed) == (2, 2, 2, 2)


def spans_of(said: str, start: int, end: int) -> dict[str, Any]:
    """When a call began, as its source says it."""
    return {"latency_ms": end - start} if said == "latency" else {"started_ms": start}


@pytest.mark.parametrize(
    ("spans", "counted"),
    [
        ([(0, 900), (900, 1800), (1800, 2700)], 3),
        ([(0, 900), (899, 1800), (1799, 2700)], 2),
        ([(0, 0), (0, 0), (0, 0)], 1),
        ([(0, 0), (1, 1), (2, 2)], 3),
        ([(5000, 6000), (0, 900), (6000, 7000)], 3),
        ([(0, 2000), (1000, 3000), (2500, 4500), (3900, 5900), (5500, 7500)], 3),
    ],
)
def test_rounds_are_calls_begun_before_any_had_an_answer(spans: list[tuple[int, int]], counted: int) -> None:
    """Overlap with the round's first answer decides, not a chain of overlaps that never ends; late arrivals count."""
    for said in ("latency", "start"):
        calls = [tool_call("a", at_ms=end, **spans_of(said, start, end)) for start, end in spans]
        assert after(*calls).tools.verified == counted


def test_rounds_equal_a_count_by_hand() -> None:
    """Calls of which the round has the same already change no count, and rounds fail together, in any sequence."""
    for seed in range(20):
        rng = random.Random(seed)
        calls: list[ToolCall] = []
        now_ms = 0
        for _ in range(60):
            now_ms += rng.choice((0, 10, 1000))
            status: CallStatus = rng.choice(("ok", "error", "error", "cancelled"))
            args, result, latency_ms = rng.choice("aab"), rng.choice("112"), rng.choice((0, 500))
            calls.append(tool_call(args, result, at_ms=now_ms, latency_ms=latency_ms, status=status))
            history = after(*calls)
            single, failed = rounds_by_hand(calls)
            one_by_one = after(*[msgspec.structs.replace(call, ts_ms=n, latency_ms=0) for n, call in enumerate(single)])
            (row, _, periods), (row_by_hand, _, by_hand) = tool_counts(history, 10), tool_counts(one_by_one, 10)
            assert (row, periods, history.tools.failed) == (row_by_hand, by_hand, failed), f"seed {seed}"


def rounds_by_hand(calls: Sequence[ToolCall]) -> tuple[list[ToolCall], int]:
    """The calls without those that their round has already, and how many rounds in a row failed at the end."""
    rounds: list[list[ToolCall]] = []
    for call in calls:
        start = max(0, call.ts_ms - (call.latency_ms or 0))
        spans = [(max(0, c.ts_ms - (c.latency_ms or 0)), c.ts_ms) for c in (rounds[-1] if rounds else [])]
        begun, answered = min((s for s, _ in spans), default=-1), min((e for _, e in spans), default=-1)
        if start == begun or (start < answered and call.ts_ms > begun):
            rounds[-1].append(call)
        else:
            rounds.append([call])
    failed = 0
    for calls_of_round in rounds:
        statuses = {call.status for call in calls_of_round}
        failed = 0 if "ok" in statuses else failed + ("error" in statuses)
    single = [c for r in rounds for n, c in enumerate(r) if c.args_hash not in {before.args_hash for before in r[:n]}]
    return single, failed


def test_a_round_in_which_one_call_works_has_not_failed() -> None:
    """In whichever order its calls arrive."""
    failed, worked = tool_call("a", at_ms=1000, status="error"), tool_call("b", at_ms=1000)
    assert after(failed, worked).tools.failed == after(worked, failed).tools.failed == 0


@pytest.mark.parametrize(
    ("one", "other", "alike", "verified"),
    [
        (("h1", "s"), ("h2", "s"), 2, 2),
        (("h", "s1"), ("h", "s2"), 2, 2),
        (("h1", "s1"), ("h2", "s2"), 1, 1),
        (("h1", "s"), ("h2", None), 1, 1),
        (("h", "s"), ("h", None), 2, 2),
        (("h", None), (None, "s"), 2, 1),
        ((None, "s"), (None, "s"), 2, 2),
        ((None, "s1"), ("h", "s2"), 1, 1),
        (("h1", "1:s"), ("h2", "1:s"), 2, 2),
        (("h1", "1:s"), ("h2", "1:t"), 1, 1),
        (("h1", "1:s"), ("h2", "2:s"), 2, 1),
        (("h1", "1:s"), ("h2", "s"), 2, 1),
        (("h", "1:s"), ("h", "2:s"), 2, 2),
        ((None, "1:s"), ("h", "2:t"), 2, 1),
    ],
)
def test_results_are_the_same_in_full_or_in_shape(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None], alike: int, verified: int
) -> None:
    """One kind of hash that is equal is enough; one that differs counts unless the other is equal; else it is open.

    Shapes of two versions, as from agents that are updated one by one, never differ: that would pass for progress.
    """
    calls = [tool_call("a", result, at_ms=n, result_shape_hash=shape) for n, (result, shape) in enumerate((one, other))]
    row = after(*calls).tools
    assert (row.alike, row.verified) == (alike, verified)


@pytest.mark.parametrize(("gap_ms", "counted"), [(10 * MINUTE_MS, 6), (10 * MINUTE_MS + 1, 3)])
def test_a_pause_starts_the_counts_anew(gap_ms: int, counted: int) -> None:
    """In a row means soon: three failures, a pause, three more. Ten minutes from end to start are no pause."""
    starts = [0, 1000, 2000, 2500 + gap_ms, 3500 + gap_ms, 4500 + gap_ms]
    tools = after(*[tool_call("a", at_ms=at + 500, latency_ms=500, status="error") for at in starts]).tools
    assert (*tools.same_calls(10), tools.failed_rounds(10)) == (counted,) * 4
    assert tools.same_calls(11) == (6, 6, 6)
    assert tools.matches(1, 10) == (counted - 1, counted - 1)
    models = after(*[
        model_call(at + 500, latency_ms=500, prompt_hash="p", input_tokens=9, status="error") for at in starts
    ]).models  # fmt: skip
    assert (*models.sendings(10), models.failed_calls(10)) == (counted,) * 3
    assert models.sendings(11) == (6, 6)


def test_a_long_call_is_no_pause() -> None:
    """A build of twenty minutes that is started again at once is the next call in a row."""
    builds = [tool_call("make", at_ms=(n + 1) * 21 * MINUTE_MS, latency_ms=20 * MINUTE_MS) for n in range(5)]
    assert after(*builds).tools.same_calls(10).verified == 5


def test_a_round_lasts_until_its_last_call_has_ended() -> None:
    """In whichever order its calls arrive: what follows the long one at once follows the round at once."""
    long = tool_call("make", at_ms=20 * MINUTE_MS, latency_ms=20 * MINUTE_MS)
    short = tool_call("look", at_ms=1000, latency_ms=1000)
    again = tool_call("look", at_ms=20 * MINUTE_MS + 5000)
    for calls in ((long, short, again), (short, long, again)):
        assert after(*calls).tools.matches(1 if calls[1] is short else 2, 10) == (1, 1)


def test_counts_within_minutes_equal_those_of_a_history_that_began_after_the_pause() -> None:
    """For every rule its own pause, over any sequence of tool calls and any of model calls, parallel, failed and
    repeated ones.
    """
    for seed in range(80):
        rng = random.Random(seed)
        calls = random_calls(rng, 60)
        histories = {ToolCall: CallHistory(), LlmCall: CallHistory()}
        for at, call in enumerate(calls):
            history = histories[type(call)]
            history.tool(call) if isinstance(call, ToolCall) else history.model(call)
            within = rng.choice((1, 5, 10, 45))
            fresh = after(*since_pause([seen for seen in calls[: at + 1] if type(seen) is type(call)], within))
            if isinstance(call, ToolCall):
                assert tool_counts(history, within) == tool_counts(fresh, within), f"seed {seed}, call {at}"
            else:
                assert model_counts(history, within) == model_counts(fresh, within), f"seed {seed}, call {at}"


def since_pause(calls: Sequence[ToolCall | LlmCall], within: int) -> Sequence[ToolCall | LlmCall]:
    """The calls after the last pause of more than `within` minutes."""
    start = 0
    for at, (before, call) in enumerate(pairwise(calls), 1):
        if call.ts_ms - (call.latency_ms or 0) - before.ts_ms > within * MINUTE_MS:
            start = at
    return calls[start:]


def tool_counts(history: CallHistory, within: int) -> Any:
    tools = history.tools
    periods = [tools.matches(period, within) for period in range(1, LONGEST_PERIOD + 1)]
    return tools.same_calls(within), tools.failed_rounds(within), periods


def model_counts(history: CallHistory, within: int) -> Any:
    return history.models.sendings(within), history.models.failed_calls(within)


def random_calls(rng: random.Random, count: int) -> list[ToolCall | LlmCall]:
    """Calls in the order in which they began, most of them soon after the one before, some much later."""
    calls: list[ToolCall | LlmCall] = []
    ended = {"tool": 0, "model": 0}
    for _ in range(count):
        kind = rng.choice(("tool", "model"))
        gap_ms = rng.choice((0, 1, 5000, 5000, 5000, 3 * MINUTE_MS, 8 * MINUTE_MS, 20 * MINUTE_MS, 300 * MINUTE_MS))
        latency_ms = rng.choice((0, 1000, 30_000))
        ended[kind] += gap_ms + latency_ms
        status: CallStatus = rng.choice(("ok", "error", "error", "cancelled"))
        if kind == "tool":
            result = rng.choice(("1", "1", "1", "2", None))
            call = tool_call(rng.choice("aaab"), result, at_ms=ended[kind], latency_ms=latency_ms, status=status)
            calls += [call] * rng.choice((1, 1, 1, 3))
        else:
            fields = {"prompt_hash": rng.choice("ppq"), "input_tokens": 7, "status": status, "latency_ms": latency_ms}
            calls.append(model_call(ended[kind], **fields))
    return calls


def test_pauses_that_are_too_many_shorten_a_row_and_never_lengthen_it() -> None:
    """However many pauses, each shorter than the one before, a run's state stays small."""
    minutes = range(LONGEST_PAUSE_MINUTES, 1, -1)
    calls: list[ToolCall | LlmCall] = [tool_call("a")]
    for pause in minutes:
        calls.append(tool_call("a", at_ms=calls[-1].ts_ms + pause * MINUTE_MS))
    history = after(*calls)
    for within in range(1, LONGEST_PAUSE_MINUTES + 1):
        assert 1 <= history.tools.same_calls(within).verified <= len(since_pause(calls, within))
    assert len(msgspec.msgpack.encode(history.to_row())) < 450


def test_a_history_of_hours_ago_is_forgotten() -> None:
    """A run that sleeps and goes on begins as a new one does: nothing of before is left, and nothing is in a row."""
    slept = after(tool_call("a"), tool_call("a", at_ms=1000), tool_call("a", at_ms=61 * MINUTE_MS + 1001))
    assert slept.to_row()[0] == after(tool_call("a", at_ms=61 * MINUTE_MS + 1001)).to_row()[0]


def test_restart_starts_all_counts_anew() -> None:
    """What an operator has let go on is judged by what it does from then on."""
    history = after(*[tool_call("a", at_ms=at, status="error") for at in range(9)], model_call(10, attempt=4))
    history.restart()
    assert history.to_row() == CallHistory().to_row()


@pytest.mark.parametrize(
    ("starts_s", "period", "paced"),
    [
        ([0, 10, 20, 30, 40], 1, True),
        ([0, 12, 26, 38, 51], 1, True),
        ([0, 9.9, 19.8, 29.7, 39.6], 1, False),
        ([0, 2, 4, 6, 8], 1, False),
        ([0, 12, 31, 44, 60], 1, False),
        ([0, 10, 30, 70, 150], 1, True),
        ([0, 10, 12, 22, 24, 34], 2, True),
        ([0, 4, 8, 12, 16, 20], 2, False),
        ([0, 1, 31, 32, 33, 63, 64, 65, 95], 3, True),
        ([0, 1, 31, 32, 33, 93, 94, 95, 96], 3, False),
    ],
)
def test_waiting_is_even_or_rising_and_not_hasty(starts_s: list[float], period: int, paced: bool) -> None:
    """Ten seconds and more at the same place in every round; whoever thinks in between is not so even."""
    calls = [tool_call(str(at % period), at_ms=round(start * 1000)) for at, start in enumerate(starts_s)]
    assert after(tool_call("before"), *[msgspec.structs.replace(call, ts_ms=call.ts_ms + 7) for call in calls]
    ).tools.is_paced(period, len(calls)) is paced  # fmt: skip


def test_what_is_repeated_has_one_name_wherever_the_circle_begins() -> None:
    """A-B-C and C-A-B are one circle; A-C-B, and A-B with other arguments, are others."""
    names = {circle: named(circle) for circle in ("abc", "bca", "cab", "acb", "abd")}
    assert names["abc"] == names["bca"] == names["cab"]
    assert len(set(names.values())) == 3


def named(circle: str) -> str:
    return after_tools(*[(step, "x") for step in circle * 2]).tools.repeated(len(circle))


def test_written_down_and_read_back_it_goes_on_as_if_never_stopped() -> None:
    """A restart at any step changes nothing that follows, whatever the steps were."""
    for seed in range(30):
        rng = random.Random(seed)
        calls = [random_call(rng, at) for at in range(40)]
        steady, restarted = CallHistory(), CallHistory()
        for at, call in enumerate(calls):
            for history in (steady, restarted):
                history.tool(call) if isinstance(call, ToolCall) else history.model(call)
            packed = msgspec.msgpack.encode(restarted.to_row())
            restarted = CallHistory.from_row(tuple(msgspec.msgpack.decode(packed)))
            assert restarted.to_row() == steady.to_row(), f"seed {seed}, step {at}"


def random_call(rng: random.Random, at: int) -> ToolCall | LlmCall:
    status: CallStatus = rng.choice(["ok", "ok", "error", "cancelled"])
    if rng.random() < 0.6:
        args, result = rng.choice(["a", "b", None]), rng.choice(["1", None])
        return tool_call(args, result, at_ms=at * rng.choice([1000, 99_000]), tool="r\0d", status=status)
    return model_call(at * 1000, prompt_hash=rng.choice(["p", None]), input_tokens=rng.choice([0, 7]), status=status)


def test_memory_is_bounded() -> None:
    """A run of any length keeps `STEPS` steps and no more."""
    history = CallHistory()
    sizes = []
    for step in range(1000):
        history.tool(tool_call(f"{step % 5}", at_ms=step * 1000))
        sizes.append(len(msgspec.msgpack.encode(history.to_row())))
    assert max(sizes) < 450
    assert all(after >= before for before, after in pairwise(sizes[:STEPS]))


def test_failures_of_what_one_answer_of_the_model_asked_for_are_one() -> None:
    """Though its calls were made one after another: one of them that fails may fail all the others. More calls than an
    answer asks for, or calls of whom nobody reports a model's, are counted one by one; so are equal results.
    """
    batch, later = (
        [tool_call(str(n), at_ms=start_ms + n * 1000, status="error") for n in range(4)] for start_ms in (2000, 10_000)
    )
    assert after(*batch).tools.failed == 4
    assert after(model_call(1000), *batch).tools.failed == 1
    assert after(model_call(1000), *batch, model_call(9000), *later).tools.failed == 2
    worked = tool_call("w", at_ms=7000)
    assert after(model_call(1000), *batch, worked).tools.failed == 0
    same = [tool_call("a", at_ms=2000 + n * 1000, status="error") for n in range(20)]
    assert after(model_call(1000), *same[:8]).tools.same_calls(10) == (8, 8, 1)
    assert after(model_call(1000), *same).tools.same_calls(10) == (20, 20, 13)
    turns = [
        each for n in range(5) for each in (model_call(2000 * n), tool_call("a", at_ms=2000 * n + 1, status="error"))
    ]
    assert after(*turns).tools.same_calls(10).failing == 5


def told(*calls: ToolCall) -> tuple[int, int]:
    return after(*calls).tools.told_before(10, 10)


def test_a_call_tells_nothing_new_if_it_was_made_before_with_the_same_result() -> None:
    """Since something was written, within ten minutes, and among the last sixteen."""
    first, second = tool_call("a", "x"), tool_call("a", "x", at_ms=2000)
    other, write = tool_call("b", "y", at_ms=1000), tool_call("c", "ok", at_ms=1000, writes=True)
    assert told(first, other, second) == (1, 1)
    assert told(first, write, second) == (0, 0)
    assert told(first, tool_call("c", "no", at_ms=1000, writes=True, status="error"), second) == (1, 1)
    assert told(first, other, tool_call("a", "z", at_ms=2000)) == (0, 0)
    assert told(tool_call("a", None), other, tool_call("a", None, at_ms=2000)) == (1, 0)
    assert told(first, tool_call("b", "y", at_ms=11 * MINUTE_MS), tool_call("a", "x", at_ms=11 * MINUTE_MS + 1)) == (
        0,
        0,
    )
    many = [tool_call(f"m{n}", f"m{n}", at_ms=10 + n * 1000) for n in range(STEPS)]
    assert told(first, *many, tool_call("a", "x", at_ms=30_000)) == (0, 0)


def test_spend_is_known_of_each_of_the_last_steps_and_of_a_row_of_any_length() -> None:
    """Within ten micro-dollars a step, and at most $167 of each."""
    history = CallHistory()
    for n in range(40):
        history.tool(tool_call("a", at_ms=n * 1000), None, 1_000_000 * n)
    assert history.tools.spent_in_row == 39_000_000
    assert history.tools.spent_since(3) == 3_000_000
    assert history.tools.spent_since(99) == STEPS * 1_000_000
    history.tool(tool_call("b", at_ms=50_000), None, 10**12)
    assert history.tools.spent_since(1) == 0xFFFFFF * 10_000
