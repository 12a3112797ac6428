"""One partition's pipeline at work: stimuli go in, one at a time, and effects are performed in their order."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from alerting.delivery.log import Reviewed
from alerting.effects import Effect, Failed, Record, Send, Sent, WaitUntil
from alerting.pipeline import Pipeline
from schemas.alert import Alert
from schemas.operator import OperatorMessage
from streams.clock import BrokerClock


@dataclass(frozen=True, slots=True)
class RoutingChanged:
    """The pipeline is to be made anew, from the log and the routing now in force."""


@dataclass(frozen=True, slots=True)
class LogLost:
    """The partition's log has lost records: what the pipeline knows of it is to be written again."""


Decided = Alert | OperatorMessage | Sent | Failed | Reviewed | LogLost
Stimulus = Decided | RoutingChanged
Published = Awaitable[Any]
"""Done once the broker has a record."""

MOST_AT_ONCE = 200
"""So many stimuli share one wait for the broker."""
MOST_WAITING = 1_000
"""Stimuli beyond it make whoever brings them wait."""
LONGEST_SLEEP_S = 30.0
"""The clock may be set while we sleep: a broker tells its time."""


@dataclass(frozen=True, slots=True)
class _Entry:
    stimulus: Stimulus
    done: Callable[[], None] | None = None


class Notifier:
    """Runs the pipeline of one partition's tenants.

    `restore` makes the pipeline from the partition's log. `publish` hands a record to the producer; what it returns is
    done when the broker has it. `send` begins to send a message and returns at once; its outcome is given to `submit`.
    `brokers` is the time that it goes by.
    Whatever fails here ends the process: nothing may follow a record that the broker may not have.
    """

    def __init__(
        self,
        restore: Callable[[], Awaitable[Pipeline]],
        publish: Callable[[Record], Awaitable[Published]],
        send: Callable[[Send, "Notifier"], None],
        brokers: BrokerClock | None = None,
    ) -> None:
        self._brokers = brokers or BrokerClock()
        self.pipeline: Pipeline | None = None
        """None until the log has been read."""
        self.handled = 0
        """Counts up with every stimulus that was handled."""
        self._submitted = 0
        self._restore = restore
        self._restored = asyncio.Event()
        self._publish = publish
        self._send = send
        self._inbox: asyncio.Queue[_Entry | None] = asyncio.Queue(MOST_WAITING)
        self._wake_ms: int | None = None
        self._unpublished: list[Published] = []

    @property
    def waiting(self) -> int:
        """How many stimuli were submitted and not yet handled."""
        return self._submitted - self.handled

    async def submit(self, stimulus: Stimulus, done: Callable[[], None] | None = None) -> None:
        """Hand in a stimulus. `done` is called once the broker has all records that follow from it."""
        self._submitted += 1
        await self._inbox.put(_Entry(stimulus, done))

    async def wait_restored(self) -> None:
        """Return once the log has been read for the first time."""
        await self._restored.wait()

    async def finish(self) -> None:
        """Have `run` end after what has been submitted so far."""
        await self._inbox.put(None)

    async def run(self) -> None:
        """Work until `finish`."""
        pipeline = await self._begin()
        while (entries := await self._next()) is not None:
            if not entries:
                self._wake_ms = None
                await self._perform(pipeline.tick(self._brokers.now_ms()))
            for entry in entries:
                if isinstance(entry.stimulus, RoutingChanged):
                    pipeline = await self._begin()
                else:
                    await self._perform(_decide(pipeline, entry.stimulus, self._brokers.now_ms()))
            await self._flush()
            for entry in entries:
                self.handled += 1
                if entry.done is not None:
                    entry.done()

    async def _begin(self) -> Pipeline:
        await self._flush()
        pipeline = self.pipeline = await self._restore()
        self._restored.set()
        await self._perform(pipeline.tick(self._brokers.now_ms()))
        await self._flush()
        return pipeline

    async def _next(self) -> list[_Entry] | None:
        """What has been submitted; nothing when it is time for a tick; None at the end."""
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
        return min(max((self._wake_ms - self._brokers.now_ms()) / 1000, 0.0), LONGEST_SLEEP_S)

    async def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record():
                    self._unpublished.append(await self._publish(effect))
                case Send():
                    await self._flush()
                    self._send(effect, self)
                case WaitUntil(at_ms=at_ms):
                    self._wake_ms = at_ms

    async def _flush(self) -> None:
        """Wait until the broker has all records handed over so far."""
        unpublished, self._unpublished = self._unpublished, []
        await asyncio.gather(*unpublished)


def _decide(pipeline: Pipeline, stimulus: Decided, now_ms: int) -> list[Effect]:
    match stimulus:
        case Alert():
            return pipeline.alert(stimulus, now_ms)
        case Sent():
            return pipeline.sent(stimulus)
        case Failed():
            return pipeline.failed(stimulus)
        case Reviewed():
            return pipeline.reviewed(stimulus)
        case LogLost():
            return pipeline.log_lost()
        case _:
            return pipeline.operator(stimulus, now_ms)
