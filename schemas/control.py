"""control.v1: what an agent must do. Kept by compaction: the last command per target stands."""

from typing import Literal

import msgspec

CommandAction = Literal["kill", "pause", "resume", "downgrade", "nudge"]
"""What a command says: an action, which stands until something ends it, or a nudge, which is said once and stands for
nothing: a sentence (`reason`) that the guard of a run hands to its agent, to be put before the model."""
TargetType = Literal["run", "session", "run_tree", "workflow", "tenant", "scope"]
Scope = dict[str, list[str]]
"""Dimension -> its allowed values, as in a rule's `group_by` and `match`: `tenant_id`, attribution, `tags.<name>`,
and of single calls `model`, `provider` and `route`.

A run is in the scope when its own value of every named dimension is one of those listed. A missing value is
"unattributed". An empty scope is the whole tenant; of a command to `spendfuse/all-tenants`, everybody.
"""


class Target(msgspec.Struct, frozen=True):
    """Whom a command is for."""

    type: TargetType
    id: str


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One order to one target. `seq` rises per target; a kill is lifted by nothing but an operator's resume. Nudges are
    for runs, and have record keys and a `seq` of their own: they replace no command.

    `scope` is given for targets of the type `scope` only: it says which runs are meant, runs not yet started included.
    """

    command_id: str
    action: CommandAction
    tenant_id: str
    target: Target
    reason: str
    rule: str
    incident_id: str
    issued_ms: int
    expires_ms: int
    seq: int
    cause_event_id: str | None
    cause_ts_ms: int
    scope: Scope | None = None


class KeyCheck(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="key_check"):
    """Whether others have the engine's keys: its signatures hold, or they don't. It orders nothing.

    One a tenant, under the record key `tenant_id/key_check/engine`, signed like a resume.
    """

    tenant_id: str
    operator_keys: list[str]
    """The public keys, in hexadecimal, of those whose orders the engine obeys."""
