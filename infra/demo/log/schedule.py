"""Putting runs into hours until each hour has cost what the plan says."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from infra.demo.log.trajectories import Trajectory
from schemas.duration import HOUR_MS

OVERFILL = 1.1
"""A run is taken if the hour then costs at most this multiple of its target."""
CANDIDATES = 40
"""How many runs are looked at before an hour counts as full."""


@dataclass(frozen=True)
class Kind:
    """Whose runs these are: the attribution their `run_started` carries."""

    tenant_id: str
    workflow: str
    owner: str
    project: str
    agent: str
    prompt_version: str
    environment: str = "prod"
    priced: bool = True


@dataclass(frozen=True)
class Placed:
    """A run with its owner and its place in time."""

    kind: Kind
    run: Trajectory
    start_ms: int


def place(kind: Kind, run: Trajectory, hour_ms: int, rng: Random) -> Placed:
    """Somewhere in the hour, ending within it if it is short enough."""
    room = max(HOUR_MS - run.duration_ms - 60_000, 60_000)
    return Placed(kind, run, hour_ms + rng.randrange(room))


def spread(kind: Kind, runs: Sequence[Trajectory], hours: Sequence[int], rng: Random) -> list[Placed]:
    """The runs in their order, evenly over the hours."""
    return [place(kind, run, hours[k * len(hours) // len(runs)], rng) for k, run in enumerate(runs)]


def spend_by_hour(placed: Sequence[Placed]) -> dict[int, int]:
    """Start of the hour -> nano-dollars of the runs that begin in it."""
    spend: dict[int, int] = {}
    for one in placed:
        hour = one.start_ms // HOUR_MS * HOUR_MS
        spend[hour] = spend.get(hour, 0) + one.run.cost_nanousd
    return spend


def fill(
    kind: Kind, pool: deque[Trajectory], targets: Mapping[int, int], spent: Mapping[int, int], rng: Random
) -> list[Placed]:
    """Take runs from the pool until each hour costs its target (nano-dollars), counting what it has `spent` already."""
    placed: list[Placed] = []
    for hour, target in targets.items():
        total = spent.get(hour, 0)
        for _ in range(CANDIDATES):
            while pool and total + pool[0].cost_nanousd <= target * OVERFILL and total < target:
                run = pool.popleft()
                total += run.cost_nanousd
                placed.append(place(kind, run, hour, rng))
            if total >= target or not pool:
                break
            pool.rotate(-1)
    return placed
