"""`snooze`: tell nobody of one incident, for an hour unless told otherwise."""

import argparse
from collections.abc import Iterator

from schemas.operator import Silence
from streams.tools.orders import silence
from streams.tools.orders.verb import (
    Facts,
    Fields,
    Options,
    Verb,
    add_end,
    add_incident,
    look_at_incident,
    needed_end_ms,
)

SPAN = "1h"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_incident(parser)
    add_end(parser.add_mutually_exclusive_group())


def _build(options: Options, common: Fields, now_ms: int) -> Silence:
    until_ms = needed_end_ms(options, now_ms, silence.MOST_DAYS, otherwise=SPAN)
    return Silence(**common, match={"incident_id": options.incident}, until_ms=until_ms)


def _look(order: Silence, facts: Facts) -> Iterator[str]:
    return look_at_incident(order.tenant_id, order.match["incident_id"], facts)


VERB = Verb(
    "snooze",
    "tell nobody of one incident, for an hour unless told otherwise",
    Silence,
    _add_arguments,
    _build,
    _look,
    silence.VERB.audit,
    silence.complete,
)
