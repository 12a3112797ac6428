"""`python -m infra.compose.prepare`: make the secrets that compose.yaml mounts, each once, readable by you alone.

The containers run as you, so that they can read them; where root makes them, they are the image's own user's. What is
there already is left as it is: keys that are in use are not replaced by starting this again.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from schemas.signing import OperatorKey
from streams.process.ending import run_to_end
from streams.tools.keys import ROOT_BYTES

FOLDER: Final = Path(__file__).parent
IMAGE_USER: Final = 10_001


def contents(engine: str, operator: str, postgres: str) -> dict[str, str]:
    """File in `secrets/` -> its text, as it follows from the root keys and the password of Postgres' user."""
    public = OperatorKey(operator.encode()).public_key.hex()
    return {
        "worker.toml": _toml(engine_key=engine, operator_public_key=public),
        "alerting.toml": _toml(operator_public_key=public),
        "gateway.toml": _toml(engine_key=engine),
        "console.toml": _toml(engine_key=engine, operator_key=operator, console_secret=secrets.token_hex(ROOT_BYTES)),
        "operator.toml": _toml(operator_key=operator),
        "sink.toml": _toml(sink=f"postgresql://spendfuse:{postgres}@postgres/spendfuse"),
    }


def prepare(folder: Path) -> list[Path]:
    """Write what is missing below `folder`; returns it."""
    home = folder / "secrets"
    home.mkdir(mode=0o700, exist_ok=True)
    before = set(home.iterdir()) | {folder / ".env"} & set(folder.iterdir())
    engine, operator = (_kept(home / name, secrets.token_hex(ROOT_BYTES)) for name in ("engine-key", "operator-key"))
    postgres, _ = (_kept(home / f"{name}-password", secrets.token_urlsafe(24)) for name in ("postgres", "grafana"))
    for name, text in contents(engine, operator, postgres).items():
        _kept(home / name, text)
    _kept(folder / ".env", f"SPENDFUSE_USER={_user()}:{os.getgid() or IMAGE_USER}\n")
    return sorted({*home.iterdir(), folder / ".env"} - before)


def _kept(path: Path, new: str) -> str:
    """The text of a file, which is written first where it is not there."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(new)
            os.fchown(file.fileno(), _user(), -1)
    return path.read_text(encoding="utf-8")


def _user() -> int:
    return os.getuid() or IMAGE_USER


def _toml(**settings: str) -> str:
    return "".join(f'{name} = "{value}"\n' for name, value in settings.items())


def main(arguments: list[str] | None = None) -> int:
    """Make them, and say which; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.compose.prepare", description=main.__doc__)
    parser.parse_args(arguments)
    made = prepare(FOLDER)
    print("\n".join(f"made {path}" for path in made) or "everything is there already")
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
