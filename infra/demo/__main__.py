"""`make demo`. What it needs takes a second to load: whoever interrupts it then sees no traceback either."""

import sys

from streams.process.ending import run_to_end


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns its exit code."""
    from infra.demo.replay import main as replay  # noqa: PLC0415

    return replay(arguments)


if __name__ == "__main__":
    sys.exit(run_to_end(main, "demo"))
