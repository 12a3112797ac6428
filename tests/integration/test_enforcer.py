"""Keys at providers follow what is commanded on control.v1: the process as users start it, on a real broker."""

from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.control import Target
from schemas.duration import HOUR_MS
from schemas.signing import EngineKeys, KeyId
from streams.clock import wall_ms
from streams.enforcer.report import run_history
from streams.settings import Settings
from streams.tracing.span import trace_id
from tests.support.alerting_process import Listening
from tests.support.collector import collector, spans_at
from tests.support.facts import command, key_of
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.providers import KEY, SECRET, Providers
from tests.support.service_process import ENGINE_KEY, ServiceProcess

FILE = """
[[enforcer]]
name = "all-of-acme"
provider = "openrouter"
key = "{key}"
secret_env = "OPENROUTER_MANAGEMENT_KEY"
tenant_id = "acme"
base_url = "{address}"

[[enforcer]]
name = "search-of-acme"
provider = "anthropic"
key = "{key}-of-search"
secret_env = "ANTHROPIC_ADMIN_KEY"
tenant_id = "acme"
workflow = "search"
base_url = "{address}"
"""
TENANT, SEARCH = Target("tenant", "acme"), Target("workflow", "search")


CAUSE = "the-call-that-was-too-much"
NAMES = {"all-of-acme", "search-of-acme"}


def order(topics: TopicSpace, target: Target, action: str, seq: int, *, signed: bool = True) -> str:
    """Put a command on control.v1 as the worker does; returns its id."""
    now_ms = wall_ms()
    given = command(
        action, target, command_id=f"{action}-{target.type}-{seq}{'' if signed else '-forged'}", seq=seq,
        issued_ms=now_ms, cause_ts_ms=now_ms, expires_ms=now_ms + HOUR_MS, cause_event_id=CAUSE,
    )  # fmt: skip
    value = encode(given)
    kid: KeyId = "operator" if action == "resume" else "engine"
    headers = EngineKeys(ENGINE_KEY.encode()).command_headers(given, value, kid) if signed else []
    produce(
        topics.bootstrap, topics.name("control.v1"), [Record(value, key_of(given).encode(), tuple(headers), now_ms, 0)]
    )
    return given.command_id


def closings(sink: Listening) -> set[tuple[str, str]]:
    """Keys whose closing a collector was told of, with the trace that it belongs to."""
    told = [one for one in spans_at(sink) if one.name == "enforcer closes"]
    return {(one.attributes["spendfuse.enforcer"], one.trace_id) for one in told}


def test_keys_follow_the_commands_over_a_kill_of_the_process(
    kafka_topics: TopicSpace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A genuine command closes the keys that it covers and no others; a forged one closes none. Killed while keys are
    closed, the process puts them back as they were when a resume has come meanwhile, and its history says all of it.
    What it does to a key is a span in the trace of the command's cause.
    """
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    settings = {"KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix}
    secrets = {"OPENROUTER_MANAGEMENT_KEY": SECRET, "ANTHROPIC_ADMIN_KEY": SECRET}
    file = tmp_path / "enforcers.toml"
    with Providers() as providers, Listening(collector()) as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        file.write_text(FILE.format(key=KEY, address=providers.address))
        before = providers.standing("openrouter"), providers.standing("anthropic")
        arguments = ["streams", "enforcer", "run", str(file)]
        order(kafka_topics, TENANT, "kill", 1, signed=False)
        with ServiceProcess(arguments, settings, secrets) as enforcer:
            paused = order(kafka_topics, SEARCH, "pause", 1)
            enforcer.wait_for(lambda: providers.is_closed("anthropic"), 30, "the key of the paused workflow closed")
            assert not providers.is_closed("openrouter"), "others spend through that key as well"
            killed = order(kafka_topics, TENANT, "kill", 2)
            enforcer.wait_for(lambda: len(enforcer.said("a key was switched: closed")) == 2, 30, "both keys closed")
            assert enforcer.metric("spendfuse_enforcer_closed") == {
                'enforcer="all-of-acme"': 1, 'enforcer="search-of-acme"': 1,
            }  # fmt: skip
            enforcer.wait_for(lambda: {key for key, _ in closings(sink)} == NAMES, 30, "both closings are told")
            enforcer.process.kill()
            first = enforcer.text
        order(kafka_topics, SEARCH, "resume", 2)
        order(kafka_topics, TENANT, "resume", 3)
        with ServiceProcess(arguments, settings, secrets) as enforcer:
            enforcer.wait_for(lambda: len(enforcer.said("a key was switched: open again")) == 2, 30, "both keys open")
            assert enforcer.health == "ok"
            assert enforcer.stop() == 0
            said = first + enforcer.text
        assert (providers.standing("openrouter"), providers.standing("anthropic")) == before
        assert {trace for _, trace in closings(sink)} == {f"{trace_id('acme', CAUSE):032x}"}
    steps = read_all(kafka_topics.bootstrap, kafka_topics.name("enforcements.v1"))
    assert len(steps) == 8
    assert SECRET not in said + "".join(str(step.value) for step in steps)
    assert run_history(Settings(kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix)) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in told if "] " in line or line.endswith("]")] == [
        "search-of-acme", "search-of-acme", "all-of-acme", "all-of-acme",
    ]  # fmt: skip
    assert f"closed: It spent $5.01. [{killed}]" in told[3]
    assert paused in told[1]
    assert "forged" not in "".join(told)
