"""A process whose loop stands still: it says where, and ends."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUCK = """
import threading
from streams.process.logs import start_logging
from streams.process.watchdog import Watchdog

def a_call_that_never_returns():
    threading.Event().wait()

start_logging("INFO")
with Watchdog(lambda: 0, 1):
    a_call_that_never_returns()
"""


def test_a_stalled_loop_shows_its_stacks_and_ends() -> None:
    """Where it hangs is in the log, whichever thread it is; the last line says what has happened."""
    command = [sys.executable, "-c", STUCK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70
    assert "a_call_that_never_returns" in done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["message"] == "the loop does not move; the process ends"
