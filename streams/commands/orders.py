"""The operators' verbs, and `orders`, which lists what was ordered."""

from streams.commands.registry import Commands, Options
from streams.tools.orders.registry import add_verbs, order_of
from streams.tools.orders.verb import span_ms


def declare(commands: Commands) -> None:
    """A command for each verb, and the audit."""
    add_verbs(commands.subparsers, _order)
    parser = commands.add("orders", _orders, "who ordered what, why and until when, and what of it is in force")
    parser.add_argument("--tenant", metavar="acme", help="of this tenant only")
    parser.add_argument("--since", metavar="7d", help="given within so much time")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def _order(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.settings import read_settings
    from streams.tools.order import run_order

    settings = read_settings()
    now_ms = wall_ms()
    order = order_of(options, settings.operator_name, now_ms)
    return run_order(settings, options.verb, order, now_ms, unseen=getattr(options, "unseen", False))


def _orders(options: Options) -> int:
    from streams.clock import wall_ms
    from streams.settings import read_settings
    from streams.tools.orders.audit import run_orders

    since_ms = None if options.since is None else wall_ms() - span_ms(options.since, "--since")
    return run_orders(read_settings(), options.tenant, since_ms, as_json=options.json)
