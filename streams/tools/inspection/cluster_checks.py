"""The doctor's look at the cluster: topics, who works on them, how far they have come, and the clocks."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from alerting.rendering.figures import clock
from schemas.duration import MINUTE_MS, format_duration
from schemas.topics import load_topics
from streams.kafka.admin import GroupDescription, describe_group, group_members
from streams.kafka.positions import Place, committed_ends, first_offsets, group_offsets, newest_times
from streams.kafka.topics import check
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings
from streams.tools.inspection.finding import Finding, Surroundings
from streams.worker_group import GROUP, shared_topics

WORKERS: Final = GROUP
ALERTING: Final = "spendfuse-alerting"
MOST_BEHIND: Final = 10_000
"""Records of a partition that may wait before it is worth a warning."""
MOST_SHOWN: Final = 6
SILENT_MS: Final = 150_000
"""As long as a worker needs at most to notice by itself that nobody works on a partition, and to see to it."""
UNOWNED: Final = "docs/runbooks/partitions-unowned.md"
CLOCK_SLACK_MS: Final = 2_000
ORDERS_FAIL_MS: Final = 5 * MINUTE_MS
"""Orders from a clock that is off by more are refused."""


class Group(NamedTuple):
    """Processes that share a topic."""

    name: str
    what: str
    topic: str
    start: str
    """The command that runs one."""


GROUPS: Final = (
    Group(WORKERS, "worker", "usage.v1", "python -m streams up"),
    Group(ALERTING, "alerting process", "alerts.v1", "python -m alerting"),
)


def topics(around: Surroundings) -> Iterator[Finding]:
    """Whether they are as declared, under this prefix."""
    settings = around.settings
    under = f"under the prefix {settings.prefix!r}" if settings.prefix else "without a prefix"
    if around.missing:
        others = around.other_prefixes
        advice = "python -m streams topics apply"
        if settings.kafka_security_protocol.upper() != "PLAINTEXT":
            advice += "; if they are there, grant the role reader: python -m infra.kafka.access --help"
        if others:
            advice += f"; or set SPENDFUSE_PREFIX: there are topics under {', '.join(map(repr, others[:MOST_SHOWN]))}"
        yield Finding("wrong", f"missing, or not to be seen, {under}: {', '.join(around.missing)}", advice)
        return
    differences = check(around.admin, settings.prefix, settings.state_generation)
    for difference in differences[:MOST_SHOWN]:
        yield Finding("wrong", difference, "python -m streams topics apply")
    if len(differences) > MOST_SHOWN:
        yield Finding("wrong", f"{len(differences) - MOST_SHOWN} more differences", "python -m streams topics check")
    if not differences:
        count = len(around.places("usage.v1"))
        yield Finding("ok", f"all {len(load_topics())} as declared, {under}; usage.v1 has {count} partitions")


def groups(around: Surroundings) -> Iterator[Finding]:
    """Whether workers and alerting run."""
    for group in GROUPS:
        members = group_members(around.admin, around.settings.group(group.name))
        if not members:
            yield Finding("wrong", f"no {group.what} runs", f"{group.start}, or look why it ended")
            continue
        more = f" and {len(members) - MOST_SHOWN} more" if len(members) > MOST_SHOWN else ""
        shown = ", ".join(members[:MOST_SHOWN])
        yield Finding("ok", f"{_counted(len(members), group.what)}: {shown}{more}")


def owners(around: Surroundings) -> Iterator[Finding]:
    """Whether every partition of the input has a worker that does something for it."""
    group = describe_group(around.admin, around.settings.group(WORKERS), shared_topics(around.settings))
    if not group.members:
        return  # and that is said
    waiting = {number: count for (_, number), count in _behind(around, GROUPS[0]).items()}
    places = around.places("state.v1")
    newest = newest_times(around.admin, places)
    yield owners_finding(group, waiting, {place[1]: around.now_ms - newest.get(place, 0) for place in places})


def owners_finding(group: GroupDescription, waiting: dict[int, int], silent_ms: dict[int, int]) -> Finding:
    """What the group says of each partition's owner, and its state of when anything was last done for it.

    Args:
        group: the workers' group.
        waiting: records by partition.
        silent_ms: how long ago the last commit was, by partition.
    """
    if not group.is_settled:
        return Finding("warning", "the workers are sharing the partitions out", "look again in a minute")
    unowned = ", ".join(str(number) for number in sorted(waiting) if number not in group.owned)
    if unowned:
        return Finding("wrong", f"no worker owns partition {unowned} of usage.v1", UNOWNED)
    silent = ", ".join(str(one) for one in sorted(waiting) if waiting[one] and silent_ms[one] > SILENT_MS)
    if silent:
        text = f"records of partition {silent} wait, and its worker has committed nothing for "
        return Finding("wrong", f"{text}{format_duration(SILENT_MS)} or more", UNOWNED)
    return Finding("ok", f"each of {len(waiting)} partitions has a worker")


def lag(around: Surroundings) -> Iterator[Finding]:
    """How far each group is behind, partition by partition."""
    for group in GROUPS:
        yield lag_finding(group, _behind(around, group))


def lag_finding(group: Group, behind: dict[Place, int]) -> Finding:
    """How far one group is behind."""
    listed = ", ".join(f"{number}: {count:,}" for (_, number), count in sorted(behind.items()))
    text = f"records of {group.topic} that no {group.what} has committed, by partition: {listed}"
    if not any(behind.values()):
        return Finding("ok", f"nothing of {group.topic} waits in any of {len(behind)} partitions")
    if max(behind.values()) <= MOST_BEHIND:
        return Finding("ok", text)
    return Finding("warning", text, "look again in a minute; where it grows: docs/runbooks/worker-lag.md")


def clocks(around: Surroundings) -> Iterator[Finding]:
    """The clock of this host against the broker's, which stamps the records of state.v1."""
    newest = newest_times(around.admin, around.places("state.v1"))
    yield clock_finding(max(newest.values(), default=None), around.now_ms, around.settings.watchdog_s * 1000)


def clock_finding(newest_ms: int | None, now_ms: int, beat_ms: int) -> Finding:
    """What the newest commit says about this host's clock; a worker that is well commits every `beat_ms`."""
    if newest_ms is None:
        return Finding("ok", "not known: no worker has committed anything yet")
    ahead_ms = newest_ms - now_ms
    if ahead_ms > CLOCK_SLACK_MS:
        text = f"this host is {format_duration(ahead_ms)} or more behind the cluster, whose newest commit is of "
        return Finding(
            "wrong" if ahead_ms > ORDERS_FAIL_MS else "warning",
            f"{text}{clock(newest_ms)}",
            f"set the clocks (NTP): orders given here are refused from {format_duration(ORDERS_FAIL_MS)} on",
        )
    age = format_duration(max(0, -ahead_ms))
    if beat_ms and -ahead_ms <= 2 * beat_ms:
        return Finding("ok", f"this host and the cluster agree to within {age}")
    return Finding(
        "warning",
        f"not known: the newest commit is {age} old by this host's clock",
        "if a worker runs, this host's clock is ahead by about that: set it (NTP)",
    )


def _behind(around: Surroundings, group: Group) -> dict[Place, int]:
    places = around.places(group.topic)
    done = group_offsets(around.admin, around.settings.group(group.name))
    ends, firsts = committed_ends(around.admin, places), first_offsets(around.admin, places)
    starts = {place: done.get(place, firsts[place]) for place in places}
    return _waiting(around.settings, group.topic, starts, ends)


def _waiting(settings: Settings, topic: str, starts: dict[Place, int], ends: dict[Place, int]) -> dict[Place, int]:
    """Records of each partition between two offsets. The end of a transaction takes an offset as well, and compaction
    leaves some empty: where there are few, what is there is counted.
    """
    behind = {place: max(0, ends[place] - start) for place, start in starts.items()}
    few = [place for place, offsets in behind.items() if 0 < offsets <= MOST_BEHIND]
    read = committed_records(
        settings,
        topic,
        starts={place[1]: starts[place] for place in few},
        ends={place[1]: ends[place] for place in few},
    )
    records = Counter(message.partition() for message in read) if few else Counter[int]()
    return behind | {place: records[place[1]] for place in few}


def _counted(count: int, what: str) -> str:
    if count == 1:
        return f"1 {what}"
    return f"{count} {what}es" if what.endswith("s") else f"{count} {what}s"
