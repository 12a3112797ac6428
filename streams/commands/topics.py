"""`topics apply` and `topics check`."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """One command with two actions."""
    parser = commands.add("topics", _run, "create the topics, or compare them with their declarations")
    parser.add_argument("action", choices=["apply", "check"])


def _run(options: Options) -> int:
    from streams.kafka.topics import run_apply, run_check
    from streams.settings import read_settings

    run = {"apply": run_apply, "check": run_check}[options.action]
    return run(read_settings())
