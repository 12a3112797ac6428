"""`rebuild` and `deliveries`: what our own topics hold, made whole again."""

from pathlib import Path

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """`rebuild`, with a word that says it is meant, and `deliveries` with its two actions."""
    text = "make the state again from usage.v1: with the workers stopped, or another generation of it beside them"
    rebuild = commands.add("rebuild", _rebuild, text)
    rebuild.add_argument("--from-input", action="store_true", required=True, help="say that this is meant")
    rebuild.add_argument(
        "--publish-again",
        action="store_true",
        help="without the group's offsets: have it published a second time without being asked",
    )
    rebuild.add_argument(
        "--generation",
        type=int,
        metavar="N",
        help="beside running workers: fill that generation of the state, not the one that they keep",
    )
    rebuild.add_argument(
        "--partitions", metavar="0-3,7", help="with --generation: these alone; other machines fill the others"
    )
    rebuild.add_argument(
        "--follow", action="store_true", help="with --generation: go on until workers have taken over all partitions"
    )
    text = "records of deliveries.v1 that alerting cannot read and has set aside"
    deliveries = commands.add("deliveries", _deliveries, text)
    deliveries.add_argument(
        "action", choices=["check", "repair"], help="list them (exit 1 if there are any), or remove them"
    )
    deliveries.add_argument("--save", type=Path, metavar="FILE", help="repair: a new file that keeps what is removed")


def _rebuild(options: Options) -> int:
    from schemas.errors import SettingsError
    from streams.settings import read_settings
    from streams.tools.rebuild.beside import parse_partitions, run_beside
    from streams.tools.rebuild.in_place import run_rebuild

    if options.generation is None:
        if options.partitions or options.follow:
            raise SettingsError("--partitions and --follow go with --generation")
        return run_rebuild(read_settings(), publish_again=options.publish_again)
    if options.publish_again:
        raise SettingsError("--publish-again does not go with --generation: nothing is published beside workers")
    try:
        asked = None if options.partitions is None else parse_partitions(options.partitions)
    except ValueError as error:
        raise SettingsError(f"--partitions: {error}") from None
    return run_beside(read_settings(), options.generation, asked, follow=options.follow)


def _deliveries(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.deliveries import check_deliveries, repair_deliveries

    if options.action == "check":
        return check_deliveries(read_settings())
    return repair_deliveries(read_settings(), options.save)
