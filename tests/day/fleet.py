"""Agents with the client library: many that work, and some that go in circles until they are stopped."""

import heapq
import threading
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

from spendfuse import Emitter, Guard, Run, Stopped

TENANTS = ("acme", "globex", "initech", "umbrella", "hooli", "wonka")
GUARDED = TENANTS[0]
"""The tenant whose agents ask a guard before each call; the others cannot be stopped, and need not be."""
CENT_NANOUSD = 10_000_000
MOST_STEPS = 12
LOOP_PAUSE_S = 0.15

Waits = Iterator[float]
"""An agent at work: yields for how many seconds it waits before its next step."""


class Fleet(threading.Thread):
    """Runs of agents, one beginning after the other, each at its own pace.

    Args:
        emitter: what they report with.
        guard: what those of `GUARDED` ask.
        rng: when they begin and what they do.
        runs: how many honest ones there will be.
        lasts_s: within so much time the last of them begins.
        loops: how many others will go in circles.
    """

    def __init__(self, emitter: Emitter, guard: Guard, rng: Random, runs: int, lasts_s: float, loops: int) -> None:
        super().__init__(name="fleet", daemon=True)
        self.spent: Counter[str] = Counter()
        """Tenant -> nano-dollars that its honest runs have reported."""
        self.stopped: dict[str, Stopped] = {}
        """Run that went in circles -> what stopped it."""
        self.faults: list[str] = []
        """What should not have happened to anybody."""
        self._emitter = emitter
        self._guard = guard
        self._rng = rng
        agents = [self._honest(number) for number in range(runs)] + [self._circling() for _ in range(loops)]
        self._at_work: list[tuple[float, int, Waits]] = [
            (rng.uniform(0, lasts_s), number, agent) for number, agent in enumerate(agents)
        ]
        heapq.heapify(self._at_work)

    def run(self) -> None:
        started = time.monotonic()
        while self._at_work:
            due_s, number, agent = heapq.heappop(self._at_work)
            time.sleep(max(0.0, due_s - (time.monotonic() - started)))
            try:
                wait_s = next(agent, None)
            except Exception as fault:
                self.faults.append(f"{type(fault).__name__}: {fault}")
            else:
                if wait_s is not None:
                    heapq.heappush(self._at_work, (due_s + wait_s, number, agent))

    def _honest(self, number: int) -> Waits:
        tenant = self._rng.choice(TENANTS)
        with self._emitter.run(tenant_id=tenant, workflow=f"workflow-{number % 3}", owner="ana") as run:
            for step in range(self._rng.randint(3, MOST_STEPS)):
                if tenant == GUARDED:
                    self._guard.check(run)
                self._work(run, tenant, step)
                yield self._rng.uniform(0.05, 0.4)
            if self._rng.random() < 0.3:
                run.outcome("accepted")

    def _work(self, run: Run, tenant: str, step: int) -> None:
        if self._rng.random() < 0.4:
            run.tool_call("search", args={"page": step}, result=[step])
            return
        cents = self._rng.randint(1, 5)
        run.llm_call(model="in-house", input_tokens=800 + step, output_tokens=90, cost_nanousd=cents * CENT_NANOUSD)
        self.spent[tenant] += cents * CENT_NANOUSD

    def _circling(self) -> Waits:
        """Asks the same again and again, as long as it may."""
        with self._emitter.run(tenant_id=GUARDED, workflow="circles", owner="ana") as run:
            while True:
                try:
                    self._guard.check(run)
                except Stopped as stopped:
                    self.stopped[run.run_id] = stopped
                    return
                run.tool_call("grep", args={"pattern": "old_name"}, result=["a.md"])
                yield LOOP_PAUSE_S
