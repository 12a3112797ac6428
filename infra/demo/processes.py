"""The processes of the demo: a broker, the worker, alerting, which prints what people are told, and the live page."""

import contextlib
import io
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from infra.demo.receivers import policy_with_receivers
from infra.demo.screen import Screen
from infra.service import Service
from schemas.errors import SettingsError, SpendfuseError
from schemas.internal.spend import ALL_TENANTS
from schemas.signing import OperatorKey
from streams.settings import read_settings
from streams.tools.access_keys import run_create

HERE = Path(__file__).parent
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Keys:
    """Root keys of this run: who may stop, and who may let go again."""

    engine: str
    operator: str

    @property
    def operator_public(self) -> str:
        """What processes check orders with, which only the operator's tools can give."""
        return OperatorKey(self.operator.encode()).public_key.hex()


class DemoService(Service):
    """One of our processes, and what it measures of itself."""

    def __init__(self, name: str, arguments: list[str], settings: Mapping[str, object], log: IO[bytes]) -> None:
        super().__init__(arguments, settings, log, home=Path.cwd())
        self._name = name
        self._log = log.name

    def metric(self, name: str) -> float:
        """A metric's sum over all labels, 0 while nobody answers. Raises `SpendfuseError` if the process has ended."""
        self._check()
        return sum((self.numbers() or {}).get(name, {}).values())

    def is_healthy(self) -> bool:
        """Whether it says of itself that it works. Raises `SpendfuseError` if it has ended."""
        self._check()
        return self.page("healthz") is not None

    def sent(self, receiver: str) -> float:
        """How many messages alerting has handed to a receiver."""
        self._check()
        found = (self.numbers() or {}).get("spendfuse_alerting_sent_total", {})
        return found.get(f'receiver="{receiver}"', 0.0)

    def _check(self) -> None:
        if not self.running:
            raise SpendfuseError(f"{self._name} ended with code {self.process.returncode}; see {self._log}")


def start_broker(stack: ExitStack, screen: Screen) -> tuple[str, str]:
    """Where the demo runs, and its topics' prefix: the cluster of the environment, else an embedded broker."""
    given = os.environ.get("SPENDFUSE_KAFKA_BOOTSTRAP")
    prefix = f"demo-{secrets.token_hex(3)}."
    if given:
        from streams.kafka.topics import run_apply  # noqa: PLC0415  # only where there is a real cluster

        settings = read_settings().model_copy(update={"prefix": prefix, "partitions": PARTITIONS, "replication": 1})
        with contextlib.redirect_stdout(None):
            run_apply(settings)
        screen.step("broker", f"{given}, topics {prefix}*")
        return given, prefix
    from infra.kafka.embedded import EmbeddedBroker  # noqa: PLC0415  # loads a C library

    broker = stack.enter_context(EmbeddedBroker())
    broker.create_topics(prefix, PARTITIONS)
    screen.step("broker", "embedded: nothing to install, and forgotten at the end")
    return broker.bootstrap, prefix


def start_worker(stack: ExitStack, bootstrap: str, prefix: str, keys: Keys) -> DemoService:
    """The detection worker under the demo's policy."""
    given = {
        "ENGINE_KEY": keys.engine,
        "OPERATOR_PUBLIC_KEY": keys.operator_public,
        "POLICY": HERE / "policy.toml",
        "WATCHDOG_S": 0,
    }
    return _start(stack, "worker", ["streams", "worker"], bootstrap, prefix, given)


def start_alerting(stack: ExitStack, bootstrap: str, prefix: str, keys: Keys, screen: Screen, page: str) -> DemoService:
    """Alerting, from now on: what it prints is to be read, and it tells Slack and PagerDuty given their keys. Where
    there is a page, messages lead to it.
    """
    text, told = policy_with_receivers((HERE / "policy.toml").read_text(encoding="utf-8"), os.environ)
    policy = _folder() / "demo-policy.toml"
    policy.write_text(text, encoding="utf-8")
    screen.step("telling", told)
    given = {
        "OPERATOR_PUBLIC_KEY": keys.operator_public,
        "POLICY": policy,
        "ALERTS_FROM": "latest",
        **({"CONSOLE_URL": page} if page else {}),
        "KAFKA_CHECK_CRCS": "SPENDFUSE_KAFKA_BOOTSTRAP" in os.environ,  # the embedded broker breaks them
    }
    return _start(stack, "alerting", ["alerting"], bootstrap, prefix, given, stdout=subprocess.PIPE)


def start_console(stack: ExitStack, bootstrap: str, prefix: str, keys: Keys, screen: Screen) -> str:
    """The live page, with a key for whoever watches: it may see all tenants, and give orders. Returns its address."""
    settings = read_settings().model_copy(
        update={"kafka_bootstrap": bootstrap, "prefix": prefix, "operator_name": "demo"}
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        run_create(settings, ALL_TENANTS, ["read", "operate"], "demo")
    port = _free_port(settings.console_port)
    given = {
        "ENGINE_KEY": keys.engine,
        "OPERATOR_KEY": keys.operator,
        "POLICY": HERE / "policy.toml",
        "CONSOLE_PORT": port,
    }
    _start(stack, "console", ["streams", "console"], bootstrap, prefix, given)
    address = f"http://127.0.0.1:{port}"
    screen.step("page", f"{address}: follow it there, with this key")
    screen.step("key", printed.getvalue().strip())
    return address


def _free_port(wanted: int) -> int:
    """The port that was asked for if nobody has it, else any."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as listening:
            listening.bind(("127.0.0.1", port))
            found: int = listening.getsockname()[1]
            return found
    return wanted


def _start(
    stack: ExitStack,
    name: str,
    arguments: list[str],
    bootstrap: str,
    prefix: str,
    given: Mapping[str, object],
    stdout: int | None = None,
) -> DemoService:
    settings = {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "SLOT": "demo", **given}
    log = stack.enter_context((_folder() / f"demo-{name}.log").open("wb"))
    service = DemoService(name, arguments, settings, log)
    service.start(stdout)
    stack.callback(service.end)
    return service


def _folder() -> Path:
    folder = Path(os.environ.get("SPENDFUSE_DEMO_FOLDER", "out"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_folder() -> None:
    """See that logs can be written. Raises `SettingsError`."""
    folder = os.environ.get("SPENDFUSE_DEMO_FOLDER", "out")
    try:
        with tempfile.TemporaryFile(dir=_folder()):
            pass
    except OSError as error:
        raise SettingsError(
            f"logs cannot be written to {folder}: {error.strerror}. Name another folder with SPENDFUSE_DEMO_FOLDER"
        ) from None
