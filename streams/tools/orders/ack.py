"""`ack`: say that you act on an incident. Nobody is reminded of it until it has ended."""

from collections.abc import Iterator

from schemas.operator import Acknowledge
from streams.tools.orders.verb import (
    Audit,
    Facts,
    Fields,
    Options,
    Verb,
    add_incident,
    complete_incident,
    look_at_incident,
)


def _build(options: Options, common: Fields, now_ms: int) -> Acknowledge:
    del now_ms
    return Acknowledge(**common, incident_id=options.incident)


def _look(order: Acknowledge, facts: Facts) -> Iterator[str]:
    return look_at_incident(order.tenant_id, order.incident_id, facts)


VERB = Verb(
    "ack",
    "say that you act on an incident: nobody is reminded of it",
    Acknowledge,
    add_incident,
    _build,
    _look,
    Audit(lambda *_: "until the incident ends"),
    complete_incident,
)
