"""Whether a run may make its next call: the client library's own guard, asked over HTTP by those who have none."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

from spendfuse import Command, ControlRecord, Emitter, Guard, Paused, Stopped, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from schemas.edge.access_key import AccessKey
from streams.gateway.guards.control_log import ControlLog
from streams.settings import Settings
from streams.tracing.guarding import GuardTraces

END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run as whoever asks describes it. What it does not say, no command to a session or scope can reach it by."""

    tenant_id: str
    run_id: str
    session_id: str | None = None
    root_run_id: str | None = None
    workflow: str | None = None
    attribution: dict[str, str] = field(default_factory=dict)
    asked_by: str | None = None
    """The hook that asks, for the answer to a command."""


class NextCall(NamedTuple):
    """What is known of the call that is asked about."""

    model: str | None = None
    provider: str | None = None
    route: str | None = None


class Verdict(NamedTuple):
    """What the run is to do, and why."""

    decision: Literal["continue", "pause", "stop"]
    reason: str | None = None
    rule: str | None = None
    command_id: str | None = None
    incident_id: str | None = None
    until_ms: int | None = None
    """When a pause ends by itself."""
    downgrade: bool = False
    """Go on with a cheaper model."""
    nudge: str | None = None
    """A sentence to put before the model: the run does the same over and over."""
    blind: str | None = None
    """Why nobody knows what stands; None where everything is known."""


class Sight(NamedTuple):
    """How much is known of what stands."""

    age_s: float | None
    """How old the knowledge is; None before control.v1 was read through."""
    blind: str | None
    """Why nobody knows; None where everything is known."""


class GuardDesk:
    """Follows control.v1 while it is entered, for the runs of every tenant.

    It answers a command the first time a run obeys it here. With `SPENDFUSE_ENGINE_KEY` it believes the engine alone;
    without, whoever may write control.v1.
    """

    def __init__(self, settings: Settings, traces: GuardTraces | None = None) -> None:
        self._traces = traces or GuardTraces(None)
        root = settings.engine_root_key
        config = settings.kafka()
        self.log = ControlLog()
        """What agents follow that have the library and no Kafka."""
        self._emitter = Emitter(KafkaTransport(prefix=settings.prefix, config=config))
        self._guard = Guard(
            KafkaControl(prefix=settings.prefix, config=config),
            self._emitter,
            when_blind="continue",  # what a caller wants then is its key's to say
            keys=None if root is None else lambda tenant_id: derive_keys(root, tenant_id),
            on_believed=self._take,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.close()
        self._emitter.close(END_S)

    def _take(self, record: ControlRecord, command: Command) -> None:
        self.log.take(record, command)
        self._traces.take(record, command)

    @property
    def is_blind(self) -> bool:
        """Whether nobody knows what stands."""
        return self._guard.waiting_for is not None

    def sight(self, tenant_id: str) -> Sight:
        """How much is known of what stands against the tenant's runs."""
        return Sight(self._guard.age_s, self._guard.cannot_know(tenant_id))

    def nudge(self, run: AskedRun) -> str | None:
        """A sentence to put before the run's model, handed over once: ask only where it gets there."""
        return self._guard.nudge(run)

    def check(self, run: AskedRun, call: NextCall, key: AccessKey) -> Verdict:
        """What the run is to do before its next call: a few look-ups in memory."""
        blind = self._guard.cannot_know(key.tenant_id)
        given = {name: value for name, value in call._asdict().items() if value is not None}
        try:
            self._guard.check(run, by=run.asked_by, **given)
        except Stopped as stopped:
            self._traces.denied(stopped.command_id, run.tenant_id, run.run_id, run.asked_by)
            return Verdict("stop", stopped.reason, stopped.rule, stopped.command_id, stopped.incident_id, blind=blind)
        except Paused as paused:
            self._traces.denied(paused.command_id, run.tenant_id, run.run_id, run.asked_by)
            return Verdict(
                "pause", paused.reason, paused.rule, paused.command_id, paused.incident_id, paused.until_ms, blind=blind
            )
        if blind is not None and key.when_blind == "stop":
            return Verdict("stop", f"nobody knows what stands against this run: {blind}", blind=blind)
        advice = self._guard.advice(run, **given)
        reason, command_id = (advice.reason, advice.command_id) if advice.downgrade else (None, None)
        return Verdict("continue", reason, command_id=command_id, downgrade=advice.downgrade, blind=blind)
