"""`up`: everything that runs on one machine."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command."""
    parser = commands.add("up", _run, "the workers and alerting of this machine, started again when they end")
    parser.add_argument(
        "--workers", type=int, default=1, choices=range(1, 33), metavar="N", help="how many (default 1)"
    )


def _run(options: Options) -> int:
    from streams.process.logs import start_logging
    from streams.process.supervisor import run_supervisor
    from streams.settings import read_settings

    settings = read_settings()
    start_logging(settings.log_level)
    return run_supervisor(settings, options.workers)
