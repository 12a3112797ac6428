"""The verbs of operators: words on the line to a message that is checked, looked at, written and confirmed.

Every order says who gives it and why. Its id follows from what it says and when, so that however often a client sends
it, it is one order. A verb is one module beside this one, and one line here.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from alerting.rendering.foreign import clean
from alerting.rendering.meaning import author, meaning
from schemas.codec import decode_operator, encode
from schemas.errors import SettingsError, Undecodable
from schemas.operator import OperatorMessage
from streams.tools.orders import ack, exception, feedback, kill, resume, silence, snooze
from streams.tools.orders.verb import Audit, Facts, Fields, Options, UnknownFactError, Verb

VERBS: tuple[Verb, ...] = (
    kill.VERB, resume.VERB, silence.VERB, snooze.VERB, exception.VERB, ack.VERB, feedback.VERB,
)  # fmt: skip
AUDITS: dict[type[Any], Audit] = {verb.message: verb.audit for verb in VERBS}
"""Kind of order -> what becomes of it."""
MOST_OF_A_FACT = 600


def add_verbs(subparsers: Any, run: Callable[[Options], int]) -> None:
    """Declare the verbs. `run` is given the options; `order_of` makes the message of them."""
    for verb in VERBS:
        parser: argparse.ArgumentParser = subparsers.add_parser(verb.name, help=verb.help, description=verb.help)
        parser.add_argument("--tenant", required=True, metavar="acme", help="whom it is about")
        parser.add_argument("--who", help="who gives the order; your login name unless given")
        parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for those who wonder later")
        parser.set_defaults(run=run, verb=verb)
        verb.add_arguments(parser)


def order_of(options: Options, operator_name: str | None, now_ms: int) -> OperatorMessage:
    """The order that the words stand for, given at `now_ms`.

    Raises:
        SettingsError: a word is wrong, with what to write.
    """
    who = options.who or operator_name
    if not who:
        raise SettingsError("nobody knows who you are: say --who, or set SPENDFUSE_OPERATOR_NAME")
    if not options.why.strip():
        raise SettingsError("--why: say in a few words why; others read it when they wonder")
    common: Fields = {"message_id": "-", "ts_ms": now_ms, "tenant_id": options.tenant, "who": who, "why": options.why}
    for word in ("tenant", "incident", "id", "rule"):
        if getattr(options, word, None) == "":
            raise SettingsError(f"{word.upper()} is empty: name what the order is about")
    order = options.verb.build(options, common, now_ms)
    return _identified(order)


def _identified(order: OperatorMessage) -> OperatorMessage:
    """The order with an id that follows from all else. Raises `SettingsError` for one that nobody could read."""
    order = msgspec.structs.replace(order, message_id="-")
    try:
        order = msgspec.structs.replace(order, message_id=f"op-{hashlib.sha256(encode(order)).hexdigest()[:32]}")
        return decode_operator(encode(order))
    except (Undecodable, UnicodeEncodeError) as error:
        detail = error.detail if isinstance(error, Undecodable) else "it is no text in UTF-8"
        raise SettingsError(f"such an order would not be read: {detail}") from None


def looked_at(
    verb: Verb, order: OperatorMessage, facts: Facts, *, unseen: bool = False
) -> tuple[OperatorMessage, list[str]]:
    """The order with whole ids, and what it would meet, in sentences. With `unseen` it may be about what nobody has
    heard of.

    Raises:
        SettingsError: it would change nothing that was meant.
        UnknownFactError: that cannot be looked at.
    """
    if not unseen:
        order = _identified(verb.complete(order, facts))
    return order, [clean(sentence, MOST_OF_A_FACT) for sentence in verb.look(order, facts)]


def give(
    verb: Verb, order: OperatorMessage, facts: Facts, write: Callable[[OperatorMessage], None], *, unseen: bool = False
) -> None:
    """Make its ids whole, say what the order would meet, write it, and say what it means.

    Raises:
        SettingsError: it would change nothing that was meant; it was not written.
    """
    try:
        order, sentences = looked_at(verb, order, facts, unseen=unseen)
        for sentence in sentences:
            print(sentence)
    except UnknownFactError as unknown:
        print(f"not checked before it is written: {unknown}", file=sys.stderr)
    write(order)
    print(f"{meaning(order)} Ordered by {author(order)} ({order.message_id})")
