"""The tools that deployments are checked with, as `make deploy-check` builds them, and what they print."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streams.settings import Settings

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ROOT / ".cache" / "deploy"
CHART: Final = ROOT / "infra" / "helm" / "spendfuse"
COMPOSE: Final = ROOT / "infra" / "compose" / "compose.yaml"
ANSWER_S: Final = 120

PENDING: Final = {
    f"SPENDFUSE_{name.upper()}"
    for name in ("sink", "console_host", "console_port", "console_tls_certificate", "console_tls_key", "console_secret")
} - {f"SPENDFUSE_{name.upper()}" for name in Settings.model_fields}
"""Settings of processes that this checkout has not got."""

Document = dict[str, Any]


def tool(home: str, name: str) -> str:
    """A program's path: as it was built into the cache, else one that is installed; skips the test, by its name,
    without either. Compose's loader is nothing that anybody installs.
    """
    built = TOOLS / home / name
    found = str(built) if os.access(built, os.X_OK) else shutil.which(name) if home != "compose" else None
    if found is None:
        pytest.skip(f"{home}'s {name} is not here; `make deploy-check` builds it")
    return found


def output_of(*command: object, cwd: Path = ROOT) -> str:
    """What a program prints, which must end with 0."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=ANSWER_S, check=False
    )
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def documents(text: str) -> list[Document]:
    """The documents of a YAML stream, empty ones left out."""
    return [one for one in yaml.safe_load_all(text) if one]
