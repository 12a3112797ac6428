"""Another generation of the state, filled from the input beside the workers that keep the one before.

It goes over the partitions again and again, each from where it was left, until nothing of note is missing; then workers
can be replaced one after the other, and each takes its partitions over within seconds. It may be ended and run again
whenever one likes: nobody reads what it writes until a worker takes over.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from confluent_kafka import KafkaException
from tqdm import tqdm

from schemas.duration import DAY_MS
from schemas.errors import BrokerError, SettingsError, StateError
from schemas.internal.spend import ALL_TENANTS
from schemas.topics import OF_A_GENERATION
from streams.broker_time import BrokerTime
from streams.clock import BrokerClock, pause, seconds
from streams.kafka.admin import BrokerRefusedError, existing_topics
from streams.kafka.client import Admin
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import apply
from streams.process.policies import policy_in_force
from streams.settings import LAST_GENERATION, Settings
from streams.worker.fence import Fence
from streams.worker.generations.filling import FilledElsewhere, Filling, Predecessor, TakenOver
from streams.worker.generations.reading import newest_fences

NEEDED: Final = ("usage.v1", "operator.v1", *OF_A_GENERATION)
NEAR: Final = 100_000
"""So many records are read in two to four seconds when a worker takes a partition over."""
FOLLOW_EVERY_S: Final = 5.0
"""Between two rounds once everything is near."""
FAR_MS: Final = DAY_MS // 2
"""What is passed on a day late counts otherwise, see `Engine`."""
WORSE: Final = 0.9
"""A round that leaves more than this share of what the one before it left does not get nearer."""


class Round(NamedTuple):
    """One time over the partitions."""

    behind: int
    """How many records the partition that is furthest behind lacks now."""
    taken: frozenset[int]
    """Partitions that workers have taken over."""


def parse_partitions(text: str) -> frozenset[int]:
    """Partitions as people write them: `0-3,7`. Raises `ValueError`."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise ValueError(f"{part!r} is no partition, and no range of partitions such as 0-3")
        first, last = int(match[1]), int(match[2] or match[1])
        found.update(range(first, last + 1))
    return frozenset(found)


def run_beside(
    settings: Settings, generation: int, asked: frozenset[int] | None = None, *, follow: bool = False
) -> int:
    """Fill a generation of the state; returns the exit code.

    Args:
        settings: which cluster, and the generation that workers keep now.
        generation: the one to fill.
        asked: these partitions alone, where several machines share the work; None for all.
        follow: whether to go on until workers have taken over all of them.

    Raises:
        SettingsError: these settings cannot be meant.
        StateError: workers keep that generation already, or not the one that the settings name.
        BrokerError: the broker does not answer, or does not allow it.
    """
    if generation == settings.state_generation:
        raise SettingsError(
            f"generation {generation} is the one that workers keep, by SPENDFUSE_STATE_GENERATION: beside them another "
            f"one can be filled, such as --generation {generation + 1}. Where that is the one of workers to come, set "
            "here which one workers keep until then"
        )
    if not 1 <= generation <= LAST_GENERATION:
        raise SettingsError(f"--generation: they are numbered from 1 to {LAST_GENERATION}")
    target = settings.at_generation(generation)
    partitions = len(existing_topics(settings, NEEDED)[settings.topic("usage.v1")].partitions)
    _make_topics(target, partitions)
    numbers = _in_order(asked, partitions)
    try:
        return _Rebuild(settings, target, partitions).run(numbers, follow=follow)
    except KafkaException as error:
        raise BrokerError(error.args[0].str()) from error


def _make_topics(target: Settings, partitions: int) -> None:
    """The topics of the new generation, where they are missing."""
    try:
        existing_topics(target, NEEDED)
    except BrokerError:
        missing = True
    else:
        missing = False
    if not missing:
        return
    try:
        done = apply(Admin(target), target.prefix, partitions, target.replication, target.state_generation)
    except BrokerRefusedError as refused:
        raise BrokerError(
            f"{refused} The topics of generation {target.state_generation} are missing: have whoever may create topics "
            f"run SPENDFUSE_STATE_GENERATION={target.state_generation} python -m streams topics apply"
        ) from None
    for name in done.created:
        print(f"created {name}")


def _in_order(asked: frozenset[int] | None, partitions: int) -> list[int]:
    """The partitions to fill; last the one where spend across tenants comes together, when all of it is known."""
    numbers = set(range(partitions)) if asked is None else asked & set(range(partitions))
    if asked is not None and numbers != asked:
        raise SettingsError(f"--partitions: there are partitions 0 to {partitions - 1}")
    home = partition_of(ALL_TENANTS.encode(), partitions)
    return sorted(numbers, key=lambda number: (number == home, number))


class _Rebuild:
    def __init__(self, settings: Settings, target: Settings, partitions: int) -> None:
        self._settings = settings
        self._target = target
        self._partitions = partitions
        self._home = partition_of(ALL_TENANTS.encode(), partitions)
        self._predecessor = Predecessor(settings, target.state_generation, partitions, lambda: None)
        self._brokers = BrokerClock()
        BrokerTime(target, self._brokers, "state.v1").ask(0)
        self._elsewhere: set[int] = set()
        """Partitions that another process fills: they are left to it, and only watched."""

    def run(self, numbers: list[int], *, follow: bool) -> int:
        """Round after round; returns the exit code."""
        others = [number for number in numbers if number != self._home]
        if others and others != numbers:
            self._until_near(others)
        left, is_told = numbers, False
        while True:
            done = self._until_near(left)
            left = [number for number in left if number not in done.taken]
            if not left:
                print(f"workers of generation {self._target.state_generation} keep partitions {_listed(numbers)} now")
                return 0
            if self._elsewhere and not follow:
                raise StateError(
                    f"partitions {_listed(self._elsewhere)}: another process fills them now. Where that is "
                    "another rebuild, wait until it has ended, and run this command again"
                )
            if not is_told and not self._elsewhere:
                self._tell(left, done.behind, follow=follow)
            if not follow:
                return 0
            is_told = not self._elsewhere
            pause(FOLLOW_EVERY_S)

    def _until_near(self, numbers: list[int]) -> Round:
        """Rounds, until nothing of note is missing, or a round gets no nearer."""
        before, taken = None, frozenset[int]()
        while True:
            done = self._round([number for number in numbers if number not in taken])
            taken |= done.taken
            if done.behind <= NEAR or (before is not None and done.behind > WORSE * before):
                return Round(done.behind, taken)
            before = done.behind

    def _round(self, numbers: list[int]) -> Round:
        policy = policy_in_force(self._settings)
        taken: set[int] = set()
        for number in numbers:
            if number == self._home:
                self._refuse_too_early()
            try:
                left = self._predecessor.fence(number)
                if number in self._elsewhere:
                    continue
                filling = Filling(self._target, number, self._partitions, self._predecessor, self._brokers)
                filling.begin(policy)
                self._follow(number, filling, left)
            except FilledElsewhere as event:
                print(event)
                self._elsewhere.add(number)
            except TakenOver as event:
                print(event)
                taken.add(number)
        return Round(max(self._behind(numbers).values(), default=0), frozenset(taken))

    def _follow(self, number: int, filling: Filling, left: Fence | None) -> None:
        started, behind = seconds(), filling.behind(left)
        with tqdm(total=behind, desc=f"partition {number}", unit=" records", disable=None) as bar:
            filling.follow(left, bar.update)
        offset = filling.partition.usage_offset
        print(f"partition {number}: filled up to offset {offset} of usage.v1 ({seconds() - started:.1f} s)", flush=True)

    def _behind(self, numbers: list[int]) -> dict[int, int]:
        """How many records of usage.v1 the workers are ahead in each partition that they still keep."""
        now, filled = newest_fences(self._settings, numbers), newest_fences(self._target, numbers)
        return {
            number: fence.usage_offset - filled[number].usage_offset
            for number, fence in now.items()
            if number in filled and not fence.moved_on_to
        }

    def _refuse_too_early(self) -> None:
        """What all tenants have spent is not known before every other partition is filled."""
        filled = newest_fences(self._target, range(self._partitions))
        others = set(range(self._partitions)) - {self._home}
        if missing := sorted(others - filled.keys()):
            raise SettingsError(
                f"partition {self._home} is filled last: limits across tenants come together there, and partitions "
                f"{_listed(missing)} are not filled yet. Fill those first, wherever; then run this command again"
            )
        now = newest_fences(self._settings, others)
        late_ms = {number: now[number].last_append_ms - filled[number].last_append_ms for number in others & now.keys()}
        if far := sorted(number for number, ms in late_ms.items() if ms > FAR_MS):
            raise SettingsError(
                f"partition {self._home} is filled last: limits across tenants come together there, and partitions "
                f"{_listed(far)} are not filled to their ends yet. Fill those first; then run this command again"
            )

    def _tell(self, numbers: list[int], behind: int, *, follow: bool) -> None:
        generation = self._target.state_generation
        wait = (
            "This command goes on following them until all are replaced."
            if follow
            else "If that has to wait, run this command again shortly before: it goes on from here."
        )
        print(
            f"generation {generation} of partitions {_listed(numbers)} is at most {behind:,} records behind the "
            "workers. Replace them now, one after the other, by workers with "
            f"SPENDFUSE_STATE_GENERATION={generation}. {wait}",
            flush=True,
        )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
