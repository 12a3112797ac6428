"""The runs of one tenant, as runs.v1 tells of them: the live ones, and those that ended last."""

from collections import OrderedDict
from collections.abc import Iterable

from schemas.run import RunRecord

MOST_LIVE = 20_000
MOST_FINISHED = 1_000


class Runs:
    """The newest record of each run, within bounds: beyond them those leave that have been silent longest."""

    def __init__(self) -> None:
        self.live: OrderedDict[str, RunRecord] = OrderedDict()
        self._finished: OrderedDict[str, RunRecord] = OrderedDict()
        self.left_out = 0
        """Live runs that had to leave."""

    def take(self, record: RunRecord) -> None:
        """Go on with what a run has come to."""
        run_id = record.run_id
        self.live.pop(run_id, None)
        self._finished.pop(run_id, None)
        if record.state == "live":
            self.live[run_id] = record
            if len(self.live) > MOST_LIVE:
                self.live.popitem(last=False)
                self.left_out += 1
        else:
            self._finished[run_id] = record
            if len(self._finished) > MOST_FINISHED:
                self._finished.popitem(last=False)

    def forget(self, run_id: str) -> None:
        """A tombstone: nobody knows it any more."""
        self.live.pop(run_id, None)
        self._finished.pop(run_id, None)

    def get(self, run_id: str) -> RunRecord | None:
        """What is known of a run."""
        return self.live.get(run_id) or self._finished.get(run_id)

    def finished(self) -> Iterable[RunRecord]:
        """Those that ended last, the newest first."""
        return reversed(self._finished.values())

    def tree(self, root_run_id: str) -> list[RunRecord]:
        """The runs of a tree, in the order in which they began."""
        both = (*self.live.values(), *self._finished.values())
        found = [one for one in both if root_run_id in (one.run_id, one.root_run_id)]
        return sorted(found, key=lambda one: one.started_ms)
