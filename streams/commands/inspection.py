"""`why`, `story`, `incidents`, `dlq` and `doctor`: what people at a terminal want to know. They change nothing."""

from streams.commands.registry import Commands, Options
from streams.tools.orders.verb import span_ms


def declare(commands: Commands) -> None:
    """A command for each question."""
    why = commands.add("why", _why, "why a run was stopped, on whose order, and how it may go on")
    why.add_argument("id", metavar="RUN", help="the run's id, or its beginning")
    why.add_argument("--tenant", metavar="acme", help="whose run it is, where several have one of that name")
    story = commands.add("story", _story, "all that happened to a run or an incident, in order, with who was told what")
    about = story.add_mutually_exclusive_group(required=True)
    about.add_argument("--run", dest="run_id", metavar="R", help="the run's id, or its beginning")
    about.add_argument("--incident", metavar="I", help="the incident's id, or its beginning")
    story.add_argument("--tenant", metavar="acme", help="whose; then only that tenant's partitions are read")
    story.add_argument("--json", action="store_true", help="a JSON object a fact, with its place in its topic")
    incidents = commands.add("incidents", _incidents, "what is open: how bad, since when, what about, whose")
    incidents.add_argument("--tenant", metavar="acme", help="of this tenant only")
    incidents.add_argument("--all", action="store_true", help="those that have ended, too, and those of rules on trial")
    incidents.add_argument("--json", action="store_true", help="a JSON object a line")
    dlq = commands.add("dlq", _dlq, "records that nobody could read, by reason and source, and what to do")
    dlq.add_argument("--since", metavar="7d", help="set aside within so much time")
    dlq.add_argument("--json", action="store_true", help="a JSON object a line")
    commands.add(
        "doctor", _doctor, "topics, policy, keys, lag, clocks: what is wrong, and what to do; exit 1 if anything"
    )


def _why(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.inspection.why import run_why

    return run_why(read_settings(), options.id, options.tenant)


def _story(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.story.story import run_story

    settings = read_settings()
    return run_story(settings, options.tenant, run=options.run_id, incident=options.incident, as_json=options.json)


def _incidents(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.inspection.incidents import run_incidents

    return run_incidents(read_settings(), options.tenant, every=options.all, as_json=options.json)


def _dlq(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.settings import read_settings
    from streams.tools.inspection.dead_letters import run_dlq

    since_ms = None if options.since is None else wall_ms() - span_ms(options.since, "--since")
    return run_dlq(read_settings(), since_ms, as_json=options.json)


def _doctor(options: Options) -> int:
    del options
    from streams.settings import read_settings
    from streams.tools.inspection.doctor import run_doctor

    return run_doctor(read_settings())
