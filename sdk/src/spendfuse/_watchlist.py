"""The live runs of this process, findable by whatever a command may name."""

import threading
from collections import OrderedDict

from spendfuse._brake import RunLike, targets_of
from spendfuse._command import Target
from spendfuse._run import Run

FINISHED_REMEMBERED = 1_000

_RunKey = tuple[str, str]


class Watchlist:
    """Runs between their start and their end, and the last thousand that ended. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[_RunKey, threading.Event] = {}
        self._by_target: dict[tuple[str, Target], dict[_RunKey, RunLike]] = {}
        self._finished: OrderedDict[_RunKey, RunLike] = OrderedDict()

    def add(self, run: RunLike) -> threading.Event:
        """Watch the run; return the event that tells it to stop."""
        key = _key(run)
        with self._lock:
            for target in targets_of(run):
                self._by_target.setdefault((run.tenant_id, target), {})[key] = run
            return self._events.setdefault(key, run.stop_event if isinstance(run, Run) else threading.Event())

    def remove(self, run: RunLike) -> None:
        """Take the run as finished."""
        key = _key(run)
        with self._lock:
            if self._events.pop(key, None) is None:
                return
            for target in targets_of(run):
                runs = self._by_target[run.tenant_id, target]
                runs.pop(key, None)
                if not runs:
                    del self._by_target[run.tenant_id, target]
            self._finished[key] = run
            if len(self._finished) > FINISHED_REMEMBERED:
                self._finished.popitem(last=False)

    def live(self, tenant_id: str, target: Target) -> list[RunLike]:
        """Return the watched runs that a command for the target reaches."""
        with self._lock:
            return list(self._by_target.get((tenant_id, target), {}).values())

    def finished(self, tenant_id: str, target: Target) -> RunLike | None:
        """Return the finished run that the target names, if it names one."""
        kind, run_id = target
        with self._lock:
            return self._finished.get((tenant_id, run_id)) if kind == "run" else None

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
    return (run.tenant_id, run.run_id)
