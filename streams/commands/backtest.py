"""`backtest` and `tune`: policies tried on a log of the past; `record`: such a log out of the topics; `import`: out of
what others have written down; and `backfill`: what came too late booked.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.duration import DAY_MS
from schemas.errors import SettingsError
from streams.commands.registry import Commands, Options

if TYPE_CHECKING:
    from streams.tools.record import Range


def declare(commands: Commands) -> None:
    """Commands that share how a stretch of time is named."""
    backtest = commands.add("backtest", _backtest, "try a policy on a log of the past; a file needs no broker")
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
    backtest.add_argument("--runs", action="store_true", help="write the records of runs (runs.v1) as well")
    tune = commands.add("tune", _tune, "try each rule's main settings on a log of the past, and propose a policy diff")
    tune.add_argument("--policy", type=Path, metavar="P.toml", help="policy file; without it, the defaults")
    log = tune.add_mutually_exclusive_group(required=True)
    log.add_argument("--events", type=Path, metavar="F.jsonl[.gz]", help="usage.v1, one a line, or a recorded log")
    log.add_argument("--topic", choices=["usage.v1"], help="what the topics hold, verdicts too")
    _add_range(tune, required=False)
    tune.add_argument("--labels", type=Path, metavar="L.jsonl", help='{"run_id": "r1", "label": "stuck"} a line')
    tune.add_argument("--rule", metavar="NAME", help="this rule only")
    tune.add_argument("--enforced", action="store_true", help="as if rules that alert were to enforce")

    record = commands.add("record", _record, "a recorded log out of the topics: an incident to replay")
    _add_range(record, required=True)
    record.add_argument("--out", type=Path, required=True, metavar="F.jsonl[.gz]", help="the file to write")

    imported = commands.add("import", _import, "a log of the past out of what you have already; needs no broker")
    imported.add_argument("--from", dest="source", required=True, metavar="claude-code", help="what wrote the files")
    imported.add_argument("path", type=Path, metavar="FILE|DIR", help="a file, packed or not, or the folder of several")
    imported.add_argument("--tenant", default="imported", metavar="acme", help="whose spend it is (default: imported)")
    imported.add_argument("--out", type=Path, default=Path("imported.jsonl.gz"), metavar="F.jsonl[.gz]",
                          help="the file to write (default: imported.jsonl.gz)")  # fmt: skip

    backfill = commands.add("backfill", _backfill, "book what came more than a day late, and was set aside")
    _add_range(backfill, required=True)
    backfill.add_argument("--events", type=Path, metavar="F.jsonl[.gz]", help="of a recorded log, not of the topics")
    backfill.add_argument("--yes", action="store_true", help="book what is found without being asked")


def _add_range(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--tenant", metavar="acme", help="of this tenant only")
    parser.add_argument("--since", required=required, metavar="7d", help="how far back, or 2026-12-01T00:00Z")
    parser.add_argument("--until", metavar="1h", help="how far back the end is, or a time; now unless given")


def _range(options: Options) -> "Range":
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


def _backtest(options: Options) -> int:
    from streams.tools.backtest import Asked, run_backtest

    if not 0 <= options.reaction_ms <= DAY_MS:
        raise SettingsError("--reaction-ms: write milliseconds, from 0 to a day")
    asked = Asked(options.reaction_ms, options.as_recorded, options.keep_policy, options.runs)
    if options.topic is not None:
        from streams.settings import read_settings
        from streams.tools.topic_backtest import run_topic_backtest

        return run_topic_backtest(read_settings(), _range(options), options.policy, options.out, options.against, asked)
    _refuse_range(options)
    return run_backtest(options.policy, options.events, options.out, options.against, asked)


def _refuse_range(options: Options) -> None:
    if options.since or options.until or options.tenant:
        raise SettingsError("--since, --until and --tenant are for --topic: a file is read whole")


def _tune(options: Options) -> int:
    from streams.tools.tune.tune import Asked, run_topic_tune, run_tune

    asked = Asked(options.policy, options.labels, options.rule, options.enforced)
    if options.topic is not None:
        from streams.settings import read_settings

        return run_topic_tune(read_settings(), _range(options), asked)
    _refuse_range(options)
    return run_tune(options.events, asked)


def _record(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.record import run_record

    return run_record(read_settings(), _range(options), options.out)


def _import(options: Options) -> int:
    from streams.tools.imports.run import run_import

    return run_import(options.source, options.path, options.tenant, options.out)


def _backfill(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.backfill.backfill import run_backfill

    return run_backfill(read_settings(), _range(options), options.events, is_meant=options.yes)
