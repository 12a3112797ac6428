"""Reading operators' orders from operator.v1: what is not signed by their key, or is copied, orders nothing."""

from dataclasses import dataclass
from typing import Self

from models.commands.commands import CLOCKS_DIFFER_MS
from schemas.codec import decode_operator
from schemas.duration import format_duration
from schemas.errors import Undecodable
from schemas.operator import OperatorMessage
from schemas.signing import Headers, operator_signed, operator_signed_before
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class OrderReader:
    """Reads orders, and believes those that an operator has signed.

    `hmac_root` is believed for records of before `hmac_until_ms`: orders that were given before operators had key
    pairs, which a rebuild reads again.
    """

    public_keys: tuple[bytes, ...]
    hmac_root: bytes | None = None
    hmac_until_ms: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A reader that believes whom the settings name."""
        until = settings.operator_hmac_until
        until_ms = 0 if until is None else int(until.timestamp() * 1000)
        return cls(settings.operator_public_keys, settings.operator_root_key, until_ms)

    @property
    def believes_nobody(self) -> bool:
        """Whether there is no key to check with, so that every order is refused."""
        return not self.public_keys

    def read(self, value: bytes | None, headers: Headers | None, append_ms: int) -> OperatorMessage:
        """The order in a record that was appended at `append_ms`.

        Raises:
            Undecodable: it is no order, nobody who has the key wrote it, or it was given at another time.
        """
        order = decode_operator(value)
        assert value is not None, "no order is read from nothing"
        if not self._is_genuine(order.tenant_id, value, headers, append_ms):
            raise Undecodable("bad_signature", "not signed by an operator's key")
        differs_ms = append_ms - order.ts_ms  # what is copied within that has an id that is known
        if abs(differs_ms) > CLOCKS_DIFFER_MS:
            raise Undecodable(
                "bad_time",
                f"written {format_duration(abs(differs_ms))} {'after' if differs_ms > 0 else 'before'} it was given: a "
                "copy of an old order, or a clock that is wrong; give it again",
            )
        return order

    def _is_genuine(self, tenant_id: str, value: bytes, headers: Headers | None, append_ms: int) -> bool:
        if operator_signed(tenant_id, value, headers, self.public_keys):
            return True
        if self.hmac_root is None or append_ms >= self.hmac_until_ms:
            return False
        return operator_signed_before(tenant_id, value, headers, self.hmac_root)
