"""`python -m alerting`: notify people. The process itself is `streams/notifier`; this is only its name."""

import argparse
import sys

from streams.notifier.process import run_alerting
from streams.process.ending import run_to_end


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal ends it; returns the exit code."""
    return run_to_end(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    argparse.ArgumentParser(
        prog="python -m alerting", description="Notify people: alerts to Slack, PagerDuty, webhooks and the console"
    ).parse_args(arguments)
    return run_alerting()


if __name__ == "__main__":
    sys.exit(main())
