"""A real one-node Apache Kafka as a child process. `python -m infra.kafka.local` runs one until it is stopped."""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.kafka.jars import KafkaUnavailableError, class_archive, fetch_jars, missing_tools, only_one_makes
from infra.kafka.settings import broker_settings, certificate_settings, login_settings

HEAP = "768m"
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Options of Java for a broker that lives for minutes: what the thorough compiler would save, it first has to spend.
To start, serve a few topics and end takes seven CPU seconds instead of eleven."""
ARCHIVE_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0

_HOST = "127.0.0.1"
_PORTS = range(12_000, 32_000)
"""Below what Linux and macOS give to clients."""
_ANY = random.SystemRandom()
"""Not to be seeded: two test runs on one machine must not look for the same ports."""
_CLUSTER_ID = "c3BlbmRmdXNlLWxvY2FsLQ"
"""22 characters of base64: the form Kafka wants. Constant, because each log folder is a cluster of its own."""


class LocalKafka:
    """A broker in KRaft mode on a free loopback port, with its log in a temporary folder that `stop` removes.

    `kill` and `restart` keep port and log, as a machine that comes back does.

    Args:
        settings: Kafka settings that replace or add to those of `broker_settings`.
        log_folder: where to keep the log instead, for instance a small file system that is meant to fill up.
        logins: password by user name, the administrator's first. Given some, the broker asks for them and allows to
            others only what the administrator grants.
        mechanism: of SASL, by which it asks.
        certificates: a folder with `ca.pem` and, for the broker and each user, `NAME.pem` and `NAME.key`. Given one, it
            asks for certificates instead of passwords.
        java_options: of the broker's virtual machine. Those of `QUICK_START` use the archive of classes, where it is.

    Raises:
        KafkaUnavailableError: Java or the jars are missing, or the broker does not start.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        log_folder: Path | None = None,
        logins: Mapping[str, str] | None = None,
        mechanism: str = "PLAIN",
        certificates: Path | None = None,
        java_options: Sequence[str] = QUICK_START,
    ) -> None:
        obstacle = missing_tools()
        if obstacle is not None:
            raise KafkaUnavailableError(obstacle)
        self._jars = fetch_jars()
        self._folder = Path(tempfile.mkdtemp(prefix="spendfuse-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        port, controller_port = free_ports(2)
        self.bootstrap = f"{_HOST}:{port}"
        controller = f"{_HOST}:{controller_port}"
        self._logins = dict(logins or {})
        self._mechanism = mechanism
        self._certificates = certificates
        self._java_options = java_options
        asking: dict[str, str] = {}
        if certificates is not None:
            asking = certificate_settings(self.bootstrap, controller, certificates, next(iter(self._logins)))
        elif self._logins:
            asking = login_settings(self.bootstrap, controller, self._logins, mechanism)
        try:
            self._configure(controller, asking | dict(settings or {}), log_folder or self._folder / "log")
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers. Does nothing while it runs."""
        if self.pid is not None:
            return
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed program, no shell
                self._java(self._java_options, "kafka.Kafka", str(self._properties), heap=HEAP),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt in the terminal must reach the tests first, not their broker
            )
        wait_until_it_answers(self.bootstrap, self._fault, self.client_config(next(iter(self._logins), None)))

    def client_config(self, user: str | None) -> dict[str, str]:
        """Librdkafka settings to log in as `user`; none where the broker asks for nothing."""
        if user is None:
            return {}
        if self._certificates is not None:
            return {
                "security.protocol": "SSL",
                "ssl.ca.location": str(self._certificates / "ca.pem"),
                "ssl.certificate.location": str(self._certificates / f"{user}.pem"),
                "ssl.key.location": str(self._certificates / f"{user}.key"),
            }
        if self._mechanism == "OAUTHBEARER":
            return {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": self._mechanism,
                "enable.sasl.oauthbearer.unsecure.jwt": "true",
                "sasl.oauthbearer.config": f"principal={user}",
            }
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": self._mechanism,
            "sasl.username": user,
            "sasl.password": self._logins[user],
        }

    def kill(self) -> None:
        """End the process as a power cut would (SIGKILL), keeping its log and port."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop in order if running, then start again on the same port with the same log."""
        self.end()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def unpause(self) -> None:
        """Let a frozen process go on."""
        self._signal(signal.SIGCONT)

    def end(self, within_s: float = STOP_TIMEOUT_S) -> bool:
        """End the process, keeping its log and port. Returns whether it ended in order, and had not to be killed."""
        if self._process is None or self._process.poll() is not None:
            return True
        self._signal(signal.SIGCONT)  # a frozen process would not see the next signal
        self._process.terminate()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def stop(self) -> None:
        """End the process and remove its temporary folder."""
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    @property
    def _output(self) -> Path:
        return self._folder / "output.txt"

    def _configure(self, controller: str, extra: Mapping[str, str], log_folder: Path) -> None:
        settings = broker_settings(self.bootstrap, self.bootstrap, controller, {"log.dirs": str(log_folder), **extra})
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
        arguments = ["format", "-t", _CLUSTER_ID, "-c", str(self._properties)]
        if self._mechanism.startswith("SCRAM"):
            for name, password in self._logins.items():
                arguments += ["--add-scram", f"{self._mechanism}=[name={name},password={password}]"]
        formatted = subprocess.run(  # noqa: S603 - a fixed program, no shell
            self._java(QUICK_START, "kafka.tools.StorageTool", *arguments, heap="128m"),
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if formatted.returncode != 0:
            raise KafkaUnavailableError(f"the log folder could not be prepared:\n{formatted.stdout}{formatted.stderr}")

    def _java(self, options: Sequence[str], main: str, *arguments: str, heap: str) -> list[str]:
        java, archive = shutil.which("java") or "java", class_archive()
        if options is QUICK_START and archive.exists():
            options = (*options, f"-XX:SharedArchiveFile={archive}")
        return [java, *options, f"-Xmx{heap}", "-cp", f"{self._jars}/*", main, *arguments]

    def _fault(self) -> str | None:
        """Why this broker will never answer, or None."""
        if self.pid is not None:
            return None
        return f"the broker ended while starting:\n{self._output.read_text(encoding='utf-8')[-2000:]}"

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)


def archive_classes() -> None:
    """Have Java keep the classes of a broker as it loads them: every later one on this machine starts for half of it.

    For whoever starts many, since it takes as long as three starts; the next ones find it and wait for nothing.

    Raises:
        KafkaUnavailableError: as `LocalKafka` does.
    """
    archive = class_archive()
    if archive.exists():
        return
    fetch_jars()
    with only_one_makes(archive):
        if archive.exists():
            return
        made = archive.with_name(f"{archive.name}.new")
        with LocalKafka(java_options=(*QUICK_START, f"-XX:ArchiveClassesAtExit={made}")) as kafka:
            if kafka.end(ARCHIVE_TIMEOUT_S) and made.exists():
                made.rename(archive)


def wait_until_it_answers(
    bootstrap: str, fault: Callable[[], str | None], config: Mapping[str, str] | None = None
) -> None:
    """Return when the broker takes part in its cluster. `config` is what a client needs to log in.

    Raises:
        KafkaUnavailableError: `fault` named a reason why it never will, or `START_TIMEOUT_S` passed.
    """
    given: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
    admin = AdminClient(given | dict(config or {}))
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        reason = fault()
        if reason is not None:
            raise KafkaUnavailableError(reason)
        try:
            if admin.list_topics(timeout=0.5).brokers:
                return
        except KafkaException:
            continue
        time.sleep(0.05)
    raise KafkaUnavailableError(f"the broker on {bootstrap} did not answer within {START_TIMEOUT_S:.0f} s")


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on now, all different, for processes that take a while to start or that come back.

    They are not of those that a system hands out by itself: one of these could be a client's when it is wanted.
    """
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        with suppress(OSError):
            sockets.append(socket.create_server((_HOST, _ANY.choice(_PORTS))))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> int:
    """Run a broker in the foreground, its address on standard output, until standard input closes or SIGTERM."""
    argparse.ArgumentParser(prog="python -m infra.kafka.local", description=main.__doc__).parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    try:
        with LocalKafka() as kafka:
            print(kafka.bootstrap, flush=True)
            sys.stdin.read()
            print("standard input has closed: the broker ends, and what it held is gone", file=sys.stderr)
    except KafkaUnavailableError as error:
        print(error, file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
