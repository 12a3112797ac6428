"""A guard for asyncio: the same questions, awaited, and a task that is cancelled when its run is killed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import NoReturn, Self, TypeVar, Unpack

from spendfuse._client.errors import Paused, Stopped
from spendfuse._client.guard import POLL_S, Advice, Guard
from spendfuse._client.run import Run
from spendfuse._client.runlike import RunLike
from spendfuse._control.scope import CallDimensions

T = TypeVar("T")


class AsyncGuard:
    """Asks a guard without ever waiting in the event loop. Make the guard as usual and give it here.

        guard = AsyncGuard(Guard(KafkaControl(), emitter, when_blind="stop", tenant_id="acme", keys=keys))
        assert await guard.wait_ready(30), guard.guard.waiting_for
        with emitter.run("acme", workflow="research") as run:
            answer = await guard.call(run, client.complete(prompt), model="gpt-5")

    `call` and `cancelling` end what is under way as soon as a kill arrives; a pause ends nothing that has begun.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    async def wait_ready(self, timeout_s: float = 10.0) -> bool:
        """As `Guard.wait_ready`."""
        return await asyncio.to_thread(self.guard.wait_ready, timeout_s)

    async def check(self, run: RunLike, *, by: str | None = None, **call: Unpack[CallDimensions]) -> None:
        """As `Guard.check`: return when the run may make its next call; raise Stopped or Paused when it may not."""
        await self._look_first()
        self.guard.check(run, by=by, **call)

    async def advice(self, run: RunLike, **call: Unpack[CallDimensions]) -> Advice:
        """As `Guard.advice`."""
        await self._look_first()
        return self.guard.advice(run, **call)

    async def nudge(self, run: RunLike) -> str | None:
        """As `Guard.nudge`: a sentence to put before the model, each once."""
        await self._look_first()
        return self.guard.nudge(run)

    async def wait_while_paused(
        self, run: RunLike, timeout_s: float | None = None, **call: Unpack[CallDimensions]
    ) -> bool:
        """As `Guard.wait_while_paused`: wait a pause out; False when it still stands after `timeout_s`."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                await self.check(run, **call)
            except Paused:
                left_s = POLL_S if deadline_s is None else min(POLL_S, deadline_s - time.monotonic())
            else:
                return True
            if left_s <= 0:
                return False
            await asyncio.sleep(left_s)

    @asynccontextmanager
    async def cancelling(self, run: RunLike, **call: Unpack[CallDimensions]) -> AsyncIterator[None]:
        """Check, then cancel what this task awaits in the block as soon as a kill for the run arrives.

        The block then ends with Stopped; cancelled by somebody else, it ends with CancelledError as ever. A run object
        of your own is watched from here on: `unwatch` it at its end.
        """
        await self._look_first()
        cancelling = _Cancelling(run)
        end = self.guard.on_stop(cancelling.heard)
        try:
            if not (isinstance(run, Run) and run.finished):
                self.guard.watch(run)
            self.guard.check(run, **call)
            yield
        except BaseException as error:
            stopped = cancelling.settle()
            if stopped is None or isinstance(error, Stopped):
                raise
            self._obey(run, call, stopped, error)
        else:
            if (stopped := cancelling.settle()) is not None:  # the block has swallowed its cancellation
                self._obey(run, call, stopped, None)
        finally:
            cancelling.is_over = True
            end()

    async def call(self, run: RunLike, awaitable: Awaitable[T], **call: Unpack[CallDimensions]) -> T:
        """Check, then await one model or tool call, and end it with Stopped as soon as a kill for the run arrives."""
        try:
            async with self.cancelling(run, **call):
                return await awaitable
        finally:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()  # one that was never begun would complain

    def _obey(self, run: RunLike, call: CallDimensions, stopped: Stopped, error: BaseException | None) -> NoReturn:
        self.guard.check(run, **call)  # acknowledges the kill and raises, unless it was lifted by now
        raise stopped from error

    async def close(self) -> None:
        """As `Guard.close`."""
        await asyncio.to_thread(self.guard.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _look_first(self) -> None:
        """The first question may wait for the topic to be read: not in the event loop."""
        if not self.guard.has_looked:
            await asyncio.to_thread(self.guard.look_first)


class _Cancelling:
    """Cancels the task that made it, once, from the guard's thread."""

    def __init__(self, run: RunLike) -> None:
        self.is_over = False
        self._run = (run.tenant_id, run.run_id)
        task = asyncio.current_task()
        assert task is not None, "asyncio runs coroutines in tasks"
        self._task = task
        self._cancelled_before = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._stopped: Stopped | None = None

    def heard(self, run: RunLike, stopped: Stopped) -> None:
        """Called by the guard, in its thread, for every run that is killed."""
        if (run.tenant_id, run.run_id) == self._run:
            self._loop.call_soon_threadsafe(self._cancel, stopped)

    def settle(self) -> Stopped | None:
        """Return what the task was cancelled for, if nobody else has cancelled it as well."""
        if self._stopped is None or self._task.uncancel() > self._cancelled_before:
            return None
        return self._stopped

    def _cancel(self, stopped: Stopped) -> None:
        if not self.is_over and self._stopped is None:
            self._stopped = stopped
            self._task.cancel()
