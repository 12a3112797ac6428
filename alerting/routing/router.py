"""Whose is it? From an alert to its receivers, by a tree of matchers, with the reasons."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import time

from schemas.alert import WATCHDOG, Alert
from schemas.routing import CONSOLE, LabelMatcher, Route, Routing

DEFAULT_GROUP_BY = ("tenant_id", "owner")
DEFAULT_RENOTIFY_MS = 4 * 3_600_000


@dataclass(frozen=True, slots=True)
class Destination:
    """A receiver, and how it wants to be told."""

    receiver: str
    group_by: tuple[str, ...] = DEFAULT_GROUP_BY
    group_wait_ms: int | None = None
    """None: as long as the severity allows."""
    hold_ms: int = 0
    digest_at: tuple[time, ...] = ()
    """Times of day at which it is told what pages nobody. Empty: as it comes."""
    digest_timezone: str = "UTC"
    renotify_ms: int = DEFAULT_RENOTIFY_MS


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where labels lead and why: one line for every route that was looked at."""

    destinations: tuple[Destination, ...]
    steps: tuple[str, ...]

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of who is told."""
        return tuple(destination.receiver for destination in self.destinations)


def labels(alert: Alert) -> dict[str, str]:
    """What of an alert can be matched: its scope, whose spend it is, and what it says of itself."""
    found = {
        **alert.attribution,
        **alert.scope,
        "severity": alert.severity,
        "rule": alert.rule,
        "detector": alert.detector,
        "tenant_id": alert.tenant_id,
        "incident_id": alert.incident_id,
        "state": alert.state,
        "mode": alert.mode,
    }
    if alert.owner is not None:
        found["owner"] = alert.owner
    if alert.run_id is not None:
        found["run_id"] = alert.run_id
    return found


def matches(matcher: LabelMatcher | Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether every label the matcher names has one of its values."""
    return _mismatch(matcher, found) is None


class Router:
    """The routing tree at work."""

    def __init__(self, routing: Routing) -> None:
        self._routes = routing.route
        self._receivers = routing.all_receivers

    def destinations(self, alert: Alert) -> tuple[Destination, ...]:
        """Who is told of an alert, each receiver once."""
        return self.explain(labels(alert)).destinations

    def explain(self, found: Mapping[str, str]) -> Explanation:
        """Where an alert with these labels goes. What no route takes goes to the console.

        A watchdog's goes only where a route matches its detector by name: to whom an outside monitor listens.
        """
        steps: list[str] = []
        is_beat = found.get("detector") == WATCHDOG
        nodes = list(self._descend("route", self._routes, (), Destination(""), found, steps, not is_beat))
        destinations: dict[str, Destination] = {}
        for receivers, how in nodes:
            for receiver in receivers:
                destinations.setdefault(receiver, replace(how, receiver=receiver))
        if not destinations and is_beat:
            steps.append("no route names the watchdog: nobody")
        elif not destinations:
            steps.append(f"no route names a receiver for it: {CONSOLE}")
            destinations[CONSOLE] = Destination(CONSOLE)
        return Explanation(tuple(destinations.values()), tuple(steps))

    def _descend(
        self,
        place: str,
        routes: list[Route],
        receivers: tuple[str, ...],
        how: Destination,
        found: Mapping[str, str],
        steps: list[str],
        meant: bool,
    ) -> Iterator[tuple[tuple[str, ...], Destination]]:
        for index, route in enumerate(routes):
            here = f"{place}[{index}]"
            if (why_not := _mismatch(route.match, found)) is not None:
                steps.append(f"{here}: no, {why_not}")
                continue
            its_receivers = receivers if route.receivers is None else tuple(route.receivers)
            its_how = _inherit(how, route)
            steps.append(f"{here}: yes{_said_of(route.match, found)}")
            asked = meant or _names_watchdog(route)  # nobody hears of a beat who has not asked for it by name
            deeper = list(self._descend(f"{here}.routes", route.routes, its_receivers, its_how, found, steps, asked))
            if not deeper and not asked:
                steps.append(f"{here}: passes it on, because it does not name the watchdog")
                continue
            if not deeper:
                steps.append(f"{here}: takes it to {', '.join(its_receivers) or 'nobody of its own'}")
            yield from deeper or [(its_receivers, its_how)]
            if not route.go_on:
                return


def _inherit(how: Destination, route: Route) -> Destination:
    wait, hold, renotify = route.group_wait_seconds, route.hold_seconds, route.renotify_every_minutes
    return replace(
        how,
        group_by=how.group_by if route.group_by is None else tuple(route.group_by),
        group_wait_ms=how.group_wait_ms if wait is None else round(wait * 1000),
        hold_ms=how.hold_ms if hold is None else round(hold * 1000),
        digest_at=how.digest_at if route.digest_at is None else tuple(map(time.fromisoformat, route.digest_at)),
        digest_timezone=route.digest_timezone or how.digest_timezone,
        renotify_ms=how.renotify_ms if renotify is None else renotify * 60_000,
    )


def _mismatch(matcher: LabelMatcher | Mapping[str, str], found: Mapping[str, str]) -> str | None:
    for name, wanted in matcher.items():
        value = found.get(name)
        if value not in ([wanted] if isinstance(wanted, str) else wanted):
            return f"it has no {name}" if value is None else f"{name} is {value!r}"
    return None


def _names_watchdog(route: Route) -> bool:
    named = route.match.get("detector", ())
    return WATCHDOG in ([named] if isinstance(named, str) else named)


def _said_of(matcher: LabelMatcher, found: Mapping[str, str]) -> str:
    return ", because " + ", ".join(f"{name} is {found[name]!r}" for name in matcher) if matcher else ", it takes all"
