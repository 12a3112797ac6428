"""`python -m infra.compiled [FOLDER]`: a copy of the service whose hot modules are compiled by mypyc.

The copy stands in a folder of its own, `build/compiled` by default, and is run from there. Beside the sources a stale
compiled file would win over an edited one without a word. The build fails if the compiled engine and the interpreted
one do not make the same bytes of the demo's log. It needs a C compiler.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("schemas", "models", "alerting", "streams", "infra/demo")
HOT = (
    "attribution", "commands/commands", "commands/enforcement", "commands/held", "commands/obedience",
    "commands/standing", "engine", "incidents/incident", "incidents/incidents", "rules/levels", "runs/counters",
    "runs/groups", "runs/memory", "runs/registry", "sequences/model_calls", "sequences/pauses",
    "sequences/tool_calls", "spend/hourly_totals", "spend/hours", "spend/ledger", "state/partition",
    "state/restore", "state/rows", "state/seen_rows", "state/spend/cohort", "state/spend/owners",
    "state/spend/scopes", "state/spend/totals", "state/tenant", "state/units/call_history", "state/units/groups",
    "state/units/route", "state/units/runs", "state/units/unit",
)  # fmt: skip
"""Modules of `models` on the path of every event. Those that use pydantic or numpy would gain nothing."""


def build(folder: Path) -> None:
    """Copy, compile, compare. Raises `SystemExit` if any of it fails."""
    if folder.exists():
        shutil.rmtree(folder)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "infra" / "__init__.py").touch()
    modules = [f"models/{name}.py" for name in HOT]
    print(f"compiling {len(modules)} modules …", flush=True)
    mypyc = [sys.executable, "-m", "mypyc", "--explicit-package-bases", *modules]
    done = subprocess.run(mypyc, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"mypyc failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    _compare(folder)
    print(f"compiled into {folder}; run the worker from there: cd {folder} && {sys.executable} -m streams worker")


def _compare(folder: Path) -> None:
    """The same log through both engines must give the same bytes."""
    interpreted, compiled = _effects(ROOT), _effects(folder)
    if not compiled or interpreted != compiled:
        raise SystemExit("the compiled engine does not decide as the interpreted one does; do not use it")


def _effects(home: Path) -> bytes:
    demo = home / "infra" / "demo"
    backtest = [sys.executable, "-m", "streams", "backtest"]
    arguments = ["--policy", str(demo / "policy.toml"), "--events", str(demo / "usage.jsonl.gz")]
    done = subprocess.run([*backtest, *arguments], cwd=home, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"the backtest failed in {home}:\n{done.stderr.decode()[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "compiled").resolve())
