"""Traces of a cause: what each process tells, under ids that follow from the cause, by the real exporter."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from spendfuse import ControlRecord

from alerting.effects import Failed, Send, Sent
from alerting.notice import Notice, Receipt
from models.effects import Effect
from schemas.codec import encode
from schemas.internal.spend import ALL_TENANTS
from streams.clock import BrokerClock
from streams.enforcer.config import EnforcerSettings
from streams.enforcer.enforcer import Enforcer, Wanted
from streams.enforcer.levers.lever import Found
from streams.provider_api import ProviderError
from streams.settings import wants_traces
from streams.tracing.decisions import Batch, DecisionTraces
from streams.tracing.enforcing import EnforcerTraces
from streams.tracing.exporting import tracing
from streams.tracing.guarding import GuardTraces
from streams.tracing.remembered import Newest
from streams.tracing.span import ROOT, Span, span_id, trace_id
from streams.tracing.telling import TellingTraces
from tests.support.alerting_process import Listening
from tests.support.collector import collector, spans_at
from tests.support.facts import NOW_MS, alert, command
from tests.support.receivers import Answer

BATCH = Batch(NOW_MS + 5, NOW_MS + 7, NOW_MS + 12)
TEXT = "a sentence that nobody may export"


class Kept:
    """A tracer that keeps spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def record(self, spans: Any) -> None:
        self.spans += spans


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    """A collector that takes everything, named in the standard variable."""
    with Listening(collector()) as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        yield one


def effect(value: Any) -> Effect:
    """What a commit has published."""
    return Effect("control.v1", "k", value)


def span(part: str = ROOT, cause: str = "e1", tenant_id: str = "acme", **fields: Any) -> Span:
    """A span of ten milliseconds."""
    return Span(tenant_id, cause, "n", part, NOW_MS, NOW_MS + 10, {}, **fields)


def test_ids_follow_from_tenant_and_cause() -> None:
    """The same in every process, another for each tenant, cause and part; names with separators are kept apart."""
    assert trace_id("acme", "e1") == trace_id("acme", "e1")
    others = {trace_id("acme", "e1"), trace_id("acme", "e2"), trace_id("umbrella", "e1"), trace_id("acme|e1", "")}
    assert len(others) == 4
    assert span_id("acme", "e1", "a") != span_id("acme", "e1", "b")
    assert span().parent_id is None
    assert span("told").parent_id == span().span_id


def test_a_commit_tells_of_each_cause_from_its_append_to_its_commit() -> None:
    """Two alerts and a command of one cause, an alert without one: four stretches that follow on each other, and one of
    each effect; no text of theirs.
    """
    values = [
        alert(cause_event_id="e1", summary=TEXT, next_action=TEXT, evidence={"samples": [TEXT]}),
        alert("i2", cause_event_id="e1"),
        command(cause_event_id="e1", cause_ts_ms=NOW_MS, reason=TEXT),
        alert("i3"),
    ]
    found = list(DecisionTraces(None, BrokerClock()).spans(map(effect, values), BATCH))
    assert [one.name for one in found] == [
        "cause", "worker reads", "worker decides", "worker commits", "alert open", "alert open", "command kill",
    ]  # fmt: skip
    assert {one.trace_id for one in found} == {trace_id("acme", "e1")}
    stretches = [(one.start_ms, one.end_ms) for one in found[:4]]
    assert stretches == [
        (NOW_MS, NOW_MS + 12), (NOW_MS, NOW_MS + 5), (NOW_MS + 5, NOW_MS + 7), (NOW_MS + 7, NOW_MS + 12),
    ]  # fmt: skip
    assert len({one.span_id for one in found}) == len(found)
    assert TEXT not in str(found)


def test_a_cause_whose_clock_is_ahead_takes_no_negative_time() -> None:
    """Every stretch ends no sooner than it begins."""
    late = alert(cause_event_id="e1", ts_ms=NOW_MS + 60_000)
    found = DecisionTraces(None, BrokerClock()).spans([effect(late)], BATCH)
    assert all(one.start_ms <= one.end_ms for one in found)


def test_what_a_guard_obeyed_joins_the_trace_of_the_commands_cause() -> None:
    """The answer comes as an event of its own, hours later or at once: it is told once, and where the command was."""
    traces = DecisionTraces(None, BrokerClock())
    list(traces.spans([effect(command(cause_event_id="e1", cause_ts_ms=NOW_MS))], BATCH))
    evidence = {"command_id": "c1", "cause_to_stop_ms": 40}
    ended = effect(alert(state="resolved", cause_event_id="k1", evidence=evidence))
    [obeyed] = [one for one in traces.spans([ended], BATCH) if one.name == "guard obeys"]
    assert (obeyed.trace_id, obeyed.start_ms, obeyed.end_ms) == (trace_id("acme", "e1"), NOW_MS + 12, NOW_MS + 40)
    assert not [one for one in traces.spans([ended], BATCH) if one.name == "guard obeys"]


def test_what_all_tenants_caused_names_no_event_of_one() -> None:
    """The budget of all tenants is seen by others than the tenant whose call came last."""
    [root, *_] = DecisionTraces(None, BrokerClock()).spans(
        [effect(alert(tenant_id=ALL_TENANTS, cause_event_id="an-event-of-umbrella"))], BATCH
    )
    assert "an-event-of-umbrella" not in str(root.attributes)


def test_alerting_tells_of_each_attempt_at_each_receiver() -> None:
    """From the reading of the alert to the answer; a failure says its kind."""
    kept = Kept()
    brokers = BrokerClock()
    brokers.heard(NOW_MS)
    traces = TellingTraces(kept, brokers)
    one = alert(cause_event_id="e1", summary=TEXT)
    traces.read(one)
    notice = Notice("incident", (one, alert("i2")))
    traces.answered(Send("d1", "hook", notice, 1), Failed("d1", "timeout", True, True, None, NOW_MS + 9_000))
    traces.answered(Send("d1", "hook", notice, 2), Sent("d1", Receipt(), NOW_MS + 9_500))
    failed, sent = kept.spans
    assert (failed.error, sent.error) == ("timeout", None)
    assert failed.trace_id == sent.trace_id == trace_id("acme", "e1")
    assert failed.span_id != sent.span_id
    assert sent.end_ms == NOW_MS + 9_500
    assert sent.attributes["spendfuse.receiver"] == "hook"
    assert TEXT not in str(kept.spans)


def test_a_gateway_tells_of_the_first_denial_of_each_run_and_of_answers() -> None:
    """Once a run, however often it asks; nothing about the command of another tenant, or one that nobody has read."""
    kept = Kept()
    traces = GuardTraces(kept)
    value = encode(command(cause_event_id="e1"))
    traces.take(ControlRecord(value), None)  # type: ignore[arg-type]  # what it believes is in the record
    for run_id in ("r1", "r1", "r2"):
        traces.denied("c1", "acme", run_id, "claude-code")
    traces.denied("c1", "umbrella", "r1", None)
    traces.denied("unknown", "acme", "r1", None)
    traces.answered("c1", "acme")
    assert [(one.name, one.attributes.get("spendfuse.run_id")) for one in kept.spans] == [
        ("guard denies", "r1"), ("guard denies", "r2"), ("guard answers", None),
    ]  # fmt: skip
    assert {one.trace_id for one in kept.spans} == {trace_id("acme", "e1")}


class Key:
    """A key at a provider, closed from the start or not."""

    def __init__(self, *, is_closed: bool) -> None:
        self.is_closed = is_closed

    def read(self) -> Found:
        return Found(self.is_closed, "enabled")

    def close(self) -> None:
        self.is_closed = True

    def open(self, before: str) -> None:
        del before
        self.is_closed = False


def enforced(key: Key, *tried: tuple[Wanted, ProviderError | None]) -> list[Span]:
    """What is told of attempts to switch a key; one with an error is not made."""
    kept = Kept()
    traces = EnforcerTraces(kept)
    settings = EnforcerSettings(
        name="support", provider="openai", key="proj_1", secret_env="ADMIN_KEY", tenant_id="acme"
    )
    one = Enforcer(settings, key, None, lambda _: None)
    traces.take(ControlRecord(encode(command(cause_event_id="e1"))), None)  # type: ignore[arg-type]
    for number, (wanted, error) in enumerate(tried):
        if error is None:
            one.step(wanted, NOW_MS + number)
        traces.tried(one, wanted, NOW_MS + number, error)
    return kept.spans


def test_an_enforcer_tells_of_each_attempt_to_switch_a_key() -> None:
    """A refusal with its status and no word of the provider's, the closing, and the opening, which belongs to the trace
    of what had closed the key; nothing of a command that nobody has read.
    """
    closed, opened = Wanted(True, TEXT, "c1"), Wanted(False, TEXT)
    told = enforced(
        Key(is_closed=False),
        (Wanted(True, TEXT, "unknown"), ProviderError(TEXT)), (closed, ProviderError(TEXT, status=403)),
        (closed, ProviderError(TEXT)), (closed, None), (opened, None),
    )  # fmt: skip
    assert [(one.name, one.error) for one in told] == [
        ("enforcer closes", "status 403"), ("enforcer closes", "not confirmed"), ("enforcer closes", None),
        ("enforcer opens", None),
    ]  # fmt: skip
    assert {one.trace_id for one in told} == {trace_id("acme", "e1")}
    assert len({one.span_id for one in told}) == len(told)
    assert all(one.attributes["spendfuse.command_id"] == "c1" for one in told)
    assert TEXT not in str(told)


def test_what_somebody_else_has_switched_is_no_span_of_an_enforcer() -> None:
    """A key that was closed already has waited for nobody, and is not opened."""
    assert enforced(Key(is_closed=True), (Wanted(True, TEXT, "c1"), None), (Wanted(False, TEXT), None)) == []


def test_what_is_remembered_is_bounded() -> None:
    """The oldest goes."""
    newest: Newest[int] = Newest(2)
    assert [newest.add(key, number) for number, key in enumerate("abca")] == [True, True, True, True]
    assert [newest.get(key) for key in "abc"] == [3, None, 2]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c/v1/logs"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_switch_it_on_and_off(environment: dict[str, str], wanted: bool) -> None:
    """As any program with OpenTelemetry takes them."""
    assert wants_traces(environment) is wanted


def test_off_it_loads_nothing() -> None:
    """Without a collector no module of OpenTelemetry's API or SDK is imported by worker, alerting or gateway."""
    program = (
        "import sys, json; from streams.tracing.exporting import tracing; import streams.worker.worker\n"
        "with tracing('worker') as tracer: pass\n"
        "print(json.dumps([tracer, sorted(m for m in sys.modules if m.startswith('opentelemetry.sdk'))]))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment["PYTHONPATH"] = "sdk/src"
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(found.stdout) == [None, []]


def test_the_real_exporter_sends_the_ids_that_were_given(listening: Listening) -> None:
    """Root and child, with their times, attributes and the process's name, all of it when the block is left."""
    with tracing("worker") as tracer:
        assert tracer is not None
        tracer.record([span(), span("told", error="timeout")])
    root, child = spans_at(listening)
    assert (root.trace_id, root.span_id, root.parent_id) == (f"{span().trace_id:032x}", f"{span().span_id:016x}", "")
    assert (child.trace_id, child.parent_id, child.error) == (root.trace_id, root.span_id, "timeout")
    assert (root.service, root.start_ms, root.end_ms) == ("spendfuse-worker", NOW_MS, NOW_MS + 10)


@pytest.mark.parametrize("manner", ["hang", "reset", "refuse", "500"])
def test_a_broken_collector_harms_nothing(
    manner: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that hangs, resets, is not there or answers with an error: spans are taken without waiting, and the process
    ends; it is said at most once.
    """
    answer = Answer(500) if manner == "500" else Answer(manner="hang" if manner == "refuse" else manner)
    with Listening(collector(*[answer] * 50)) as listening:
        url = "http://127.0.0.1:9" if manner == "refuse" else listening.url
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "512")
        with tracing("worker") as tracer:
            assert tracer is not None
            for number in range(20):
                tracer.record(span(f"{number}/{each}") for each in range(1_000))
    assert len([one for one in caplog.records if one.name == "spendfuse.traces" and one.levelname != "INFO"]) <= 1


def test_a_fault_in_making_spans_reaches_nobody(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and what comes after is exported."""

    def faulty() -> Iterator[Span]:
        raise KeyError("a fault of ours")
        yield span()

    with tracing("worker") as tracer:
        assert tracer is not None
        for _ in range(3):
            tracer.record(faulty())
        tracer.record([span()])
    assert len(spans_at(listening)) == 1
    assert caplog.text.count("spans could not be made") == 1


def test_a_missing_library_is_said_and_nothing_else(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An installation without the optional libraries works without traces."""
    monkeypatch.setitem(sys.modules, "streams.tracing.otel", None)
    with tracing("worker") as tracer:
        assert tracer is None
    assert "a library is missing" in caplog.text
