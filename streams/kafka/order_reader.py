"""Reading operators' orders from operator.v1: what is not signed by their key orders nothing."""

from collections.abc import Sequence

from schemas.codec import decode_operator
from schemas.errors import Undecodable
from schemas.operator import OperatorMessage
from schemas.signing import operator_is_genuine

Headers = Sequence[tuple[str, bytes | None]]


def genuine_order(value: bytes | None, headers: Headers | None, root_key: bytes | None) -> OperatorMessage:
    """The order in a record. Without a `root_key` none is believed.

    Raises:
        Undecodable: it is no order, or nobody who has the key wrote it.
    """
    order = decode_operator(value)
    assert value is not None, "no order is read from nothing"
    if root_key is None or not operator_is_genuine(order.tenant_id, value, list(headers or ()), root_key):
        raise Undecodable("bad_signature", "not signed by an operator's key")
    return order
