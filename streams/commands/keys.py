"""`keys`: root keys, what is derived from them, their replacement, and whether everybody has the right ones."""

from streams.commands.registry import Commands, Options


def declare(commands: Commands) -> None:
    """`keys` with its four actions."""
    parser = commands.add("keys", lambda _: 2, "make, derive, replace and check the keys that sign commands and orders")
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
