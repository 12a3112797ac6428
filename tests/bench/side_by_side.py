"""Quix Streams and Faust beside our worker: the same log, the same broker, the same core, round by round."""

import hashlib
import json
import shutil
import subprocess
import tempfile
import threading
import venv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from infra.service import ROOT
from schemas.topics import topic_name
from tests.bench.broker import bench_broker, broker_note, fresh_topics, make_topic
from tests.bench.engine import BATCH, describe
from tests.bench.machine import WORKER_CORE, on_core
from tests.bench.report import Part
from tests.bench.throughput import run_round, write_log
from tests.bench.worker_process import side

VENV = Path(".cache/peers-venv")
LOCK = Path("requirements/peers.lock")
JOBS = Path(__file__).parent / "peers"
OURS = {
    "Spendfuse worker, exactly once, every detector": "plain",
    "Spendfuse worker, exactly once, rules like the peers' job": "small",
}
"""Title -> policy."""
INSTALL_TIMEOUT_S = 300.0
RUN_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0


class Peer(NamedTuple):
    """Another framework and the part of the log it is given: slow ones must not take all the time."""

    job: str
    title: str
    package: str
    share: float
    arguments: tuple[str, ...]
    """Of the job, after those that every job has."""


PEERS = (
    Peer("quix_job.py", "Quix Streams, exactly once, commit every 5 s", "quixstreams", 1.0, ("0",)),
    Peer("quix_job.py", f"Quix Streams, exactly once, commit every {BATCH:,}", "quixstreams", 1.0, (str(BATCH),)),
    Peer("faust_job.py", "Faust with tables, at least once", "faust-streaming", 0.2, ("worker",)),
)


class Speed(NamedTuple):
    """How a process went through its part of the log."""

    events_per_s: float
    cpu_s_per_million: float


def measure(events: int, rounds: int) -> Part:
    """Every round: ours under each policy, then each peer, one after the other over the same events."""
    python = install()
    part = Part("peers", "the same log on the same broker, one process on one core")
    found: dict[str, list[Speed]] = defaultdict(list)
    with bench_broker() as bootstrap:
        for _ in range(rounds):
            for title, policy in OURS.items():
                ours = run_round(bootstrap, side(ROOT, policy), events)
                found[title].append(Speed(ours.events_per_s, ours.cpu_s_per_million))
            with fresh_topics(bootstrap) as prefix:
                total = write_log(bootstrap, prefix, events)
                for peer in PEERS:
                    found[peer.title].append(_run(python, peer, bootstrap, prefix, int(total * peer.share)))
        part.notes.append(broker_note())
    _fill_in(part, found)
    part.notes += sorted({_version(python, peer) for peer in PEERS})
    return part


def _fill_in(part: Part, found: dict[str, list[Speed]]) -> None:
    base: float | None = None
    for title, speeds in found.items():
        rate = part.add(title, "events/s", [each.events_per_s for each in speeds], base)
        base = base or rate.median
    cpu_base: float | None = None
    for title, speeds in found.items():
        cpu = part.add(f"{title}: processor", "s/million", [each.cpu_s_per_million for each in speeds], cpu_base)
        cpu_base = cpu_base or cpu.median
    part.notes += [
        "ratio: to ours with every detector",
        *(f"ours, {describe(policy)}" for policy in OURS.values()),
        "ours does more: strict decoding, duplicates by event id, periods, medians, incidents, rollups, dead letters",
        "ours is measured from the first commit to the last, every event counted when it is committed",
        "the peers' job: decode JSON, sum cost per tenant, count equal calls in a row per run, command at a limit",
        "the peers keep a changelog, and are measured from the first event to the end of the last commit",
        "Quix Streams does more: its state lies in RocksDB and may outgrow memory; ours and Faust's is in memory",
        "Faust promises less: at least once, so that a crash may repeat commands or lose table updates",
        "peers run with their documented defaults; Quix Streams publishes commands with its next commit, up to 5 s on",
        f"in its second row it commits as often as ours, which is after {BATCH:,} events at most",
    ]


def _run(python: Path, peer: Peer, bootstrap: str, prefix: str, events: int) -> Speed:
    """Let a peer go through the first `events` records.

    Raises:
        RuntimeError: it ended, or did not get through in time; the message holds the end of its output.
    """
    name = f"{peer.job.removesuffix('.py')}-{peer.arguments[0]}"
    source, sink = topic_name(prefix, "usage.v1"), f"{prefix}{name}-commands"
    make_topic(bootstrap, sink)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        command = [str(python), str(JOBS / peer.job), bootstrap, source, sink, f"{prefix}{name}", folder, str(events)]
        command += peer.arguments
        with on_core(WORKER_CORE):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        try:
            speed = _follow(process)
        finally:
            _end(process)
        if speed is None:
            errors.seek(0)
            raise RuntimeError(f"{peer.title} did not get through:\n{errors.read()[-2000:].decode(errors='replace')}")
    return speed


def _follow(process: subprocess.Popen[bytes]) -> Speed | None:
    """What the job reports at its end; None if it ended without."""
    assert process.stdout is not None
    watchdog = threading.Timer(RUN_TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if line.startswith(b'{"events"'):
                said: dict[str, float] = json.loads(line)
                return Speed(said["events"] / said["seconds"], 1e6 * said["cpu_seconds"] / said["events"])
    finally:
        watchdog.cancel()
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def install() -> Path:
    """The interpreter of the peers' own virtual environment, made from the lock file where it is not there yet.

    Apart from ours because the peers pin other versions of libraries that both use.
    """
    python = VENV / "bin" / "python"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    ready = VENV / "lock.sha256"
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing the peers into {VENV} …", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([*pip, "-r", str(LOCK)], check=True, timeout=INSTALL_TIMEOUT_S)
    ready.write_text(wanted, encoding="utf-8")
    return python


def _version(python: Path, peer: Peer) -> str:
    code = f"from importlib.metadata import version; print(version({peer.package!r}))"
    said = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    return f"{peer.package} {said.strip()}"
