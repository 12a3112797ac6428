"""What a run's contexts know: how large they are and were, what was sent before, how often they were cut."""

from typing import Any

import pytest

from models.state.rows import row_value
from models.state.units.context import NEAR, Context
from models.state.units.runs import MOST_CONTEXTS, Run
from schemas.usage import LlmCall
from tests.support.messages import MONDAY_MS, llm_call

NEVER = 1 << 62


def sent(run: Run, *sizes: int, tools: int = 0, **fields: Any) -> Context:
    """The context of so large calls, one after the other, as the engine keeps it."""
    for tokens in sizes:
        run.tool_calls += tools
        take(run, llm_call(MONDAY_MS, **{"input_tokens": tokens, "cost_nanousd": tokens, **fields}))
    assert run.context is not None
    run.settle()
    return run.context


def take(run: Run, call: LlmCall) -> bool:
    """One call; returns whether rules would look."""
    context = run.context
    if context is None or (context.model, context.agent) != (call.model, call.agent):
        context = run.turn_to(call, (NEVER, NEVER))
    context.cache_read_tokens += call.cache_read_tokens
    looks = False
    if context.tokens < call.input_tokens < context.input_trip and not call.context_reload:
        context.tokens = call.input_tokens
    else:
        looks = context.add(call, run.calls, run.tool_calls)
        context.set_trips(NEVER, NEVER)
    run.calls += 1
    run.input_tokens += call.input_tokens
    run.cost_nanousd += call.cost_nanousd or 0
    return looks


def run() -> Run:
    return Run("acme", "r", MONDAY_MS)


def test_what_a_context_has_not_grown_by_was_sent_before() -> None:
    """Of 10, 20 and 40 thousand tokens 40 were new and 30 were not. Of what is left after a fall nothing is new."""
    context = sent(run(), 10_000, 20_000, 40_000)
    assert (context.first, context.tokens, context.resent_tokens()) == (10_000, 40_000, 30_000)
    one = run()
    context = sent(one, 10_000, 40_000, 12_000, 15_000)
    assert (context.most_tokens(), context.resent_tokens()) == (40_000, 10_000 + 12_000 + 12_000)


def test_calls_that_sent_nothing_change_no_size() -> None:
    """A call that failed before anything was counted is no compaction."""
    context = sent(run(), 40_000, 0, 50_000)
    assert (context.tokens, context.rebuilds) == (50_000, None)


def test_falls_to_half_are_compactions_and_smaller_ones_are_not() -> None:
    """Those of small contexts are not followed: they cost too little."""
    assert sent(run(), 15_000, 100).rebuilds is None
    context = sent(run(), 40_000, 21_000)
    assert context.rebuilds is not None
    assert context.rebuilds.compactions == 0
    context = sent(run(), 40_000, 20_000, 60_000, 5_000, cache_read_tokens=1_000)
    assert context.rebuilds is not None
    assert context.rebuilds.compactions == 2


@pytest.mark.parametrize(("calls", "in_a_row"), [(NEAR, 2), (NEAR + 1, 1)])
def test_soon_full_again_means_within_so_many_calls(calls: int, in_a_row: int) -> None:
    """A context that takes longer than that to fill is at work."""
    one = run()
    context = sent(one, 100_000, 20_000, 80_000, cache_read_tokens=1_000)
    sent(one, 20_000, *range(21_000, 21_000 + calls - 2), 80_000, 90_000)
    assert context.rebuilds is not None
    assert (context.rebuilds.compactions, context.rebuilds.in_a_row) == (2, in_a_row)
    assert context.rebuilds.most_in_a_row == max(1, in_a_row)


def test_what_fills_a_context_again_soon_was_sent_before() -> None:
    """Not the first time: it may be new work. The second time it is the same again."""
    one = run()
    context = sent(one, 100_000, 20_000, 90_000, cache_read_tokens=1_000)
    assert context.resent_tokens() == 20_000 + 20_000
    sent(one, 20_000, 90_000, cache_read_tokens=1_000)
    assert context.resent_tokens() == 20_000 + 20_000 + 20_000 + 90_000


def test_who_does_not_say_who_it_is_cuts_nothing() -> None:
    """A sub-agent's calls in between, after which the large context comes back from its cache."""
    one = run()
    context = sent(one, 100_000, cache_read_tokens=90_000)
    sent(one, 5_000, 9_000)
    sent(one, 101_000, cache_read_tokens=99_000)
    assert context.rebuilds is not None
    assert (context.rebuilds.compactions, context.rebuilds.in_a_row) == (0, 0)
    assert context.resent_tokens() == 100_000 + 5_000 + 5_000  # new: 100, then 4 of the sub-agent's, then 1 thousand


def test_without_a_cache_it_counts_that_it_has_not_grown() -> None:
    """Nobody can say whether it was thrown away in between; each time it is sent at full price."""
    context = sent(run(), *[100_000, 20_000] * 8, 100_000)
    assert context.rebuilds is not None
    assert (context.rebuilds.compactions, context.rebuilds.in_a_row, context.rebuilds.still) == (0, 0, 8)
    context = sent(run(), *[tokens for step in range(8) for tokens in (100_000 + 500 * step, 20_000)])
    assert context.rebuilds is not None
    assert context.rebuilds.still == 0


def test_who_says_who_it_is_has_a_context_of_its_own() -> None:
    """Agents and models apart: each has its own start."""
    one = run()
    main = sent(one, 50_000, agent="main")
    helper = sent(one, 3_000, agent="helper")
    title = sent(one, 200, agent="main", model="small")
    assert sent(one, 60_000, agent="main") is main
    assert [context.first for context in (main, helper, title)] == [50_000, 3_000, 200]
    assert main.rebuilds is None
    assert set(one.contexts()) == {main, helper, title}


def test_a_context_stays_as_large_as_it_was_within_a_tenth() -> None:
    """What grows beyond that starts anew; tools in between are counted."""
    one = run()
    context = sent(one, 100_000, *[95_000, 105_000] * 4, tools=1)
    assert context.rebuilds is not None
    assert (context.rebuilds.still, context.rebuilds.tools_between) == (4, 6)
    sent(one, 150_000, 149_000)
    assert (context.rebuilds.still, context.rebuilds.most_still) == (1, 4)


def test_the_model_of_a_run_is_where_most_of_its_cost_went() -> None:
    """So far: it may be another one later. Of several contexts with one model the dearest stands for it."""
    one = run()
    assert one.main_model() is None
    sent(one, 100, model="small")
    assert one.main_model() == "small"
    sent(one, 40, model="big", agent="a")
    dearest = sent(one, 70, model="big", agent="b")
    assert one.main_model() == "big"
    assert one.dearest_contexts()["big"] is dearest


def test_so_many_contexts_are_followed_and_the_cheapest_goes() -> None:
    """However many agents a run starts."""
    one = run()
    sent(one, 50_000, agent="main")
    for number in range(100):
        sent(one, 1_000 + number, agent=f"helper {number}")
    assert len(one.contexts()) == MOST_CONTEXTS + 1
    assert "main" in [context.agent for context in one.contexts()]


def test_a_row_gives_back_what_was_known() -> None:
    """Of a run that is awake; one that sleeps forgets its contexts and begins anew."""
    one = run()
    sent(one, 100_000, 99_000, 20_000, 80_000, agent="main")
    sent(one, 500, model="small")
    read = Run.read("acme", "r", row_value(one))
    assert read.fields() == one.fields()
    one.asleep = True
    assert Run.read("acme", "r", row_value(one)).contexts() == ()
