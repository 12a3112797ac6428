"""Stores for tests, as far as this machine has them: a Postgres server is started where its binaries are."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg

from infra.kafka.local import free_ports
from tests.support.kafka import wait_until

PLACES: Final = ("/usr/local/bin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))


def postgres_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None where there is none."""
    found = shutil.which("initdb", path=os.pathsep.join([*PLACES, os.environ.get("PATH", "")]))
    return None if found is None else Path(found).resolve().parent


class PostgresServer:
    """A server with one superuser, `sink`, on a port of this machine, from its start to the end of the block."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-")
        self._account = "nobody" if os.getuid() == 0 else None  # it refuses to run as root
        home = Path(self._folder.name)
        if self._account is not None:
            os.chown(home, pwd.getpwnam(self._account).pw_uid, -1)
        self._run("initdb", "-D", f"{home}/data", "-U", "sink", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def address(self, database: str = "postgres", user: str = "sink") -> str:
        """Where a database is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of an empty database."""
        name = f"sink_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.address(), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return self.address(name)

    def start(self) -> None:
        """Run it until it answers."""
        home = self._folder.name
        command = [
            str(self._binaries / "postgres"), "-D", f"{home}/data", "-p", str(self.port), "-k", home, "-h", "127.0.0.1",
            "-c", "fsync=off", "-c", "max_connections=40",
        ]  # fmt: skip
        with Path(home, "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._account, stdout=log, stderr=log, cwd="/")
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "30", again=True)

    def stop(self) -> None:
        """End it at once, as a machine that fails would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()

    def _run(self, name: str, *arguments: str, again: bool = False) -> None:
        command = [str(self._binaries / name), *arguments]
        while True:
            done = subprocess.run(command, user=self._account, capture_output=True, check=False, cwd="/")
            if done.returncode == 0:
                return
            assert again, done.stderr.decode()
            assert self._process is not None
            assert self._process.poll() is None, Path(self._folder.name, "log").read_text(encoding="utf-8")


class BigQueryEmulator:
    """An emulator of BigQuery, with the Storage Write API, from its start to the end of the block."""

    def __init__(self) -> None:
        self._rest, self._grpc = free_ports(2)
        program = Path(sys.executable).with_name("bqemulator")
        command = [
            str(program), "start", "--rest-port", str(self._rest), "--grpc-port", str(self._grpc), "--log-level",
            "error", "--project", "spendfuse",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self._answers(self._rest) and self._answers(self._grpc), 60, "the emulator answers")

    def address(self, dataset: str) -> str:
        """Where a dataset is, or will be."""
        ports = f"rest=http://127.0.0.1:{self._rest}&grpc=127.0.0.1:{self._grpc}"
        return f"bigquery://spendfuse/{dataset}?{ports}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _answers(self, port: int) -> bool:
        assert self._process.poll() is None, "the emulator has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
