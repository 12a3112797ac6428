"""`rebuild`: the state made again."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command, with a word that says it is meant."""
    parser = commands.add("rebuild", _run, "make the state again from usage.v1; stop the workers first")
    parser.add_argument("--from-input", action="store_true", required=True, help="say that this is meant")
    parser.add_argument(
        "--publish-again",
        action="store_true",
        help="without the group's offsets: have it published a second time without being asked",
    )


def _run(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.rebuild import run_rebuild

    return run_rebuild(read_settings(), publish_again=options.publish_again)
