"""What the bench measures with must itself be right: its events, its policies, its arithmetic."""

from collections import Counter

import pytest

from models.detectors.base import REGISTRY
from models.detectors.past.model_mix import ModelMix
from schemas.codec import decode_usage
from schemas.usage import LlmCall, RunFinished, RunStarted, ToolCall
from tests.bench.engine import POLICIES, read_bench_policy
from tests.bench.load import Shape, UsageLoad
from tests.bench.report import Figure, percentile

SHAPE = Shape(start_ms=1_798_761_600_000, rate_per_s=1_000, live_runs=300)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two machines measure on the same log."""
    first, second = UsageLoad(SHAPE), UsageLoad(SHAPE)
    assert [*first.opening(), *first.events(2_000)] == [*second.opening(), *second.events(2_000)]


def test_every_event_is_a_valid_usage_message_with_an_id_of_its_own() -> None:
    """Nothing ends as a dead letter or as a duplicate, which would cost less than a counted event."""
    load = UsageLoad(SHAPE)
    events = [*load.opening(), *load.events(20_000)]
    messages = [decode_usage(event.value) for event in events]
    assert len({message.event_id for message in messages}) == len(messages)
    assert all(message.tenant_id.encode() == event.key for message, event in zip(messages, events, strict=True))
    assert [message.ts_ms for message in messages] == [event.ts_ms for event in events]


def test_the_traffic_is_what_the_report_says() -> None:
    """Six model calls to four tool calls, runs that begin and end, about 450 bytes."""
    events = list(UsageLoad(SHAPE).events(20_000))
    kinds = Counter(type(decode_usage(event.value)) for event in events)
    assert 0.55 < kinds[LlmCall] / (kinds[LlmCall] + kinds[ToolCall]) < 0.65
    assert kinds[RunStarted] > 300
    assert kinds[RunFinished] > 0
    assert 400 < sum(len(event.value) for event in events) / len(events) < 500


def test_a_run_over_its_cap_carries_the_id_that_its_command_will_name() -> None:
    """The latency part finds the cause of a command by it."""
    message = decode_usage(UsageLoad(SHAPE).over_its_cap(7, 41 * 10**9, SHAPE.start_ms).value)
    assert (message.event_id, getattr(message, "cost_nanousd", None)) == ("cause-7", 41 * 10**9)


@pytest.mark.parametrize("name", POLICIES)
def test_every_detector_is_on_in_every_policy(name: str) -> None:
    """A figure for "all detectors" leaves none out, also not one that is added later; but scopes by model, which nobody
    has who did not ask for them, are part of the wide policy alone.
    """
    on = {type(rule) for rule in read_bench_policy(name).rules.values()}
    assert set(REGISTRY.values()) - ({ModelMix} if name == "plain" else set()) == on


def test_ratios_and_percentiles() -> None:
    """A ratio is median over median; a percentile is a value that occurred."""
    assert Figure("x", "events/s", (30.0, 10.0, 20.0), beside=10.0).ratio == 2.0
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([3.0], 0.99) == 3.0
