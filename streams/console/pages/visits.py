"""Who asks for a page, whether they may, and what is written down of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from aiohttp import web

from schemas.internal.spend import ALL_TENANTS
from streams.clock import sleepless_ms, wall_ms
from streams.console.sessions import COOKIE, LASTS_MS, LoginLimit, Session, Sessions
from streams.console.views.frame import arriving_page, login_page, problem_page
from streams.edge.key_ring import Refused
from streams.process.logs import fields

log = logging.getLogger("spendfuse.console")

Handler = Callable[[web.Request, Session], Awaitable[web.StreamResponse]]
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer: a browser runs our own script alone, and shows the page in no other."""
MOST_OF_A_LOGIN: Final = 4 * 1024
"""Of bytes that anybody may send."""
FORM_S: Final = 10.0
NOT_HERE: Final = "There is no such page, or your key may not see it."


class Visits:
    """Logs people in and out, and lets those who are in through to pages."""

    def __init__(self, sessions: Sessions, *, is_tls: bool) -> None:
        self.sessions = sessions
        self._is_tls = is_tls
        self._limit = LoginLimit()

    def routes(self) -> list[web.AbstractRouteDef]:
        """The way in and out."""
        return [web.get("/login", self._ask), web.post("/login", self._log_in), web.post("/logout", self._log_out)]

    def page(self, path: str, handler: Handler, view: str) -> web.RouteDef:
        """A page for those who are logged in; others are asked to."""
        return web.get(path, self._let_in(handler, view))

    def posted(self, path: str, handler: Handler, view: str) -> web.RouteDef:
        """The same of a form, which must be of their own session."""

        async def checked(request: web.Request, session: Session) -> web.StreamResponse:
            form = await _form_of(request)
            if _is_foreign(request) or not self.sessions.is_of_form(session, str(form.get("form", ""))):
                return problem("This form is out of date", "Load the page anew, and send it again.", 403, session)
            return await handler(request, session)

        return web.post(path, self._let_in(checked, view))

    def form_token(self, session: Session) -> str:
        """What forms of that session carry."""
        return self.sessions.form_token(session)

    def still_allowed(self, request: web.Request) -> bool:
        """Whether whoever sent that request may still read: a revoked key ends what is under way."""
        try:
            return self.sessions.find(request.cookies.get(COOKIE), wall_ms()) is not None
        except Refused:
            return False

    def _let_in(self, handler: Handler, view: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                session = self.sessions.find(request.cookies.get(COOKIE), wall_ms())
            except Refused as error:
                return problem("Not allowed", str(error), error.status, None)
            if session is None:
                if _comes_from_elsewhere(request):
                    return html(arriving_page(_own_path(request.path_qs) or "/"))
                return _to_login(request)
            asked = request.query.get("tenant")
            if asked is not None and session.tenant_id not in (asked, ALL_TENANTS):
                _note("refused on the page", session, view, asked)
                return problem("Not found", NOT_HERE, 404, session, self.form_token(session))
            _note("seen on the page", session, view, asked)
            return await handler(request, session)

        return handle

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        return html(login_page(after=_own_path(request.query.get("after", ""))))

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        address = request.remote or ""
        if _is_foreign(request):
            return html(login_page("That form came from somewhere else. Try here."), 403)
        form = await _form_of(request, MOST_OF_A_LOGIN)
        after = _own_path(str(form.get("after", "")))
        if not self._limit.allows(address, sleepless_ms()):
            log.warning("too many wrong keys", extra=fields(address=address))
            return html(login_page("Too many wrong keys came from your address. Try again in a minute.", after), 429)
        try:
            session, cookie = self.sessions.log_in(str(form.get("key", "")).strip(), wall_ms())
        except Refused as error:
            self._limit.failed(address, sleepless_ms())
            log.warning("a login was refused", extra=fields(address=address, status=error.status))
            said = str(error) if error.status == 403 else "This key is not known here, or was revoked."
            return html(login_page(said, after), error.status)
        log.info("logged in", extra=fields(key_id=session.key.key_id, tenant_id=session.tenant_id, address=address))
        response = web.HTTPSeeOther(after or "/")
        response.set_cookie(
            COOKIE, cookie, max_age=LASTS_MS // 1000, httponly=True, samesite="Strict", secure=self._is_tls, path="/"
        )
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        form = await _form_of(request, MOST_OF_A_LOGIN)
        session = self.sessions.find(request.cookies.get(COOKIE), wall_ms())
        if session is not None and self.sessions.is_of_form(session, str(form.get("form", ""))):
            self.sessions.log_out(session, wall_ms())
            log.info("logged out", extra=fields(key_id=session.key.key_id))
        response = web.HTTPSeeOther("/login")
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=self._is_tls)
        return response


async def _form_of(request: web.Request, most_bytes: int | None = None) -> Mapping[str, object]:
    """The fields of a form. Raises what aiohttp answers with where it is too large, or does not come to its end."""
    if most_bytes is not None and (request.content_length is None or request.content_length > most_bytes):
        raise web.HTTPRequestEntityTooLarge(most_bytes, request.content_length or 0)
    try:
        return await asyncio.wait_for(request.post(), FORM_S)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def html(text: str, status: int = 200) -> web.Response:
    """A page."""
    return web.Response(body=text.encode("utf-8", "replace"), status=status, content_type="text/html", charset="utf-8")


def problem(title: str, text: str, status: int, session: Session | None, form: str = "") -> web.Response:
    """A page that says what is wrong."""
    return html(problem_page(title, text, session, form), status)


def text_form(form: object) -> dict[str, str]:
    """The fields of a form that are text."""
    items = form.items() if hasattr(form, "items") else ()
    return {key: value for key, value in items if isinstance(value, str)}


def _note(what: str, session: Session, view: str, tenant_id: str | None) -> None:
    about = fields(key_id=session.key.key_id, view=view, tenant_id=tenant_id or session.tenant_id)
    log.info(what, extra=about)


def _to_login(request: web.Request) -> web.StreamResponse:
    if request.path.startswith("/live/"):
        return web.Response(status=401, text="log in again")
    return web.HTTPSeeOther(f"/login?after={quote(request.path_qs, safe='')}" if request.path != "/" else "/login")


def _comes_from_elsewhere(request: web.Request) -> bool:
    """Whether a link of another site led here, as those of Slack and PagerDuty do: the browser keeps the cookie back
    then, of those who are logged in as well.
    """
    fetch = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
    return COOKIE not in request.cookies and fetch == ("cross-site", "navigate")


def _own_path(after: str) -> str:
    """Where to go after the login: a page of ours alone."""
    parts = urlsplit(after)
    is_ours = after.startswith("/") and not after.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return after if is_ours and after.isprintable() else ""


def _is_foreign(request: web.Request) -> bool:
    """Whether another site sent it: browsers say so."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host
