"""A process of the service as users start it: begun, killed, frozen, and waited for."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.kafka.local import free_ports
from tests.support.kafka import wait_until

ROOT = Path(__file__).parents[2]
ENGINE_KEY = "engine-root-key-of-these-tests"
OPERATOR_KEY = "operator-root-key-of-these-tests"

_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


class ServiceProcess:
    """`python -m …`, running from construction to the end of the `with` block at the latest.

    Args:
        arguments: what follows `python -m`.
        settings: `SPENDFUSE_…` variables, without that prefix: `{"KILL_AT": "taken:3"}`. None leaves one out.
        secrets: other variables.
    """

    def __init__(
        self, arguments: Sequence[str], settings: dict[str, object], secrets: dict[str, str] | None = None
    ) -> None:
        self._port = free_ports(1)[0]
        given = {
            "METRICS_PORT": self._port,
            "ENGINE_KEY": ENGINE_KEY,
            "OPERATOR_KEY": OPERATOR_KEY,
            "SESSION_TIMEOUT_MS": 6000,
            **settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
        ours = {f"SPENDFUSE_{name}": str(value) for name, value in given.items() if value is not None}
        with tempfile.NamedTemporaryFile(prefix="service-", suffix=".log", delete=False) as said:
            self._said = Path(said.name)
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=inherited | ours | (secrets or {}),
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
            raise AssertionError(f"it did not end within {timeout_s} s:\n{self.tail()}") from None

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

    def wait_said(self, message: str, times: int = 1, timeout_s: float = 60) -> list[dict[str, Any]]:
        """Wait until its log has that message so many times; returns those lines."""
        self.wait_for(lambda: len(self.said(message)) >= times, timeout_s, f"log line {message!r}, {times} times")
        return self.said(message)

    def wait_for(self, predicate: Callable[[], object], timeout_s: float, what: str) -> None:
        """`wait_until`, with the end of its log in the failure; a process that has ended is waited for no longer."""
        try:
            wait_until(lambda: predicate() or not self.running, timeout_s, what)
            assert predicate(), f"the process ended before: {what}"
        except AssertionError as error:
            raise AssertionError(f"{error}; its last words:\n{self.tail()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()
        self._said.unlink(missing_ok=True)
