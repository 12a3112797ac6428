"""The real worker as a process of its own, watched from outside: its metrics page and /proc."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from infra.kafka.local import free_ports
from tests.bench.machine import WORKER_CORE, cpu_seconds, on_core

SAMPLE_EVERY_S = 0.2
STOP_TIMEOUT_S = 20.0
_LINE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$")

Numbers = dict[str, float]


class Sample(NamedTuple):
    """What the worker said at one moment."""

    at_s: float
    cpu_s: float
    numbers: Numbers
    """Metric, with its labels as the page writes them, -> value."""

    @property
    def applied(self) -> int:
        """Input records whose effects are committed."""
        return int(self.numbers.get('spendfuse_applied_offset{partition="0"}', -1)) + 1


class WorkerProcess:
    """`python -m streams worker` on a core of its own, from `start` to `stop` or `kill`."""

    def __init__(
        self, bootstrap: str, prefix: str, policy: Path, core: int = WORKER_CORE, home: Path | None = None
    ) -> None:
        """`home` is the folder whose code is run, this checkout if none is given."""
        self._core = core
        self._home = home
        self._port = free_ports(1)[0]
        self._environment = os.environ | {
            "SPENDFUSE_KAFKA_BOOTSTRAP": bootstrap,
            "SPENDFUSE_PREFIX": prefix,
            "SPENDFUSE_SLOT": "bench",
            "SPENDFUSE_POLICY": str(policy),
            "SPENDFUSE_METRICS_PORT": str(self._port),
            "SPENDFUSE_LOG_LEVEL": "WARNING",
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()

    def start(self) -> None:
        """Start the process; does not wait for anything."""
        with on_core(self._core):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams", "worker"],
                env=self._environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask the process to end, and see that it does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "the worker was not started"
        return self._process.pid

    def sample(self) -> Sample | None:
        """What the worker says now; None while it does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                page = answer.read().decode()
        except OSError:
            self._check()
            return None
        found = (_LINE.match(line) for line in page.splitlines())
        numbers = {match[1]: float(match[2]) for match in found if match is not None}
        return Sample(time.monotonic(), cpu_seconds(self.pid), numbers)

    def watch(self, done: Callable[[Sample], bool], timeout_s: float) -> list[Sample]:
        """Samples until `done` holds for one; that one is the last.

        Raises:
            TimeoutError: it never did within the time.
            RuntimeError: the worker has ended; the message holds the end of its output.
        """
        samples: list[Sample] = []
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            sample = self.sample()
            if sample is not None:
                samples.append(sample)
                if done(sample):
                    return samples
            time.sleep(SAMPLE_EVERY_S)
        raise TimeoutError(f"not within {timeout_s} s; the last sample was {samples[-1:]}\n{self._output()}")

    def _check(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the worker ended with code {self._process.returncode}:\n{self._output()}")

    def _output(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:].decode("utf-8", "replace")
