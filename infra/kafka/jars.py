"""The jars of a local Kafka broker: fetched once by Maven, kept outside the build tree, shared by every checkout."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KAFKA_VERSION = "4.1.1"
OLDEST_JAVA = 17
FETCH_TIMEOUT_S = 300

_POM = Path(__file__).with_name("pom.xml")


class KafkaUnavailableError(Exception):
    """A local Kafka broker cannot be had on this machine; the message says why."""


def jars_folder() -> Path:
    """Where the jars of this Kafka version are kept; it exists only when they are complete."""
    cache = os.environ.get("SPENDFUSE_CACHE") or Path.home() / ".cache" / "spendfuse"
    return Path(cache) / f"kafka-{KAFKA_VERSION}"


def missing_tools() -> str | None:
    """What stands in the way of a local broker on this machine, or None. Starts nothing and fetches nothing."""
    if shutil.which("java") is None:
        return f"there is no `java` (Kafka {KAFKA_VERSION} needs version {OLDEST_JAVA} or newer)"
    if not jars_folder().is_dir() and shutil.which("mvn") is None:
        return f"there is no `mvn` to fetch Kafka {KAFKA_VERSION}, and {jars_folder()} is not there either"
    return None


def fetch_jars() -> Path:
    """The folder of the jars, fetched first where needed.

    Two processes that need them at once wait for each other, and an interrupted fetch leaves nothing behind that
    a later one could take for complete.

    Raises:
        KafkaUnavailableError: Maven failed or took longer than `FETCH_TIMEOUT_S`.
    """
    target = jars_folder()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one_makes(target):
        if not target.is_dir():
            _fetch_into(target)
    return target


def class_archive() -> Path:
    """Where the archive of a broker's classes is, if `local.archive_classes` has made one for this Kafka and Java.

    Java takes no archive of another build of itself, so that each has its own.
    """
    java = Path(shutil.which("java") or "java").resolve()
    changed_ns = java.stat().st_mtime_ns if java.exists() else 0
    build = hashlib.sha256(f"{java} {changed_ns}".encode()).hexdigest()[:12]
    return jars_folder().with_name(f"kafka-{KAFKA_VERSION}-{build}.jsa")


@contextmanager
def only_one_makes(target: Path) -> Iterator[None]:
    """Whoever else on this machine wants to make the same waits until this one has."""
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch_into(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as folder:
        fetched = Path(folder) / "jars"
        _run_maven(fetched)
        if not any(fetched.glob(f"kafka_*-{KAFKA_VERSION}.jar")):
            raise KafkaUnavailableError(f"Maven ended well but left no Kafka {KAFKA_VERSION} broker in {fetched}")
        fetched.rename(target)


def _run_maven(output: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError(missing_tools() or "there is no `mvn`")
    command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={output}"]
    try:
        run = subprocess.run(  # noqa: S603 - a fixed program, no shell
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaUnavailableError(f"Maven did not fetch Kafka within {FETCH_TIMEOUT_S} s") from error
    if run.returncode != 0:
        said = (run.stdout + run.stderr).strip()
        raise KafkaUnavailableError(f"Maven could not fetch Kafka {KAFKA_VERSION}:\n{said[-2000:]}")
