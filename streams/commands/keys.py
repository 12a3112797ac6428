"""`keys`: root keys, what is derived from them, their replacement, whether everybody has the right ones; and the
gateway's keys.
"""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """`keys` with its actions."""
    parser = commands.add("keys", lambda _: 2, "the keys that sign commands and orders, and those of the gateway")
    actions = parser.add_subparsers(dest="action", required=True)
    generate = actions.add_parser("generate", help="new root keys")
    generate.set_defaults(run=_generate)
    derive = actions.add_parser("derive", help="what others need of the root keys that are set")
    derive.add_argument("--tenant", metavar="acme", help="whose agents the keys are for")
    derive.set_defaults(run=_derive)
    rotate = actions.add_parser("rotate", help="a new root key, and how it replaces the one that is set")
    rotate.add_argument("whose", choices=("engine", "operator"))
    rotate.set_defaults(run=_rotate)
    check = actions.add_parser("check", help="whether the keys that are set are those of the workers; 3 if not")
    check.add_argument("--tenant", metavar="acme", help="of this tenant only")
    check.set_defaults(run=_check)
    create = actions.add_parser("create", help="a key for the gateway, shown this once")
    whose = create.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", metavar="acme", help="whose spend it reports, whose runs it guards, who may be seen")
    whose.add_argument(
        "--all-tenants", action="store_true", help="everybody: for the page alone, so --may read or operate"
    )
    create.add_argument(
        "--may", nargs="+", choices=("ingest", "guard", "read", "operate"), default=["ingest", "guard"],
        help="what it allows (default: ingest guard)",
    )  # fmt: skip
    create.add_argument(
        "--when-blind", choices=("continue", "stop"), default="continue",
        help="what a guard is told while the gateway cannot know what stands (default: continue)",
    )  # fmt: skip
    create.add_argument(
        "--charge", nargs="*", metavar="SOURCE",
        help="the gateway's sources whose model calls count (gateway doctor names them); none given: none do",
    )  # fmt: skip
    create.add_argument("--label", help="what it is for, in your words")
    create.set_defaults(run=_create)
    actions.add_parser("list", help="all keys of the gateway").set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="have the gateway refuse a key from now on")
    revoke.add_argument("key_id", metavar="ID", help="as `keys list` shows it, or its beginning")
    revoke.set_defaults(run=_revoke)


def _generate(_: Options) -> int:
    from streams.tools.keys import run_generate

    return run_generate()


def _derive(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.keys import run_derive

    return run_derive(read_settings(), options.tenant)


def _rotate(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.keys import run_rotate

    return run_rotate(read_settings(), options.whose)


def _check(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.keys import run_check

    return run_check(read_settings(), options.tenant)


def _create(options: Options) -> int:
    from schemas.internal.spend import ALL_TENANTS
    from streams.settings import read_settings
    from streams.tools.access_keys import run_create

    tenant_id = ALL_TENANTS if options.all_tenants else options.tenant
    return run_create(read_settings(), tenant_id, options.may, options.label, options.when_blind, options.charge)


def _list(_: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.access_keys import run_list

    return run_list(read_settings())


def _revoke(options: Options) -> int:
    from streams.settings import read_settings
    from streams.tools.access_keys import run_revoke

    return run_revoke(read_settings(), options.key_id)
