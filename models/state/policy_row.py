"""The policy in force when the rows were written, as a row among them: whoever restores them knows what they mean."""

from typing import Any, Final

import msgspec

from models.rules.policy import Policy, read_policy_json
from models.state.rows import Row, read_fields, row_key_of
from schemas.errors import PolicyError

POLICY_KEY: Final = row_key_of("policy")


class PolicyRow(Row):
    """The policy that every other row follows."""

    __slots__ = ("_source",)
    kind = "policy"

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._source = policy.to_json()

    def follow(self, policy: Policy) -> None:
        """Another policy is in force."""
        self._source = policy.to_json()

    def key_parts(self) -> tuple[str, ...]:
        return ()

    def fields(self) -> tuple[Any, ...]:
        return (self._source,)


def policy_of(value: bytes) -> Policy | None:
    """The policy that a row holds, None where this version cannot read it any more, or no row at all."""
    try:
        return read_policy_json(read_fields(value)[0])
    except (PolicyError, msgspec.DecodeError, TypeError, LookupError):
        return None
