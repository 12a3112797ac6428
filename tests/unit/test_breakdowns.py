"""Hours broken down by model, owner, project and the rest: whatever is counted under a name is counted once."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.rows import MAX_INTEGER
from models.state.spend import breakdown
from models.stimuli import Ticked, UsageSeen
from schemas.codec import encode
from schemas.rollup import BREAKDOWNS, MOST_NAMES, OTHER, Rollup, Share
from schemas.usage import UNATTRIBUTED, LlmCall, UsageMessage
from tests.support import messages
from tests.support.histories import Changelog
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, USD

NINE_MS = MONDAY_MS + 9 * HOUR_MS
POLICY = 'version = "v1"\ninclude_defaults = false\n'
Figures = tuple[int, int, int, int]


def rollups(*usage: UsageMessage, policy: str = POLICY, restarts_every: int = 0) -> dict[str, Rollup]:
    """The last rollup of each key, a minute after the last message."""
    under = read_policy_toml(policy)
    engine, changelog = Engine(under), Changelog()
    effects = []
    for number, message in enumerate(usage, 1):
        engine.handle(UsageSeen(message, max(message.ts_ms, NINE_MS)))
        if restarts_every and number % restarts_every == 0:
            effects += engine.drain_effects()
            changelog.take(engine.drain_rows())
            engine = Engine(under)
            engine.restore(changelog.rows)
    engine.handle(Ticked(max(message.ts_ms for message in usage) + MINUTE_MS))
    effects += engine.drain_effects()
    return {effect.key: effect.value for effect in effects if isinstance(effect.value, Rollup)}


def figures(share: Share) -> Figures:
    """In the order of its fields."""
    return share.cost_nanousd, share.calls, share.input_tokens, share.output_tokens


def check_adds_up(rollup: Rollup) -> None:
    """The shares of every dimension are the hour's totals."""
    totals = (rollup.cost_nanousd, rollup.calls, rollup.input_tokens, rollup.output_tokens)
    for dimension, shares in rollup.by.items():
        sums = tuple(map(sum, zip(*map(figures, shares.values()), strict=True)))
        assert sums == totals, dimension


def recount(usage: list[UsageMessage], dimension: str) -> dict[str, Figures]:
    """Name -> what it has come to, by plain addition."""
    sums: dict[str, Counter[str]] = {}
    for one in usage:
        call = one if isinstance(one, LlmCall) else None
        name = call.model if call and dimension == "model" else getattr(one, dimension, None)
        counted = sums.setdefault(name or UNATTRIBUTED, Counter())
        counted.update(cost=getattr(one, "cost_nanousd", None) or 0, calls=call is not None)
        if call is not None:
            counted.update(input=call.input_tokens, output=call.output_tokens)
    return {name: (one["cost"], one["calls"], one["input"], one["output"]) for name, one in sums.items()}


def traffic(seed: int, count: int) -> list[UsageMessage]:
    """Model and tool calls of one workflow under all kinds of names, within an hour."""
    draw = Random(seed)
    made: list[UsageMessage] = []
    for number in range(count):
        names: dict[str, Any] = {
            dimension: draw.choice([None, *(f"{dimension}-{n}" for n in range(4))]) for dimension in BREAKDOWNS[1:]
        }
        names |= {"workflow": "docs", "run_id": f"run-{draw.randrange(7)}", "cost_nanousd": draw.randrange(USD)}
        at_ms = NINE_MS + number * 700
        if draw.random() < 0.3:
            made.append(messages.tool_call(at_ms, **names))
        else:
            made.append(messages.llm_call(at_ms, model=f"m-{draw.randrange(3)}", input_tokens=number, **names))
    return made


@pytest.mark.parametrize("seed", [1, 2])
def test_every_dimension_is_a_plain_recount(seed: int) -> None:
    """Names change from call to call, tools cost money, hours are folded every few seconds and the worker starts again:
    each name has exactly what was spent under it.
    """
    usage = traffic(seed, 300)
    [rollup] = rollups(*usage).values()
    check_adds_up(rollup)
    for dimension in BREAKDOWNS:
        expected = recount(usage, dimension)
        assert {name: figures(share) for name, share in rollup.by[dimension].items()} == expected, f"seed {seed}"
    restarted = rollups(*usage, restarts_every=17)
    assert list(map(encode, restarted.values())) == [encode(rollup)]


def test_the_spend_of_tools_has_no_model() -> None:
    """It stands under `unattributed`, so that models add up to the hour as well; calls of tools are no model calls."""
    call, tool = messages.llm_call(NINE_MS, usd=1, model="m"), messages.tool_call(NINE_MS + 1, cost_nanousd=USD)
    [rollup] = rollups(call, tool, messages.tool_call(NINE_MS + 2)).values()
    share = Share(cost_nanousd=USD, calls=1, input_tokens=1000, output_tokens=100)
    assert rollup.by["model"] == {"m": share, UNATTRIBUTED: Share(cost_nanousd=USD)}
    check_adds_up(rollup)


def test_names_that_a_run_or_the_policy_gave_count() -> None:
    """What `run_started` said holds for later calls, and `[[attribution]]` for what nobody said."""
    policy = POLICY + '[[attribution]]\nmatch = { workflow = "docs" }\nowner = "docs-team"\n'
    start = messages.run_started(NINE_MS, workflow="docs", project="p", prompt_version="v1")
    calls = [messages.llm_call(NINE_MS + number, usd=1) for number in (1, 2)]
    [rollup] = rollups(
        start, *calls, messages.llm_call(NINE_MS + 3, usd=1, prompt_version="v2"), policy=policy
    ).values()
    assert {name: share.calls for name, share in rollup.by["owner"].items()} == {"docs-team": 3}
    assert {name: share.calls for name, share in rollup.by["project"].items()} == {"p": 3}
    assert {name: share.calls for name, share in rollup.by["prompt_version"].items()} == {"v1": 2, "v2": 1}


def test_of_five_hundred_names_the_dearest_stand_by_themselves() -> None:
    """All others are one, nothing of their money is lost, and what has few names keeps each of them."""
    draw = Random(5)
    names = [f"feature-{number:03d}" for number in range(500)]
    draw.shuffle(names)
    usage = [
        messages.llm_call(
            NINE_MS + number * 20, usd=int(name[-3:]), feature=name, environment=f"e-{number % 2}", run_id=name
        )
        for number, name in enumerate(names)
    ]
    [rollup] = rollups(*usage, restarts_every=40).values()
    check_adds_up(rollup)
    shown = rollup.by["feature"]
    assert len(shown) == MOST_NAMES + 1
    assert list(shown)[:MOST_NAMES] == [f"feature-{number:03d}" for number in range(499, 449, -1)]
    assert shown[OTHER].calls == 450
    assert {name: share.calls for name, share in rollup.by["environment"].items()} == {"e-0": 250, "e-1": 250}


def test_more_attributions_than_have_numbers_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers begin anew then, also where the worker starts again."""
    monkeypatch.setattr("models.spend.hourly_totals.MOST_KNOWN", 5)
    usage = traffic(3, 120)
    [rollup] = rollups(*usage, restarts_every=7).values()
    check_adds_up(rollup)
    assert {name: figures(share) for name, share in rollup.by["agent"].items()} == recount(usage, "agent")


def test_a_name_that_is_called_other_is_counted_with_the_others() -> None:
    """It is not told from them."""
    usage = [messages.llm_call(NINE_MS + number, usd=60 - number, project=f"p{number}") for number in range(60)]
    [rollup] = rollups(*usage, messages.llm_call(NINE_MS + 99, usd=1000, project=OTHER)).values()
    assert rollup.by["project"][OTHER].calls == 11
    check_adds_up(rollup)


def test_what_is_booked_late_is_broken_down_beside_its_hour() -> None:
    """It adds up to what was booked."""
    late = messages.llm_call(NINE_MS - 3 * DAY_MS, usd=2, model="m", owner="ana", backfill=True)
    found = rollups(messages.llm_call(NINE_MS, usd=1, owner="bob"), late)
    [booked] = [rollup for rollup in found.values() if rollup.booked_hour_ms is not None]
    assert booked.by["owner"] == {"ana": Share(cost_nanousd=2 * USD, calls=1, input_tokens=1000, output_tokens=100)}
    for rollup in found.values():
        check_adds_up(rollup)


def test_an_hour_without_spend_has_no_breakdown() -> None:
    """It may have begun runs."""
    [rollup] = rollups(messages.run_started(NINE_MS, workflow="docs")).values()
    assert (rollup.runs_started, rollup.by) == (1, {})


def test_late_spend_of_an_hour_that_is_over_comes_into_its_breakdown() -> None:
    """As into its totals."""
    early = messages.llm_call(NINE_MS - 2 * HOUR_MS, usd=1, model="early")
    found = rollups(messages.llm_call(NINE_MS, usd=1, model="now"), early)
    models = {tuple(rollup.by["model"]) for rollup in found.values()}
    assert models == {("early",), ("now",)}


def test_sums_are_saturated_and_not_lost() -> None:
    """More money than a row can hold is as much as it can hold."""
    shares = breakdown.HourShares("acme", ("docs", "0"))
    portion = breakdown.Portion(("m",) * len(BREAKDOWNS), 0, breakdown.Span())
    portion.cost_nanousd = MAX_INTEGER - 1
    shares.add([portion, portion])
    assert shares.published()["model"]["m"].cost_nanousd == MAX_INTEGER


def test_rows_stay_small_however_many_names_there_are() -> None:
    """A second of calls that all differ writes rows in proportion to its calls."""
    engine = Engine(read_policy_toml(POLICY))
    sizes = []
    for number in range(400):
        at_ms = NINE_MS + number * SECOND_MS // 100
        call = messages.llm_call(at_ms, usd=1, feature=f"f{number}", agent=f"a{number}", run_id=f"r{number % 3}")
        engine.handle(UsageSeen(call, at_ms))
        sizes.append(sum(len(key) + len(value or b"") for key, value in engine.drain_rows()))
    assert max(sizes) < 16_000
    assert sum(sizes) / len(sizes) < 3_500
