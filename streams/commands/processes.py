"""`worker`, `gateway`, `console`, `enforcer`, `reconcile`, `sink`, `up`: what goes on until it is told to end.

Settings come from the environment.
"""

import argparse
from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """Alerting is a program of its own: `python -m alerting`."""
    commands.add("worker", _worker, "the detection worker")
    gateway = commands.add("gateway", _gateway, "take usage over HTTP, for whoever has no Kafka client")
    actions = gateway.add_subparsers(dest="action", metavar="doctor")
    doctor = actions.add_parser(
        "doctor", help="what has arrived with a key, from whom, and what is wrong; exit 1 if so"
    )
    doctor.add_argument("--key", required=True, metavar="sf_…", help="the key of whoever sends or asks")
    doctor.add_argument("--url", metavar="http://127.0.0.1:8440", help="where its gateway is; this host's unless given")
    doctor.add_argument("--since", default="1h", metavar="1h", help="how far back to look (default: 1h)")
    doctor.set_defaults(run=_gateway_doctor)
    commands.add("console", _console, "the live page: what is spent, what is near a limit, what was stopped and why")
    up = commands.add("up", _up, "workers, alerting and, with SPENDFUSE_SINK, a sink; started again when they end")
    up.add_argument("--workers", type=int, default=1, choices=range(1, 33), metavar="N", help="how many (default 1)")
    up.add_argument("--gateway", action="store_true", help="and a gateway")
    up.add_argument("--console", action="store_true", help="and the live page")
    up.add_argument(
        "--poll", action="append", default=[], metavar="langfuse=acme", help="and poll this system for a tenant's calls"
    )
    enforcer = commands.add("enforcer", lambda _: 2, "switch keys off at providers while a command stands")
    actions = enforcer.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="do it, until told to end")
    check = actions.add_parser("check", help="how the keys stand now; 3 if a provider does not say")
    for action in (run, check):
        action.add_argument("file", type=Path, metavar="ENFORCERS.toml")
    run.set_defaults(run=_enforce)
    check.set_defaults(run=_check)
    actions.add_parser("history", help="what was switched, when and why").set_defaults(run=_history)
    _declare_reconcile(commands)
    _declare_sink(commands)


def _declare_reconcile(commands: Commands) -> None:
    parser = commands.add("reconcile", lambda _: 2, "hold our figures against what providers say was used and costs")
    run = parser.add_subparsers(dest="action", required=True).add_parser(
        "run", help="one pass: fetch, keep, compare; 3 if a difference is told or a day could not be compared"
    )
    run.add_argument("file", type=Path, metavar="RECONCILE.toml")
    run.add_argument(
        "--days", type=int, default=2, choices=range(2, 32), metavar="N", help="days that are over, from 2 to 31"
    )
    run.add_argument("--json", action="store_true", help="every figure, as data")
    run.add_argument("--every", metavar="1h", help="go on until told to end, a pass each so often")
    run.set_defaults(run=_reconcile)


def _declare_sink(commands: Commands) -> None:
    sink = commands.add("sink", _sink, "the wide event table: all that is known of calls and runs, in a database")
    where = "duckdb:///F.duckdb, postgresql://…, clickhouse://… or bigquery://…; SPENDFUSE_SINK unless given"
    sink.add_argument("--to", metavar="URL", help=where)
    sink.add_argument("--once", action="store_true", help="end when all that is there now has been written")
    tenant = sink.add_subparsers(dest="action", metavar="tenant").add_parser(
        "tenant", help="make the schema in which one tenant sees what is its own"
    )
    tenant.add_argument("tenant", metavar="TENANT")
    tenant.add_argument("--to", metavar="URL", help=where, default=argparse.SUPPRESS)
    tenant.set_defaults(run=_sink_tenant)


def _worker(_: Options) -> int:
    from streams.worker.process import run_worker

    return run_worker()


def _gateway(_: Options) -> int:
    from streams.gateway.process import run_gateway

    return run_gateway()


def _console(_: Options) -> int:
    from streams.console.process import run_console

    return run_console()


def _gateway_doctor(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.settings import read_settings
    from streams.tools.gateway_doctor.doctor import run_gateway_doctor
    from streams.tools.replay.moments import moment_ms

    settings = read_settings()
    scheme = "http" if settings.gateway_tls_certificate is None else "https"
    url = options.url or f"{scheme}://{settings.gateway_host}:{settings.gateway_port}"
    return run_gateway_doctor(settings, options.key, url.rstrip("/"), moment_ms(options.since, "--since", wall_ms()))


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


def _reconcile(options: Options) -> int:
    from streams.reconcile.process import run_on, run_once
    from streams.tools.orders.verb import span_ms

    if options.every is None:
        return run_once(options.file, options.days, as_json=options.json)
    return run_on(options.file, options.days, span_ms(options.every, "--every"))


def _sink(options: Options) -> int:
    from streams.sinks.process import run_once, run_sink

    return run_once(options.to) if options.once else run_sink(options.to)


def _sink_tenant(options: Options) -> int:
    from streams.sinks.process import run_tenant

    return run_tenant(options.to, options.tenant)


def _up(options: Options) -> int:
    from streams.process.logs import start_logging
    from streams.process.supervisor import run_supervisor
    from streams.settings import read_settings
    from streams.tools.polls.registry import polled_systems

    settings = read_settings()
    start_logging(settings.log_level)
    polled = polled_systems(options.poll)
    return run_supervisor(
        settings, options.workers, with_gateway=options.gateway, with_console=options.console, polled=polled
    )
