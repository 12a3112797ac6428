"""Programs and libraries of other systems, each in the environment that `make connect-tests` makes for it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

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
    """For a process of another system: our client beside its own packages, and nothing that leads out of this machine."""
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
