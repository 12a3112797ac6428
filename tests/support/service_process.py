"""A process of the service as users start it: begun, killed, frozen, and waited for."""

import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.service import ROOT, Service
from tests.support.kafka import wait_until

ENGINE_KEY = "the root key of the engine, in tests"
OPERATOR_KEY = "the root key of operators, in tests"
__all__ = ["ENGINE_KEY", "OPERATOR_KEY", "ROOT", "ServiceProcess"]


class ServiceProcess(Service):
    """`python -m …`, running from construction to the end of the `with` block at the latest.

    Args:
        arguments: what follows `python -m`.
        settings: `SPENDFUSE_…` variables, without that prefix: `{"KILL_AT": "taken:3"}`. None leaves one out.
        secrets: other variables.
    """

    def __init__(
        self, arguments: Sequence[str], settings: Mapping[str, object], secrets: dict[str, str] | None = None
    ) -> None:
        given = {"ENGINE_KEY": ENGINE_KEY, "OPERATOR_KEY": OPERATOR_KEY, "SESSION_TIMEOUT_MS": 6000, **settings}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
        with tempfile.NamedTemporaryFile(prefix="service-", suffix=".log", delete=False) as said:
            self._said = Path(said.name)
            super().__init__(arguments, given, said, inherited | (secrets or {}))
            self.start()

    def stop(self, timeout_s: float = 30) -> int:
        """Ask it to end (SIGTERM); returns its exit code."""
        self.process.terminate()
        return self.wait_exit(timeout_s)

    def wait_exit(self, timeout_s: float = 60) -> int:
        """Wait until it ends by itself; returns its exit code, negative for a signal's number."""
        try:
            return self.process.wait(timeout_s)
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

    @property
    def health(self) -> str:
        """What /healthz says: `ok`, or what is wrong; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return str(answer.read().decode().strip())
        except urllib.error.HTTPError as sick:
            return str(sick.read().decode().strip())
        except OSError:
            return ""

    def said(self, message: str) -> list[dict[str, Any]]:
        """Its log lines with this message."""
        return [line for line in self.log if line["message"] == message]

    def metric(self, name: str) -> dict[str, float]:
        """A metric's values by their labels as written (`partition="0"`, empty for none); {} while nobody answers."""
        return (self.numbers() or {}).get(name, {})

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
        self.kill()  # where it has ended by itself, what it has started may run still
        self._said.unlink(missing_ok=True)
