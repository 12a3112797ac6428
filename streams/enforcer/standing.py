"""What stands against whoever uses a key: control.v1, as the guard of an agent understands it."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from spendfuse import Command, ControlRecord, Emitter, Guard, Paused, Stopped, derive_keys
from spendfuse.kafka import KafkaControl

from streams.enforcer.config import EnforcerSettings
from streams.enforcer.enforcer import Wanted
from streams.gateway.guards.desk import AskedRun
from streams.settings import Settings

NOTHING_STANDS: Final = "no command stands against it any more"


class _Silent:
    """Carries nothing: enforcers answer no command, what they have done stands in enforcements.v1. Nothing is missing
    by that, and nothing waits.
    """

    def send(self, record: object, done: Callable[[Any, None], object]) -> None:
        done(record, None)

    def poll(self, timeout_s: float) -> None:
        del timeout_s

    def close(self) -> None:
        """There is nothing to let go of."""


class Standing:
    """Follows control.v1 while it is entered, as an agent's guard does, and says how each key is wanted."""

    def __init__(self, settings: Settings, on_believed: Callable[[ControlRecord, Command], object]) -> None:
        """`on_believed` hears of each command whose origin is established."""
        root = settings.engine_root_key
        self._emitter = Emitter(_Silent())
        self._guard = Guard(
            KafkaControl(prefix=settings.prefix, config=settings.kafka()),
            self._emitter,
            when_blind="continue",
            keys=None if root is None else lambda tenant_id: derive_keys(root, tenant_id),
            on_believed=on_believed,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.close()
        self._emitter.close(0)

    @property
    def is_blind(self) -> bool:
        """Whether nobody knows what stands."""
        return self._guard.waiting_for is not None

    def wanted(self, settings: EnforcerSettings) -> Wanted | None:
        """How the key is wanted; None while nobody knows."""
        spend = AskedRun(
            settings.tenant_id,
            f"enforcer/{settings.name}",
            workflow=settings.workflow,
            attribution=settings.attribution,
        )
        blind = self.is_blind
        try:
            self._guard.check(spend)
        except Stopped as stopped:
            if "kill" in settings.on:
                return Wanted(True, stopped.reason or "killed", stopped.command_id)
        except Paused as paused:
            if "pause" in settings.on:
                return Wanted(True, paused.reason or "paused", paused.command_id)
        return None if blind else Wanted(False, NOTHING_STANDS)
