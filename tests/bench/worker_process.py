"""The real worker as a process of its own, watched from outside: its metrics page and /proc."""

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from infra.service import ROOT, Service
from tests.bench.engine import policy_file
from tests.bench.machine import WORKER_CORE, cpu_seconds, on_core

SAMPLE_EVERY_S = 0.2
_STEP = re.compile(r'spendfuse_step_seconds_total\{step="(\w+)"\}')


class Sample(NamedTuple):
    """What the worker said at one moment."""

    at_s: float
    cpu_s: float
    numbers: dict[str, float]
    """Metric, with its labels as the page writes them, -> value."""

    @property
    def applied(self) -> int:
        """Input records whose effects are committed."""
        return int(self.numbers.get('spendfuse_applied_offset{partition="0"}', -1)) + 1

    def grown(self, since: "Sample", name: str) -> float:
        """By how much a metric is more than it was."""
        return self.numbers.get(name, 0.0) - since.numbers.get(name, 0.0)


class Side(NamedTuple):
    """A worker that is measured, perhaps beside another one."""

    home: Path
    """The folder whose code is run."""
    policy: Path

    @property
    def title(self) -> str:
        """What tells it from another one."""
        return f"{self.home.name} under {self.policy.stem}"


def side(home: Path, policy: str) -> Side:
    """The worker of a folder, under a policy of its own bench or a file; under this checkout's if it has no bench."""
    own = home / "tests" / "bench" / "policies" / f"{policy}.toml"
    named = own if own.is_file() else policy_file(policy)
    return Side(home.resolve(), (named if named.is_file() else Path(policy)).resolve())


def step_names(sample: Sample) -> dict[str, str]:
    """Metric of a step of the worker's loop -> the step."""
    return {name: found[1] for name in sample.numbers if (found := _STEP.fullmatch(name))}


class WorkerProcess(Service):
    """`python -m streams worker` on a core of its own, from `start` to `end` or `kill`."""

    def __init__(
        self, bootstrap: str, prefix: str, policy: Path, core: int = WORKER_CORE, home: Path | None = None
    ) -> None:
        """`home` is the folder whose code is run, this checkout if none is given."""
        self._core = core
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        settings = {
            "KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "SLOT": "bench", "POLICY": policy, "LOG_LEVEL": "WARNING",
        }  # fmt: skip
        super().__init__(["streams", "worker"], settings, self._log, home=home or ROOT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._log.close()

    def start(self, stdout: int | None = None) -> None:
        """Start the process on its core; does not wait for anything."""
        with on_core(self._core):
            super().start(stdout)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def sample(self) -> Sample | None:
        """What the worker says now; None while it does not answer yet."""
        numbers = self.numbers()
        if numbers is None:
            self._check()
            return None
        flat = {
            f"{name}{{{labels}}}" if labels else name: value
            for name, values in numbers.items()
            for labels, value in values.items()
        }
        return Sample(time.monotonic(), cpu_seconds(self.pid), flat)

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
        raise TimeoutError(f"not within {timeout_s} s; the last sample was {samples[-1:]}\n{self._said()}")

    def _check(self) -> None:
        if not self.running:
            raise RuntimeError(f"the worker ended with code {self.process.returncode}:\n{self._said()}")

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:].decode("utf-8", "replace")
