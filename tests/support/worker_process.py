"""A detection worker as a process of its own: started, killed, frozen, and waited for."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.kafka.local import free_ports
from tests.support.kafka import wait_until

ROOT = Path(__file__).parents[2]
ENGINE_KEY = "engine-root-key-of-these-tests"
OPERATOR_KEY = "operator-root-key-of-these-tests"

_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


class WorkerProcess:
    """`python -m streams worker`, running from construction to the end of the `with` block at the latest.

    Args:
        bootstrap: the broker's address.
        prefix: before every topic's name.
        policy: the policy file.
        slot: the worker's place among its siblings.
        settings: further `SPENDFUSE_…` variables, without that prefix: `{"KILL_AT": "taken:3"}`.
    """

    def __init__(
        self, bootstrap: str, prefix: str, policy: Path | None = None, *, slot: str = "0", **settings: object
    ) -> None:
        self._port = free_ports(1)[0]
        given = {
            "KAFKA_BOOTSTRAP": bootstrap,
            "PREFIX": prefix,
            "SLOT": slot,
            "METRICS_PORT": self._port,
            "ENGINE_KEY": ENGINE_KEY,
            "OPERATOR_KEY": OPERATOR_KEY,
            "SESSION_TIMEOUT_MS": 6000,
            **({"POLICY": policy} if policy is not None else {}),
            **settings,
        }
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
        with tempfile.NamedTemporaryFile(prefix="worker-", suffix=".log", delete=False) as said:
            self._said = Path(said.name)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams", "worker"],
                cwd=ROOT,
                env=ours | {f"SPENDFUSE_{name}": str(value) for name, value in given.items()},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt in the terminal must reach the tests first
            )

    @property
    def running(self) -> bool:
        """Whether the process has not ended; a frozen one has not."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it stand still (SIGSTOP), with its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, timeout_s: float = 30) -> int:
        """Ask it to end (SIGTERM); returns its exit code."""
        self._process.terminate()
        return self.wait_exit(timeout_s)

    def wait_exit(self, timeout_s: float = 60) -> int:
        """Wait until it ends by itself; returns its exit code, negative for a signal's number."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end within {timeout_s} s:\n{self.tail()}") from None

    @property
    def text(self) -> str:
        """All that it has said."""
        return self._said.read_text(encoding="utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines it has written, without what was said in plain words."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]

    def tail(self) -> str:
        """The end of what it has said, for messages of failure."""
        return self.text[-3000:]

    def said(self, message: str) -> list[dict[str, Any]]:
        """Its log lines with this message."""
        return [line for line in self.log if line["message"] == message]

    def metric(self, name: str) -> dict[str, float]:
        """A metric's values by their labels as written (`partition="0"`, empty for none); {} while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        return {labels: float(value) for found, labels, value in _SAMPLE.findall(text) if found == name}

    def applied(self) -> dict[int, int]:
        """Partition -> offset of the last record of usage.v1 whose effects it has committed."""
        values = self.metric("spendfuse_applied_offset")
        return {int(labels.split('"')[1]): int(value) for labels, value in values.items()}

    def wait_applied(self, ends: Mapping[int, int], timeout_s: float = 90) -> None:
        """Wait until everything up to these offsets is committed.

        Raises:
            AssertionError: it is not within the time, or the worker has ended; with the end of its log.
        """

        def reached() -> bool:
            applied = self.applied()
            return not self.running or all(applied.get(partition, -1) >= end for partition, end in ends.items())

        self.wait_for(reached, timeout_s, f"applied up to {dict(ends)}")
        assert self.running, f"the worker ended with {self._process.returncode}:\n{self.tail()}"

    def wait_said(self, message: str, times: int = 1, timeout_s: float = 60) -> list[dict[str, Any]]:
        """Wait until its log has that message so many times; returns those lines."""
        self.wait_for(lambda: len(self.said(message)) >= times, timeout_s, f"log line {message!r}, {times} times")
        return self.said(message)

    def wait_for(self, predicate: Any, timeout_s: float, what: str) -> None:
        """`wait_until`, with the end of the worker's log in the failure."""
        try:
            wait_until(predicate, timeout_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {self.applied()}; the worker's last words:\n{self.tail()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()
        self._said.unlink(missing_ok=True)
