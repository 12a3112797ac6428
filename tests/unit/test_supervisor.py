"""The supervisor of one machine: what ends is started again, ever more patiently, and health says so."""

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.errors import SettingsError
from streams.clock import pause
from streams.process.supervisor import LONGEST_PAUSE_MS, STEADY_MS, Child, Supervisor, processes
from streams.settings import Settings
from streams.tools.polls.registry import polled_systems
from tests.support.kafka import wait_until
from tests.support.service_process import ServiceProcess


class Clock:
    """Time as the test says."""

    ms = 0

    def __call__(self) -> int:
        return self.ms


def ending_with(code: int, clock: Clock) -> Child:
    return Child("worker-0", [sys.executable, "-S", "-c", f"raise SystemExit({code})"], {}, now_ms=clock)


def look_until_it_ended(child: Child) -> None:
    child.look()
    while child.health is None:
        child.look()
        pause(0.01)


def test_what_ends_is_started_again_with_longer_and_longer_pauses() -> None:
    """A second, two, four, to half a minute; health says what is missing. Who ran for a minute begins anew."""
    clock = Clock()
    child = ending_with(4, clock)
    for pause_ms in (1_000, 2_000, 4_000, 8_000, 16_000, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS):
        look_until_it_ended(child)
        assert child.health == "worker-0 ended with code 4; it is started again"
        starts = child.starts
        clock.ms += pause_ms - 1
        child.look()
        assert child.starts == starts
        clock.ms += 1
    child.look()
    clock.ms += STEADY_MS
    look_until_it_ended(child)
    clock.ms += 1_000
    starts = child.starts
    child.look()
    assert child.starts == starts + 1
    child.wait_end(20)


def test_wrong_settings_end_everything_at_the_start() -> None:
    """No use to try again: whoever started it is told at once."""
    supervisor = Supervisor([ending_with(2, Clock())])
    with pytest.raises(SettingsError, match="worker-0 cannot start with these settings"):
        supervisor.run()


def test_a_gateway_runs_beside_the_others_where_it_is_asked_for() -> None:
    """Under one supervisor, with pages of its own behind those of the others."""
    settings = Settings(metrics_port=9_000)
    assert [child.name for child in processes(settings, 2)] == ["worker-0", "worker-1", "alerting"]
    assert "sink" in [
        child.name for child in processes(settings.model_copy(update={"sink": SecretStr("duckdb:///f")}), 1)
    ]
    assert [child.name for child in processes(settings, 1, with_gateway=True)] == ["worker-0", "alerting", "gateway"]


def test_systems_are_polled_beside_the_others_where_they_are_named() -> None:
    """A process each, of those that are known, and each once: the environment has one key for it."""
    polled = polled_systems(["langfuse=acme", "braintrust=umbrella"])
    names = [child.name for child in processes(Settings(), 1, polled=polled)]
    assert names == ["worker-0", "alerting", "poll-langfuse", "poll-braintrust"]
    for wrong in (["langfuse"], ["unheard-of=acme"], ["langfuse=acme", "langfuse=umbrella"]):
        with pytest.raises(SettingsError, match="--poll"):
            polled_systems(wrong)


def test_a_test_that_fails_leaves_nothing_behind() -> None:
    """What a supervised process has started ends with the block, also where the supervisor has ended before."""
    started = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    with ServiceProcess(["timeit", "-n1", "-r1", started], {}) as process:
        assert process.wait_exit() == 0
        left = Path(f"/proc/{process.text.split()[0]}/stat")
        assert _runs(left)
    wait_until(lambda: not _runs(left), 10, "it is gone")


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text(encoding="utf-8").split(")")[-1].split()[0] not in "ZX"
    except OSError:
        return False
