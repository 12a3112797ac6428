"""A process of the service as a child of this one, seen through its metrics page: for demo, tests and benchmarks."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from infra.kafka.local import free_ports

ROOT: Final = Path(__file__).parent.parent
STOP_TIMEOUT_S: Final = 20.0
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)

Numbers = dict[str, dict[str, float]]
"""Metric -> its labels as the page writes them (`partition="0"`, empty for none) -> value."""


class Service:
    """`python -m …` with its settings; it can be started again after its end.

    Args:
        arguments: what follows `python -m`.
        settings: `SPENDFUSE_…` variables without that prefix; None leaves one out.
        output: takes what it says.
        variables: all other variables; those of this process unless given.
        home: the folder whose code is run.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        settings: Mapping[str, object],
        output: IO[bytes],
        variables: Mapping[str, str] | None = None,
        home: Path = ROOT,
    ) -> None:
        self._command = [sys.executable, "-m", *arguments]
        self.port = free_ports(1)[0]
        """Where its pages are."""
        ours = {f"SPENDFUSE_{name}": str(value) for name, value in settings.items() if value is not None}
        given = os.environ if variables is None else variables
        self._environment = {**given, "SPENDFUSE_METRICS_PORT": str(self.port), **ours}
        self._output = output
        self._home = home
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, stdout: int | None = None) -> None:
        """Start the process; waits for nothing. With `stdout` only its log goes to the output, the rest there."""
        self._child = subprocess.Popen(  # noqa: S603 - our own program, no shell
            self._command,
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output if stdout is None else stdout,
            stderr=self._output,
            start_new_session=True,  # an interrupt in the terminal must reach this process first
        )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process itself."""
        assert self._child is not None, "it was not started"
        return self._child

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended; a frozen one has not."""
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """End it as a power cut would, with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads a session of its own
        self.process.wait()

    def freeze(self) -> None:
        """Let it stand still (SIGSTOP), with its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ask it to end, and see that it does, whatever state it is in."""
        if not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def page(self, name: str) -> str | None:
        """One of its pages, `metrics` or `healthz`; None while nobody answers, or if it says that it is not well."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=5) as answer:  # loopback
                text: str = answer.read().decode()
                return text
        except OSError:
            return None

    def numbers(self) -> Numbers | None:
        """All its metrics; None while nobody answers."""
        page = self.page("metrics")
        return None if page is None else read_numbers(page)


def read_numbers(page: str) -> Numbers:
    """The metrics on a page."""
    found: Numbers = {}
    for name, labels, value in _SAMPLE.findall(page):
        found.setdefault(name, {})[labels] = float(value)
    return found
