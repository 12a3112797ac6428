"""The processes of the demo: a broker, the worker, and alerting, which prints what people are told."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from infra.demo.receivers import policy_with_receivers
from infra.demo.screen import Screen

HERE = Path(__file__).parent
PARTITIONS = 4
_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Keys:
    """Root keys of this run: who may stop, and who may let go again."""

    engine: str
    operator: str


class Service:
    """One of our processes, and what it measures of itself."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._name = name
        self._process = process
        self._port = port
        self._log = log

    def metric(self, name: str) -> float:
        """A metric's sum over all labels, 0 while nobody answers. Raises `SystemExit` if the process has ended."""
        found = _SAMPLE.findall(self._ask("metrics") or "")
        return sum(float(value) for sample, value in found if sample == name)

    def is_healthy(self) -> bool:
        """Whether it says of itself that it works. Raises `SystemExit` if it has ended."""
        return self._ask("healthz") is not None

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _ask(self, page: str) -> str | None:
        if self._process.poll() is not None:
            raise SystemExit(f"demo: {self._name} ended with code {self._process.returncode}; see {self._log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{page}", timeout=5) as answer:  # loopback
                text: str = answer.read().decode()
                return text
        except (OSError, urllib.error.HTTPError):
            return None


def start_broker(stack: ExitStack, screen: Screen) -> tuple[str, str]:
    """Where the demo runs, and its topics' prefix: the cluster of the environment, else an embedded broker."""
    given = os.environ.get("SPENDFUSE_KAFKA_BOOTSTRAP")
    prefix = f"demo-{secrets.token_hex(3)}."
    if given:
        from streams.kafka.topics import run_apply  # noqa: PLC0415  # only where there is a real cluster
        from streams.settings import read_settings  # noqa: PLC0415

        settings = read_settings().model_copy(update={"prefix": prefix, "partitions": PARTITIONS, "replication": 1})
        with contextlib.redirect_stdout(None):
            run_apply(settings)
        screen.line(f"broker    {given}, topics {prefix}*")
        return given, prefix
    from infra.kafka.embedded import EmbeddedBroker  # noqa: PLC0415  # loads a C library

    broker = stack.enter_context(EmbeddedBroker())
    broker.create_topics(prefix, PARTITIONS)
    screen.line("broker    embedded (a mock cluster: no install, but no enforced transactions either)")
    return broker.bootstrap, prefix


def start_worker(stack: ExitStack, bootstrap: str, prefix: str, keys: Keys) -> Service:
    """The detection worker under the demo's policy."""
    given = {"ENGINE_KEY": keys.engine, "OPERATOR_KEY": keys.operator, "POLICY": HERE / "policy.toml", "WATCHDOG_S": 0}
    return _start(stack, "worker", ["streams", "worker"], bootstrap, prefix, given)


def start_alerting(stack: ExitStack, bootstrap: str, prefix: str, keys: Keys, screen: Screen) -> Service:
    """Alerting, from now on: it prints to the demo's own output, and tells Slack and PagerDuty given their keys."""
    text, told = policy_with_receivers((HERE / "policy.toml").read_text(encoding="utf-8"), os.environ)
    policy = _folder() / "demo-policy.toml"
    policy.write_text(text, encoding="utf-8")
    screen.line(f"telling   {told}")
    given = {
        "OPERATOR_KEY": keys.operator,
        "POLICY": policy,
        "ALERTS_FROM": "latest",
        "KAFKA_CHECK_CRCS": "SPENDFUSE_KAFKA_BOOTSTRAP" in os.environ,  # the embedded broker breaks them
    }
    return _start(stack, "alerting", ["alerting"], bootstrap, prefix, given)


def _start(
    stack: ExitStack, name: str, arguments: list[str], bootstrap: str, prefix: str, given: Mapping[str, object]
) -> Service:
    path, port = _folder() / f"demo-{name}.log", _free_port()
    settings = {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "METRICS_PORT": port, "SLOT": "demo", **given}
    environment = {**os.environ, **{f"SPENDFUSE_{setting}": str(value) for setting, value in settings.items()}}
    log = stack.enter_context(path.open("wb"))
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, stderr=log)  # noqa: S603  # our own
    service = Service(name, process, port, path)
    stack.callback(service.stop)
    return service


def _folder() -> Path:
    folder = Path(os.environ.get("SPENDFUSE_DEMO_FOLDER", "out"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
