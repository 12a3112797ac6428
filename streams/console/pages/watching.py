"""The pages that change by themselves: now, a run, an incident."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from alerting.review.page.markup import Markup, element
from schemas.operator import Acknowledge, Feedback, Silence
from schemas.run import RunRecord
from streams.clock import wall_ms
from streams.console.live import Live, Streams
from streams.console.pages.visits import NOT_HERE, Visits, html, problem
from streams.console.run_follower import RunFollower, RunFollowers
from streams.console.run_known import RunKnown, run_known
from streams.console.sessions import Session
from streams.console.state.book import Book
from streams.console.views import incident as incident_view
from streams.console.views import now as now_view
from streams.console.views import run as run_view
from streams.console.views.frame import document
from streams.console.views.order import NEED_KEY
from streams.console.views.pieces import incident_href, run_href
from streams.kafka.order_reader import OrderReader
from streams.tools.inspection.run_facts import RunKey
from streams.tools.orders.audit import Audited, audit

TOO_MANY = "Too many runs are looked at just now: its calls are shown once somebody leaves another."


class Watching:
    """Pages and their changes."""

    def __init__(
        self, book: Book, reader: OrderReader, followers: RunFollowers, streams: Streams, visits: Visits, *,
        takes_orders: bool,
    ) -> None:  # fmt: skip
        self._book, self._reader, self._followers = book, reader, followers
        self._streams, self._visits = streams, visits
        self._takes_orders = takes_orders

    def routes(self) -> list[web.AbstractRouteDef]:
        """Each page, and what changes on it."""
        pages = {"now": ("/", self._now), "run": ("/run", self._run), "incident": ("/incident", self._incident)}
        return [
            *(self._visits.page(path, handler, name) for name, (path, handler) in pages.items()),
            self._visits.page("/live/now", self._live(self._now_live), "now, live"),
            self._visits.page("/live/run", self._live(self._run_live), "run, live"),
            self._visits.page("/live/incident", self._live(self._incident_live), "incident, live"),
            self._visits.page("/live/ping", self._ping, "ping"),
        ]

    def _live(self, live_of: Callable[[web.Request, Session], Live | None]) -> Callable[[web.Request, Session], Any]:
        async def serve(request: web.Request, session: Session) -> web.StreamResponse:
            live = live_of(request, session)
            if live is None:
                return web.Response(status=404)
            return await self._streams.serve(request, live, lambda: self._visits.still_allowed(request))

        return serve

    async def _ping(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Whether one is logged in still."""
        del request, session
        return web.Response(status=204)

    async def _now(self, request: web.Request, session: Session) -> web.StreamResponse:
        del request
        found = NowLive(self._book, session.tenant_id).parts()
        return self._document("Now", now_view.shape(found), session, "/", "/live/now")

    async def _run(self, request: web.Request, session: Session) -> web.StreamResponse:
        live = self._run_live(request, session)
        if live is None:
            return problem("Not found", NOT_HERE, 404, session, self._visits.form_token(session))
        name = request.query["run"]
        where = run_href(request.query["tenant"], name)
        return self._document(f"Run {name[:60]}", self._with_note(run_view.shape(live.parts()), session), session, "",
                              f"/live{where}")  # fmt: skip

    async def _incident(self, request: web.Request, session: Session) -> web.StreamResponse:
        live = self._incident_live(request, session)
        if live is None:
            return problem("Not found", NOT_HERE, 404, session, self._visits.form_token(session))
        where = incident_href(request.query["tenant"], request.query["incident"])
        main = self._with_note(incident_view.shape(live.parts()), session)
        return self._document("Incident", main, session, "", f"/live{where}")

    def _document(self, title: str, main: Markup, session: Session, here: str, live: str) -> web.Response:
        form = self._visits.form_token(session)
        return html(document(title, main, session, here=here, live=live, form=form))

    def _with_note(self, main: Markup, session: Session) -> Markup:
        """Why there are no buttons, for somebody whose key would allow them."""
        if not session.may_operate or self._takes_orders:
            return main
        return Markup(main + element("p", NEED_KEY, class_="note"))

    def _now_live(self, request: web.Request, session: Session) -> "NowLive":
        del request
        return NowLive(self._book, session.tenant_id)

    def _run_live(self, request: web.Request, session: Session) -> "RunLive | None":
        tenant_id, run_id = request.query.get("tenant"), request.query.get("run")
        if not tenant_id or not run_id or len(run_id) > 256:
            return None
        may_operate = session.may_operate and self._takes_orders
        return RunLive(self._book, self._reader, self._followers, RunKey(tenant_id, run_id), may_operate=may_operate)

    def _incident_live(self, request: web.Request, session: Session) -> "IncidentLive | None":
        tenant_id, incident_id = request.query.get("tenant"), request.query.get("incident")
        if not tenant_id or not incident_id:
            return None
        may_operate = session.may_operate and self._takes_orders
        live = IncidentLive(self._book, self._reader, tenant_id, incident_id, may_operate=may_operate)
        return live if live.is_known else None


class NowLive:
    """The page `now` of one reader."""

    def __init__(self, book: Book, tenant_id: str) -> None:
        self._book, self._tenant_id = book, tenant_id
        self._rows: dict[str, tuple[RunRecord, object]] | None = None
        self._said: set[str] | None = None

    def version(self) -> object:
        """Rises with whatever the reader may see."""
        return self._book.version(self._tenant_id)

    def parts(self) -> dict[str, Markup]:
        """All but the list of runs."""
        with self._book.lock:
            return now_view.fragments(self._book, self._tenant_id, wall_ms())

    def rows(self) -> dict[str, Any] | None:
        """Live runs that are other than at the last call, all of them at the first; and those that are gone."""
        before = self._rows or {}
        with self._book.lock:
            found = {key: (run, command) for key, run, command in now_view.runs_rows(self._book, self._tenant_id)}
            left_out = sum(one.runs.left_out for one in self._book.visible(self._tenant_id))
        changed = {
            key: now_view.row(*pair)
            for key, pair in found.items()
            if (old := before.get(key)) is None or old[0] is not pair[0] or old[1] is not pair[1]
        }
        gone = [key for key in before if key not in found]
        is_first, self._rows = self._rows is None, dict(found)
        if not changed and not gone and not is_first:
            return None
        return {"all": is_first, "rows": changed, "gone": gone, "left_out": left_out}

    def news(self) -> list[str]:
        """Commands and incidents that are new since the last call; none at the first."""
        with self._book.lock:
            found = now_view.news(self._book, self._tenant_id)
        before, self._said = self._said, set(found)
        return [] if before is None else [text for key, text in found.items() if key not in before][:3]


class RunLive:
    """The page of one run."""

    def __init__(
        self, book: Book, reader: OrderReader, followers: RunFollowers, key: RunKey, *, may_operate: bool
    ) -> None:
        self._book, self._reader, self._followers, self._key = book, reader, followers, key
        self._may_operate = may_operate
        self._drawn: run_view.Drawn = {}
        self._follower = self._look()
        self._was: str | None = None

    def version(self) -> object:
        """Rises with whatever is known of its tenant, and with its calls."""
        self._follower = self._look()
        calls = None if self._follower is None else self._follower.version
        return self._book.version(self._key.tenant_id), calls

    def parts(self) -> dict[str, Markup]:
        """All of the page."""
        known, follower = self._known(), self._follower
        if follower is None:
            return run_view.fragments(known, None, TOO_MANY, {}, may_operate=self._may_operate)
        with follower.lock:
            known = known._replace(is_caught_up=follower.is_caught_up)
            return run_view.fragments(
                known, follower.tree, follower.fault or "", self._drawn, may_operate=self._may_operate
            )

    def rows(self) -> dict[str, Any] | None:
        """There are none."""
        return None

    def news(self) -> list[str]:
        """Whether it is stopped, when that changes: its page says it aloud by itself."""
        return []

    def _known(self) -> RunKnown:
        with self._book.lock:
            return run_known(self._book, self._reader, self._key, wall_ms())

    def _look(self) -> RunFollower | None:
        return self._followers.look(*self._key, lambda: self._known().began_ms)


class IncidentLive:
    """The page of one incident."""

    def __init__(self, book: Book, reader: OrderReader, tenant_id: str, incident_id: str, *, may_operate: bool) -> None:
        self._book, self._reader = book, reader
        self._tenant_id, self._incident_id = tenant_id, incident_id
        self._may_operate = may_operate

    @property
    def is_known(self) -> bool:
        """Whether there is such an incident."""
        tenant = self._book.known(self._tenant_id)
        return tenant is not None and tenant.incidents.get(self._incident_id) is not None

    def version(self) -> object:
        """Rises with whatever is known of its tenant."""
        return self._book.version(self._tenant_id)

    def parts(self) -> dict[str, Markup]:
        """All of the page."""
        with self._book.lock:
            tenant = self._book.known(self._tenant_id)
            incident = None if tenant is None else tenant.incidents.get(self._incident_id)
            if tenant is None or incident is None:
                return {}
            records = tenant.orders_naming(self._incident_id)
            orders = [] if self._reader.believes_nobody else audit(records, self._reader, wall_ms())
            about = [one for one in orders if self._is_about(one)]
            in_hand = tenant.in_hand.get(self._incident_id)
            return incident_view.fragments(incident, about, may_operate=self._may_operate, in_hand=in_hand)

    def _is_about(self, one: Audited) -> bool:
        match one.order:
            case Acknowledge(incident_id=incident_id) | Feedback(incident_id=incident_id):
                return incident_id == self._incident_id
            case Silence(match=match):
                return match.get("incident_id") == self._incident_id
            case _:
                return False

    def rows(self) -> dict[str, Any] | None:
        """There are none."""
        return None

    def news(self) -> list[str]:
        """Its page says by itself what is new."""
        return []
