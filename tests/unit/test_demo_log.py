"""The demo's usage log holds what SOURCES.md promises, counted again here without the code that built it."""

import gzip
import hashlib
import json
import re
import tomllib
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from genai_prices import Usage, calc_price

from infra.demo.log.build import build
from models.rules.policy import read_policy_toml
from schemas.usage import UsageMessage

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "infra" / "demo"
DATA = ROOT.parent / "shared" / "data"
HOUR_MS = 3_600_000
BASELINE_HOURS = 7 * 24
USD = 10**9

Event = dict[str, Any]


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return gzip.decompress((DEMO / "usage.jsonl.gz").read_bytes()).splitlines()


@pytest.fixture(scope="module")
def events(lines: list[bytes]) -> list[Event]:
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def runs(events: list[Event]) -> dict[str, list[Event]]:
    by_run: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_run[event["run_id"]].append(event)
    return by_run


@pytest.fixture(scope="module")
def incidents() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEMO / "incidents.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def policy() -> dict[str, Any]:
    return tomllib.loads((DEMO / "policy.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hours(events: list[Event]) -> dict[str, Counter[int]]:
    """Tenant -> hour since the epoch -> nano-dollars."""
    spend: dict[str, Counter[int]] = defaultdict(Counter)
    for event in events:
        spend[event["tenant_id"]][event["ts_ms"] // HOUR_MS] += event.get("cost_nanousd", 0)
    return spend


def rolling_median(spend: Counter[int], hour: int) -> tuple[int, float]:
    """How many of the 168 hours before were active, and the median of those."""
    active = [spend[earlier] for earlier in range(hour - BASELINE_HOURS, hour) if spend[earlier] > 0]
    return len(active), float(np.median(active)) if active else 0.0


def longest_repeat(run: list[Event]) -> int:
    """Most calls in a row with the same tool, arguments and known result."""
    calls = [(e["tool"], e["args_hash"], e.get("result_hash")) for e in run if e["type"] == "tool_call"]
    best = length = 1
    for before, call in pairwise(calls):
        length = length + 1 if call == before and call[2] is not None else 1
        best = max(best, length)
    return best


def spend_of(run: list[Event]) -> int:
    return sum(event.get("cost_nanousd", 0) for event in run)


def test_size_is_fit_for_a_repository(lines: list[bytes], incidents: dict[str, Any]) -> None:
    """Between 20,000 and 40,000 messages in less than 1.5 MB."""
    assert 20_000 <= len(lines) <= 40_000
    assert len(lines) == incidents["messages"]
    assert (DEMO / "usage.jsonl.gz").stat().st_size < 1_500_000


def test_every_line_is_a_usage_message(lines: list[bytes]) -> None:
    """Each line decodes by the published schema, and no known field is lost on the way."""
    decoder = msgspec.json.Decoder(UsageMessage)
    for line in lines:
        assert msgspec.json.encode(decoder.decode(line)) == line


def test_policy_is_valid(incidents: dict[str, Any]) -> None:
    """The service accepts the demo's policy, and has every rule that an incident is meant to set off."""
    rules = read_policy_toml((DEMO / "policy.toml").read_text(encoding="utf-8")).rules
    named = {one["rule"] for kind in ("planted", "natural") for one in incidents[kind].values()}
    assert named <= rules.keys()


def test_order_and_ids(events: list[Event]) -> None:
    """Sorted by time, and every event id once."""
    times = [event["ts_ms"] for event in events]
    assert times == sorted(times)
    assert len({event["event_id"] for event in events}) == len(events)


def test_span_is_seven_days_and_today(events: list[Event], incidents: dict[str, Any]) -> None:
    """A week of history, then today, as the sidecar says."""
    start, today = incidents["history_start_ms"], incidents["today_start_ms"]
    assert today - start == BASELINE_HOURS * HOUR_MS
    assert start <= events[0]["ts_ms"] < start + HOUR_MS
    assert events[-1]["ts_ms"] == incidents["end_ms"] < today + 24 * HOUR_MS


def test_no_text(events: list[Event]) -> None:
    """Values are names, hashes and numbers: nothing longer than 128 characters, nothing with a space in it."""
    for event in events:
        for name, value in [*event.items(), *event.get("tags", {}).items()]:
            if isinstance(value, str):
                assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", value), (name, value)
            if name.endswith("_hash"):
                assert re.fullmatch(r"[0-9a-f]{12}", value), (name, value)


def test_runs_are_whole(runs: dict[str, list[Event]]) -> None:
    """Each run starts with its attribution, counts its messages from 1 without a gap, and ends once."""
    for run_id, run in runs.items():
        assert [event["seq"] for event in run] == list(range(1, len(run) + 1)), run_id
        assert run[0]["type"] == "run_started", run_id
        assert {"workflow", "owner", "environment", "agent", "prompt_version"} <= run[0].keys(), run_id
        assert Counter(event["type"] for event in run)["run_finished"] == 1, run_id
        assert any(event["type"] == "llm_call" for event in run), run_id
        assert len({event["tenant_id"] for event in run}) == 1, run_id


def test_a_tenth_of_the_calls_has_no_price(events: list[Event]) -> None:
    """About 10 % of the model calls leave the price to the reader, all for a model that genai-prices knows."""
    calls = [event for event in events if event["type"] == "llm_call"]
    unpriced = [event for event in calls if "cost_nanousd" not in event]
    assert 0.05 <= len(unpriced) / len(calls) <= 0.15
    for model, provider in {(event["model"], event["provider"]) for event in unpriced}:
        price = calc_price(Usage(input_tokens=1_000, output_tokens=100), model_ref=model, provider_id=provider)
        assert price.total_price > 0


def test_model_calls_are_distinguishable(events: list[Event]) -> None:
    """No prompt hash occurs twice: nothing in the log was re-sent."""
    hashes = [event["prompt_hash"] for event in events if event["type"] == "llm_call"]
    assert len(set(hashes)) == len(hashes)


def test_loop(runs: dict[str, list[Event]], incidents: dict[str, Any], policy: dict[str, Any]) -> None:
    """The docs agent makes the same call with the same result for over 200 steps, on a context that only grows."""
    planted = incidents["planted"]["loop"]
    run = runs[planted["run_id"]]
    assert longest_repeat(run) == planted["identical_calls"] > 200
    assert spend_of(run) == planted["cost_nanousd_if_nobody_stops_it"]
    assert planted["rule"] in {rule["name"] for rule in policy["repeat"]}
    looping_from = next(k for k, event in enumerate(run) if event["type"] == "tool_call")
    sizes = [event["input_tokens"] for event in run[looping_from:] if event["type"] == "llm_call"]
    assert all(later > earlier for earlier, later in pairwise(sizes))


def test_loop_is_the_repeat_rule_s_business_alone(
    runs: dict[str, list[Event]], incidents: dict[str, Any], policy: dict[str, Any]
) -> None:
    """Left alone it stays below the cap of a run: the money rules would never have stopped it."""
    assert spend_of(runs[incidents["planted"]["loop"]["run_id"]]) < policy["cap"][0]["limit_usd"] * USD


def test_budget_hour(events: list[Event], incidents: dict[str, Any], policy: dict[str, Any]) -> None:
    """The hour of acme reaches 50, 80 and 100 % minutes apart, also with the runaway in it stopped at its cap."""
    planted, runaway = incidents["planted"]["budget"], incidents["natural"]["runaway"]["run_id"]
    budget = next(rule for rule in policy["budget"] if rule["name"] == planted["rule"])
    cap = policy["cap"][0]["limit_usd"] * USD
    marks = [share * budget["limit_usd"] * USD for share in budget["thresholds"]]
    total = of_runaway = 0
    crossed: list[int] = []
    for event in events:
        if event["run_id"] == runaway:
            if of_runaway >= cap:
                continue
            of_runaway += event.get("cost_nanousd", 0)
        in_window = planted["window_start_ms"] <= event["ts_ms"] < planted["window_end_ms"]
        if in_window and event["tenant_id"] == planted["tenant_id"]:
            total += event.get("cost_nanousd", 0)
            crossed += [event["ts_ms"]] * sum(total >= mark for mark in marks[len(crossed) :])
    assert len(crossed) == len(marks) == 3
    assert all(later - earlier > 3 * 60_000 for earlier, later in pairwise(crossed))


def test_spike_hour(hours: dict[str, Counter[int]], incidents: dict[str, Any], policy: dict[str, Any]) -> None:
    """The hour of globex costs well over the policy's multiple of its median, yet less than half of its budget."""
    planted, rule = incidents["planted"]["spike"], policy["spend_anomaly"][0]
    spend, hour = hours[planted["tenant_id"]], planted["window_start_ms"] // HOUR_MS
    active, median = rolling_median(spend, hour)
    assert active >= rule["min_active_hours"]
    assert spend[hour] > 1.5 * rule["multiplier"] * median
    assert rule["min_usd"] * USD < spend[hour] < 0.5 * policy["budget"][0]["limit_usd"] * USD


def test_every_other_hour_is_normal(
    hours: dict[str, Counter[int]], incidents: dict[str, Any], policy: dict[str, Any]
) -> None:
    """No other hour reaches a budget threshold or the anomaly limit, even with the loop and the runaway going on."""
    over_budget, spike = (
        (incidents["planted"][name]["tenant_id"], incidents["planted"][name]["window_start_ms"] // HOUR_MS)
        for name in ("budget", "spike")
    )
    rule, budget = policy["spend_anomaly"][0], policy["budget"][0]
    first_threshold = budget["thresholds"][0] * budget["limit_usd"] * USD
    for tenant, spend in hours.items():
        for hour, cost in list(spend.items()):
            active, median = rolling_median(spend, hour)
            unusual = active >= rule["min_active_hours"] and cost > rule["multiplier"] * median
            assert (unusual and cost >= rule["min_usd"] * USD) == ((tenant, hour) == spike), (tenant, hour)
            assert (cost >= first_threshold) == ((tenant, hour) == over_budget), (tenant, hour)


def test_runs_over_the_cap_are_those_named(
    runs: dict[str, list[Event]], incidents: dict[str, Any], policy: dict[str, Any]
) -> None:
    """One real run costs more than the cap; all others stay below it."""
    cap = policy["cap"][0]["limit_usd"] * USD
    named = incidents["natural"]["runaway"]
    assert {run_id for run_id, run in runs.items() if spend_of(run) >= cap} == {named["run_id"]}
    assert spend_of(runs[named["run_id"]]) == named["cost_nanousd"]


def test_no_real_run_repeats_to_the_level_of_a_page(runs: dict[str, list[Event]], incidents: dict[str, Any]) -> None:
    """Five times the same call and result happens in the planted loop only."""
    loop = incidents["planted"]["loop"]["run_id"]
    assert {run_id for run_id, run in runs.items() if longest_repeat(run) >= 5} == {loop}


def test_circling_run(runs: dict[str, list[Event]], incidents: dict[str, Any]) -> None:
    """The named real run ends in five calls going round, with the same results each time; no other real run does."""
    loop, named = incidents["planted"]["loop"]["run_id"], incidents["natural"]["circling"]["run_id"]
    assert {run_id for run_id, run in runs.items() if run_id != loop and goes_round(run)} == {named}


def goes_round(run: list[Event]) -> bool:
    """Whether 2 to 8 calls came round again with their results, for two more periods and at least 4 calls."""
    calls = [(e["tool"], e["args_hash"], e.get("result_hash")) for e in run if e["type"] == "tool_call"]
    for period in range(2, 9):
        matches = 0
        for before, call in zip(calls, calls[period:], strict=False):
            matches = matches + 1 if call == before and call[2] is not None else 0
            if matches >= max(4, 2 * period):
                return True
    return False


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real runs are not here: {DATA}")
def test_the_builder_still_makes_this_log(lines: list[bytes], incidents: dict[str, Any]) -> None:
    """From the same sources come the same messages, so that the shipped file is never edited by hand."""
    messages, facts = build(DATA)
    built = hashlib.sha256(b"\n".join(msgspec.json.encode(message) for message in messages))
    assert built.hexdigest() == hashlib.sha256(b"\n".join(lines)).hexdigest()
    assert facts == incidents
