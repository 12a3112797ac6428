"""Our figures beside a provider's, by hand: what agrees, what differs, what is not known, and how it is told."""

from typing import Any

import msgspec

from schemas.policy import PolicyHeader
from schemas.usage import UsageMessage
from streams.reconcile.compare import DayDifference, Line, compare
from streams.reconcile.config import Console
from streams.reconcile.days import Days, end_of
from streams.reconcile.ours import Counted
from streams.reconcile.sources.report import Cell, Fetched, Row
from streams.reconcile.telling import as_data, as_text
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, USD, llm_call, run_started

MON, TUE, WED = "2026-11-23", "2026-11-24", "2026-11-25"
DAYS = Days(MONDAY_MS, MONDAY_MS + 3 * DAY_MS)
LATER_MS = end_of(WED) + DAY_MS
OPUS = "claude-opus-4-5"


def console(**fields: Any) -> Console:
    """Anthropic's, with floors that hide nothing."""
    given: dict[str, Any] = {
        "name": "main",
        "source": "anthropic",
        "secret_env": "X",
        "floor_usd": 0,
        "floor_tokens": 0,
    }
    return Console.model_validate(given | fields)


def ours(at: Console, *messages: tuple[UsageMessage, int] | UsageMessage) -> Counted:
    """Messages as they are counted; each appended when it happened, unless another time is given with it."""
    counted = Counted([at], PolicyHeader(), DAYS)
    for one in messages:
        message, append_ms = one if isinstance(one, tuple) else (one, one.ts_ms)
        counted.add(message, append_ms)
    return counted


def call(day: int = 0, *, read: int = 1000, written: int = 100, usd: float = 1, **fields: Any) -> Any:
    """A call of Claude on that day, at noon."""
    defaults: dict[str, Any] = {"provider": "anthropic", "model": OPUS, "run_id": "r1"}
    given = defaults | {"input_tokens": read, "output_tokens": written} | fields
    return llm_call(given.pop("ts_ms", MONDAY_MS + day * DAY_MS + 12 * HOUR_MS), usd=usd, **given)


def used(*rows: tuple[str, str | None, str | None, int, int], days: tuple[str, ...] = (MON, TUE, WED)) -> Fetched:
    """A usage report: day, key, model, input, output."""
    return Fetched(
        report="usage", by_key=True, days=frozenset(days),
        rows={
            Cell(day, key, model): Row({"uncached_input_tokens": read, "output_tokens": written}, None)
            for day, key, model, read, written in rows
        },
    )  # fmt: skip


def billed(*rows: tuple[str, str | None, str, int], by_model: bool = True) -> Fetched:
    """A cost report: day, model, item, nano-dollars."""
    return Fetched(
        report="cost", by_model=by_model, days=frozenset((MON, TUE, WED)),
        rows={Cell(day, None, model, item): Row({}, nanousd) for day, model, item, nanousd in rows},
    )  # fmt: skip


def compared(
    at: Console, counted: Counted, *reports: Fetched, now_ms: int = LATER_MS, kept_since_ms: int = 0
) -> dict[tuple[str, str], DayDifference]:
    """By day and report."""
    found = compare(at, reports, counted, DAYS, now_ms, kept_since_ms)
    return {(one.day, one.report): one for one in found}


def told(one: DayDifference) -> list[tuple[str, str, str, int | None, int | None]]:
    """What is told, as it stands."""
    return [(line.key, line.model, line.measure, line.ours, line.theirs) for line in one.told]


def test_a_day_counted_by_hand_agrees() -> None:
    """Two calls of 1,000 and 2,000 tokens in, 100 out each, under one model with and without its date: 3,000 and 200;
    and 3 dollars.
    """
    counted = ours(console(), call(), call(read=2000, usd=2, model=f"{OPUS}-20251101"))
    found = compared(
        console(), counted, used((MON, "k", f"{OPUS}-20251101", 3000, 200)), billed((MON, OPUS, "out", 3 * USD))
    )
    usage, money = found[MON, "usage"], found[MON, "cost"]
    assert (usage.standing, money.standing) == ("agrees", "agrees")
    assert {(line.measure, line.ours, line.theirs) for line in (*usage.lines, *money.lines)} == {
        ("input tokens", 3000, 3000), ("cached tokens", 0, 0), ("output tokens", 200, 200), ("usd", 3 * USD, 3 * USD),
    }  # fmt: skip
    assert found[TUE, "usage"].standing == "nothing"


def test_tokens_and_money_are_told_apart() -> None:
    """A price that is wrong shows in the money alone, tokens that are missing in the tokens alone."""
    counted = ours(console(), call(read=1000, usd=1))
    found = compared(console(), counted, used((MON, None, OPUS, 1000, 100)), billed((MON, OPUS, "x", 2 * USD)))
    assert found[MON, "usage"].standing == "agrees"
    assert told(found[MON, "cost"]) == [("all", OPUS, "usd", USD, 2 * USD)]
    assert found[MON, "cost"].told_share == 0.5
    found = compared(console(), counted, used((MON, None, OPUS, 1500, 100)), billed((MON, OPUS, "x", USD)))
    assert told(found[MON, "usage"]) == [("all", OPUS, "input tokens", 1000, 1500)]
    assert found[MON, "cost"].standing == "agrees"


def test_differences_that_cancel_each_other_out_are_told() -> None:
    """Of two models one has too much and one too little: the day's sums agree, and both are told."""
    counted = ours(console(), call(read=1000), call(read=2000, model="claude-haiku-4-5"))
    found = compared(console(), counted, used((MON, None, OPUS, 2000, 100), (MON, None, "claude-haiku-4-5", 1000, 100)))
    assert found[MON, "usage"].standing == "differs"
    assert found[MON, "usage"].told_share == 0.5


def test_keys_are_told_apart_where_a_tag_holds_them() -> None:
    """A call's own tag goes before its run's; what has none stands by itself, as does what the provider gives no key.
    Costs that are not by key are compared all together.
    """
    at = console(key_tag="api_key")
    counted = ours(
        at,
        run_started(MONDAY_MS, run_id="r1", tags={"api_key": "k1"}),
        call(read=1), call(read=20, tags={"api_key": "k2"}), call(read=300, run_id="r2"),
    )  # fmt: skip
    usage = used((MON, "k1", OPUS, 1, 100), (MON, "k2", OPUS, 20, 100), (MON, None, OPUS, 300, 100))
    found = compared(at, counted, usage, billed((MON, OPUS, "x", 3 * USD)))
    assert {line[:4] for line in told(found[MON, "usage"]) if line[2] == "input tokens"} == {
        ("(no tag)", OPUS, "input tokens", 300), ("(no key)", OPUS, "input tokens", None),
    }  # fmt: skip
    assert found[MON, "cost"].standing == "agrees"
    assert compared(console(), counted, usage)[MON, "usage"].standing == "agrees", "without a tag, all keys together"


def test_each_event_counts_once_and_only_where_it_belongs() -> None:
    """Duplicates, answers from a cache, other days, other providers, other tenants and tools are not in it. A gateway's
    name before the model's and a model without a provider are whose they are.
    """
    at = console(tenant_id="acme")
    counted = ours(
        at,
        call(read=1, event_id="e1"), call(read=1, event_id="e1"), call(read=1, event_id="e1", tenant_id="globex"),
        call(read=20, provider="litellm", model=f"anthropic/{OPUS}"), call(read=300, provider=None),
        call(read=7, cache_hit=True), call(read=7, provider="openai", model="gpt-5"),
        call(read=7, provider="openrouter", model=f"anthropic/{OPUS}"), call(read=7, ts_ms=MONDAY_MS - 1),
        call(read=7, ts_ms=MONDAY_MS + 3 * DAY_MS),
    )  # fmt: skip
    sums = {place: (one.calls, one.input_tokens) for place, one in counted.sums.items()}
    assert sums == {("main", MON, None, OPUS): (4, 321)}


def test_the_first_and_last_moment_of_a_day_are_of_it() -> None:
    """Days are cut at midnight UTC."""
    counted = ours(console(), call(ts_ms=MONDAY_MS), call(ts_ms=MONDAY_MS + DAY_MS - 1), call(ts_ms=MONDAY_MS + DAY_MS))
    assert {place.day: one.calls for place, one in counted.sums.items()} == {MON: 2, TUE: 1}


def test_what_came_too_late_is_in_no_figure_unless_it_was_booked() -> None:
    """As the engine counts. How much that is stands beside the day."""
    late = call(read=5, usd=5)
    counted = ours(console(), call(), (late, late.ts_ms + DAY_MS + 1), (call(read=7, backfill=True), LATER_MS))
    assert [one.input_tokens for one in counted.sums.values()] == [1007]
    found = compared(console(), counted, used((MON, None, OPUS, 1007, 200)))[MON, "usage"]
    assert found.standing == "agrees"
    assert found.too_late.cost_nanousd == 5 * USD
    assert "too late to count: 1 of our calls, $5.00" in as_text([found], [])


def test_a_producer_whose_clock_is_ahead_counts_when_it_was_heard() -> None:
    """As the engine counts: five minutes ahead of its append at most."""
    ahead = call(ts_ms=MONDAY_MS + DAY_MS + HOUR_MS)
    counted = ours(console(), (ahead, MONDAY_MS + DAY_MS - 6 * MINUTE_MS))
    assert [place.day for place in counted.sums] == [MON]


def test_priority_tier_is_in_anthropics_tokens_and_not_in_its_costs() -> None:
    """It is paid for in advance."""
    counted = ours(console(), call(), call(service_tier="priority", usd=9))
    found = compared(console(), counted, used((MON, None, OPUS, 2000, 200)), billed((MON, OPUS, "x", USD)))
    assert {one.standing for one in found.values()} == {"agrees", "nothing"}


def test_a_day_is_left_alone_until_its_lag_is_over() -> None:
    """A moment before nothing is said of it, whatever is there."""
    at = console(lag_hours=5)
    over_ms = end_of(TUE) + 5 * HOUR_MS
    for now_ms, days in ((over_ms - 1, {MON}), (over_ms, {MON, TUE})):
        assert {day for day, _ in compared(at, ours(at, call(1)), used((MON, None, OPUS, 1, 1)), now_ms=now_ms)} == days


def test_what_is_not_known_is_no_zero() -> None:
    """A report that was not had, a day it does not speak of, and days that usage.v1 does not hold any more."""
    at = console()
    counted = ours(at, call(), call(1))
    failed = Fetched(report="cost", fault="it was answered with 500")
    found = compared(at, counted, used((MON, None, OPUS, 1000, 100), days=(MON,)), failed)
    assert [found[day, "usage"].standing for day in (MON, TUE, WED)] == ["agrees", "not known", "not known"]
    assert {found[day, "cost"].standing for day in (MON, TUE, WED)} == {"not known"}
    assert not found[TUE, "usage"].lines
    text = as_text(list(found.values()), [])
    assert "not known: it was answered with 500" in text
    assert "not known: the report does not speak of this day" in text
    found = compared(at, counted, used((MON, None, OPUS, 1, 1)), kept_since_ms=MONDAY_MS + 1)
    assert [found[day, "usage"].standing for day in (MON, TUE)] == ["not known", "only ours"]


def test_a_day_that_only_one_side_has_is_told_as_such() -> None:
    """Ours alone: the provider says the day was empty. Theirs alone: nobody reports to us."""
    found = compared(console(), ours(console(), call()), used((TUE, "k", OPUS, 500, 50)))
    assert (found[MON, "usage"].standing, found[TUE, "usage"].standing) == ("only ours", "only theirs")
    assert told(found[MON, "usage"]) == [
        ("all", OPUS, "input tokens", 1000, None), ("all", OPUS, "output tokens", 100, None),
    ]  # fmt: skip
    assert found[TUE, "usage"].told_share == 1


def test_what_a_provider_does_not_count_is_not_compared() -> None:
    """OpenAI says nothing of the cached tokens of embeddings: ours stand against nothing."""
    at = console(source="openai", providers=["anthropic"])
    report = Fetched(
        report="usage", days=frozenset((MON,)), rows={Cell(MON, None, OPUS): Row({"input_tokens": 1000}, None)}
    )
    found = compared(at, ours(at, call(written=0, cache_read_tokens=500)), report)[MON, "usage"]
    assert [line.measure for line in found.lines] == ["input tokens", "output tokens"]
    assert found.standing == "agrees"


def test_a_small_difference_is_not_told() -> None:
    """Neither what is below the share, nor what is below the floor; a bit more is."""
    at = console(tell_above=0.1, floor_tokens=150)
    for theirs, is_told in ((1100, False), (1112, False), (1149, False), (1151, True)):
        found = compared(at, ours(at, call(written=0)), used((MON, None, OPUS, theirs, 0)))
        assert bool(found[MON, "usage"].told) is is_told, theirs
    at = console(tell_above=0.1, floor_usd="0.5")
    for theirs, is_told in ((USD + 5 * 10**8, False), (USD + 5 * 10**8 + 1, True)):
        found = compared(at, ours(at, call(usd=1)), billed((MON, OPUS, "x", theirs)))
        assert bool(found[MON, "cost"].told) is is_told, theirs


def test_what_is_left_out_is_left_out_on_both_sides() -> None:
    """By model, with or without its date, and by what the bill calls it."""
    at = console(leave_out=["claude-haiku-*", "Code Execution*"])
    counted = ours(at, call(), call(model="claude-haiku-4-5", read=9))
    found = compared(
        at, counted, used((MON, None, OPUS, 1000, 100), (MON, None, "claude-haiku-4-5-20251001", 5, 5)),
        billed((MON, OPUS, "x", USD), (MON, None, "Code Execution Usage", 7 * USD)),
    )  # fmt: skip
    assert {found[MON, "usage"].standing, found[MON, "cost"].standing} == {"agrees"}


def test_a_bill_without_models_is_compared_as_a_whole() -> None:
    """Google's names articles: the day's money stands against all models of ours."""
    at = console(source="google", file="x", secret_env=None)
    counted = ours(
        at, call(provider="google", model="gemini-2.5-pro"), call(provider="vertex_ai", model="gemini-2.5-flash")
    )
    found = compared(at, counted, billed((MON, None, "Input", USD), (MON, None, "Output", USD), by_model=False))
    assert found[MON, "cost"].lines == (Line("all", "all", "usd", 2 * USD, 2 * USD, is_told=False),)


def test_the_text_is_a_table_and_the_data_have_everything() -> None:
    """The largest difference stands first, in figures as people read them; data hold integers."""
    counted = ours(console(), call(read=1000), call(model="claude-haiku-4-5", read=1000, usd=2))
    found = compared(
        console(), counted, used((MON, None, OPUS, 1200, 100)), billed((MON, OPUS, "x", USD), (MON, None, "Tools", USD))
    )
    text = as_text([found[MON, "usage"], found[MON, "cost"]], [])
    assert text.splitlines()[:4] == [
        "main  2026-11-23  usage  differs: 3 of 6 figures above the share and the floor",
        "    key  model                             ours  theirs  difference",
        "    all  claude-haiku-4-5  input tokens   1,000       -     +100.0%",
        "    all  claude-opus-4-5   input tokens   1,000   1,200      -16.7%",
    ]
    assert "all  Tools             usd      -   $1.00     -100.0%" in text
    data = msgspec.json.decode(msgspec.json.encode(as_data(found.values(), [])))
    (money,) = [day for day in data["days"] if (day["day"], day["report"]) == (MON, "cost")]
    assert [(one["model"], one["measure"], one["ours"], one["theirs"], one["told"]) for one in money["lines"]] == [
        ("Tools", "nanousd", None, USD, True),
        ("claude-haiku-4-5", "nanousd", 2 * USD, None, True),
        (OPUS, "nanousd", USD, USD, False),
    ]
