"""The state made anew, as an operator does it."""

import subprocess
import sys
from pathlib import Path

from tests.support.kafka import TopicSpace
from tests.support.service_process import OPERATOR_KEY, ROOT


def rebuild(space: TopicSpace, policy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m streams rebuild --from-input`, by somebody who keeps the first generation of the state."""
    settings = {
        "KAFKA_BOOTSTRAP": space.bootstrap, "PREFIX": space.prefix, "POLICY": str(policy),
        "OPERATOR_KEY": OPERATOR_KEY, "SESSION_TIMEOUT_MS": "6000",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "streams", "rebuild", "--from-input", *arguments],
        cwd=ROOT,
        env={f"SPENDFUSE_{name}": value for name, value in settings.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
