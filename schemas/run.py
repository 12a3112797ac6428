"""runs.v1: one run as it stands, written again while it changes; the last message per key stands."""

from typing import Literal

import msgspec

from schemas.control import CommandAction, TargetType
from schemas.signing import part
from schemas.usage import Tags


class NearestLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limit that a run has used up most of: its own, its session's or its tree's, or a budget it spends in.

    `used` and `limit` are in `unit`: nano-dollars, calls or milliseconds.
    """

    rule: str
    per: str
    """`run`, `session`, `run_tree`, or `scope` for a budget."""
    used: int
    limit: int
    unit: Literal["nanousd", "calls", "ms"]

    @property
    def share(self) -> float:
        """1.0 is the limit itself."""
        return self.used / self.limit if self.limit else 1.0


class OrderOnRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The strictest command that stands on a run, on whichever target it was given."""

    command_id: str
    action: CommandAction
    target_type: TargetType
    target_id: str
    rule: str
    incident_id: str
    reason: str
    issued_ms: int
    spent_nanousd: int
    """What the run had cost when it was given, or, where it was given to more than the run, when the run was first
    recorded under it: what it costs beyond that is overshoot."""
    cause_event_id: str | None = None
    acted: str | None = None
    """The guard's answer, as in `command_ack`."""
    acted_ms: int | None = None
    denied_by: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one run has done so far. Counts, tokens and money are totals since it began.

    `cost_nanousd` holds what its tools cost too. `model` is the one that most of it went to, `context_tokens` the input
    of its latest model call. `status` is what its last `run_finished` said, or `idle` where it fell silent instead, and
    `outcome` what became of its output.
    """

    tenant_id: str
    run_id: str
    ts_ms: int
    """When it stood so, by the brokers' time."""
    state: Literal["live", "finished"]
    started_ms: int
    last_ms: int
    cost_nanousd: int
    calls: int
    tool_calls: int
    retries: int
    premium_calls: int
    input_tokens: int
    output_tokens: int
    retried_nanousd: int = 0
    """What its calls cost that were sent again."""
    context_tokens: int = 0
    model: str | None = None
    ended_ms: int | None = None
    status: str | None = None
    outcome: str | None = None
    session_id: str | None = None
    root_run_id: str | None = None
    parent_run_id: str | None = None
    workflow: str | None = None
    owner: str | None = None
    project: str | None = None
    environment: str | None = None
    agent: str | None = None
    user: str | None = None
    feature: str | None = None
    tier: str | None = None
    task_category: str | None = None
    feature_flag: str | None = None
    prompt_version: str | None = None
    tags: Tags | None = None
    expected_route: str | None = None
    expected_outcome: str | None = None
    escalation: str | None = None
    """Why it went on with a premium model, as it said itself."""
    nearest: NearestLimit | None = None
    order: OrderOnRun | None = None

    @property
    def key(self) -> str:
        """The record key, whatever characters names hold."""
        return f"{part(self.tenant_id)}/{part(self.run_id)}"
