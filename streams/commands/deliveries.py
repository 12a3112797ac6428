"""`deliveries`: what of alerting's log cannot be read, and how to be rid of it."""

from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command with two actions."""
    parser = commands.add("deliveries", _run, "records of deliveries.v1 that alerting cannot read and has set aside")
    parser.add_argument(
        "action", choices=["check", "repair"], help="list them (exit 1 if there are any), or remove them"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="repair: a new file that keeps what is removed")


def _run(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.deliveries import check_deliveries, repair_deliveries

    if options.action == "check":
        return check_deliveries(read_settings())
    return repair_deliveries(read_settings(), options.save)
