"""`why`: what people at a terminal want to know. It changes nothing."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """A command for each question."""
    why = commands.add("why", _why, "why a run was stopped, on whose order, and how it may go on")
    why.add_argument("id", metavar="RUN", help="the run's id, or its beginning")
    why.add_argument("--tenant", metavar="acme", help="whose run it is, where several have one of that name")


def _why(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.inspection.why import run_why

    return run_why(read_settings(), options.id, options.tenant)
