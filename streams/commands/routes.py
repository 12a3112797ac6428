"""`routes test`: where an alert would go."""

from pathlib import Path

from schemas.errors import SettingsError
from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command, which sends nothing."""
    parser = commands.add("routes", _run, "where an alert with these labels would go, and why")
    parser.add_argument("action", choices=["test"])
    parser.add_argument("--policy", type=Path, metavar="P.toml", help="policy file; without it, SPENDFUSE_POLICY")
    parser.add_argument(
        "--labels", required=True, metavar="severity=critical,tenant_id=acme", help="the alert's labels"
    )
    parser.add_argument("--expect", metavar="RECEIVER", help="fail (exit 1) unless exactly these receivers are told")


def _run(options: Options) -> int:
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
