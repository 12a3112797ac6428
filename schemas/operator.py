"""operator.v1: what people order. Every message is signed and says who, why and until when."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.control import Target
from schemas.usage import EpochMs, Id, Name

Verdict = Literal["useful", "noise", "planned"]
LimitNanousd = Annotated[int, Meta(ge=0, le=10**18)]


class _OperatorMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    message_id: Id
    ts_ms: EpochMs
    tenant_id: Id
    who: Annotated[str, Meta(min_length=1, max_length=256)]
    why: Annotated[str, Meta(min_length=1, max_length=1024)]


class Kill(_OperatorMessage, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="kill"):
    """Stop what the target names: a run, session, run tree, workflow or tenant, with runs that start later.

    It stands until `until_ms`, or until an operator's resume when that is None.
    """

    target: Target
    until_ms: EpochMs | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a scope, which only a rule can name: its dimensions are not in the message."""
        if self.target.type == "scope":
            raise ValueError("a scope is stopped by its budget; kill a workflow or the tenant")


class Resume(_OperatorMessage, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="resume"):
    """Lift the command that stands on a target, a kill included.

    Its terms: `limit_nanousd` is the new limit of whatever stopped the target, in money spent in all; until `until_ms`
    the rule that stopped it does not stop it again. Without terms it has one more allowance of the limit that stopped
    it.
    """

    target: Target
    limit_nanousd: LimitNanousd | None = None
    until_ms: EpochMs | None = None


class Silence(
    _OperatorMessage, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="silence"
):
    """Tell nobody of what matches until then. Mutes people, never brakes."""

    match: dict[Name, Name]
    until_ms: EpochMs


class LimitException(
    _OperatorMessage, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="exception"
):
    """A budget raised for a reason until a date. `scope` is the scope's value as in the policy's overrides."""

    rule: Name
    scope: Name
    limit_nanousd: LimitNanousd
    until_ms: EpochMs


class Acknowledge(
    _OperatorMessage, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="acknowledge"
):
    """Somebody has seen the incident and acts on it: no more reminders."""

    incident_id: Id


class Feedback(
    _OperatorMessage, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="feedback"
):
    """What somebody makes of an incident: the review counts it per rule.

    `noise` and `planned` end its reminders as well. `planned` keeps the hour of a spend anomaly out of what is normal.
    """

    incident_id: Id
    verdict: Verdict


OperatorMessage = Kill | Resume | Silence | LimitException | Acknowledge | Feedback
