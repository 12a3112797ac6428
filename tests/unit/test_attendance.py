"""Whether somebody works on every partition: when this is a matter for a repair, for whom, and when for people."""

from collections.abc import Collection

import pytest

from streams.group_repair import cure
from streams.kafka.admin import GroupDescription, Member
from streams.worker_group import ALARM_AFTER, REJOIN, REPAIR_AFTER, Attendance

PATIENCE_MS = 30_000
STEP_MS = 5_000
ME, OTHER, THIRD = "engine-0", "engine-1", "engine-2"


class Looks:
    """A look every few seconds."""

    def __init__(self) -> None:
        self.ms = 1_000
        self.told = Attendance(PATIENCE_MS, lambda: self.ms)
        self.attempts: list[int] = []

    def find(self, idle: Collection[int], for_ms: int) -> None:
        """The same for a while."""
        for _ in range(0, for_ms, STEP_MS):
            self.ms += STEP_MS
            self.told.note(idle)
            if attempt := self.told.due():
                self.attempts.append(attempt)


def test_what_moves_now_and_then_is_well() -> None:
    """A rebalance, a restart and a restore that take a minute, again and again, and a broker that is away for long."""
    looks = Looks()
    for _ in range(100):
        looks.find([0, 2], 60_000)
        looks.told.not_known()
        looks.ms += 10 * PATIENCE_MS
        looks.find([2], STEP_MS)
        assert looks.told.fault() is None
        looks.find([], STEP_MS)
        assert looks.told.unattended_s == 0
    assert looks.attempts == []


def test_what_stays_is_repaired_and_told_to_people_if_that_is_to_no_avail() -> None:
    """Again and again, each partition by itself, until somebody works on it; then it begins anew."""
    looks = Looks()
    looks.find([2], REPAIR_AFTER * PATIENCE_MS)
    assert (looks.attempts, looks.told.idle) == ([], [2])
    looks.find([2], STEP_MS)
    assert looks.attempts == [1]
    looks.find([1, 2], PATIENCE_MS)
    assert (looks.attempts, looks.told.fault()) == ([1], None)
    looks.find([1, 2], PATIENCE_MS)
    assert looks.attempts == [1, 2]
    fault = looks.told.fault()
    assert fault is not None
    assert fault.startswith(f"nobody has worked on partition 2 of the input for {ALARM_AFTER * PATIENCE_MS // 1000} s;")
    looks.find([], STEP_MS)
    assert looks.told.fault() is None
    looks.find([1], REPAIR_AFTER * PATIENCE_MS + STEP_MS)
    assert looks.attempts[-1] == 1


def group(settled: bool = True, static: bool = True, **owned: Collection[int]) -> GroupDescription:
    """Members of these slots, with what they own."""
    members = (Member(f"engine-{slot[1:]}", "host", static, frozenset(one)) for slot, one in owned.items())
    return GroupDescription(settled, tuple(members))


CURES: list[tuple[str, GroupDescription, str, str | None]] = [
    ("a member that is no more", group(s0=[0, 1], s1=[2]), ME, OTHER),
    ("a member without a name of its own", group(static=False, s0=[0, 1], s1=[2]), ME, None),
    ("a partition that nobody owns", group(s0=[0, 1]), ME, REJOIN),
    ("a partition that it owns itself and does not know", group(s0=[0, 1, 2]), ME, REJOIN),
    ("a group that does not know this worker", group(s1=[0, 1, 2]), ME, REJOIN),
    ("a group that knows nobody", group(), ME, REJOIN),
    ("a group that waits for somebody", group(settled=False, s0=[], s1=[]), ME, None),
    ("another is first", group(s0=[], s1=[0, 1], s2=[2]), OTHER, None),
    ("the first is the one that does nothing", group(s0=[2], s1=[0, 1]), OTHER, ME),
]


@pytest.mark.parametrize(("what", "described", "own_name", "found"), CURES, ids=[case[0] for case in CURES])
def test_each_state_of_a_group_has_its_cure(
    what: str, described: GroupDescription, own_name: str, found: str | None
) -> None:
    """Partition 2 is idle; it is asked for the first time."""
    assert cure(described, own_name, [2], 1, []) == found, what


def test_a_cure_that_does_not_help_is_not_repeated_for_ever() -> None:
    """Nobody is replaced again who was a while ago; the next worker tries; and joining anew becomes ever more seldom,
    because the state is read back each time.
    """
    assert cure(group(s0=[0, 1], s1=[2]), ME, [2], 2, [OTHER]) is None
    assert cure(group(s0=[], s1=[0, 1], s2=[2]), OTHER, [2], 2, []) == THIRD
    rejoins = [attempt for attempt in range(1, 40) if cure(group(s0=[0, 1]), ME, [2], attempt, [])]
    assert rejoins == [1, 2, 4, 8, 16, 32]
