"""What an enforcer has done to a key of somebody else's: a value of enforcements.v1, by the enforcer's name."""

from typing import Final, Literal

import msgspec

from schemas.usage import EpochMs, Name

EnforcementState = Literal["closing", "closed", "opening", "open"]
"""`closing` and `opening` are written before the provider is asked, the other two when it has confirmed it."""
MOST_STEPS: Final = 200
"""Steps of one enforcer that are kept, the newest."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step, and on whose word it was taken."""

    state: EnforcementState
    at_ms: EpochMs
    reason: str
    command_id: str | None = None
    before: str | None = None
    """How it stood before it was closed, in the provider's own words; None where somebody else had closed it."""
    is_ours: bool = True
    """Whether the enforcer has closed it. What somebody else has closed stays closed."""


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """A key and what was done to it. The last step says what is to be undone, those before it are its history."""

    enforcer: Name
    provider: Name
    key: Name
    """The provider's id of the key or project; never a secret."""
    tenant_id: str
    steps: tuple[Step, ...]
    """The oldest first, at least one."""
