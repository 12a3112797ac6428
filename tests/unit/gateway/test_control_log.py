"""What a gateway keeps for guards without Kafka: a clock that was wrong for a while lets no run go on."""

import pytest
from spendfuse import Command, ControlRecord

from schemas.duration import DAY_MS, HOUR_MS
from streams.gateway.guards import control_log
from streams.gateway.guards.control_log import EXPIRED_KEPT_MS, PRUNE_EVERY, ControlLog
from tests.support.messages import MONDAY_MS


class Gateway:
    """A log whose process sees clocks of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = ControlLog()
        self.steady_ms = 5 * HOUR_MS
        self.ahead_ms = 0
        self._offset = 0
        monkeypatch.setattr(control_log, "sleepless_ms", lambda: self.steady_ms)
        monkeypatch.setattr(control_log, "wall_ms", lambda: MONDAY_MS + self.steady_ms + self.ahead_ms)

    def take(self, run_id: str, expires_in_ms: int = DAY_MS) -> None:
        """A kill comes that expires so much later by a clock that is right."""
        expires_ms = MONDAY_MS + self.steady_ms + expires_in_ms
        command = Command(
            command_id=run_id, tenant_id="acme", target=("run", run_id), action="kill", seq=1, reason="", rule="r",
            incident_id="i", issued_ms=0, expires_ms=expires_ms,
        )  # fmt: skip
        self.log.take(ControlRecord(b"{}", (), place=(0, self._offset)), command)
        self._offset += 1

    def sweep(self) -> None:
        """So many commands come that it looks for what can go."""
        for _ in range(PRUNE_EVERY):
            self.take("other")

    @property
    def kept(self) -> int:
        """How much a new guard is sent."""
        return len(self.log.after(0, "acme"))


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    return Gateway(monkeypatch)


def test_a_clock_that_is_ahead_and_set_right_forgets_no_kill(gateway: Gateway) -> None:
    """Guards keep what has expired for an hour, for that; the gateway forgot it at once and for good."""
    gateway.take("killed")
    gateway.ahead_ms = 2 * DAY_MS
    for _ in range(2):
        gateway.sweep()
        gateway.steady_ms += EXPIRED_KEPT_MS // 3
    gateway.ahead_ms = 0
    gateway.sweep()
    assert gateway.kept == 2


def test_what_has_expired_is_forgotten(gateway: Gateway) -> None:
    """Or a gateway would grow for ever."""
    gateway.take("killed")
    gateway.steady_ms += DAY_MS + EXPIRED_KEPT_MS
    gateway.sweep()
    gateway.steady_ms += EXPIRED_KEPT_MS
    gateway.sweep()
    assert gateway.kept == 1
