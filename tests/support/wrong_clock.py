"""Processes whose host's clock is wrong: `wrong_clock.c`, loaded into them before the C library."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


def ahead_by(seconds: int, folder: Path) -> dict[str, str]:
    """Environment variables under which a process's wall clock is so much ahead, or behind where it is negative.

    Skips the test where there is no C compiler, or no way to load a library first. `folder` takes what is built.
    """
    library = folder / "wrong_clock.so"
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a wrong clock needs a C compiler")
    if not library.exists():
        built = subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if built.returncode:
            pytest.skip(f"a wrong clock cannot be built here: {built.stderr.strip()[-200:]}")
    return {"LD_PRELOAD": str(library), "CLOCK_AHEAD_S": str(seconds)}
