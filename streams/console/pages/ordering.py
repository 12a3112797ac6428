"""The pages of orders: a form that says what it does, and what becomes of it."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from alerting.rendering.meaning import meaning
from alerting.review.page.markup import element
from schemas.errors import SettingsError, SpendfuseError
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import Acknowledge, OperatorMessage
from streams.clock import wall_ms
from streams.console.facts import BookFacts
from streams.console.ordering import drafted, verb_named
from streams.console.pages.visits import NOT_HERE, Visits, html, problem, text_form
from streams.console.sessions import Session
from streams.console.state.book import Book
from streams.console.views.frame import document
from streams.console.views.order import ABOUT, NEED_KEY, TITLES, order_form
from streams.console.views.pieces import incident_href, run_href
from streams.process.logs import fields
from streams.tools.orders.registry import looked_at
from streams.tools.orders.verb import UnknownFactError, Verb

log = logging.getLogger("spendfuse.console")

Publish = Callable[[OperatorMessage], Awaitable[None]]
MAY_NOT = "Your key may read and give no orders. One that may is made with --may read operate."
TOO_LONG = "That is longer than any order is."


class Ordering:
    """Orders from the page: for keys that may `operate`, signed by the console, written to operator.v1.

    Args:
        book: what is looked at before.
        publish: signs an order, and returns when the broker has it; None where there is no key to sign with.
        refusal: says why the workers would not obey the key; empty if they would.
    """

    def __init__(self, book: Book, visits: Visits, publish: Publish | None, refusal: Callable[[], str]) -> None:
        self._book, self._visits, self._publish, self._refusal = book, visits, publish, refusal

    def routes(self) -> list[web.AbstractRouteDef]:
        """The form, and what it sends."""
        return [
            self._visits.page("/order/{verb}", self._ask, "order"),
            self._visits.posted("/order/{verb}", self._give, "order"),
        ]

    async def _ask(self, request: web.Request, session: Session) -> web.StreamResponse:
        given = text_form(request.query)
        verb, refused = self._allowed(request, session, given)
        if verb is None or refused is not None:
            return refused or web.Response(status=404)
        sentences: list[str] = []
        fault = ""
        try:
            _, sentences = self._prepared(verb, {**given, "why": "-"}, session)
        except SettingsError as error:
            fault = str(error)
        return self._form(verb, given, session, sentences, fault, 200)

    async def _give(self, request: web.Request, session: Session) -> web.StreamResponse:
        given = text_form(await request.post())
        verb, refused = self._allowed(request, session, given)
        if verb is None or refused is not None:
            return refused or web.Response(status=404)
        assert self._publish is not None, "it was looked at whether there is a key"
        try:
            order, sentences = self._prepared(verb, given, session)
        except SettingsError as error:
            return self._form(verb, given, session, [], str(error), 422)
        about = fields(
            message_id=order.message_id, type=type(order).__name__, tenant_id=order.tenant_id, who=order.who,
            key_id=session.key.key_id,
        )  # fmt: skip
        try:
            await self._publish(order)
        except SpendfuseError as error:
            log.error(
                "an order from the page was not written", extra={"fields": about["fields"] | {"error": str(error)}}
            )
            return self._form(verb, given, session, sentences, f"{error}", 503)
        log.info("ordered on the page", extra=about)
        return self._done(order, given, session)

    def _allowed(
        self, request: web.Request, session: Session, given: Mapping[str, str]
    ) -> tuple[Verb | None, web.Response | None]:
        """The verb that is asked for, or why not."""
        form = self._visits.form_token(session)
        verb, tenant_id = verb_named(request.match_info["verb"]), given.get("tenant")
        is_named = sum(bool(given.get(each)) for each in ABOUT) == 1
        if verb is None or not tenant_id or not is_named or session.tenant_id not in (tenant_id, ALL_TENANTS):
            return None, problem("Not found", NOT_HERE, 404, session, form)
        if any(len(value) > 4_096 for value in given.values()):
            return None, problem("Too long", TOO_LONG, 413, session, form)
        if not session.may_operate:
            log.warning("an order was refused", extra=fields(key_id=session.key.key_id, verb=verb.name))
            return None, problem("Not allowed", MAY_NOT, 403, session, form)
        if self._publish is None or self._refusal():
            return None, problem("Not enabled", self._refusal() or NEED_KEY, 409, session, form)
        return verb, None

    def _prepared(self, verb: Verb, given: Mapping[str, str], session: Session) -> tuple[OperatorMessage, list[str]]:
        """The order with whole ids, and what it would meet. Raises `SettingsError`."""
        now_ms = wall_ms()
        order = drafted(verb, given, session, given["tenant"], now_ms)
        with self._book.lock:
            try:
                order, sentences = looked_at(verb, order, BookFacts(self._book, now_ms))
            except UnknownFactError as error:
                return order, [f"Not checked before it is written: {error}"]
            return order, [*self._met_others(order), *sentences]

    def _met_others(self, order: OperatorMessage) -> list[str]:
        """Whoever has the same incident in hand already: two may be at it at once."""
        tenant = self._book.known(order.tenant_id)
        if not isinstance(order, Acknowledge) or tenant is None or order.incident_id not in tenant.in_hand:
            return []
        before = tenant.in_hand[order.incident_id].order
        return [f"{before.who} has taken it in hand before: {before.why}"]

    def _form(
        self, verb: Verb, given: Mapping[str, str], session: Session, sentences: list[str], fault: str, status: int
    ) -> web.Response:
        form = self._visits.form_token(session)
        main = order_form(verb.name, given, given["tenant"], _back(given), form, met=sentences, fault=fault)
        return html(document(TITLES[verb.name], main, session, form=form), status)

    def _done(self, order: OperatorMessage, given: Mapping[str, str], session: Session) -> web.Response:
        form = self._visits.form_token(session)
        main = element(
            "div",
            element("h1", "Ordered"),
            element("p", meaning(order), role="status", class_="met"),
            element("p", f"By {order.who}. ", element("code", order.message_id), class_="note"),
            element("p", element("a", "Back, and see what becomes of it", href=_back(given), class_="button",
                                 autofocus="")),
            class_="order",
        )  # fmt: skip
        return html(document("Ordered", main, session, form=form))


def _back(given: Mapping[str, str]) -> str:
    if given.get("run"):
        return run_href(given["tenant"], given["run"])
    return incident_href(given["tenant"], given["incident"]) if given.get("incident") else "/"
