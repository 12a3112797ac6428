"""A run's call history: counts in a row, periods, re-sends, and that it survives being written down."""

import random
from itertools import pairwise
from typing import Any, Literal

import msgspec
import pytest

from models.state.call_history import LONGEST_PERIOD, STEPS, CallHistory
from schemas.usage import LlmCall, ToolCall


def tool_call(
    args: str | None,
    result: str | None = "same",
    *,
    tool: str = "read",
    status: Literal["ok", "error", "cancelled"] = "ok",
) -> ToolCall:
    return ToolCall(
        event_id="e", ts_ms=0, tenant_id="t", run_id="r", tool=tool, args_hash=args, result_hash=result, status=status
    )


def model_call(ts_ms: int, **fields: Any) -> LlmCall:
    return LlmCall(event_id="e", ts_ms=ts_ms, tenant_id="t", run_id="r", **{"model": "gpt-5", **fields})


def after_tools(*steps: tuple[str | None, str | None]) -> CallHistory:
    history = CallHistory()
    for args, result in steps:
        history.tool(tool_call(args, result))
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
    history = after_tools(*steps)
    assert (history.same_call, history.alike, history.verified) == (same_call, alike, verified)


def test_the_same_arguments_to_another_tool_are_another_call() -> None:
    """A signature is tool and arguments."""
    history = CallHistory()
    history.tool(tool_call("a", tool="read"))
    history.tool(tool_call("a", tool="write"))
    assert history.same_call == 1


def test_model_calls_do_not_interrupt_a_loop_of_tool_calls() -> None:
    """An agent asks its model before every tool call, with a longer context each time."""
    history = CallHistory()
    for turn in range(5):
        history.model(model_call(turn * 1000, input_tokens=1000 + turn))
        history.tool(tool_call("a"))
    assert history.verified == 5


def test_matches_equal_a_count_by_hand_on_random_walks() -> None:
    """Over any sequence, the counters per period say what comparing the whole history says."""
    for seed in range(60):
        rng = random.Random(seed)
        steps = [(rng.choice("abc"), rng.choice(["1", "1", "1", "2", None])) for _ in range(80)]
        history = CallHistory()
        for length in range(1, len(steps) + 1):
            history.tool(tool_call(*steps[length - 1]))
            for period in range(1, LONGEST_PERIOD + 1):
                expected = matches_by_hand(steps[:length], period)
                assert history.matches(period) == expected, f"seed {seed}, step {length}, period {period}"


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
    assert history.distinct(6) == 2
    assert history.distinct(7) == 3


def test_failed_calls_are_counted_apart_for_tools_and_models() -> None:
    """A model that answers between two failed tool calls is no sign that the tool works again; cancelled is neither."""
    history = CallHistory()
    for turn in range(3):
        history.tool(tool_call(str(turn), status="error"))
        history.model(model_call(turn, input_tokens=turn + 1))
    history.tool(tool_call("x", status="cancelled"))
    assert (history.failed_tools, history.failed_models) == (3, 0)
    history.tool(tool_call("y"))
    assert history.failed_tools == 0


def after_models(*calls: LlmCall) -> CallHistory:
    history = CallHistory()
    for call in calls:
        history.model(call)
    return history


def test_a_prompt_hash_with_rising_input_is_a_template_not_a_resend() -> None:
    """The same prompt has the same number of tokens; where they differ the hash is of something else."""
    history = after_models(*[model_call(n * 1000, prompt_hash="p", input_tokens=100 * n + 100) for n in range(6)])
    assert history.resends == 1


def test_a_failed_call_without_token_counts_still_is_the_same_prompt() -> None:
    """Providers report no usage for a failed call; 0 tokens contradict nothing, before or after."""
    tokens = [900, 0, 0, 900, 0]
    calls = [
        model_call(n * 1000, prompt_hash="p", input_tokens=count, status="ok" if count else "error")
        for n, count in enumerate(tokens)
    ]
    assert after_models(*calls).sure_resends == 5


def test_calls_without_prompt_hash_and_tokens_are_not_known_to_be_the_same() -> None:
    """Nothing known equals nothing, except what `attempt` says."""
    assert after_models(*[model_call(n * 1000) for n in range(6)]).resends == 1
    assert after_models(model_call(0, attempt=4)).sure_resends == 4


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
    assert after_models(*calls[:5]).resends == 1
    assert after_models(*calls).resends == 2


def test_calls_of_one_size_are_sure_only_around_failures() -> None:
    """Without a prompt hash, equal sizes are no proof; a failure between them is."""
    ok = [model_call(n * 1000, input_tokens=700, output_tokens=5) for n in range(4)]
    assert (after_models(*ok).resends, after_models(*ok).sure_resends) == (4, 1)
    failed = [model_call(n * 1000, input_tokens=700, status="error") for n in range(4)]
    assert after_models(*failed).sure_resends == 4


def test_calls_of_one_size_with_other_answers_or_tools_between_are_other_prompts() -> None:
    """Equal sizes happen in batches; answers of different length and tool calls in between show it."""
    assert after_models(*[model_call(n, input_tokens=700, output_tokens=n) for n in range(1, 6)]).resends == 1
    history = CallHistory()
    for turn in range(5):
        history.model(model_call(turn * 1000, input_tokens=700, status="error"))
        history.tool(tool_call(str(turn)))
    assert history.resends == 1


def test_answers_from_a_semantic_cache_leave_no_trace() -> None:
    """They are not sent, not charged, and no proof that the provider works."""
    history = after_models(*[model_call(n, prompt_hash="p", cache_hit=True) for n in range(6)])
    assert history.to_row() == CallHistory().to_row()


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
    status = rng.choice(["ok", "ok", "error", "cancelled"])
    if rng.random() < 0.6:
        return tool_call(rng.choice(["a", "b", None]), rng.choice(["1", None]), tool="r\0d", status=status)
    return model_call(at * 1000, prompt_hash=rng.choice(["p", None]), input_tokens=rng.choice([0, 7]), status=status)


def test_memory_is_bounded() -> None:
    """A run of any length keeps `STEPS` steps and no more."""
    history = CallHistory()
    sizes = []
    for step in range(1000):
        history.tool(tool_call(f"{step % 5}"))
        sizes.append(len(msgspec.msgpack.encode(history.to_row())))
    assert max(sizes) < 400
    assert all(after >= before for before, after in pairwise(sizes[:STEPS]))
