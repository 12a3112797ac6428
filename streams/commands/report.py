"""`report weekly`: the review of a week."""

from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command, on the topics or on the effects of a backtest."""
    parser = commands.add("report", _run, "what a week cost, what it bought, what was stopped, who was told")
    parser.add_argument("period", choices=["weekly"])
    parser.add_argument("--week", metavar="2026-W47", help="without it, the last full week in the policy's time zone")
    parser.add_argument("--html", type=Path, metavar="review.html", help="the page, in one file")
    parser.add_argument("--json", type=Path, metavar="review.json", help="the same as data")
    parser.add_argument("--effects", type=Path, metavar="O.jsonl", help="of a backtest's --out instead of the topics")
    parser.add_argument(
        "--from", dest="table", metavar="URL", help="ask this wide event table as well; SPENDFUSE_SINK unless given"
    )
    parser.add_argument("--policy", type=Path, metavar="P.toml", help="policy file; without it, the policy in force")


def _run(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.backtest import read_policy_file
    from streams.tools.weekly import run_weekly

    policy = read_policy_file(options.policy) if options.policy else None
    return run_weekly(
        read_settings(), policy, label=options.week, effects=options.effects, html=options.html, json=options.json,
        table=options.table,
    )  # fmt: skip
