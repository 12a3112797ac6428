"""`feedback`: say what you make of an incident, for the weekly review."""

import argparse
from collections.abc import Iterator
from typing import get_args

from schemas.operator import Feedback, Verdict
from streams.tools.orders.verb import (
    Audit,
    Facts,
    Fields,
    Options,
    Status,
    Verb,
    add_incident,
    complete_incident,
    look_at_incident,
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_incident(parser)
    parser.add_argument("verdict", choices=get_args(Verdict))


def _build(options: Options, common: Fields, now_ms: int) -> Feedback:
    del now_ms
    return Feedback(**common, incident_id=options.incident, verdict=options.verdict)


def _look(order: Feedback, facts: Facts) -> Iterator[str]:
    return look_at_incident(order.tenant_id, order.incident_id, facts)


def _status(order: Feedback, now_ms: int) -> Status:
    del now_ms
    return "done" if order.verdict == "useful" else "until the incident ends"


VERB = Verb(
    "feedback",
    "say what you make of an incident",
    Feedback,
    _add_arguments,
    _build,
    _look,
    Audit(_status),
    complete_incident,
)
