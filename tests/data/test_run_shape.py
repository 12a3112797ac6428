"""The rules about the shape of a run, with their defaults, over what real agents and services have sent."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy
from schemas.alert import Alert
from schemas.usage import LlmCall, UsageMessage
from tests.support.messages import MONDAY_MS, SECOND_MS, llm_call, run_finished
from tests.support.session_tokens import FOLDER, SessionTokens, in_a_row, message_at, sessions
from tests.support.trajectories import FOLDER as DATA
from tests.support.trajectories import lmcache_runs

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the real sessions in ../shared/data, which are not here"),
]

SHAPE = ("context_growth", "output_ratio", "token_spike")
SOURCES = ("entire_cli", "iso_trae", "mini_gemini3", "tau2_gemma")
CALLS_OF_A_RUN = 50
"""Of a trace of calls that belong to nobody: as if so many in a row were one agent's."""


def told(messages: Iterable[UsageMessage], **rules: Any) -> list[Alert]:
    """The incidents that rules open, those about the shape of a run unless others are given."""
    engine = Engine(read_policy(rules or {name: {"name": name} for name in SHAPE}))
    for message in messages:
        engine.usage(message, message.ts_ms)
    alerts = [effect.value for effect in engine.drain_effects() if isinstance(effect.value, Alert)]
    return [alert for alert in alerts if alert.state == "open" and alert.run_id]


def final(source: str, *, agents_known: bool = True) -> list[SessionTokens]:
    """The sessions that no threshold was chosen on."""
    return [one for one in sessions(source, agents_known=agents_known) if not one.is_for_choosing()]


@pytest.mark.parametrize("agents_known", [True, False])
def test_notices_on_real_sessions_are_few(agents_known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """No page, at most ten notices per thousand sessions, none on what a person called working or waiting; also where
    nobody says which agent of a session makes a call.
    """
    judged, notices, labels = 0, Counter[str](), Counter[str | None]()
    for source in SOURCES:
        chosen = {one.session_id: one for one in final(source, agents_known=agents_known)}
        for alert in told(in_a_row(list(chosen.values()))):
            assert alert.severity == "warning", alert
            notices[alert.rule] += 1
            labels[chosen[alert.run_id or ""].label] += 1
        judged += len(chosen)
    with capsys.disabled():
        print(f"\n  {judged} sessions: {dict(notices)} notices, by label {dict(labels)}")
    assert not labels["working"]
    assert not labels["waiting"]
    assert notices.total() - labels["stuck"] <= judged / 100


def test_runs_are_compared_within_their_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer notices of a harness that runs with several models than where all its runs are compared with each other,
    and none of them on what a person called working.
    """
    chosen = {one.session_id: one for one in final("iso_trae")}
    found = {
        by: Counter(
            chosen[alert.run_id or ""].label
            for alert in told(in_a_row(list(chosen.values())), session_outlier={"name": "run-5x", "compare_by": by})
        )
        for by in ("model", "workflow")
    }
    with capsys.disabled():
        print(f"\n  {len(chosen)} sessions: notices by label { ({by: dict(labels) for by, labels in found.items()}) }")
    assert found["model"].total() < found["workflow"].total() / 3
    assert not found["model"]["working"]


def azure(name: str) -> Iterator[tuple[int, int]]:
    """Input and output tokens of the calls of one hour of a service."""
    with gzip.open(DATA / f"azure_llm_2023_{name}.csv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            yield int(row["ContextTokens"]), int(row["GeneratedTokens"])


def mooncake() -> Iterator[tuple[int, int]]:
    """The same of an hour of a chat service with long inputs."""
    with gzip.open(DATA / "mooncake_conversation_trace.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["input_length"], row["output_length"]


def as_runs(calls: Iterable[tuple[int, int]]) -> Iterator[UsageMessage]:
    """Runs of fifty calls each, at three dollars per million input tokens and fifteen per million output tokens."""
    for number, (tokens, got) in enumerate(calls):
        run_id, at_ms = f"run {number // CALLS_OF_A_RUN}", MONDAY_MS + number * SECOND_MS
        cost_nanousd = 3_000 * tokens + 15_000 * got
        yield llm_call(at_ms, run_id=run_id, input_tokens=tokens, output_tokens=got, cost_nanousd=cost_nanousd)
        if number % CALLS_OF_A_RUN == CALLS_OF_A_RUN - 1:
            yield run_finished(at_ms, run_id=run_id)


@pytest.mark.parametrize("trace", ["azure code", "azure conv", "mooncake"])
def test_traces_of_services_without_a_fault_are_not_told_of(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Unrelated calls of every size, thrown together as runs: at most one notice in a hundred of them, never a page."""
    calls = list(mooncake() if trace == "mooncake" else azure(trace.removeprefix("azure ")))
    alerts = told(as_runs(calls))
    with capsys.disabled():
        print(f"\n  {trace}: {len(calls) // CALLS_OF_A_RUN} runs, {Counter(alert.rule for alert in alerts)}")
    assert {alert.severity for alert in alerts} <= {"warning"}
    assert len(alerts) <= len(calls) / CALLS_OF_A_RUN / 100


def test_agents_of_which_only_sizes_are_known_are_not_told_of() -> None:
    """LMCache's 69 sessions, characters in place of tokens, without a price."""
    messages = [
        message_at(call, MONDAY_MS + number * SECOND_MS)
        for number, call in enumerate(call for run in lmcache_runs() for _, call in run.steps)
    ]
    assert any(isinstance(message, LlmCall) for message in messages)
    assert told(messages) == []
