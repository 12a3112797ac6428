"""`worker`, `gateway`, `enforcer`, `up`: what goes on until it is told to end. Settings come from the environment."""

from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """Alerting is a program of its own: `python -m alerting`."""
    commands.add("worker", _worker, "the detection worker")
    commands.add("gateway", _gateway, "take usage over HTTP, for whoever has no Kafka client")
    up = commands.add("up", _up, "the workers and alerting of this machine, started again when they end")
    up.add_argument("--workers", type=int, default=1, choices=range(1, 33), metavar="N", help="how many (default 1)")
    up.add_argument("--gateway", action="store_true", help="and a gateway")
    enforcer = commands.add("enforcer", lambda _: 2, "switch keys off at providers while a command stands")
    actions = enforcer.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="do it, until told to end")
    check = actions.add_parser("check", help="how the keys stand now; 3 if a provider does not say")
    for action in (run, check):
        action.add_argument("file", type=Path, metavar="ENFORCERS.toml")
    run.set_defaults(run=_enforce)
    check.set_defaults(run=_check)
    actions.add_parser("history", help="what was switched, when and why").set_defaults(run=_history)


def _worker(_: Options) -> int:
    from streams.worker.process import run_worker

    return run_worker()


def _gateway(_: Options) -> int:
    from streams.gateway.process import run_gateway

    return run_gateway()


def _enforce(options: Options) -> int:
    from streams.enforcer.process import run_enforcer

    return run_enforcer(options.file)


def _check(options: Options) -> int:
    from streams.enforcer.report import run_check

    return run_check(options.file)


def _history(_: Options) -> int:
    from streams.enforcer.report import run_history
    from streams.settings import read_settings

    return run_history(read_settings())


def _up(options: Options) -> int:
    from streams.process.logs import start_logging
    from streams.process.supervisor import run_supervisor
    from streams.settings import read_settings

    settings = read_settings()
    start_logging(settings.log_level)
    return run_supervisor(settings, options.workers, with_gateway=options.gateway)
