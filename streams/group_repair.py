"""`python -m streams.group_repair`: what a worker has done about partitions on which nobody works.

Says in a line what it did, or what the worker is to do; nothing for nothing.
"""

import argparse
import sys
from collections.abc import Collection
from typing import Final

from streams.clock import seconds
from streams.kafka.admin import GroupDescription, describe_group
from streams.kafka.client import Admin
from streams.process.ending import run_to_end
from streams.settings import Settings, read_settings
from streams.worker_group import GROUP, REJOIN, REPLACED, member_name, new_member, shared_topics

JOIN_S: Final = 15.0
"""How long a replacement may take to get its place."""


def cure(
    group: GroupDescription, own_name: str, idle: Collection[int], attempt: int, spared: Collection[str]
) -> str | None:
    """What to do: `REJOIN`, the name of a member to replace, or nothing.

    Args:
        group: as its coordinator describes it.
        own_name: of the worker that asks.
        idle: partitions on which nobody works.
        attempt: how often it was asked about them, from 1.
        spared: members that are not to be replaced.
    """
    names = {member.name for member in group.members}
    often = attempt & (attempt - 1) == 0  # ever more seldom: whoever joins anew reads its state back
    if own_name not in names:
        return REJOIN if often else None
    if not group.is_settled:
        return None  # whom it waits for is its coordinator's matter
    owners = {number: member for member in group.members for number in member.owned}
    suspects = {owner.name for number in idle if (owner := owners.get(number)) is not None}
    if own_name in suspects or any(number not in owners for number in idle):
        return REJOIN if often else None
    # One of several begins, and the next where that was to no avail.
    if sum(name < own_name for name in names - suspects) >= attempt:
        return None
    static = {member.name for member in group.members if member.is_static}
    return min((suspects & static) - set(spared), default=None)


def replace(settings: Settings, name: str) -> None:
    """Take a member's place and let it run out: after the session time-out the group shares out what it had. Should the
    member live, it notices and joins anew.
    """
    consumer = new_member(settings, name)
    try:
        consumer.subscribe(shared_topics(settings))
        until = seconds() + JOIN_S
        while not consumer.assignment() and seconds() < until:
            consumer.poll(0.1)
    finally:
        consumer.close()


def main(arguments: list[str] | None = None) -> int:
    """Look at the group, and mend what can be mended from outside."""
    parser = argparse.ArgumentParser(prog="python -m streams.group_repair", description=main.__doc__)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--idle", type=int, nargs="+", required=True)
    parser.add_argument("--spared", nargs="*", default=[])
    asked = parser.parse_args(arguments)
    settings = read_settings()
    group = describe_group(Admin(settings), settings.group(GROUP), shared_topics(settings))
    found = cure(group, member_name(settings), asked.idle, asked.attempt, asked.spared)
    if found == REJOIN:
        print(REJOIN)
    elif found is not None:
        replace(settings, found)
        print(f"{REPLACED}{found}")
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
