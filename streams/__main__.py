"""`python -m streams …`: the worker and the operators' tools."""

import argparse
import sys

from schemas.errors import SpendfuseError
from streams.commands.registry import add_all


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m streams", description="Spendfuse: detection and operators' tools")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_all(subparsers)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except SpendfuseError as error:
        print(f"spendfuse: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
