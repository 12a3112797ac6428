"""`python -m streams …`: the worker and the operators' tools."""

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from streams.commands.registry import add_all
from streams.process.ending import run_to_end


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    return run_to_end(lambda: _run(arguments))


class ShowVersion(argparse.Action):
    """Says which version this is, and whether its engine is compiled. Only who asks for it loads the engine."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from models.engine import COMPILED

        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        print(f"spendfuse {project['version']}, engine {'compiled' if COMPILED else 'interpreted'}")
        parser.exit()


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streams", description="Spendfuse: detection and operators' tools")
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="which version, and whether it is compiled")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_all(subparsers)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
