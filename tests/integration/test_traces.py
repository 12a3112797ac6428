"""One trace of a cause, told by three processes that know nothing of each other, to a collector on loopback."""

import json
from pathlib import Path

import pytest

from streams.clock import wall_ms
from streams.tracing.span import span_id, trace_id
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, Listening
from tests.support.collector import Told, collector, spans_at
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, wait_until
from tests.support.receivers import webhook
from tests.support.worker_process import WorkerProcess

TENANT, FOREIGN, RUN = "acme", "umbrella", "circles-4711"
POLICY = '[[repeat]]\nname = "same-call-again"\nmode = "enforce"\n'


def test_worker_alerting_and_gateway_tell_one_trace(
    kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that loops is killed and denied at the gateway, and its owner told: under the trace of the call that caused
    it the collector has the decision, the command, the telling, the denial and its answer, all below one root, and no
    word of the tenant whose run loops at the same time; that one has a trace of its own.
    """
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    policy = tmp_path / "policy.toml"
    with Listening(webhook()) as hook, Listening(collector()) as sink:
        policy.write_text(TO_THE_HOOK.format(url=hook.url) + POLICY, encoding="utf-8")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        tokens = {
            tenant_id: new_key(bootstrap, prefix, tenant_id, "ingest", "guard", capture=capsys)
            for tenant_id in (TENANT, FOREIGN)
        }
        with (
            AlertingProcess(bootstrap, prefix, policy, {}) as alerting,
            WorkerProcess(bootstrap, prefix, policy) as worker,
            GatewayProcess(bootstrap, prefix, tmp_path / "spool") as gateway,
        ):
            worker.wait_said("state restored")
            alerting.wait_owning(kafka_topics.partitions)
            gateway.wait_ready()
            for tenant_id, token in tokens.items():
                loop(gateway, token, tenant_id)
            for tenant_id in tokens:
                # Before the run obeys: of what is over before it could be told, only its end is told.
                wait_until(lambda of=tenant_id: is_told(sink, of), 30, "the owner is told of the kill")  # type: ignore[misc]
            for token in tokens.values():
                wait_until(lambda shown=token: is_denied(gateway, shown), 30, "the run is denied")  # type: ignore[misc]
            wait_until(lambda: has_all(told_of(sink, killer(sink, TENANT))), 30, f"the whole trace; {worker.tail()}")
            for process in (worker, alerting, gateway):
                assert process.stop() == 0, process.tail()
        cause = killer(sink, TENANT)
        found = told_of(sink, cause)
        foreign = told_of(sink, killer(sink, FOREIGN), FOREIGN)
    assert {one.service for one in found} == {"spendfuse-worker", "spendfuse-alerting", "spendfuse-gateway"}
    root = f"{span_id(TENANT, cause, 'cause'):016x}"
    assert {one.parent_id for one in found} == {"", root}
    assert len({one.span_id for one in found}) == len(found)
    assert all(one.start_ms <= one.end_ms for one in found)
    denied = next(one for one in found if one.name == "guard denies")
    assert (denied.attributes["spendfuse.run_id"], denied.attributes["spendfuse.action"]) == (RUN, "kill")
    assert FOREIGN not in str(found)
    assert has_all(foreign)
    assert "secret-argument" not in str([one.body for one in sink.receiver.received])


def loop(gateway: GatewayProcess, token: str, tenant_id: str) -> None:
    """Six equal calls, half a second apart."""
    now_ms = wall_ms()
    calls = [
        {"type": "tool_call", "event_id": f"{tenant_id}-{number}", "ts_ms": now_ms - 3000 + 500 * number,
         "run_id": RUN, "tool": "search", "args_hash": "secret-argument", "result_hash": "b"}
        for number in range(6)
    ]  # fmt: skip
    assert gateway.post("/v1/events", json.dumps(calls).encode(), token)[0] == 200


def is_denied(gateway: GatewayProcess, token: str) -> bool:
    """Whether the run may not go on."""
    status, answer = gateway.post("/v1/guard/check", json.dumps({"run_id": RUN}).encode(), token)
    return status == 200 and answer["decision"] == "stop"


def killer(sink: Listening, tenant_id: str) -> str:
    """The event that caused the kill of a tenant's run."""
    traces = {one.trace_id for one in spans_at(sink) if one.name == "command kill"}
    events = [f"{tenant_id}-{number}" for number in range(6)]
    return next((each for each in events if f"{trace_id(tenant_id, each):032x}" in traces), "none yet")


def told_of(sink: Listening, cause: str, tenant_id: str = TENANT) -> list[Told]:
    """All of one trace."""
    wanted = f"{trace_id(tenant_id, cause):032x}"
    return [one for one in spans_at(sink) if one.trace_id == wanted]


def is_told(sink: Listening, tenant_id: str) -> bool:
    """Whether the owner has been told of the kill."""
    return any(one.name == "alerting tells" for one in told_of(sink, killer(sink, tenant_id), tenant_id))


def has_all(found: list[Told]) -> bool:
    """Whether everything that follows from a kill's cause was told."""
    names = {"cause", "worker reads", "worker decides", "worker commits", "command kill", "alerting tells"}
    return names | {"guard denies", "guard obeys"} <= {one.name for one in found}
