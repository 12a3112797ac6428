"""The commands of `python -m streams`: words on the line to functions that do them."""

import argparse
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.errors import SettingsError
from streams.tools.orders.registry import add_verbs, order_of
from streams.tools.orders.verb import span_ms

Options = argparse.Namespace


def add_all(subparsers: Any) -> None:
    """Declare every command."""
    _add(subparsers, "worker", _worker, "the detection worker")
    topics = _add(subparsers, "topics", _topics, "create the topics, or compare them with their declarations")
    topics.add_argument("action", choices=["apply", "check"])
    _add_replays(subparsers)
    policy = _add(subparsers, "policy", _policy, "check, publish or compare policies")
    policy.add_argument("action", choices=["check", "publish", "diff"])
    policy.add_argument("file", type=Path, help="the policy file")
    routes = _add(subparsers, "routes", _routes, "where an alert with these labels would go, and why")
    routes.add_argument("action", choices=["test"])
    routes.add_argument("--policy", type=Path, metavar="P.toml", help="policy file; without it, SPENDFUSE_POLICY")
    routes.add_argument(
        "--labels", required=True, metavar="severity=critical,tenant_id=acme", help="the alert's labels"
    )
    routes.add_argument("--expect", metavar="RECEIVER", help="fail (exit 1) unless exactly these receivers are told")
    report = _add(subparsers, "report", _report, "what a week cost, what it bought, what was stopped, who was told")
    report.add_argument("period", choices=["weekly"])
    report.add_argument("--week", metavar="2026-W47", help="without it, the last full week in the policy's time zone")
    report.add_argument("--html", type=Path, metavar="review.html", help="the page, in one file")
    report.add_argument("--json", type=Path, metavar="review.json", help="the same as data")
    report.add_argument("--effects", type=Path, metavar="O.jsonl", help="of a backtest's --out instead of the topics")
    report.add_argument("--policy", type=Path, metavar="P.toml", help="policy file; without it, the policy in force")
    add_verbs(subparsers, _order)
    orders = _add(subparsers, "orders", _orders, "who ordered what, why and until when, and what of it is in force")
    orders.add_argument("--tenant", metavar="acme", help="of this tenant only")
    orders.add_argument("--since", metavar="7d", help="given within so much time")
    orders.add_argument("--json", action="store_true", help="a JSON object a line")
    rebuild = _add(subparsers, "rebuild", _rebuild, "make the state again from usage.v1; stop the workers first")
    rebuild.add_argument("--from-input", action="store_true", required=True, help="say that this is meant")


def _add_replays(subparsers: Any) -> None:
    backtest = _add(subparsers, "backtest", _backtest, "try a policy on a log of the past; a file needs no broker")
    backtest.add_argument("--policy", type=Path, metavar="P.toml", help="policy file; without it, the defaults")
    log = backtest.add_mutually_exclusive_group(required=True)
    log.add_argument("--events", type=Path, metavar="F.jsonl[.gz]", help="usage.v1, one a line, or a recorded log")
    log.add_argument("--topic", choices=["usage.v1"], help="what the topics hold, orders and policies too")
    _add_range(backtest, required=False)
    backtest.add_argument("--out", type=Path, metavar="O.jsonl", help="effects as JSON lines")
    backtest.add_argument("--against", type=Path, metavar="Q.toml", help="another policy to compare with")
    backtest.add_argument(
        "--reaction-ms", type=int, default=1000, metavar="1000", help="how long after its kill a run still makes calls"
    )
    backtest.add_argument("--as-recorded", action="store_true", help="nobody obeys: everything is as it is in the log")
    backtest.add_argument("--keep-policy", action="store_true", help="leave out the policies that the log holds")
    record = _add(subparsers, "record", _record, "a recorded log out of the topics: an incident to replay")
    _add_range(record, required=True)
    record.add_argument("--out", type=Path, required=True, metavar="F.jsonl[.gz]", help="the file to write")


def _add_range(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--tenant", metavar="acme", help="of this tenant only")
    parser.add_argument("--since", required=required, metavar="7d", help="how far back, or 2026-12-01T00:00Z")
    parser.add_argument("--until", metavar="1h", help="how far back the end is, or a time; now unless given")


def _range(options: Options) -> Any:
    from streams.clock import wall_ms
    from streams.tools.record import Range
    from streams.tools.replay.moments import moment_ms

    now_ms = wall_ms()
    if options.since is None:
        raise SettingsError("--since: say how far back to read, such as 7d")
    since_ms = moment_ms(options.since, "--since", now_ms)
    until_ms = now_ms if options.until is None else moment_ms(options.until, "--until", now_ms)
    if since_ms >= until_ms:
        raise SettingsError(f"--since {options.since} is not before --until {options.until or 'now'}")
    return Range(options.tenant, since_ms, until_ms)


def _add(subparsers: Any, name: str, run: Callable[[Options], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _worker(options: Options) -> int:
    del options
    from streams.process.logs import fields, start_logging
    from streams.process.metrics import Metrics, serve
    from streams.process.slots import claim_slot
    from streams.process.watchdog import Watchdog
    from streams.settings import read_settings, unknown_variables
    from streams.worker.worker import Worker, healthy

    settings = read_settings()
    start_logging(settings.log_level)
    log = logging.getLogger("spendfuse")
    if unknown := unknown_variables():
        log.warning("these variables are no settings", extra=fields(names=unknown))
    if settings.engine_key is None:
        log.warning("SPENDFUSE_ENGINE_KEY is not set: commands go out unsigned, and guards with keys ignore them")
    metrics = Metrics()
    slot = claim_slot(settings, "worker")  # held until the process ends
    settings = settings.model_copy(update={"slot": slot.name})
    worker = Worker(settings, metrics)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    watchdog = Watchdog(lambda: worker.beat_ms, settings.restore_timeout_s * 1000)
    port = settings.metrics_port
    stop_serving = serve(metrics.registry, port, healthy(worker, 30_000)) if port else None
    try:
        with watchdog:
            worker.run()
    finally:
        if stop_serving is not None:
            stop_serving()
        slot.release()
    return 0


def _topics(options: Options) -> int:
    from streams.kafka.topics import run_apply, run_check
    from streams.settings import read_settings

    settings = read_settings()
    if options.action == "apply":
        return run_apply(settings)
    return run_check(settings)


def _backtest(options: Options) -> int:
    from streams.tools.backtest import Asked, run_backtest

    if not 0 <= options.reaction_ms <= 24 * 3_600_000:
        raise SettingsError("--reaction-ms: write milliseconds, from 0 to a day")
    asked = Asked(options.reaction_ms, options.as_recorded, options.keep_policy)
    if options.topic is not None:
        from streams.settings import read_settings
        from streams.tools.topic_backtest import run_topic_backtest

        return run_topic_backtest(read_settings(), _range(options), options.policy, options.out, options.against, asked)
    if options.since or options.until or options.tenant:
        raise SettingsError("--since, --until and --tenant are for --topic: a file is read whole")
    return run_backtest(options.policy, options.events, options.out, options.against, asked)


def _record(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.record import run_record

    return run_record(read_settings(), _range(options), options.out)


def _routes(options: Options) -> int:
    from alerting.routing.router import Router
    from streams.settings import read_settings
    from streams.tools.backtest import read_policy_file

    pairs = [pair.partition("=") for pair in options.labels.split(",") if pair]
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        raise SettingsError(f"--labels {options.labels!r}: write name=value, with commas between")
    policy = read_policy_file(options.policy) if options.policy else read_settings().file_policy()
    explanation = Router(policy.routing).explain({name.strip(): value.strip() for name, _, value in pairs})
    print("\n".join(explanation.steps))
    print(f"receivers: {', '.join(explanation.receivers)}")
    if options.expect is None:
        return 0
    return 0 if sorted(options.expect.split(",")) == sorted(explanation.receivers) else 1


def _report(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.backtest import read_policy_file
    from streams.tools.weekly import run_weekly

    policy = read_policy_file(options.policy) if options.policy else None
    return run_weekly(
        read_settings(), policy, label=options.week, effects=options.effects, html=options.html, json=options.json
    )


def _order(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.settings import read_settings
    from streams.tools.order import run_order

    settings = read_settings()
    now_ms = wall_ms()
    return run_order(settings, options.verb, order_of(options, settings.operator_name, now_ms), now_ms)


def _orders(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.settings import read_settings
    from streams.tools.orders.audit import run_orders

    since_ms = None if options.since is None else wall_ms() - span_ms(options.since, "--since")
    return run_orders(read_settings(), options.tenant, since_ms, as_json=options.json)


def _rebuild(options: Options) -> int:
    del options
    from streams.settings import read_settings
    from streams.tools.rebuild import run_rebuild

    return run_rebuild(read_settings())


def _policy(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.backtest import read_policy_file
    from streams.tools.policy import run_diff, run_publish

    policy = read_policy_file(options.file)
    match options.action:
        case "check":
            print(f"{options.file}: version {policy.version}, {len(policy.rules)} rules: {', '.join(policy.rules)}")
            return 0
        case "publish":
            return run_publish(read_settings(), policy)
        case "diff":
            return run_diff(read_settings(), policy)
        case _:
            raise SettingsError(f"unknown action {options.action}")
