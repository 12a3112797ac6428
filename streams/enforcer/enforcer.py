"""Keeps one key at a provider as the commands want it: closed while one stands, and as it was before once none does."""

from collections.abc import Callable
from typing import Final, NamedTuple

from schemas.edge.enforcement import MOST_STEPS, Enforcement, EnforcementState, Step
from streams.clock import wall_ms
from streams.enforcer.config import EnforcerSettings
from streams.enforcer.levers.lever import Lever
from streams.provider_api import ProviderError

LOOK_AGAIN_MS: Final = 60_000
"""How often a closed key is looked at: somebody may have switched it on by hand."""
AGAIN_FIRST_MS: Final = 1_000
AGAIN_AT_MOST_MS: Final = 60_000
"""After a failure it is tried again, each time after twice as long."""


class Wanted(NamedTuple):
    """How the commands that stand want a key."""

    closed: bool
    reason: str
    command_id: str | None = None


class Enforcer:
    """One key. Each step is written down before the provider is asked and again when it has confirmed it, so that
    whoever comes after a crash knows what to undo.
    """

    def __init__(
        self,
        settings: EnforcerSettings,
        lever: Lever,
        known: Enforcement | None,
        write: Callable[[Enforcement], None],
    ) -> None:
        """`known` is what was done so far, `write` makes last what has been done by now."""
        self.settings = settings
        self.failures = 0
        """Attempts that failed since the last that did not."""
        self._lever = lever
        self._steps = () if known is None else known.steps
        self._write = write
        self._looked_ms: int | None = None
        self._again_ms: int | None = None
        self._differs_since_ms: int | None = None

    @property
    def _last(self) -> Step | None:
        return self._steps[-1] if self._steps else None

    @property
    def is_closed(self) -> bool:
        """Whether its key is closed, or about to be, as far as is written down."""
        return self._last is not None and self._last.state in ("closing", "closed")

    @property
    def is_ours(self) -> bool:
        """Whether what it has last written down was its own doing, not somebody else's."""
        return self._last is not None and self._last.is_ours

    @property
    def command_id(self) -> str | None:
        """The command that it has last acted on."""
        return next((step.command_id for step in reversed(self._steps) if step.command_id is not None), None)

    def overdue_s(self, now_ms: int) -> float:
        """For how long the key has not been as it is wanted; `now_ms` as in `step`."""
        return 0.0 if self._differs_since_ms is None else (now_ms - self._differs_since_ms) / 1000

    def step(self, wanted: Wanted, now_ms: int) -> str | None:
        """Bring the key to where it is wanted, if it is time to try. Returns what has been done, in words, or None.

        `now_ms` is of a clock that nobody sets: by a wall clock that was set back a key would wait for a day.

        Raises:
            ProviderError: the provider did not do it; it will be tried again.
            BrokerError: the step could not be written down, so that it was not taken.
        """
        if self._is_settled(wanted, now_ms):
            self._differs_since_ms = None
            return None
        if self._differs_since_ms is None:
            self._differs_since_ms = now_ms
        if self._again_ms is not None and now_ms < self._again_ms:
            return None
        try:
            done = self._close(wanted) if wanted.closed else self._open(wanted)
        except Exception:
            self.failures += 1
            self._again_ms = now_ms + min(AGAIN_AT_MOST_MS, AGAIN_FIRST_MS << min(self.failures - 1, 16))
            raise
        self.failures = 0
        self._again_ms = self._differs_since_ms = None
        self._looked_ms = now_ms
        return done

    def _is_settled(self, wanted: Wanted, now_ms: int) -> bool:
        if not wanted.closed:
            return self._last is None or self._last.state == "open"
        was_looked_at = self._looked_ms is not None and now_ms < self._looked_ms + LOOK_AGAIN_MS
        return self._last is not None and self._last.state == "closed" and was_looked_at

    def _close(self, wanted: Wanted) -> str | None:
        last, found = self._last, self._lever.read()
        if found.is_closed:
            if last is not None and last.state == "closed":
                return None  # looked at, and as it should be
            is_ours = last is not None and last.state in ("closing", "opening") and last.is_ours
            self._note("closed", wanted, last.before if is_ours and last is not None else None, is_ours=is_ours)
            return "it is closed" if is_ours else "somebody else had closed it: it will stay so when the command ends"
        knows_before = last is not None and last.state != "open" and last.before is not None
        before = last.before if knows_before and last is not None else found.before
        if last is None or last.state != "closing":
            self._note("closing", wanted, before)
        self._lever.close()
        if not self._lever.read().is_closed:
            raise ProviderError("the provider has answered yes, and the key is still open")
        self._note("closed", wanted, before)
        return "closed again: somebody had opened it" if last is not None and last.state == "closed" else "closed"

    def _open(self, wanted: Wanted) -> str:
        last = self._last
        if last is None or last.before is None:
            self._note("open", wanted, None, is_ours=False)
            return "somebody else had closed it: it stays so"
        if last.state != "opening":
            self._note("opening", wanted, last.before)
        self._lever.open(last.before)
        if self._lever.read().is_closed:
            raise ProviderError("the provider has answered yes, and the key is still closed")
        self._note("open", wanted, last.before)
        return "open again"

    def _note(self, state: EnforcementState, wanted: Wanted, before: str | None, *, is_ours: bool = True) -> None:
        step = Step(
            state=state, at_ms=wall_ms(), reason=wanted.reason, command_id=wanted.command_id, before=before,
            is_ours=is_ours,
        )  # fmt: skip
        steps = (*self._steps[1 - MOST_STEPS :], step)
        given = self.settings
        self._write(
            Enforcement(
                enforcer=given.name, provider=given.provider, key=given.key, tenant_id=given.tenant_id, steps=steps
            )
        )
        self._steps = steps
