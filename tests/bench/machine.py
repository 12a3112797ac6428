"""The machine under the bench: what it is, which core does what, and what a process has used."""

import gc
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from infra.kafka.jars import KAFKA_VERSION

P = ParamSpec("P")
R = TypeVar("R")

_CORES = sorted(os.sched_getaffinity(0))
ANY_CORE = -1
WORKER_CORE = _CORES[0]
"""Runs what is measured, and nothing else of the bench."""
OTHER_CORE = _CORES[-1]
"""Runs the broker and the bench itself."""
_PACKAGES = ("confluent-kafka", "msgspec", "numpy", "xxhash", "genai-prices")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def facts() -> dict[str, str]:
    """What a reader must know to compare figures: hardware and versions."""
    return {
        "processor": _processor(),
        "cores": f"{len(_CORES)}: {WORKER_CORE} for what is measured, {OTHER_CORE} for the broker and the bench",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * _PAGE_BYTES / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "java": _java(),
        "kafka": KAFKA_VERSION,
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _java() -> str:
    try:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except OSError:
        return "none"
    return said.splitlines()[0] if said else "unknown"


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run this thread on one core. Processes started meanwhile stay there for good: they inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(_CORES) if core == ANY_CORE else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def in_fresh_process(function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call a function in a new interpreter on the worker's core: nobody's garbage, nobody's memory."""
    with on_core(WORKER_CORE), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, in user and kernel mode, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes() -> int:
    """Memory that this process holds in RAM, after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * _PAGE_BYTES
