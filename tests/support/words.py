"""Orders as people type them."""

import argparse
import shlex

from schemas.operator import OperatorMessage
from streams.commands.registry import add_all
from streams.tools.orders.registry import order_of


def order(words: str, operator_name: str | None, now_ms: int) -> OperatorMessage:
    """The order that these words after `python -m streams` stand for."""
    parser = argparse.ArgumentParser()
    add_all(parser.add_subparsers())
    return order_of(parser.parse_args(shlex.split(words)), operator_name, now_ms)
