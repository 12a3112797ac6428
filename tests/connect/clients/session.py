"""What each program of these shares: how it has a command given, and what it says of itself."""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import spendfuse

TIMEOUT_S = 30.0
_TOLD, sys.stdout = sys.stdout, sys.stderr  # what libraries print is not for the test


def command(action: str, run_id: str, reason: str = "given by the test") -> None:
    """Have the test command a run; its guard has heard of it when this returns."""
    guard = spendfuse.default_connection().guard
    before = guard.stats.applied
    body = json.dumps({"action": action, "run_id": run_id, "reason": reason}).encode()
    urllib.request.urlopen(
        urllib.request.Request(os.environ["COMMANDS"], body, method="POST"), timeout=TIMEOUT_S
    ).close()
    wait_until(lambda: guard.stats.applied > before)


def kill(run: spendfuse.Run) -> None:
    """Have the test kill a run; it knows when this returns."""
    command("kill", run.run_id)
    wait_until(run.stop_event.is_set)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.01)


def ready() -> spendfuse.Connection:
    """The process's own connection, its guard ready."""
    connection = spendfuse.default_connection()
    assert connection.guard.wait_ready(TIMEOUT_S), connection.guard.waiting_for
    return connection


def say(**facts: Any) -> None:
    """Tell the test, in a line of JSON."""
    print(json.dumps(facts), file=_TOLD, flush=True)
