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


@dataclass(frozen=True, slots=True)
class Stop:
    """A run that obeyed."""

    run: AgentRun
    command_id: str
    at_s: float


class Agents:
    """All runs of the log. `report` is called with their events in order; a stopped run makes no further call."""

    def __init__(self, emitter: Emitter, guard: Guard) -> None:
        self._emitter = emitter
        self._guard = guard
        self._runs: dict[str, AgentRun] = {}
        self._lock = threading.Lock()
        self.now_ms = 0
        self.sent = 0
        self.unspoken = 0
        """Events that never happened because their run had been stopped."""
        self.sent_at_s: dict[str, float] = {}
        self.stops: dict[str, Stop] = {}
        guard.on_stop(self._stop)

    def report(self, event: Event) -> None:
        """A run makes its next call, unless it has been told to stop."""
        self.now_ms = event["ts_ms"]
        run = self._run(event)
        with self._lock:
            if run.stopped:
                self.unspoken += 1
                return
            if event["type"] in ("llm_call", "tool_call"):
                run.reported.append((event["event_id"], event.get("cost_nanousd") or 0))
            self.sent_at_s[event["event_id"]] = time.perf_counter()
            self._emitter.emit(event)
            self.sent += 1
        if event["type"] == "run_finished":
            self._guard.unwatch(run)
            del self._runs[run.run_id]

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
            try:
                self._guard.check(run)  # raises, and acknowledges
            except Stopped:
                run.stopped = True
            self._emitter.emit(
                {"type": "run_finished", "tenant_id": run.tenant_id, "run_id": run.run_id, "status": "killed"}
            )
            self.stops[stopped.command_id or ""] = Stop(run, stopped.command_id or "", at_s)


def overshoot_nanousd(run: AgentRun, cause_event_id: str) -> int:
    """What the run spent after the call that was one too many."""
    ids = [event_id for event_id, _ in run.reported]
    after = ids.index(cause_event_id) + 1 if cause_event_id in ids else len(ids)
    return sum(cost for _, cost in run.reported[after:])
