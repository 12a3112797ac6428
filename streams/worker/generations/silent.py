"""Input that was counted already, counted once more in silence: what follows from it has been published."""

from typing import Any

from models.stimuli import SpendDue, SpendSeen
from schemas.internal.spend import SpendDelta
from streams.kafka.order_reader import OrderReader
from streams.worker.partition import Partition


def time_of(message: Any) -> int:
    """When it happened, by the brokers' time: a record of the input, or what was spent across tenants."""
    return message.ts_ms if isinstance(message, SpendDelta) else int(message.timestamp()[1])


def take_in(partition: Partition, message: Any, usage_topic: str, orders: OrderReader) -> None:
    """Take in a record of the topic `usage_topic` or of operator.v1, or what was spent across tenants."""
    if isinstance(message, SpendDelta):
        partition.engine.handle(SpendSeen(message))
    elif message.topic() == usage_topic:
        partition.usage(message)
    else:
        partition.operator(message, orders)


def drain_rows(partition: Partition, deltas: list[SpendDelta], *, is_home: bool) -> list[tuple[bytes, bytes | None]]:
    """The rows changed since the last call; None deletes one. What follows is dropped, but for what was spent across
    tenants: it is taken in here where this partition `is_home` of such spend, else added to `deltas`.
    """
    engine = partition.engine
    engine.handle(SpendDue())
    for effect in engine.drain_effects():
        if not isinstance(effect.value, SpendDelta):
            continue
        if is_home:
            engine.handle(SpendSeen(effect.value))
        else:
            deltas.append(effect.value)
    engine.drain_effects()
    engine.drain_repeats()
    partition.misplaced.clear()
    return engine.drain_rows()
