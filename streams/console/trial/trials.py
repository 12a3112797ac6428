"""Trials of policies, each in a process of its own: one at a time, bounded in time, and seen by who asked for it."""

import asyncio
import logging
import secrets
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.codec import encode
from streams.clock import monotonic_ms
from streams.console.trial.outcome import Asked, Comparison, Done, Failed, Progress, read_line
from streams.process.logs import fields

log = logging.getLogger("spendfuse.console")

LONGEST_S: Final = 900.0
MOST_WAITING: Final = 5
MOST_KEPT: Final = 50
KILL_S: Final = 5.0


@dataclass(slots=True)
class Trial:
    """A trial, and how far it is."""

    key_id: str
    asked: Asked
    days: int
    what: str = "waiting for another trial to end"
    share: float = 0.0
    fault: str = ""
    comparison: Comparison | None = None
    version: int = 0

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end."""
        return bool(self.fault) or self.comparison is not None


class Trials:
    """Every trial that was asked for lately."""

    def __init__(self) -> None:
        self._trials: OrderedDict[str, Trial] = OrderedDict()
        self._turn = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, key_id: str, asked: Asked, days: int) -> str | None:
        """Try a policy; returns the trial's id, None while too many wait."""
        if sum(not one.is_over for one in self._trials.values()) >= MOST_WAITING:
            return None
        trial_id = secrets.token_hex(8)
        trial = self._trials[trial_id] = Trial(key_id, asked, days)
        while len(self._trials) > MOST_KEPT:
            self._trials.popitem(last=False)
        task = asyncio.create_task(self._run(trial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        log.info("a policy is tried", extra=fields(key_id=key_id, tenant_id=asked.tenant_id, days=days))
        return trial_id

    def find(self, trial_id: str, key_id: str) -> Trial | None:
        """The trial with this id, for the key that asked for it."""
        trial = self._trials.get(trial_id)
        return trial if trial is not None and trial.key_id == key_id else None

    async def end(self) -> None:
        """Give up what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, trial: Trial) -> None:
        async with self._turn:
            started_ms = monotonic_ms()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "streams.console.trial",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                await asyncio.wait_for(self._follow(trial, process), LONGEST_S)
            except TimeoutError:
                trial.fault = f"not done within {LONGEST_S / 60:.0f} minutes: try fewer days"
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                trial.version += 1
            log.info("a policy was tried", extra=fields(took_ms=monotonic_ms() - started_ms, fault=trial.fault))

    async def _follow(self, trial: Trial, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "it was started with pipes"
        assert process.stdout is not None, "it was started with pipes"
        process.stdin.write(encode(trial.asked))
        process.stdin.close()
        async for text in process.stdout:
            self._take(trial, text)
        await process.wait()
        if not trial.is_over:
            trial.fault = "the trial ended without a result; the console's log says why"

    def _take(self, trial: Trial, text: bytes) -> None:
        trial.version += 1
        try:
            line = read_line(text)
        except msgspec.DecodeError:
            return
        match line:
            case Progress(what=what, share=share):
                trial.what, trial.share = what, share
            case Done(comparison=comparison):
                trial.comparison = comparison
            case Failed(fault=fault):
                trial.fault = fault
