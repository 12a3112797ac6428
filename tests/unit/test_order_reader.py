"""Which orders are believed."""

import hashlib
import hmac

import pytest

from schemas.codec import encode
from schemas.errors import Undecodable
from schemas.signing import Headers, OperatorKey, tenant_key
from streams.kafka.order_reader import OrderReader
from tests.support.words import order

NOW_MS = 1_795_392_000_000
ROOT = b"the root key of operators, in tests"
MOST_MS = 300_000
OTHER = b"another root key of operators, in tests"
ORDERS = [
    "resume run r", "kill --run r", "silence --all --for 1h", "snooze i", "exception --rule a --limit-usd 5 --for 1h",
    "ack i", "feedback i noise",
]  # fmt: skip


def public(root: bytes) -> bytes:
    return OperatorKey(root).public_key


def as_before(value: bytes) -> Headers:
    """Signed as operators did before they had key pairs, which an agent of the tenant could do as well."""
    text = f"v1|operator|acme|{hashlib.sha256(value).hexdigest()}".encode()
    mac = hmac.new(tenant_key(ROOT, "acme"), text, hashlib.sha256).hexdigest()
    return [("spendfuse-kid", b"operator"), ("spendfuse-signature", mac.encode())]


@pytest.mark.parametrize("words", ORDERS)
def test_nobody_but_an_operator_gives_orders(words: str) -> None:
    """Whatever is ordered: what an agent could ever sign, and what a worker could, is refused."""
    given = order(f"{words} --tenant acme --why w", "ana", NOW_MS)
    value = encode(given)
    reader = OrderReader((public(ROOT),))
    signed = OperatorKey(ROOT).order_headers("acme", value)
    assert reader.read(value, signed, NOW_MS) == given
    forged: dict[str, Headers | None] = {
        "unsigned": None,
        "an HMAC": as_before(value),
        "another key": OperatorKey(OTHER).order_headers("acme", value),
        "the public key as private": OperatorKey(public(ROOT)).order_headers("acme", value),
        "another tenant's": OperatorKey(ROOT).order_headers("globex", value),
        "other bytes": OperatorKey(ROOT).order_headers("acme", value + b" "),
        "cut off": [signed[0], (signed[1][0], signed[1][1][:-2])],
        "no text": [signed[0], (signed[1][0], b"\xff")],
        "null": [signed[0], (signed[1][0], None)],
    }
    for what, headers in forged.items():
        with pytest.raises(Undecodable, match="bad_signature") as refused:
            reader.read(value, headers, NOW_MS)
        assert refused.value.reason == "bad_signature", what


def test_while_a_key_is_replaced_both_are_believed() -> None:
    """Processes are given the new public key beside the old one before anybody signs with the new one."""
    value = encode(order("ack i --tenant acme --why w", "ana", NOW_MS))
    reader = OrderReader((public(ROOT), public(OTHER)))
    for root in (ROOT, OTHER):
        reader.read(value, OperatorKey(root).order_headers("acme", value), NOW_MS)


def test_orders_of_before_the_key_pairs_count_until_the_change() -> None:
    """A rebuild over them counts them again; what is written from then on must have a signature of the new kind."""
    value = encode(order("ack i --tenant acme --why w", "ana", NOW_MS))
    reader = OrderReader((public(ROOT),), ROOT, NOW_MS)
    assert reader.read(value, as_before(value), NOW_MS - 1)
    with pytest.raises(Undecodable, match="bad_signature"):
        reader.read(value, as_before(value), NOW_MS)
    with pytest.raises(Undecodable, match="bad_signature"):
        OrderReader((public(ROOT),), OTHER, NOW_MS).read(value, as_before(value), NOW_MS - 1)


@pytest.mark.parametrize("words", ORDERS)
@pytest.mark.parametrize("away_ms", [-MOST_MS - 1, -MOST_MS, 0, MOST_MS, MOST_MS + 1, 86_400_000])
def test_a_copy_of_an_old_order_is_refused(words: str, away_ms: int) -> None:
    """An order counts at the time at which it is given, by clocks that differ by minutes; its signature, genuine as it
    is, makes no copy of it count another time, whatever it orders.
    """
    given = order(f"{words} --tenant acme --why w", "ana", NOW_MS)
    value = encode(given)
    signed = OperatorKey(ROOT).order_headers("acme", value)
    reader = OrderReader((public(ROOT),))
    if abs(away_ms) <= MOST_MS:
        assert reader.read(value, signed, NOW_MS + away_ms) == given
        return
    with pytest.raises(Undecodable, match="a copy of an old order, or a clock that is wrong") as refused:
        reader.read(value, signed, NOW_MS + away_ms)
    assert refused.value.reason == "bad_time"
