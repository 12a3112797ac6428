"""`policy check`, `publish` and `diff`."""

from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command with three actions on a policy file."""
    parser = commands.add("policy", _run, "check, publish or compare policies")
    parser.add_argument("action", choices=["check", "publish", "diff"])
    parser.add_argument("file", type=Path, help="the policy file")


def _run(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.backtest import read_policy_file
    from streams.tools.policy import run_check, run_diff, run_publish

    policy = read_policy_file(options.file)
    if options.action == "check":
        return run_check(options.file, policy)
    run = {"publish": run_publish, "diff": run_diff}[options.action]
    return run(read_settings(), policy)
