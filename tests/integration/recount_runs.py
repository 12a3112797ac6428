"""Runs and hours as runs.v1 and rollups.v1 tell them, counted again without the engine: plain sums over the log."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from schemas.codec import decode_usage
from schemas.errors import Undecodable
from schemas.rollup import BREAKDOWNS
from schemas.usage import LlmCall, RunFinished, RunStarted, ToolCall, UsageMessage
from tests.support.kafka import Record, TopicSpace, read_all

SUMS = ("cost_nanousd", "calls", "input_tokens", "output_tokens")


def check_runs(space: TopicSpace, told: str) -> None:
    """The last record of every run has what its messages come to, and every hour is what it is broken down to."""
    usage, runs, rollups = (
        read_all(space.bootstrap, space.name(topic), timeout_s=90) for topic in ("usage.v1", "runs.v1", "rollups.v1")
    )
    messages = counted(usage)
    compare_runs(messages, _last(runs), told)
    compare_hours(messages, _last(rollups), told)


def counted(records: Iterable[Record]) -> list[UsageMessage]:
    """The messages that count: those that can be read and are in their tenant's partition, each once."""
    found: dict[tuple[str, str], UsageMessage] = {}
    for record in records:
        try:
            message = decode_usage(record.value)
        except Undecodable:
            continue
        if record.key == message.tenant_id.encode():
            found.setdefault((message.tenant_id, message.event_id), message)
    return list(found.values())


def compare_runs(messages: Sequence[UsageMessage], runs: Sequence[dict[str, Any]], told: str) -> None:
    """Raise `AssertionError` where a run's record is not the sum of its messages."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    unpriced, ended = set(), set()
    for message in messages:
        run = (message.tenant_id, message.run_id)
        if run not in sums and not isinstance(message, LlmCall | ToolCall | RunStarted):
            continue  # about a run of which nobody knows
        counts = sums.setdefault(run, Counter())
        counts.update(_figures(message), tool_calls=isinstance(message, ToolCall), retries=_is_retry(message))
        if isinstance(message, LlmCall) and message.cost_nanousd is None:
            unpriced.add(run)
        if isinstance(message, RunFinished):
            ended.add(run)
    found = {(run["tenant_id"], run["run_id"]): run for run in runs}
    assert found.keys() == sums.keys(), f"{told}: recorded and not: {sorted(found.keys() ^ sums.keys())[:3]}"
    for run, counts in sums.items():
        names = [name for name in (*SUMS, "tool_calls", "retries") if run not in unpriced or name != "cost_nanousd"]
        told_of = {name: found[run][name] for name in names}
        assert told_of == {name: counts[name] for name in names}, f"{told}: {run}"
    finished = {run for run, record in found.items() if record["state"] == "finished"}
    assert finished >= ended, f"{told}: ended and not recorded so: {sorted(ended - finished)[:3]}"


def compare_hours(messages: Sequence[UsageMessage], rollups: Sequence[dict[str, Any]], told: str) -> None:
    """Raise `AssertionError` where the shares of a dimension are not the hour, or models are not those of the calls."""
    calls: Counter[tuple[str, str]] = Counter()
    for rollup in rollups:
        for dimension, shares in rollup.get("by", {}).items():
            assert dimension in BREAKDOWNS, f"{told}: {dimension}"
            sums = {name: sum(share.get(name, 0) for share in shares.values()) for name in SUMS}
            assert sums == {name: rollup[name] for name in SUMS}, f"{told}: {dimension} of {rollup['tenant_id']}"
        for model, share in rollup.get("by", {}).get("model", {}).items():
            calls[rollup["tenant_id"], model] += share.get("calls", 0)
    expected = Counter((one.tenant_id, one.model) for one in messages if isinstance(one, LlmCall))
    assert +calls == expected, f"{told}: calls by model"


def _figures(message: UsageMessage) -> dict[str, int]:
    cost_nanousd = getattr(message, "cost_nanousd", None) or 0
    if not isinstance(message, LlmCall):
        return {"cost_nanousd": cost_nanousd}
    return {
        "cost_nanousd": cost_nanousd,
        "calls": 1,
        "input_tokens": message.input_tokens,
        "output_tokens": message.output_tokens,
    }


def _is_retry(message: UsageMessage) -> bool:
    return isinstance(message, LlmCall) and message.attempt > 1


def _last(records: Iterable[Record]) -> list[dict[str, Any]]:
    found = {record.key: json.loads(record.value or b"") for record in records}
    return list(found.values())
