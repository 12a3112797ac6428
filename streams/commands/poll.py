"""`poll`: what another system knows of calls, for those that push nothing, or may have lost something."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One process for each system and tenant."""
    poll = commands.add("poll", _poll, "ask another system's API for usage, again and again; each call counts once")
    poll.add_argument("--from", dest="source", required=True, metavar="langfuse", help="langfuse or braintrust")
    poll.add_argument("--tenant", required=True, metavar="acme", help="whose spend it is")
    poll.add_argument("--since", default="1h", metavar="7d", help="where to begin the first time (default: 1h)")
    poll.add_argument("--every-s", type=float, default=30.0, metavar="30", help="seconds between two questions")
    poll.add_argument("--once", action="store_true", help="ask once, and end")


def _poll(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.process.logs import start_logging
    from streams.settings import read_settings
    from streams.tools.polls.run import run_poll, run_poll_once
    from streams.tools.replay.moments import moment_ms

    since_ms = moment_ms(options.since, "--since", wall_ms())
    if options.once:
        start_logging(read_settings().log_level)
        return run_poll_once(options.source, options.tenant, since_ms=since_ms)
    return run_poll(options.source, options.tenant, since_ms=since_ms, every_s=options.every_s)
