"""Which policies the rows of a partition follow, as rows among them: whoever restores them knows what they mean.

Nearly always all follow one. While another policy is being brought to the tenants, one after the other, those that it
has not reached follow an earlier one, and every tenant that has left the oldest of these has a row that says so.
"""

from typing import Any, Final

import msgspec

from models.rules.policy import Policy, read_policy_json
from models.state.rows import Row, read_fields, row_key_of
from schemas.errors import PolicyError

POLICY_KEY: Final = row_key_of("policy")


class PolicyRow(Row):
    """The policy in force."""

    __slots__ = ("_source", "number")
    kind = "policy"

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._source = policy.to_json()
        self.number = 0
        """How many policies there have been since all tenants followed one, 0 while they do."""

    def follow(self, policy: Policy) -> None:
        """Another policy is in force."""
        self._source = policy.to_json()

    def key_parts(self) -> tuple[str, ...]:
        return ()

    def fields(self) -> tuple[Any, ...]:
        return (self._source, self.number) if self.number else (self._source,)


class EarlierPolicy(Row):
    """A policy that some tenants follow still, or have to pass through."""

    __slots__ = ("number", "policy", "tenants", "until_ms")
    kind = "earlier_policy"

    def __init__(self, number: int, policy: Policy | None, until_ms: int) -> None:
        super().__init__()
        self.number = number
        self.policy = policy
        """None where this version cannot read it."""
        self.until_ms = until_ms
        """Since when the one after it has been in force."""
        self.tenants = 0
        """How many follow it."""

    def key_parts(self) -> tuple[str, ...]:
        return (str(self.number),)

    def fields(self) -> tuple[Any, ...]:
        return (b"" if self.policy is None else self.policy.to_json(), self.until_ms)

    @classmethod
    def read(cls, number: str, value: bytes) -> "EarlierPolicy":
        """An earlier policy as its row holds it."""
        return cls(int(number), policy_of(value), int(read_fields(value)[1]))


class FollowedPolicy(Row):
    """Which policy a tenant follows. One without such a row follows the oldest that anybody does."""

    __slots__ = ("number", "tenant_id")
    kind = "followed_policy"

    def __init__(self, tenant_id: str, number: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.number = number

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id,)

    def fields(self) -> tuple[Any, ...]:
        return (self.number,)


def policy_of(value: bytes) -> Policy | None:
    """The policy that a row holds, None where this version cannot read it any more, or no row at all."""
    try:
        return read_policy_json(read_fields(value)[0])
    except (PolicyError, msgspec.DecodeError, TypeError, LookupError):
        return None


def number_of(value: bytes) -> int:
    """The number in the row of the policy in force, 0 where all tenants follow it."""
    try:
        number = read_fields(value)[1]
    except (msgspec.DecodeError, TypeError, LookupError):
        return 0
    return number if isinstance(number, int) else 0
