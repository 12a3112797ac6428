"""Every process as its container confines it: from what the image copies, as a user without a name, nothing to write to
but /tmp and a spool, and no home.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.image.health import fault
from infra.kafka.local import free_ports
from tests.support.deploy import ROOT
from tests.support.dockerfile import FILE, lay_out, steps
from tests.support.kafka import TopicSpace, wait_until

USER = "10001"
CONFINE = """
mount --make-rprivate / && mount -o remount,ro,bind / && mount -t tmpfs -o mode=1777 tmpfs /tmp &&
mount -t tmpfs -o mode=1777 tmpfs /mnt &&
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --inh-caps=-all {command}
"""
PROCESSES = {
    "streams worker": "state restored",
    "alerting": "alerting started",
    "streams gateway": "taking usage",
}
"""What follows `python -m`, and what it says once it is at work."""


def confined(*command: str) -> list[str]:
    """A command in a mount namespace of its own, whose root is read-only, as a user that has no name."""
    return ["unshare", "--mount", "sh", "-c", CONFINE.format(user=USER, command=shlex.join(command))]


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """What stands in the image's working directory; outside of /tmp, which the processes have to themselves."""
    probe = subprocess.run(
        confined(sys.executable, "-c", f"import os; assert os.getuid() == {USER}; os.mkdir('/tmp/a')"),
        capture_output=True, text=True, check=False,
    ) if shutil.which("unshare") and shutil.which("setpriv") else None  # fmt: skip
    if probe is None or probe.returncode != 0:
        pytest.skip(f"nobody can be confined here: {probe.stderr.strip() if probe else 'no unshare'}")
    home = ROOT / ".cache"
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="image-") as folder:
        Path(folder).chmod(0o755)
        lay_out(Path(folder))
        yield Path(folder)


@pytest.mark.parametrize("command", PROCESSES)
def test_it_is_well_and_ends_in_order(command: str, image: Path, kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """It starts, its container's health check finds it well, and SIGTERM ends it with code 0."""
    [env] = [step.rest for step in steps(FILE.read_text(encoding="utf-8")) if step.word == "ENV"]
    given = dict(word.split("=", 1) for word in shlex.split(env) if not word.startswith("PATH="))
    port, gateway_port = free_ports(2)
    variables = given | {
        "PATH": os.environ["PATH"], "XDG_STATE_HOME": "/mnt",
        "SPENDFUSE_KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "SPENDFUSE_PREFIX": kafka_topics.prefix,
        "SPENDFUSE_SLOT": "0", "SPENDFUSE_METRICS_PORT": str(port), "SPENDFUSE_GATEWAY_PORT": str(gateway_port),
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            confined(sys.executable, "-m", *command.split()), cwd=image, env=variables, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def is_at_work() -> bool:
        return PROCESSES[command] in log.read_text(encoding="utf-8") and fault(variables) is None

    try:
        wait_until(lambda: process.poll() is not None or is_at_work(), 60, f"{command} is at work")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text(encoding="utf-8")[-3000:]
    finally:
        process.kill()
