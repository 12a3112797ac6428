"""`python -m alerting`: notify people. The process itself is `streams/notifier`; this is only its name."""

import argparse
import sys

from schemas.errors import SpendfuseError
from streams.notifier.process import run_alerting


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal ends it; returns the exit code."""
    argparse.ArgumentParser(
        prog="python -m alerting", description="Notify people: alerts to Slack, PagerDuty, webhooks and the console"
    ).parse_args(arguments)
    try:
        return run_alerting()
    except SpendfuseError as error:
        print(f"spendfuse: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
