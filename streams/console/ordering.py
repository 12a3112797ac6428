"""From a form of the page to an operator's order: the same verbs, checks and words as on the command line."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Final

from schemas.operator import OperatorMessage
from streams.console.sessions import Session
from streams.console.views.order import WITHOUT_WHY
from streams.tools.orders.registry import VERBS, order_of
from streams.tools.orders.verb import Verb

GIVEN: Final[dict[str, Verb]] = {
    verb.name: verb for verb in VERBS if verb.name in ("ack", "snooze", "feedback", "kill", "resume")
}
"""The verbs of the page, by their names."""
TARGETS: Final = ("run", "session", "tree", "workflow")
_WORDS: Final = {"span": None, "until": None, "limit_usd": None, "target": None, "id": None, "all": False}


def verb_named(name: str) -> Verb | None:
    """The verb of the page with this name."""
    return GIVEN.get(name)


def drafted(verb: Verb, form: Mapping[str, str], session: Session, tenant_id: str, now_ms: int) -> OperatorMessage:
    """The order that a form stands for. Raises `SettingsError` with what to write."""
    options = Namespace(**_WORDS, tenant=tenant_id, who=session.who, verb=verb)
    options.why = form.get("why", "").strip() or WITHOUT_WHY.get(verb.name, "")
    for word in TARGETS:
        setattr(options, f"target_{word}", form.get(word))
    if incident := form.get("incident"):
        options.incident = incident
    options.verdict = form.get("verdict", "useful")
    options.span = form.get("span", "").strip() or None
    options.limit_usd = form.get("limit_usd", "").strip().lstrip("$") or None
    return order_of(options, None, now_ms)
