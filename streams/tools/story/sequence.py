"""Facts of several partitions in one order: each after its cause, and each partition's as they stand there."""

from collections import Counter, deque
from collections.abc import Iterable

from streams.tools.story.fact import IN_ORDER, Fact, Place

_RANK = {kind: rank for rank, kind in enumerate(IN_ORDER)}


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """All facts, each record once: by the brokers' time, but never before what they follow from.

    Clocks differ: an alert may carry an earlier time than the call that caused it, whose agent's clock is ahead. Of
    such a pair the cause comes first. Within a partition the offsets decide.
    """
    queues = _queues(facts)
    pending = Counter(fact.id for queue in queues for fact in queue if fact.id)
    found: list[Fact] = []
    while queues:
        free = [queue for queue in queues if pending[queue[0].cause or ""] <= 0]
        queue = min(free or queues, key=lambda one: (one[0].at_ms, _RANK[one[0].kind], one[0].place))
        fact = queue.popleft()
        pending[fact.id] -= 1
        found.append(fact)
        queues = [one for one in queues if one]
    return found


def _queues(facts: Iterable[Fact]) -> list[deque[Fact]]:
    by_partition: dict[tuple[str, int], dict[tuple[Place, str], Fact]] = {}
    for fact in facts:
        by_partition.setdefault(fact.place[:2], {}).setdefault((fact.place, fact.id), fact)
    return [deque(sorted(each.values(), key=_in_partition)) for each in by_partition.values()]


def _in_partition(fact: Fact) -> tuple[int, int]:
    """Steps of an enforcer are all in its last record, and go by their times."""
    return (fact.at_ms, 0) if fact.kind == "enforcer" else (fact.place.offset, fact.at_ms)
