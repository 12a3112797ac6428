"""The commands of `python -m streams`: each module of this folder declares one, or a few that belong together.

A module has a function `declare(commands)`. To add a command is to add a file; what a command needs it imports when it
runs, so that a backtest loads no Kafka client.
"""

import argparse
import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Options = argparse.Namespace
Run = Callable[[Options], int]


class Commands:
    """What modules declare their commands to."""

    def __init__(self, subparsers: Any) -> None:
        self.subparsers = subparsers

    def add(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """Declare a command; its arguments are added to the parser returned. `run` gives the exit code."""
        parser: argparse.ArgumentParser = self.subparsers.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        return parser


def add_all(subparsers: Any) -> None:
    """Declare every command."""
    commands = Commands(subparsers)
    for module in sorted(pkgutil.iter_modules([str(Path(__file__).parent)])):
        name = f"{__package__}.{module.name}"
        if name != __name__:
            import_module(name).declare(commands)
