"""The live runs of this process, findable by whatever a command may name."""

import threading
from collections import OrderedDict

from spendfuse._client.run import Run
from spendfuse._client.runlike import RunLike
from spendfuse._control.command import Command, Target
from spendfuse._control.scope import Dimensions
from spendfuse._control.standing import targets_of

FINISHED_REMEMBERED = 1_000

_RunId = tuple[str, str]
_RunKey = tuple[str, str, int]
"""Tenant, run and object: two parts of a program may each have a `Run` of the same id. Of run objects of somebody else,
those of one id are one."""


class Watchlist:
    """Runs between their start and their end, and the last thousand that ended. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may end a run while its own thread does
        self._events: dict[_RunKey, threading.Event] = {}
        self._by_target: dict[tuple[str, Target], dict[_RunKey, RunLike]] = {}
        self._finished: OrderedDict[_RunId, RunLike] = OrderedDict()

    @property
    def is_empty(self) -> bool:
        """Whether no run is watched."""
        return not self._events

    def add(self, run: RunLike) -> threading.Event:
        """Watch the run; return the event that tells it to stop."""
        key = _key(run)
        with self._lock:
            for target in targets_of(run):
                self._by_target.setdefault((run.tenant_id, target), {})[key] = run
            return self._events.setdefault(key, run.stop_event if isinstance(run, Run) else threading.Event())

    def remove(self, run: RunLike) -> bool:
        """Take the run as finished; return whether it is, or another object of the same run goes on."""
        key = _key(run)
        with self._lock:
            is_watched = self._events.pop(key, None) is not None
            for target in targets_of(run) if is_watched else ():
                runs = self._by_target[run.tenant_id, target]
                runs.pop(key, None)
                if not runs:
                    del self._by_target[run.tenant_id, target]
            if (run.tenant_id, ("run", run.run_id)) in self._by_target:
                return False
            if is_watched:
                self._finished[run.tenant_id, run.run_id] = run
                if len(self._finished) > FINISHED_REMEMBERED:
                    self._finished.popitem(last=False)
            return True

    def live(self, command: Command, lifted: tuple[Command, ...] = ()) -> list[RunLike]:
        """Return the watched runs that a command reaches, or that those it lifts reach, where it names a scope."""
        scopes = [each.scope for each in (command, *lifted) if each.scope is not None]
        is_scope = command.target[0] == "scope"
        target = ("tenant", command.tenant_id) if is_scope else command.target
        with self._lock:
            if command.is_for_all:
                runs = [
                    run for (_, (kind, _)), found in self._by_target.items() if kind == "run" for run in found.values()
                ]
            else:
                runs = list(self._by_target.get((command.tenant_id, target), {}).values())
        if not is_scope:
            return runs
        return [run for run in runs if any(Dimensions(run).are_in(scope) for scope in scopes)]

    def finished(self, tenant_id: str, target: Target) -> RunLike | None:
        """Return the finished run that the target names, if it names one that does not go on."""
        kind, run_id = target
        with self._lock:
            goes_on = (tenant_id, target) in self._by_target
            return self._finished.get((tenant_id, run_id)) if kind == "run" and not goes_on else None

    def set_stop(self, run: RunLike) -> bool:
        """Set the run's event; True when it was not set before."""
        with self._lock:
            event = self._events.get(_key(run))
            if event is None or event.is_set():
                return False
            event.set()
            return True

    def clear_stop(self, run: RunLike) -> None:
        """Unset the run's event: it may go on."""
        with self._lock:
            event = self._events.get(_key(run))
            if event is not None:
                event.clear()


def _key(run: RunLike) -> _RunKey:
    return (run.tenant_id, run.run_id, id(run) if isinstance(run, Run) else 0)
