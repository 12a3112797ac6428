"""Programs and libraries of other systems, each in the environment that `make connect-tests` makes for it."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from tests.support.kafka import wait_until

ROOT: Final = Path(__file__).parents[2]
ENVIRONMENTS: Final = ROOT / ".cache" / "connect"
CLIENTS: Final = ROOT / "tests" / "connect" / "clients"
ANSWER_S: Final = 120


def environment_of(system: str) -> Path:
    """The folder with a system's packages; skips the test, by the system's name, where they are not."""
    folder = ENVIRONMENTS / system
    if not (folder / "lock").is_file():
        pytest.skip(f"the packages of {system} are not here; `make connect-tests` sets them up")
    return folder


def client_environment(**more: str) -> dict[str, str]:
    """For a process of another system: our client beside its packages, and no way out of this machine."""
    return {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT / "sdk" / "src"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1", **more,
    }  # fmt: skip


def run_client(system: str, script: str, *arguments: object, **environment: str) -> list[Any]:
    """Run a script of `tests/connect/clients` as a user would; what it prints as JSON, a line each."""
    done = subprocess.run(
        [environment_of(system) / "bin" / "python", CLIENTS / script, *map(str, arguments)],
        env=client_environment(**environment), capture_output=True, text=True, timeout=ANSWER_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


class ClientProcess:
    """A program of another system, running from construction to the end of the `with` block at the latest.

    `program` is its path below the system's folder, such as `bin/litellm`.
    """

    def __init__(self, system: str, program: str, *arguments: object, **environment: str) -> None:
        with tempfile.NamedTemporaryFile(prefix=f"{system}-", suffix=".log", delete=False) as said:
            self._said = Path(said.name)
            self.process = subprocess.Popen(
                [environment_of(system) / program, *map(str, arguments)],
                env=client_environment(**environment), stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    @property
    def text(self) -> str:
        """All that it has said."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, predicate: Callable[[], object], timeout_s: float, what: str) -> None:
        """Wait until it holds; the end of what the program said is in the failure."""
        try:
            wait_until(lambda: predicate() or self.process.poll() is not None, timeout_s, what)
            assert predicate(), f"the program ended before: {what}"
        except AssertionError as error:
            raise AssertionError(f"{error}; its last words:\n{self.text[-3000:]}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._said.unlink(missing_ok=True)
