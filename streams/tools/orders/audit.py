"""`orders`: who ordered what, why and until when, and what of it is in force. What was forged is listed as refused."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from alerting.rendering.figures import clock
from alerting.rendering.foreign import clean
from alerting.rendering.meaning import author, meaning
from schemas.codec import decode_operator
from schemas.errors import SettingsError, Undecodable
from schemas.operator import Kill, OperatorMessage, Resume
from streams.clock import wall_ms
from streams.kafka.admin import partition_count
from streams.kafka.order_reader import OrderReader
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings
from streams.tools.orders.registry import AUDITS
from streams.tools.orders.verb import Status


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """A record of operator.v1 as it was read."""

    partition: int
    offset: int
    appended_ms: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Audited:
    """A record, what it orders, and what has become of that. Of what was refused, `order` is what it claims."""

    record: OrderRecord
    order: OperatorMessage | None
    status: Status
    refused: str = ""


def run_orders(settings: Settings, tenant: str | None, since_ms: int | None, *, as_json: bool) -> int:
    """List the orders of operator.v1, of one tenant or all, since a moment or ever. Raises `SpendfuseError`."""
    orders = OrderReader.of(settings)
    if orders.believes_nobody:
        raise SettingsError(
            "neither SPENDFUSE_OPERATOR_PUBLIC_KEY nor SPENDFUSE_OPERATOR_KEY is set: without it nobody can tell an "
            "operator's order from a forged one"
        )
    found = audit(read_orders(settings), orders, wall_ms())
    chosen = [one for one in found if _is_chosen(one, tenant, since_ms)]
    for one in chosen:
        print(_line(one) if as_json else _lines(one))
    if not chosen and not as_json:
        print("no orders")
    return 0


def audit(records: Iterable[OrderRecord], orders: OrderReader, now_ms: int) -> list[Audited]:
    """Judge every record, in the order in which workers obey them: of a partition that of its offsets, whatever the
    clocks of those who gave the orders said.
    """
    found: list[Audited] = []
    seen: set[tuple[str, str]] = set()
    about: dict[tuple[str, ...], list[int]] = {}
    """What orders are about -> the places of those that may be in force about it."""
    for record in _in_order(records):
        one = _judged(record, orders, now_ms)
        order = one.order
        if order is not None and one.status != "refused":
            subject = AUDITS[type(order)].subject(order)
            if (order.tenant_id, order.message_id) in seen:
                one = Audited(record, order, "repeated")
            elif subject is not None:
                about[subject] = [*_left_in_force(found, about.get(subject, []), order), len(found)]
            seen.add((order.tenant_id, order.message_id))
        found.append(one)
    return found


def read_orders(settings: Settings) -> list[OrderRecord]:
    """Everything on operator.v1, up to where it ends now. Raises `BrokerError`."""
    partition_count(settings, needed=("operator.v1",), alike=("operator.v1",))
    return [order_record(message) for message in committed_records(settings, "operator.v1")]


def order_record(message: Any) -> OrderRecord:
    """A record of operator.v1 as the client gives it."""
    appended_ms = message.timestamp()[1]
    return OrderRecord(message.partition(), message.offset(), appended_ms, message.value(), message.headers() or [])


def _in_order(records: Iterable[OrderRecord]) -> list[OrderRecord]:
    """Between partitions the time decides, as far as it had come in each: it is that of whoever gave the order."""
    came_to: dict[int, int] = {}
    placed: list[tuple[int, int, int, OrderRecord]] = []
    for record in sorted(records, key=lambda one: (one.partition, one.offset, one.appended_ms)):
        came_to[record.partition] = max(came_to.get(record.partition, 0), record.appended_ms)
        placed.append((came_to[record.partition], record.partition, record.offset, record))
    return [record for *_, record in sorted(placed, key=lambda one: one[:3])]


def _judged(record: OrderRecord, orders: OrderReader, now_ms: int) -> Audited:
    try:
        order = decode_operator(record.value)
    except Undecodable as fault:
        return Audited(record, None, "refused", str(fault))
    try:
        orders.read(record.value, record.headers, record.appended_ms)
    except Undecodable as fault:
        return Audited(record, order, "refused", fault.detail)
    return Audited(record, order, AUDITS[type(order)].status(order, now_ms))


def _left_in_force(found: list[Audited], places: list[int], order: OperatorMessage) -> list[int]:
    """A later order about the same takes the place of earlier ones that are in force; a resume lifts kills. A kill that
    lasts longer than a later one stays.
    """
    left: list[int] = []
    for place in places:
        earlier = found[place]
        if earlier.status != "in force":
            continue
        kill = earlier.order if isinstance(earlier.order, Kill) else None
        if kill is not None and isinstance(order, Kill) and _lasts(kill) > _lasts(order):
            left.append(place)
        else:
            is_lifted = kill is not None and isinstance(order, Resume)
            found[place] = Audited(earlier.record, earlier.order, "lifted" if is_lifted else "replaced")
    return left


def _lasts(kill: Kill) -> float:
    return math.inf if kill.until_ms is None else kill.until_ms


def _is_chosen(one: Audited, tenant: str | None, since_ms: int | None) -> bool:
    ours = tenant is None or one.order is None or one.order.tenant_id == tenant
    return ours and (since_ms is None or one.record.appended_ms >= since_ms)


def _lines(one: Audited) -> str:
    where = f"partition {one.record.partition}, offset {one.record.offset}"
    head = f"{clock(one.record.appended_ms)}  {one.status.upper()}"
    if one.status == "refused":
        claim = "" if one.order is None else f"\n    It claims, by {author(one.order)}: {meaning(one.order)}"
        return f"{head}: {clean(one.refused, 220)} ({where}){claim}"
    assert one.order is not None
    return f"{head}  {author(one.order)}\n    {meaning(one.order)} ({clean(one.order.message_id)})"


def _line(one: Audited) -> str:
    """One JSON object; `in_force` is null where it depends on an incident that this command knows nothing of."""
    in_force = {"in force": True, "until the incident ends": None}.get(one.status, False)
    where = {"partition": one.record.partition, "offset": one.record.offset, "appended_ms": one.record.appended_ms}
    said = {"status": one.status, "in_force": in_force, "refused": one.refused or None, "order": one.order, **where}
    return json.dumps(msgspec.to_builtins(said))
