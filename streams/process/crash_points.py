"""Places where a test can have a process die, as a power cut would have it: `SPENDFUSE_KILL_AT=stage:n`."""

import os
import signal
from typing import Literal

Stage = Literal[
    "taken", "decided", "effects_sent", "rows_sent", "offsets_sent", "committed", "restoring", "revoked",
    "publishing", "published", "sending", "answered", "handled",
    "written",
    "following", "taking_over", "taken_over",
]  # fmt: skip
"""The first line is the worker's, the second alerting's, which also passes `taken`, `restoring` and `revoked`; a sink
passes `taken`, `written` and `committed`. The last line is of a worker that takes over from another generation."""
VARIABLE = "SPENDFUSE_KILL_AT"


class CrashPoints:
    """Called at every stage; kills the process at the n-th call for the stage that the setting names."""

    def __init__(self, setting: str | None) -> None:
        self.armed = bool(setting)
        stage, _, count = (setting or "").partition(":")
        self._stage = stage
        self._left = int(count or "1")

    def __call__(self, stage: Stage) -> None:
        """Pass a stage, or die there."""
        if stage == self._stage:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
