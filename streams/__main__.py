"""`python -m streams …`: the worker and the operators' tools."""

import argparse
import sys

from streams.commands.registry import add_all
from streams.process.ending import run_to_end


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    return run_to_end(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streams", description="Spendfuse: detection and operators' tools")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_all(subparsers)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
