"""`rebuild` and `deliveries`: what our own topics hold, made whole again."""

from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """`rebuild`, with a word that says it is meant, and `deliveries` with its two actions."""
    rebuild = commands.add("rebuild", _rebuild, "make the state again from usage.v1; stop the workers first")
    rebuild.add_argument("--from-input", action="store_true", required=True, help="say that this is meant")
    rebuild.add_argument(
        "--publish-again",
        action="store_true",
        help="without the group's offsets: have it published a second time without being asked",
    )
    text = "records of deliveries.v1 that alerting cannot read and has set aside"
    deliveries = commands.add("deliveries", _deliveries, text)
    deliveries.add_argument(
        "action", choices=["check", "repair"], help="list them (exit 1 if there are any), or remove them"
    )
    deliveries.add_argument("--save", type=Path, metavar="FILE", help="repair: a new file that keeps what is removed")


def _rebuild(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.rebuild import run_rebuild

    return run_rebuild(read_settings(), publish_again=options.publish_again)


def _deliveries(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.deliveries import check_deliveries, repair_deliveries

    if options.action == "check":
        return check_deliveries(read_settings())
    return repair_deliveries(read_settings(), options.save)
