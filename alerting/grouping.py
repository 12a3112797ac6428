"""When and with what is it sent? Gathers what is alike into one message; what is critical is sent alone and at once."""

from collections import Counter
from collections.abc import Callable, Iterable

from alerting.dedup import RANK, is_over
from alerting.delivery.log import Delivery
from alerting.muting.hours import next_time_ms
from alerting.notice import Receipt
from alerting.routing.labels import labels
from alerting.routing.router import Destination
from schemas.alert import PAGING, Alert
from schemas.policy import Severity

WAIT_MS: dict[Severity, int] = {"critical": 0, "error": 10_000, "warning": 30_000, "info": 30_000}
LISTED = 10
"""Incidents that one message shows; of others it gives the number, but never of what pages."""
MOST_MESSAGES = 20
"""Messages that one receiver is to be sent at a time; what is less urgent is gathered into the last."""
MOST_CRITICAL_ALONE = 50
"""Beyond it critical incidents share messages too. Each is listed: none becomes a number."""
RARE = 5
"""What one rule finds of one tenant up to so many times is no part of a storm."""

Message = tuple[Delivery, ...]


def group_key(alert: Alert, destination: Destination) -> tuple[str, ...]:
    """Alerts with the same key are sent together. What pages is not mixed with what does not."""
    found = labels(alert)
    return ("pages" if alert.severity in PAGING else "quiet", *(found.get(name, "") for name in destination.group_by))


def wait_ms(alert: Alert, destination: Destination) -> int:
    """How long to gather: what the route says, else by severity; `critical` never waits."""
    if alert.severity == "critical" or destination.group_wait_ms is None:
        return WAIT_MS[alert.severity]
    return destination.group_wait_ms


def due_ms(alert: Alert, *, hold_ms: int, wait_ms: int, now_ms: int) -> int:
    """When to send it: after it has been held and gathered. `critical` is sent at once."""
    return now_ms if alert.severity == "critical" else now_ms + max(hold_ms, wait_ms)


class Groups:
    """When the groups that are being gathered are sent: when the first of them is due."""

    def __init__(self) -> None:
        self._due_ms: dict[tuple[str, ...], int] = {}

    def when_ms(self, alert: Alert, to: Destination, group: tuple[str, ...], now_ms: int) -> int:
        """When to send an alert: `critical` at once, else once it has lasted, with its group or when it is due.

        What pages nobody waits for the receiver's next digest, if it has any.
        """
        if to.digest_at and alert.severity not in PAGING:
            return next_time_ms(to.digest_at, to.digest_timezone, now_ms + to.hold_ms)
        own_ms = due_ms(alert, hold_ms=to.hold_ms, wait_ms=wait_ms(alert, to), now_ms=now_ms)
        if alert.severity == "critical":
            return own_ms
        group_ms = self._due_ms.get((to.receiver, *group))
        if group_ms is None or group_ms <= now_ms or own_ms < group_ms:
            group_ms = self._due_ms[to.receiver, *group] = own_ms
        return max(group_ms, now_ms + to.hold_ms)

    def forget(self, now_ms: int) -> None:
        """Drop the groups that have been sent."""
        self._due_ms = {key: due_ms for key, due_ms in self._due_ms.items() if due_ms > now_ms}


def messages(
    ready: Iterable[Delivery], *, joins: bool, place_of: Callable[[Delivery], Receipt | None]
) -> list[Message]:
    """What is due at one receiver as messages, the most urgent first.

    Alone are what is critical, what updates a message of its own, and everything where `joins` is false. What was over
    before it could be sent is gathered: it is there to be read, and nothing can be done about it. In a storm what is
    rare stays alone, and goes first.
    """
    ready = in_turn(ready)
    alone: list[Message] = []
    critical: list[Delivery] = []
    groups: dict[tuple[str, ...], list[Delivery]] = {}
    for delivery in ready:
        if not joins or delivery.kind != "incident" or place_of(delivery) is not None:
            alone.append((delivery,))
        elif delivery.alert.severity == "critical" and not is_over(delivery.alert):
            critical.append(delivery)
        else:
            state = "over" if is_over(delivery.alert) else "open"
            groups.setdefault((state, *delivery.group), []).append(delivery)
    alone += _critical(critical)
    pages = _at_most(MOST_MESSAGES, [group for group in groups.values() if group[0].alert.severity in PAGING])
    quiet = _at_most(MOST_MESSAGES, [group for group in groups.values() if group[0].alert.severity not in PAGING])
    listed = [message for group in pages for message in _in_full(group, LISTED)]
    turns = {delivery.key: turn for turn, delivery in enumerate(ready)}
    return sorted([*alone, *listed, *map(tuple, quiet)], key=lambda message: turns[message[0].key])


def in_turn(ready: Iterable[Delivery]) -> list[Delivery]:
    """What is due at one receiver, the most urgent first. Where very many wait, of what is as bad the rare goes first:
    another tenant's page would come as late as the storm is long.
    """
    deliveries = sorted(ready, key=urgency)
    if len(deliveries) <= MOST_CRITICAL_ALONE:
        return deliveries
    counts = _counts(deliveries)
    return sorted(deliveries, key=lambda each: (*_badness(each), counts[_finding(each)]))


def _critical(critical: list[Delivery]) -> list[Message]:
    """Each alone, and in a storm all but the rare in messages that list what they are about."""
    if len(critical) <= MOST_CRITICAL_ALONE:
        return _in_full(critical, 1)
    counts = _counts(critical)
    rare = [each for each in critical if counts[_finding(each)] <= RARE]
    if len(rare) > MOST_CRITICAL_ALONE:  # many tenants at once are a storm as well
        return _in_full(critical, LISTED)
    return [*_in_full(rare, 1), *_in_full([each for each in critical if counts[_finding(each)] > RARE], LISTED)]


def _counts(deliveries: Iterable[Delivery]) -> Counter[tuple[str, str]]:
    return Counter(map(_finding, deliveries))


def _finding(delivery: Delivery) -> tuple[str, str]:
    """Whose it is, and which rule found it."""
    return delivery.alert.tenant_id, delivery.alert.rule


def _at_most(most: int, groups: list[list[Delivery]]) -> list[list[Delivery]]:
    """So many groups: what is less urgent is gathered into the last."""
    if len(groups) <= most:
        return groups
    return [*groups[: most - 1], [delivery for group in groups[most - 1 :] for delivery in group]]


def _in_full(deliveries: list[Delivery], size: int) -> list[Message]:
    """Messages that each list all they are about."""
    return [tuple(deliveries[start : start + size]) for start in range(0, len(deliveries), size)]


def urgency(delivery: Delivery) -> tuple[bool, int, int, str]:
    """Sorts what pages and is not over first, then the most severe, then what has waited longest."""
    return *_badness(delivery), delivery.due_ms, delivery.key


def _badness(delivery: Delivery) -> tuple[bool, int]:
    alert = delivery.alert
    wakes = alert.severity in PAGING and not is_over(alert)
    return not wakes, -RANK[alert.severity]
