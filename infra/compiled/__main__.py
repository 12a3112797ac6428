"""`python -m infra.compiled [FOLDER]`: build the compiled copy of the service, in `build/compiled` by default."""

import argparse
import sys
from pathlib import Path

from infra.compiled.build import HOME, build
from streams.process.ending import run_to_end


def main(arguments: list[str] | None = None) -> int:
    """Build it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.compiled", description="build a compiled copy of the service"
    )
    parser.add_argument("folder", nargs="?", type=Path, default=HOME, help="where to; build/compiled unless given")
    build(parser.parse_args(arguments).folder.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
