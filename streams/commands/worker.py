"""`worker`: the detection worker."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """Without arguments: settings come from the environment."""
    commands.add("worker", _run, "the detection worker")


def _run(options: Options) -> int:
    del options
    from streams.worker.process import run_worker

    return run_worker()
