"""A process that is told to end: while it starts, and while it is at something that does not come back."""

import json
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


STUCK = """
import ctypes
import threading
from streams.process import service
from streams.process.watchdog import when_told_to_end

def wait_for_ever():
    threading.Event().wait()

def stay_in_a_library():
    lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)  # no signal interrupts it

service.GRACE_S = 0.2
end = threading.Event()
with service.claimed_settings("sink"):
    when_told_to_end(end.set)
    print("it works", flush=True)
    {work}
{after}
"""
AT = {
    "at work": ("wait_for_ever()", ""),
    "in a call of a library": ("stay_in_a_library()", ""),
    "when all is done": ("end.wait()", "threading.Thread(target=wait_for_ever).start()"),
}


@pytest.mark.parametrize(("work", "after"), AT.values(), ids=AT)
def test_who_cannot_end_does_so_within_its_grace_period(work: str, after: str, tmp_path: Path) -> None:
    """Wherever it hangs: before its supervisor kills it, it says where it stood, and ends."""
    variables = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": "sdk/src"}
    script = STUCK.format(work=work, after=after)
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "it works\n"
        process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 70, said
    assert "most recent call first" in said
    assert json.loads(said.splitlines()[-1])["message"] == "told to end, the process did not; it ends now"
