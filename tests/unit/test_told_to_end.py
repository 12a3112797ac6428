"""A process that is told to end while it starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAITING = """
import threading
from streams.process.service import claimed_settings

with claimed_settings("sink"):
    try:
        print("it waits", flush=True)
        threading.Event().wait()
    finally:
        print("it has cleared up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_waits_for_what_it_needs_leaves_in_order(number: signal.Signals, tmp_path: Path) -> None:
    """Whatever a start waits for, a broker or a store, a signal ends it with 0, and what was opened is closed."""
    variables = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": "sdk/src"}
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "it waits\n"
        process.send_signal(number)
        assert process.stdout.read() == "it has cleared up\n"
        assert process.wait(30) == 0
