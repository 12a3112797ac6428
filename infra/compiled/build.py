"""A copy of the service whose engine is compiled by mypyc, and the proof that it decides as the interpreted one does.

The copy stands in a folder of its own and is run from there. Beside the sources a stale compiled file would win over an
edited one without a word.
"""

import os
import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

from infra.compiled.modules import compiled_files

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "compiled"
COPIED = ("schemas", "models", "alerting", "streams", "infra", "sdk/src")


def build(folder: Path = HOME) -> None:
    """Copy, compile, compare; needs a C compiler. Raises `SystemExit` if any of it fails."""
    if folder.exists():
        shutil.rmtree(folder)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    modules = [path.as_posix() for path in compiled_files(folder)]
    print(f"compiling {len(modules)} modules …", flush=True)
    mypyc = [sys.executable, "-m", "mypyc", "--explicit-package-bases", *modules]
    env = {**os.environ, "MYPYC_DEBUG_LEVEL": "0"}
    done = subprocess.run(mypyc, cwd=folder, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"mypyc failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    print("comparing …", flush=True)
    compare(_decisions(ROOT), _decisions(folder))
    print(f"compiled into {folder}; run the service from there: cd {folder} && {sys.executable} -m streams up")


def compare(interpreted: list[bytes], compiled: list[bytes]) -> None:
    """Raise `SystemExit`, naming the first difference, unless both engines made the same bytes."""
    if not interpreted:
        raise SystemExit("the interpreted engine decided nothing; there is nothing to compare")
    for number, (ours, theirs) in enumerate(zip_longest(interpreted, compiled, fillvalue=b"nothing"), 1):
        if ours != theirs:
            raise SystemExit(
                "the compiled engine does not decide as the interpreted one does; do not use it. "
                f"They part in line {number}:\ninterpreted: {_shown(ours)}\ncompiled:    {_shown(theirs)}"
            )


def _decisions(home: Path) -> list[bytes]:
    """What the engine of a folder decides."""
    command = [sys.executable, "-m", "infra.compiled.decisions"]
    done = subprocess.run(command, cwd=home, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"the engine failed in {home}:\n{done.stderr.decode()[-3000:]}")
    return done.stdout.splitlines()


def _shown(line: bytes) -> str:
    return line[:1000].decode("utf-8", "backslashreplace")
