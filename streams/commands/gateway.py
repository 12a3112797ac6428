"""`gateway`: the way in over HTTP."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """Without arguments: settings come from the environment."""
    commands.add("gateway", _run, "take usage over HTTP, for whoever has no Kafka client")


def _run(options: Options) -> int:
    del options
    from streams.gateway.process import run_gateway

    return run_gateway()
