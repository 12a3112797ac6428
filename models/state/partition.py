"""The state of one partition, and what every part of the engine does with it: change a row, ask for an effect."""

from collections.abc import Callable

from models.effects import Effect
from models.rules.policy import Policy
from models.state.policy_row import EarlierPolicy, FollowedPolicy, PolicyRow
from models.state.rows import Row, row_digest, row_key, row_value
from models.state.spend.unsent import UnsentSpend
from models.state.tenant import Tenant


def _hold_breath() -> None:
    """Nobody waits for a sign of life."""


class PartitionState:
    """Tenants, what has changed since the last commit, and what is to be published."""

    __slots__ = (
        "breathe", "cause_event_id", "dirty", "earlier", "effects", "followed", "now_ms", "policy", "policy_row",
        "raised_until_ms", "row_sum", "tenants", "unsent", "waiting",
    )  # fmt: skip

    def __init__(self, policy: Policy, breathe: Callable[[], None] = _hold_breath) -> None:
        self.policy = policy
        self.breathe = breathe
        """Called between the slices of long work, so that whoever waits knows that it goes on; it changes nothing."""
        self.policy_row = PolicyRow(policy)
        self.tenants: dict[str, Tenant] = {}
        """Those that follow the policy in force."""
        self.waiting: dict[str, Tenant] = {}
        """Those that follow an earlier one: before anything else happens to them, they are brought to that in force."""
        self.earlier: list[EarlierPolicy] = []
        """The policies that somebody who waits follows or has to pass through, oldest first."""
        self.followed: dict[str, FollowedPolicy] = {}
        """Which policy a tenant follows, as far as that is not the oldest that anybody does."""
        self.unsent = UnsentSpend()
        """What its tenants have spent in scopes across tenants since the last delta."""
        self.dirty: list[Row] = []
        self.effects: list[Effect] = []
        self.cause_event_id: str | None = None
        """The event being handled; every alert and command it causes names it."""
        self.now_ms = 0
        """When it happens: the append time of what is being handled, or the time at which something falls due."""
        self.raised_until_ms: set[int] = set()
        """When exceptions that operators ordered end: limits change by themselves then."""
        self.row_sum = 0
        """Sum of the digests of all rows, modulo 2**64: what the fence proves the state with."""

    def new_tenant(self, tenant_id: str) -> Tenant:
        """A tenant that nobody has heard of, under the policy in force."""
        tenant = self.tenants[tenant_id] = Tenant(tenant_id)
        if self.earlier:
            self.follow_newest(tenant_id)
        return tenant

    def all_tenants(self) -> dict[str, Tenant]:
        """Everybody, whichever policy they follow. Not to be changed."""
        return self.tenants | self.waiting if self.waiting else self.tenants

    def forget_tenant(self, tenant: Tenant) -> None:
        """All that is known of a tenant goes: its next message is its first."""
        for row in tenant.rows():
            self.forget(row)
        tenant.timers.clear()
        if (followed := self.followed.pop(tenant.tenant_id, None)) is not None:
            self.forget(followed)
        del self.tenants[tenant.tenant_id]

    def number_of(self, tenant_id: str) -> int:
        """The number of the policy that a tenant follows."""
        followed = self.followed.get(tenant_id)
        if followed is not None:
            return followed.number
        return self.earlier[0].number if self.earlier else self.policy_row.number

    def follow_newest(self, tenant_id: str) -> None:
        """Write down that a tenant follows the policy in force, while others do not."""
        followed = self.followed.get(tenant_id)
        if followed is None:
            followed = self.followed[tenant_id] = FollowedPolicy(tenant_id, 0)
        followed.number = self.policy_row.number
        self.touch(followed)

    def follow(self, policy: Policy) -> None:
        """Another policy is in force."""
        self.policy = policy
        self.policy_row.follow(policy)
        if self.policy_row.row_hash:
            self.touch(self.policy_row)

    def all_follow(self) -> None:
        """No tenant waits for the policy in force any more."""
        for earlier in self.earlier:
            self.forget(earlier)
        self.earlier.clear()
        self.policy_row.number = 0
        if self.policy_row.row_hash:
            self.touch(self.policy_row)

    def touch(self, row: Row) -> None:
        """The row has changed and is to be written."""
        if not row.dirty:
            row.dirty = True
            self.dirty.append(row)

    def forget(self, row: Row) -> None:
        """The row is gone and is to be deleted from the changelog."""
        row.deleted = True
        self.touch(row)

    def publish(self, effect: Effect) -> None:
        """Ask the world to publish something."""
        self.effects.append(effect)

    def drain_effects(self) -> list[Effect]:
        """What has been asked for since the last call, in order."""
        effects, self.effects = self.effects, []
        return effects

    def drain_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Changelog records of all rows changed since the last call; None deletes."""
        records: list[tuple[bytes, bytes | None]] = []
        if self.dirty and not self.policy_row.row_hash:
            self.touch(self.policy_row)  # the first rows: from here on somebody has to know what they follow
        for row in reversed(self.dirty):  # what changed last is still in the processor's cache, and would be driven out
            row.dirty = False
            key = row_key(row)
            value = None if row.deleted else row_value(row)
            if value is None and not row.row_hash:
                continue
            fresh = 0 if value is None else row_digest(key, value)
            self.row_sum = (self.row_sum - row.row_hash + fresh) % 2**64
            row.row_hash = fresh
            records.append((key, value))
        records.reverse()  # of two rows with one key the later one stands
        self.dirty.clear()
        return records

    def discard_rows(self) -> None:
        """Forget which rows have changed, unwritten."""
        for row in self.dirty:
            row.dirty = False
        self.dirty.clear()
