"""Simulated agents: the runs of the demo's log, each of which reports through the SDK and obeys the guard."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from spendfuse import Emitter, Guard, Stopped

Event = dict[str, Any]


@dataclass(slots=True)
class AgentRun:
    """One run, as the guard needs to see it, and what it has reported so far."""

    tenant_id: str
    run_id: str
    workflow: str | None
    session_id: str | None = None
    root_run_id: str | None = None
    stopped: bool = False
    reported: list[tuple[str, int]] = field(default_factory=list)
    """Event id and cost in nano-dollars of every call."""


@dataclass(slots=True)
class Stop:
    """A run that obeyed."""

    run: AgentRun
    at_s: float
    told: bool = False
    """Whether it was shown."""


class Agents:
    """All runs of the log. `report` is called with their events in order; a stopped run makes no further call."""

    def __init__(self, emitter: Emitter, guard: Guard) -> None:
        self._emitter = emitter
        self._guard = guard
        self._runs: dict[str, AgentRun] = {}
        self._lock = threading.Lock()
        self.now_ms = 0
        """The log's time: that of the event reported last."""
        self._reported_at_s = 0.0
        self._stopped_at_s: float | None = None
        self.sent = 0
        self.unspoken = 0
        """Events that never happened because their run had been stopped."""
        self.sent_at_s: dict[str, float] = {}
        self.stops: dict[str, Stop] = {}
        guard.on_stop(self._stop)

    def clock_ms(self) -> int:
        """Now, in the log's time. While a run is being stopped it goes on at the pace of the real one, so that both
        agree on how long that took.
        """
        stopped_at_s = self._stopped_at_s
        passed_s = 0.0 if stopped_at_s is None else max(0.0, stopped_at_s - self._reported_at_s)
        return self.now_ms + int(passed_s * 1000)

    def report(self, event: Event) -> None:
        """A run makes its next call, unless it has been told to stop."""
        run = self._run(event)
        with self._lock:
            self.now_ms = event["ts_ms"]
            self._reported_at_s = time.perf_counter()
            if run.stopped:
                self.unspoken += 1
                return
            if event["type"] in ("llm_call", "tool_call"):
                run.reported.append((event["event_id"], event.get("cost_nanousd") or 0))
            self.sent_at_s[event["event_id"]] = self._reported_at_s
            self._emitter.emit(event)
            self.sent += 1
        if event["type"] == "run_finished":
            self._guard.unwatch(run)
            del self._runs[run.run_id]

    def run(self, run_id: str) -> AgentRun | None:
        """A run that has begun and not finished."""
        return self._runs.get(run_id)

    def wait_stopped(self, run_id: str, patience_s: float) -> None:
        """Return when a run has been stopped, or after so long."""
        run, deadline_s = self.run(run_id), time.perf_counter() + patience_s
        while run is not None and not run.stopped and time.perf_counter() < deadline_s:
            time.sleep(0.001)

    def _run(self, event: Event) -> AgentRun:
        run = self._runs.get(event["run_id"])
        if run is None:
            run = AgentRun(event["tenant_id"], event["run_id"], event.get("workflow"), event.get("session_id"))
            self._runs[run.run_id] = run
            self._guard.watch(run)
        return run

    def _stop(self, run: Any, stopped: Stopped) -> None:
        """In the guard's thread, the moment a kill arrives: what a real agent does to cancel a call under way."""
        at_s = time.perf_counter()
        with self._lock:
            self._stopped_at_s = at_s
            try:
                self._guard.check(run)  # raises, and acknowledges
            except Stopped:
                run.stopped = True
            self._emitter.emit(
                {"type": "run_finished", "tenant_id": run.tenant_id, "run_id": run.run_id, "status": "killed"}
            )
            self._stopped_at_s = None
            self.stops[stopped.command_id or ""] = Stop(run, at_s)


def overshoot_nanousd(run: AgentRun, cause_event_id: str) -> int:
    """What the run spent after the call that was one too many."""
    ids = [event_id for event_id, _ in run.reported]
    after = ids.index(cause_event_id) + 1 if cause_event_id in ids else len(ids)
    return sum(cost for _, cost in run.reported[after:])
