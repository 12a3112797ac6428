"""`incidents`: what is open, how bad, since when, what about, and whose it is."""

import json
from collections.abc import Iterator

import msgspec

from alerting.rendering.figures import clock
from alerting.rendering.foreign import clean, name
from schemas.alert import Alert
from schemas.duration import format_duration
from streams.clock import wall_ms
from streams.settings import Settings
from streams.tools.inspection.incident_facts import IncidentFacts, incident_facts
from streams.tools.inspection.terminal import clipped, entry

INDENT = 10
MOST_OWNERS = 3
HINT = 'One is yours? python -m streams ack ID --tenant T --why "…"'


def run_incidents(settings: Settings, tenant_id: str | None, *, every: bool, as_json: bool) -> int:
    """List the incidents that are open, or every one with those on trial. Raises `BrokerError`."""
    now_ms = wall_ms()
    found = [one for one in incident_facts(settings, tenant_id, now_ms) if every or is_listed(one)]
    if as_json:
        for one in found:
            print(json.dumps(as_data(one)))
        return 0
    print(_heading(found))
    for one in found:
        print()
        print("\n".join(incident_lines(one, now_ms)))
    if any(one.is_open for one in found):
        print(f"\n{HINT}")
    return 0


def is_listed(one: IncidentFacts) -> bool:
    """Whether somebody should look at it: it is open, and its rule is not on trial."""
    return one.is_open and one.newest.mode != "shadow"


def incident_lines(one: IncidentFacts, now_ms: int) -> list[str]:
    """An incident in a few lines of a terminal."""
    alert = one.newest
    state = alert.severity if one.is_open else "resolved"
    lasted_ms = max(0, (now_ms if one.is_open else alert.ts_ms) - one.since_ms)
    lasts = f"since {clock(one.since_ms)}, for {format_duration(lasted_ms)}"
    return [
        clipped(f"{state.upper():<{INDENT}}{clean(one.short_id, 40)}  {lasts}"),
        *entry("", alert.summary, indent=INDENT),
        *entry("", " · ".join(_whose(one)), indent=INDENT),
    ]


def as_data(one: IncidentFacts) -> dict[str, object]:
    """The same for machines."""
    who = None if one.acknowledged is None else one.acknowledged.who
    alert = msgspec.to_builtins(one.newest)
    return {"id": one.short_id, "open": one.is_open, "since_ms": one.since_ms, "acknowledged_by": who, "alert": alert}


def _heading(found: list[IncidentFacts]) -> str:
    opened = sum(one.is_open for one in found)
    ended = len(found) - opened
    heading = "no incident is open" if not opened else f"{opened:,} open incident{'s' if opened > 1 else ''}"
    return f"{heading}, {ended:,} ended" if ended else heading


def _whose(one: IncidentFacts) -> Iterator[str]:
    alert = one.newest
    yield name(alert.tenant_id, 40)
    yield _owners(alert)
    yield f"rule {name(alert.rule, 40)}"
    if alert.run_id is not None:
        yield f"run {name(alert.run_id, 40)}"
    if alert.mode == "shadow":
        yield "on trial"
    if one.acknowledged is not None:
        yield f"in hand: {clean(one.acknowledged.who, 40)}"


def _owners(alert: Alert) -> str:
    owners = [alert.owner] if alert.owner else alert.owners
    more = f" and {len(owners) - MOST_OWNERS} more" if len(owners) > MOST_OWNERS else ""
    return f"owner {', '.join(name(one, 40) for one in owners[:MOST_OWNERS])}{more}" if owners else "nobody's"
