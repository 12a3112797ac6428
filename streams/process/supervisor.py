"""The processes of one machine under one supervisor: what ends is started again, with one log and one health."""

import logging
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from schemas.errors import SettingsError
from streams.clock import monotonic_ms, seconds
from streams.process.logs import fields
from streams.process.pages import pages
from streams.process.watchdog import when_told_to_end
from streams.settings import PREFIX, Settings

log = logging.getLogger("spendfuse.supervisor")

LOOK_EVERY_S: Final = 0.5
ANSWER_S: Final = 2.0
FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 30_000
"""The pause before a process is started again: doubled each time."""
STEADY_MS: Final = 60_000
"""Who ran for so long begins anew with the first pause."""
END_S: Final = 45.0
"""How long a process may take to end once it is asked to."""
WRONG_SETTINGS: Final = SettingsError.exit_code


class Child:
    """A process that is to run, and is started again when it ends.

    Args:
        name: for people.
        command: its arguments.
        variables: its environment.
        port: where its health is; 0 for nowhere.
        now_ms: a clock that never jumps.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        port: int = 0,
        now_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        self.name = name
        self.starts = 0
        self.code: int | None = None
        """What it ended with the last time; None if it never did."""
        self._command, self._variables, self._port = command, dict(variables), port
        self._now_ms = now_ms
        self._process: subprocess.Popen[bytes] | None = None
        self._started_ms = 0
        self._start_ms = 0
        self._pause_ms = FIRST_PAUSE_MS
        self._said = "it has not answered yet"

    @property
    def is_hopeless(self) -> bool:
        """Whether its first start showed that its settings are wrong: to try again is no use."""
        return self.starts == 1 and self.code == WRONG_SETTINGS

    @property
    def health(self) -> str | None:
        """What is wrong with it, in a sentence; None if nothing is."""
        if self._process is None:
            return f"{self.name} ended with code {self.code}; it is started again"
        return f"{self.name}: {self._said}" if self._said else None

    def look(self) -> None:
        """Start it where it is due, see whether it still runs, and ask how it is."""
        if self._process is None:
            if self._now_ms() >= self._start_ms:
                self._start()
        elif (code := self._process.poll()) is not None:
            self._ended(code)
        else:
            self._said = self._ask()

    def end(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait_end(self, patience_s: float) -> bool:
        """Wait until it has ended, and have it end at the last; returns whether it did so by itself, with code 0."""
        if self._process is None:
            return True
        try:
            return self._process.wait(patience_s) == 0
        except subprocess.TimeoutExpired:
            log.error("a process did not end when asked to; it is killed", extra=fields(process=self.name))
            self._process.kill()
            self._process.wait()
            return False

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, env=self._variables, stdin=subprocess.DEVNULL)  # noqa: S603
        self.starts += 1
        self._started_ms = self._now_ms()
        self._said = "" if not self._port else "it has not answered yet"
        log.info("a process was started", extra=fields(process=self.name, pid=self._process.pid, starts=self.starts))

    def _ended(self, code: int) -> None:
        now_ms = self._now_ms()
        if now_ms - self._started_ms >= STEADY_MS:
            self._pause_ms = FIRST_PAUSE_MS
        self._process, self.code = None, code
        self._start_ms = now_ms + self._pause_ms
        about = fields(process=self.name, code=code, again_in_s=self._pause_ms / 1000)
        log.error("a process ended; it is started again", extra=about)
        self._pause_ms = min(2 * self._pause_ms, LONGEST_PAUSE_MS)

    def _ask(self) -> str:
        """What is wrong by its own word; nothing if nothing is, or it cannot be asked."""
        if not self._port:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/healthz", timeout=ANSWER_S):
                return ""
        except urllib.error.HTTPError as sick:
            return str(sick.read().decode(errors="replace").strip())
        except OSError:
            return "it does not answer"


class Supervisor:
    """Keeps processes running until it is told to stop."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._stop = threading.Event()
        self.registry = CollectorRegistry()
        self._starts = Counter("spendfuse_starts", "Starts of a process", ["process"], registry=self.registry)

    def stop(self) -> None:
        """End all of them in order."""
        self._stop.set()

    def healthy(self) -> str | None:
        """What is wrong with any of them."""
        return "; ".join(health for child in self._children if (health := child.health)) or None

    def run(self) -> int:
        """Work until `stop`; returns 0, or 1 if one did not end in order.

        Raises:
            SettingsError: one cannot start with these settings; it has said why.
        """
        try:
            while not self._stop.wait(LOOK_EVERY_S):
                for child in self._children:
                    self._look(child)
        finally:
            in_order = self._end()
        return 0 if in_order else 1

    def _look(self, child: Child) -> None:
        before = child.starts
        child.look()
        self._starts.labels(child.name).inc(child.starts - before)
        if child.is_hopeless:
            raise SettingsError(f"{child.name} cannot start with these settings; the log says why")

    def _end(self) -> bool:
        for child in self._children:
            child.end()
        deadline = seconds() + END_S
        ended = [child.wait_end(max(0.0, deadline - seconds())) for child in self._children]
        return all(ended)


def processes(
    settings: Settings,
    workers: int,
    *,
    with_gateway: bool = False,
    with_console: bool = False,
    polled: Mapping[str, str] = {},
) -> list[Child]:
    """What runs on this machine, alerting among it, and a sink where the settings name a store. With a port for pages,
    theirs are on the ports after it.

    `polled` holds systems that are polled, each with the tenant whose spend it knows of.
    """
    commands = {f"worker-{number}": ["streams", "worker"] for number in range(workers)} | {"alerting": ["alerting"]}
    if with_gateway:
        commands["gateway"] = ["streams", "gateway"]
    if with_console:
        commands["console"] = ["streams", "console"]
    for source, tenant_id in polled.items():
        commands[f"poll-{source}"] = ["streams", "poll", "--from", source, "--tenant", tenant_id]
    if settings.sink is not None:
        commands["sink"] = ["streams", "sink"]
    children = []
    for place, (name, command) in enumerate(commands.items(), 1):
        port = settings.metrics_port + place if settings.metrics_port else 0
        variables = {**os.environ, f"{PREFIX}METRICS_PORT": str(port)}
        if settings.slot is not None:
            variables[f"{PREFIX}SLOT"] = f"{settings.slot}-{name}"
        children.append(Child(name, [sys.executable, "-m", *command], variables, port))
    return children


def run_supervisor(
    settings: Settings,
    workers: int,
    *,
    with_gateway: bool = False,
    with_console: bool = False,
    polled: Mapping[str, str] = {},
) -> int:
    """Keep them running until a signal ends it; returns the exit code. Raises `SettingsError`."""
    children = processes(settings, workers, with_gateway=with_gateway, with_console=with_console, polled=polled)
    supervisor = Supervisor(children)
    when_told_to_end(supervisor.stop)
    with pages(settings, supervisor.registry, supervisor.healthy):
        return supervisor.run()
