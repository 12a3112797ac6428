"""The service is run from its checkout, with nothing installed but what its own lock file names."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).parents[2]
SERVICE = ("schemas", "models", "alerting", "streams")
OURS = {*SERVICE, "infra", "spendfuse"}
STARTED = (
    "streams.gateway.process", "streams.worker.process", "streams.enforcer.process", "streams.tools.imports.litellm",
    "alerting.__main__",
)  # fmt: skip

OF_EXTRAS = {"streams/sinks/stores/bigquery.py", "streams/sinks/stores/clickhouse.py"}
"""Loaded by whoever has installed the extra that `streams/sinks/stores` names where it is missing."""


def imported() -> Iterator[tuple[str, str]]:
    """What the service imports of others: module, and the file that does."""
    for path in (path for package in SERVICE for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            for top in {name.partition(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                yield top, str(path.relative_to(ROOT))


def test_what_is_imported_is_locked() -> None:
    """Everything that the service imports is in its lock file, and not only in the developers'."""
    text = (ROOT / "requirements" / "service.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    homes = packages_distributions()
    found = {
        (path, module)
        for module, path in imported()
        if path not in OF_EXTRAS
        and not {re.sub(r"[-_.]+", "-", name).lower() for name in homes.get(module, ())} & locked
    }
    assert found == set()


@pytest.mark.parametrize("module", STARTED)
def test_the_client_library_comes_from_the_checkout(module: str) -> None:
    """Without an installed `spendfuse` each process finds all that it needs, the gateway its guards."""
    packages = Path(aiohttp.__file__).parents[1]
    # -S: installed packages are found by PYTHONPATH alone, and those that point into a checkout are not.
    command = [sys.executable, "-S", "-c", f"import {module}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(packages)}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
