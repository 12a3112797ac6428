"""Whose is it? From an alert to its receivers, by a tree of matchers and by its owners, with the reasons."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import time

from alerting.routing.labels import labels, mismatch
from alerting.routing.owners import UNATTRIBUTED, Owners
from schemas.alert import WATCHDOG, Alert
from schemas.routing import CONSOLE, LabelMatcher, Route, Routing

DEFAULT_GROUP_BY = ("tenant_id", "owner")


@dataclass(frozen=True, slots=True)
class Destination:
    """A receiver, and when and with what it is notified."""

    receiver: str
    group_by: tuple[str, ...] = DEFAULT_GROUP_BY
    group_wait_ms: int | None = None
    """None: as long as the severity allows."""
    hold_ms: int = 0
    digest_at: tuple[time, ...] = ()
    """Times of day at which it is sent what pages nobody. Empty: as it comes."""
    digest_timezone: str = "UTC"
    renotify_ms: int = 0
    """The least time between a message and a reminder; 0: each reminder is sent, as often as the engine reminds."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where labels lead and why: one line for every route that was looked at."""

    destinations: tuple[Destination, ...]
    steps: tuple[str, ...]

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of who is notified."""
        return tuple(destination.receiver for destination in self.destinations)


class Router:
    """The routing tree and the owners' table at work."""

    def __init__(self, routing: Routing) -> None:
        self._routes = routing.route
        self._owners = Owners(routing.owners)

    def destinations(self, alert: Alert) -> tuple[Destination, ...]:
        """Who is notified of an alert, each receiver once. Of several owners each is looked at as if alone."""
        return self.explain(labels(alert), alert.owners).destinations

    def explain(self, found: Mapping[str, str], owners: Iterable[str] = ()) -> Explanation:
        """Where an alert with these labels goes. What nothing leads anywhere goes to the console.

        `owners` are those of a shared budget, whose alerts have no label `owner`. A watchdog's alert goes only where a
        route matches its detector by name: to whom an outside monitor listens.
        """
        steps: list[str] = []
        is_heartbeat = found.get("detector") == WATCHDOG
        shared = [] if "owner" in found else list(dict.fromkeys(owners))
        destinations: dict[str, Destination] = {}
        for labelled in [{**found, "owner": owner} for owner in shared] or [dict(found)]:
            if len(shared) > 1:
                steps.append(f"for {labelled['owner']!r}:")
            tree = self._descend("route", self._routes, (), Destination(""), labelled, steps, not is_heartbeat)
            for receivers, how in list(tree):
                for receiver in receivers:
                    destinations.setdefault(receiver, replace(how, receiver=receiver))
            for receiver in () if is_heartbeat else self._of_owner(labelled.get("owner"), steps):
                destinations.setdefault(receiver, Destination(receiver))
        if not destinations and is_heartbeat:
            steps.append("no route names the watchdog: nobody")
        elif not destinations:
            steps.append(f"no route names a receiver for it: {CONSOLE}")
            destinations[CONSOLE] = Destination(CONSOLE)
        return Explanation(tuple(destinations.values()), tuple(steps))

    def _of_owner(self, owner: str | None, steps: list[str]) -> tuple[str, ...]:
        """Receivers of an owner, by the policy's `[owners]`."""
        if not self._owners:
            return ()
        entry, shown = self._owners.find(owner), repr(owner or UNATTRIBUTED)
        if entry is None:
            steps.append(f"owners: no entry for {shown}")
            return ()
        receivers = self._owners.receivers(entry)
        steps.append(f"owners: {shown} matches {entry!r}, which leads to {', '.join(receivers)}")
        return receivers

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
            if (why_not := mismatch(route.match, found)) is not None:
                steps.append(f"{here}: no, {why_not}")
                continue
            its_receivers = receivers if route.receivers is None else tuple(route.receivers)
            its_how = _inherit(how, route)
            steps.append(f"{here}: yes{_said_of(route.match, found)}")
            asked = meant or _names_watchdog(route)  # only who asks for heartbeats by name gets them
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


def _names_watchdog(route: Route) -> bool:
    named = route.match.get("detector", ())
    return WATCHDOG in ([named] if isinstance(named, str) else named)


def _said_of(matcher: LabelMatcher, found: Mapping[str, str]) -> str:
    return ", because " + ", ".join(f"{name} is {found[name]!r}" for name in matcher) if matcher else ", it takes all"
