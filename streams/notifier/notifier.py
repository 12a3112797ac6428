"""One partition's pipeline at work: what happens goes in, one at a time, and effects are performed in order."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from alerting.delivery.log import Reviewed
from alerting.effects import Effect, Failed, Record, Send, Sent, WaitUntil
from alerting.pipeline import Pipeline
from schemas.alert import Alert
from schemas.operator import OperatorMessage
from streams import clock


@dataclass(frozen=True, slots=True)
class RoutingChanged:
    """The pipeline is to be made anew, from the log and the routing now in force."""


Decided = Alert | OperatorMessage | Sent | Failed | Reviewed
Stimulus = Decided | RoutingChanged
Kept = Awaitable[Any]
"""Done once the broker has a record."""

MOST_AT_ONCE = 200
"""So many stimuli share one wait for the broker."""
MOST_WAITING = 1_000
"""Stimuli beyond it make whoever brings them wait."""
LONGEST_SLEEP_S = 30.0
"""The clock may be set while we sleep."""


@dataclass(frozen=True, slots=True)
class _Entry:
    stimulus: Stimulus
    done: Callable[[], None] | None = None


class Teller:
    """Tells people about the tenants of one partition.

    `restore` makes the pipeline from the partition's log. `keep` hands a record to the producer; what it returns is
    done when the broker has it. `say` begins a message and returns at once; its outcome is brought to `take`. Whatever
    fails here ends the process: a record that may not be kept must be followed by nothing.
    """

    def __init__(
        self,
        restore: Callable[[], Awaitable[Pipeline]],
        keep: Callable[[Record], Awaitable[Kept]],
        say: Callable[[Send, "Teller"], None],
    ) -> None:
        self.pipeline: Pipeline | None = None
        """None until the log has been read."""
        self.handled = 0
        """Counts up with everything that was dealt with."""
        self._taken = 0
        self._restore = restore
        self._restored = asyncio.Event()
        self._keep = keep
        self._say = say
        self._inbox: asyncio.Queue[_Entry | None] = asyncio.Queue(MOST_WAITING)
        self._wake_ms: int | None = None
        self._unkept: list[Kept] = []

    @property
    def waiting(self) -> int:
        """How much has been handed in and not yet dealt with."""
        return self._taken - self.handled

    async def take(self, stimulus: Stimulus, done: Callable[[], None] | None = None) -> None:
        """Hand something in. `done` is called once all that follows from it is kept."""
        self._taken += 1
        await self._inbox.put(_Entry(stimulus, done))

    async def wait_restored(self) -> None:
        """Return once the log has been read for the first time."""
        await self._restored.wait()

    async def finish(self) -> None:
        """Have `run` end after what has been handed in so far."""
        await self._inbox.put(None)

    async def run(self) -> None:
        """Work until `finish`."""
        pipeline = await self._begin()
        while (entries := await self._next()) is not None:
            if not entries:
                self._wake_ms = None
                await self._perform(pipeline.tick(clock.wall_ms()))
            for entry in entries:
                if isinstance(entry.stimulus, RoutingChanged):
                    pipeline = await self._begin()
                else:
                    await self._perform(_decide(pipeline, entry.stimulus))
            await self._settle()
            for entry in entries:
                self.handled += 1
                if entry.done is not None:
                    entry.done()

    async def _begin(self) -> Pipeline:
        await self._settle()
        pipeline = self.pipeline = await self._restore()
        self._restored.set()
        await self._perform(pipeline.tick(clock.wall_ms()))
        await self._settle()
        return pipeline

    async def _next(self) -> list[_Entry] | None:
        """What has been handed in; nothing when it is time to look by itself; None at the end."""
        try:
            first = await asyncio.wait_for(self._inbox.get(), self._sleep_s())
        except TimeoutError:
            return []
        if first is None:
            return None
        entries = [first]
        while len(entries) < MOST_AT_ONCE and not self._inbox.empty():
            entry = self._inbox.get_nowait()
            if entry is None:
                self._inbox.put_nowait(None)
                break
            entries.append(entry)
        return entries

    def _sleep_s(self) -> float:
        if self._wake_ms is None:
            return LONGEST_SLEEP_S
        return min(max((self._wake_ms - clock.wall_ms()) / 1000, 0.0), LONGEST_SLEEP_S)

    async def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record():
                    self._unkept.append(await self._keep(effect))
                case Send():
                    await self._settle()
                    self._say(effect, self)
                case WaitUntil(at_ms=at_ms):
                    self._wake_ms = at_ms

    async def _settle(self) -> None:
        """Wait until the broker has all records handed over so far."""
        unkept, self._unkept = self._unkept, []
        await asyncio.gather(*unkept)


def _decide(pipeline: Pipeline, stimulus: Decided) -> list[Effect]:
    now_ms = clock.wall_ms()
    match stimulus:
        case Alert():
            return pipeline.alert(stimulus, now_ms)
        case Sent():
            return pipeline.sent(stimulus)
        case Failed():
            return pipeline.failed(stimulus)
        case Reviewed():
            return pipeline.reviewed(stimulus)
        case _:
            return pipeline.operator(stimulus, now_ms)
